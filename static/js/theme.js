// Light or dark, decided before the first paint: the stored choice, else the system's.
(() => {
  "use strict";
  const KEY = "metering-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const systemTheme = () => (system.matches ? "dark" : "light");

  // Storage may be forbidden (private windows, embedded pages): then the choice lasts as long as the page.
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    /* as above */
  }
  const current = () => (chosen === "dark" || chosen === "light" ? chosen : systemTheme());
  const apply = () => document.documentElement.setAttribute("data-bs-theme", current());

  const toggle = () => {
    const next = current() === "dark" ? "light" : "dark";
    // Whoever picks what the system has anyway follows the system again.
    chosen = next === systemTheme() ? null : next;
    try {
      if (chosen) localStorage.setItem(KEY, chosen);
      else localStorage.removeItem(KEY);
    } catch {
      /* as above */
    }
    apply();
  };

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.hidden = false;
      button.addEventListener("click", toggle);
    }
  });
})();
