"use strict";
// A part of a page that keeps itself up to date, by asking the server for it anew. Without this
// script a reload does the same.
{
  const EVERY = 5000;
  const part = document.querySelector("[data-live]");

  // What finds the same element in the new part; "" if nothing does.
  const selector = (element) => {
    if (element.id) return `#${CSS.escape(element.id)}`;
    if (element.matches("details[id] > summary")) return `${selector(element.parentElement)} > summary`;
    if (element.matches("a[href]")) return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
    return "";
  };

  // What the user has opened, scrolled or stands on is so again in the new part.
  const swap = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html").body;
    const focused = part.contains(document.activeElement) ? selector(document.activeElement) : "";
    const opened = [...part.querySelectorAll("details[open][id]")].map((each) => [
      selector(each),
      each.querySelector("[tabindex]")?.scrollTop ?? 0,
    ]);
    part.replaceChildren(...fresh.childNodes);
    for (const [place, scrolled] of opened) {
      const same = part.querySelector(place);
      if (!same) continue;
      same.open = true;
      same.querySelector("[tabindex]")?.scrollTo(0, scrolled);
    }
    if (focused) part.querySelector(focused)?.focus({ preventScroll: true });
  };

  const say = (text) => {
    const place = document.getElementById("bgtasks-live-state");
    if (place) place.textContent = text;
  };

  // Nobody looks; or somebody selects text, or reads inside what would be replaced.
  const busy = () => {
    const active = document.activeElement;
    const reads = part.contains(active) && !selector(active);
    return document.hidden || reads || !(getSelection()?.isCollapsed ?? true);
  };

  const refresh = async () => {
    if (busy()) return;
    try {
      const answer = await fetch(part.dataset.live);
      if (answer.redirected) {
        say("You are not logged in any more: reload the page.");
        return;
      }
      if (!answer.ok) throw new Error(answer.status);
      const html = await answer.text();
      if (!busy()) swap(html);
    } catch {
      say("It could not be refreshed; trying again.");
    }
  };

  const go = async () => {
    await refresh();
    setTimeout(go, EVERY);
  };
  if (part) setTimeout(go, EVERY);
}
