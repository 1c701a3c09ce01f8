document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-busy]");
  if (!button) return;
  const end = performance.now() + Number(button.dataset.busy);
  while (performance.now() < end) { /* a script that computes: the page cannot be painted */ }
});
