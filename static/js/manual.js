// The contents beside the API reference follow the reader; they work without this file, only they mark nothing.
(() => {
  "use strict";
  const contents = document.querySelector(".contents");
  const cards = [...document.querySelectorAll(".operation")];
  if (!contents || !cards.length) return;

  const HEAD = 40; // pixels of an operation that are to be seen for it to be the one that is read
  const name = (card) => card.querySelector(".operation-body").id;
  const entries = new Map();
  for (const entry of contents.querySelectorAll(".contents-entry")) entries.set(entry.hash.slice(1), entry);

  let marked = null;
  const mark = (id) => {
    const entry = entries.get(id) ?? null;
    if (entry === marked) return;
    marked?.removeAttribute("aria-current");
    contents.querySelector(".contents-current")?.classList.remove("contents-current");
    marked = entry;
    if (!entry) return;
    entry.setAttribute("aria-current", "location");
    const group = entry.closest("ul").previousElementSibling;
    group.classList.add("contents-current");
    show(entry.offsetParent ? entry : group); // a small screen has the groups alone
  };

  // In the contents alone: `scrollIntoView` would move the page too.
  const show = (entry) => {
    const frame = contents.getBoundingClientRect();
    const place = entry.getBoundingClientRect();
    if (place.top < frame.top || place.bottom > frame.bottom) contents.scrollTop += place.top - frame.top - frame.height / 3;
    if (place.left < frame.left || place.right > frame.right) contents.scrollLeft += place.left - frame.left - 16;
  };

  // What was asked for stays marked until the reader moves on: near the end of the page it cannot come to the top.
  let asked = null;
  const ask = (id) => {
    if (!entries.has(id)) return;
    asked = id;
    mark(id);
  };
  const follow = () => {
    if (asked) return;
    const isBar = !contents.querySelector(".contents-entry").offsetParent; // over the page, on a small screen
    const top = HEAD + (isBar ? contents.offsetHeight : 0);
    const read = cards.find((card) => card.getBoundingClientRect().bottom > top);
    mark(read && read.getBoundingClientRect().top < innerHeight / 2 ? name(read) : null);
  };
  for (const moved of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(moved, () => (asked = null), { passive: true });
  }
  addEventListener("scroll", follow, { passive: true });
  addEventListener("hashchange", () => ask(location.hash.slice(1)));
  contents.addEventListener("click", (event) => ask(event.target.closest(".contents-entry")?.hash.slice(1)));
  for (const card of cards) card.querySelector("summary").addEventListener("click", () => ask(name(card)));

  ask(location.hash.slice(1));
  follow();
})();
