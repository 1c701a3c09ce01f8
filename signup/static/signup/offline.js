// When htmx cannot reach the server, it says nothing. The browser's own way of sending a form does.
document.addEventListener("htmx:sendError", (event) => {
  if (event.target instanceof HTMLFormElement) event.target.submit();
});
