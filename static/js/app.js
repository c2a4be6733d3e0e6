// What pages do beyond plain HTML; each works without this file, only less conveniently.
(() => {
  "use strict";

  // Menus are <details>: one is open at a time, Escape or a click elsewhere closes it.
  const openMenus = () => document.querySelectorAll("details[data-menu][open]");
  const leave = (menu) => {
    menu.open = false;
    menu.querySelector("summary")?.focus();
  };
  document.addEventListener("click", (event) => {
    for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
    const cancel = event.target.closest?.("[data-menu-close]");
    if (!cancel) return;
    event.preventDefault(); // without scripts it is a link to this very page, which closes the menu too
    leave(cancel.closest("[data-menu]"));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of openMenus()) leave(menu);
  });

  // On a phone the pages are a row that scrolls: the one that is shown must be in sight.
  document.querySelector(".nav-main [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // What a form's answer shows once: a reload is to ask for the page, not to send the form again.
  if (document.querySelector("[data-once]")) history.replaceState(null, "", location.href);

  // Buttons that copy are hidden until it is known that this browser can: it can't on plain http.
  const copies = Boolean(navigator.clipboard && window.isSecureContext);
  const reveal = (root) => {
    if (copies) for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  };
  reveal(document);
  document.addEventListener("htmx:afterSettle", () => reveal(document));
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const label = button.querySelector("[data-copy-label]") ?? button;
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
      label.textContent = "Copied";
    } catch {
      label.textContent = "Press Ctrl+C";
      getSelection()?.selectAllChildren(document.getElementById(button.dataset.copy));
    }
    setTimeout(() => (label.textContent = "Copy"), 2000);
  });
})();
