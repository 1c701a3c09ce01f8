"use strict";
// What the pages of background tasks do by themselves. Each of them works without this, by reload.

// An action under way goes on. Whoever leaves the page ends it after the step that is done now.
for (const form of document.querySelectorAll("form[data-goes-on]")) {
  form.submit();
}

// One box chooses all on the page.
for (const every of document.querySelectorAll("input[data-every]")) {
  every.parentElement.hidden = false;
  every.addEventListener("change", () => {
    for (const box of every.form.querySelectorAll(`input[name="${every.dataset.every}"]`)) {
      box.checked = every.checked;
    }
  });
}

// The address of a filtered list has only what is filtered by, so that it can be passed on.
for (const form of document.querySelectorAll("form.bgtasks-filter")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData.entries()]) {
      if (value === "") event.formData.delete(name);
    }
  });
}
