// Keeps the parts of a page marked [data-poll] fresh: says whether it works, waits longer while it does not,
// rests in hidden tabs, and reads out new alerts (never each new number).
(() => {
  "use strict";
  const pill = document.querySelector("[data-live]");
  const announcer = document.querySelector("[data-announcer]");
  if (!pill || !window.htmx) return;
  const text = pill.querySelector("[data-live-text]");
  const LONGEST_WAIT_MS = 30000;
  let failures = 0;
  let retryAt = 0;

  const show = (state, words) => {
    if (pill.dataset.live === state) return; // it is a live region: only a change is to be read out
    pill.dataset.live = state;
    text.textContent = words;
    pill.hidden = false;
  };
  const polled = (event) => Boolean(event.detail.elt?.matches?.("[data-poll]"));

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!polled(event)) return;
    const inUse = event.detail.elt.querySelector("details[open]"); // what somebody reads or fills in is not taken away
    if (document.hidden || inUse || Date.now() < retryAt) event.preventDefault();
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    if (!polled(event)) return;
    const status = event.detail.xhr?.status ?? 0;
    if (status >= 200 && status < 300) {
      failures = 0;
      retryAt = 0;
      show("on", "Live");
    } else if (status === 403 || status === 404) {
      location.reload(); // access has ended: the page itself says so
    } else if (status !== 401 && Date.now() >= retryAt) {
      // 401 is answered by htmx, which follows HX-Redirect. The three parts fail together: that counts once.
      failures += 1;
      retryAt = Date.now() + Math.min(LONGEST_WAIT_MS, 1000 * 2 ** failures) * (0.75 + Math.random() / 2);
      if (failures > 1) show("lost", "Connection lost, retrying");
    }
  });

  const refreshAll = () => {
    retryAt = 0;
    for (const part of document.querySelectorAll("[data-poll]")) window.htmx.trigger(part, "refresh");
  };
  document.addEventListener("visibilitychange", () => document.hidden || refreshAll());
  window.addEventListener("online", refreshAll);

  const alerts = () =>
    new Map([...document.querySelectorAll("[data-alert]")].map((node) => [node.dataset.alert, node.dataset.announce]));
  let known = alerts();
  document.addEventListener("htmx:afterSwap", () => {
    const now = alerts();
    const fresh = [...now].filter(([id]) => !known.has(id)).map(([, words]) => words);
    if (fresh.length && announcer) announcer.textContent = fresh.join(". ");
    known = now;
  });

  show("on", "Live");
})();
