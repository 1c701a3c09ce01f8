// Tells elements of the page when their tasks change, by server-sent events.
//
//   <div data-watch="{% watch_url task %}" hx-get="..." hx-trigger="task-changed">
//
// Each element with `data-watch` gets the event `task-changed`, whose `detail` is the task as the
// server gives it as JSON: {state, ended, succeeded, progress, ...}. Elements may come and go.
// Where no stream can be had, the event comes from time to time, without a detail.
(() => {
  "use strict";

  // A browser has six connections to a site without HTTP/2, for all of its tabs together. So few
  // streams are open on a page, and none while nobody sees it. What has no stream is polled.
  const MOST = 2;
  const POLL = 2000; // milliseconds
  // Milliseconds after which htmx has found a new element. It looks for it after 20.
  const FOUND = 100;

  const streams = new Map(); // by the address of the task
  const refused = new Set(); // the addresses of which the server has no stream
  const ended = new Set();
  const seen = new WeakSet(); // elements
  // By the address of the task: the details that were told since its last element came.
  const told = new Map();

  const elements = (url) =>
    [...document.querySelectorAll("[data-watch]")].filter(
      (element) => url === undefined || element.dataset.watch === url,
    );

  const dispatch = (element, detail) => {
    element.dispatchEvent(new CustomEvent("task-changed", { bubbles: true, detail }));
  };

  const tell = (url, detail) => {
    told.set(url, [...(told.get(url) ?? []), detail].slice(-2));
    for (const element of elements(url)) dispatch(element, detail);
  };

  // An element that has taken the place of another one is told again what may have been lost. If
  // that one was told of two changes, it has asked the server after the first, and this one is the
  // answer, which may be older than the second. And until htmx has found it, this one hears nothing.
  const welcome = (element) => {
    const url = element.dataset.watch;
    const [, lost] = told.get(url) ?? [];
    seen.add(element);
    told.delete(url);
    setTimeout(() => {
      const latest = told.get(url)?.at(-1) ?? lost;
      if (latest) dispatch(element, latest);
    }, FOUND);
  };

  const open = (url) => {
    const source = new EventSource(url + (url.includes("?") ? "&" : "?") + "format=events");
    streams.set(url, source);
    source.addEventListener("change", (event) => tell(url, JSON.parse(event.data)));
    source.addEventListener("end", () => {
      ended.add(url);
      close(url);
      update();
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) { // else the browser connects again by itself
        refused.add(url);
        close(url);
        update();
      }
    });
  };

  const close = (url) => {
    streams.get(url)?.close();
    streams.delete(url);
  };

  const update = () => {
    for (const element of elements()) {
      if (!seen.has(element)) welcome(element);
    }
    const wanted = new Set(elements().map((element) => element.dataset.watch));
    for (const url of streams.keys()) {
      if (document.hidden || !wanted.has(url)) close(url);
    }
    if (document.hidden) return;
    for (const url of wanted) {
      if (streams.size >= MOST) return;
      if (!streams.has(url) && !refused.has(url) && !ended.has(url)) open(url);
    }
  };

  const poll = () => {
    if (document.hidden) return;
    for (const url of new Set(elements().map((element) => element.dataset.watch))) {
      if (!streams.has(url)) tell(url);
    }
  };

  const start = () => {
    new MutationObserver(update).observe(document.body, {
      childList: true,
      subtree: true,
      attributeFilter: ["data-watch"],
    });
    document.addEventListener("visibilitychange", update);
    window.addEventListener("pagehide", () => [...streams.keys()].forEach(close));
    window.addEventListener("pageshow", update);
    setInterval(poll, POLL);
    update();
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
