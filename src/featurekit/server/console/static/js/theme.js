// Apply the colour scheme that the user chose, before the first paint.
(() => {
  try {
    const chosen = localStorage.getItem("featurekit-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is not available; use the system's scheme.
  }
})();
