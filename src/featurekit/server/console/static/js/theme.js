// The colour scheme chosen by hand, if one was; set before anything is painted.
(() => {
  try {
    const chosen = localStorage.getItem("featurekit-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden; the system's scheme is used then.
  }
})();
