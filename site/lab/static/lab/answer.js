// Reports how soon the answer came, as the browser measures it (web-vitals).
const { reportTo } = document.currentScript.dataset;
const report = ({ name, value }) => navigator.sendBeacon(reportTo, JSON.stringify({ name, value }));

// LCP changes until the visitor does something, and nobody does anything in a frame.
webVitals.onTTFB(report);
webVitals.onLCP(report, { reportAllChanges: true });
