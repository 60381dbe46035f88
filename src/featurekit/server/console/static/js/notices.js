// Notices: short messages, a banner for outages, and dialogs.

import { el, fill, icon } from "./dom.js";
import { button } from "./parts.js";

const SHOWN_MS = 6000;

/** Show a short message: `good`, `bad` or `plain`. */
export function toast(tone, text) {
  const box = document.getElementById("toasts");
  const node = el("div", { class: `toast toast-${tone}` }, el("p", {}, text));
  const away = () => node.remove();
  node.append(el("button", { type: "button", class: "toast-close", "aria-label": "Dismiss", onclick: away }, icon("close")));
  box.append(node);
  while (box.children.length > 3) box.firstElementChild.remove();
  setTimeout(away, tone === "bad" ? SHOWN_MS * 2 : SHOWN_MS);
}

/** Show an error of the server. `labels` maps names of the request to labels on the screen. */
export const toastError = (error, labels = {}) =>
  toast("bad", [error.where && `${labels[error.where] ?? error.where}:`, error.message, error.hint].filter(Boolean).join(" "));

/** Show a banner above the panels; an empty title removes it. */
export function banner(title, text = "") {
  const box = document.getElementById("banner");
  if (!title) {
    fill(box);
    return;
  }
  fill(box, el("div", { class: "banner" }, icon("warn"), el("div", {}, el("p", { class: "banner-title" }, title), text && el("p", {}, text))));
}

/** Ask for confirmation of an action that cannot be undone. */
export function confirmDialog(title, text, act) {
  return new Promise((answer) => {
    const close = (choice) => () => dialog.close(choice);
    const dialog = el(
      "dialog",
      { class: "dialog", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" },
      el("h2", { id: "dialog-title" }, title),
      el("p", { id: "dialog-text" }, text),
      el(
        "div",
        { class: "dialog-tools" },
        button("Keep everything", close("no")),
        button(act, close("yes"), { tone: "danger" }),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask for a token; resolves to the text, or `null`. */
export function askToken(refused) {
  return new Promise((answer) => {
    const input = el("input", { id: "token-input", type: "password", autocomplete: "off", spellcheck: "false", required: true, class: "input" });
    const give = () => dialog.close(input.value.trim());
    const dialog = el(
      "dialog",
      { class: "dialog", "aria-labelledby": "dialog-title" },
      el("h2", { id: "dialog-title" }, "This console needs a token"),
      el("p", {}, "The server requires a token. Your token is kept only in this tab, until you close it."),
      refused && el("p", { class: "dialog-wrong", role: "alert" }, "The server does not accept that token."),
      el("div", { class: "control" }, el("label", { for: "token-input" }, "Token"), input),
      el("div", { class: "dialog-tools" }, button("Use this token", give, { tone: "main" })),
    );
    input.addEventListener("keydown", (event) => event.key === "Enter" && give());
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue || null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
