"""For whoever waits for a task in a browser: how far it has come, as JSON, HTML or events.

Include `bgtasks.watch.urls` in the project's URLs; `watch_url` makes the address of a task.
"""

from bgtasks.watch.links import watch_url

__all__ = ["watch_url"]
