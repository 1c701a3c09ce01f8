"""Ways of enqueueing that people know already. Under all of them is `bgtasks.tasks.submit`."""
