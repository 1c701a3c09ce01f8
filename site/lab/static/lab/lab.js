// Reports INP of the click on a run's button, as the browser measures it (web-vitals).
const { reportTo } = document.currentScript.dataset;

// By default, an interaction of under 40 ms is not reported: a good one. 16 ms is one frame, and the
// least that the browser takes.
let figure = "";
const send = () => figure && navigator.sendBeacon(reportTo, figure);
webVitals.onINP(
  ({ name, value, attribution }) => {
    // Whoever opens a piece of code on the page clicks too, and that is no run.
    if (!attribution.interactionTarget.includes("run-")) return;
    figure = JSON.stringify({ name, value });
    send();
  },
  { reportAllChanges: true, durationThreshold: 16 },
);
// The first report can come before the server has begun the run, and then there is none to note it.
document.addEventListener("visibilitychange", () => document.hidden && send());

// Without this script the frames are there from the start.
for (const frame of document.querySelectorAll(".lab-frame")) frame.hidden = true;

// A page measures one run: INP is that of its slowest interaction. The next run has a fresh page.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("form.lab-run")) return;
  const frame = document.getElementById(form.target);
  frame.hidden = false;
  // A frame that is not on the screen is not painted, and then the browser reports no LCP.
  frame.scrollIntoView({ block: "nearest" });
  // A button that is disabled before the form was sent would not send it.
  setTimeout(() => {
    for (const button of document.querySelectorAll("form.lab-run button")) button.disabled = true;
  });
});

// htmx asks every second. Once it is told to leave this page, it must not ask again: while the next
// page takes longer than a second to load, it would begin to load it anew each time.
let leaving = false;
document.addEventListener("htmx:beforeOnLoad", ({ detail }) => {
  const told = (name) => detail.xhr.getResponseHeader(name) !== null;
  leaving ||= told("HX-Redirect") || told("HX-Refresh");
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (leaving) event.preventDefault();
});
