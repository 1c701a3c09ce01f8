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

  const streams = new Map(); // by the address of the task
  const refused = new Set(); // the addresses of which the server has no stream
  const ended = new Set();

  const elements = (url) =>
    [...document.querySelectorAll("[data-watch]")].filter(
      (element) => url === undefined || element.dataset.watch === url,
    );

  const tell = (url, detail) => {
    for (const element of elements(url)) {
      element.dispatchEvent(new CustomEvent("task-changed", { bubbles: true, detail }));
    }
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
      if (!streams.has(url) && !ended.has(url)) tell(url);
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
