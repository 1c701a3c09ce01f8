"""An app that logs into a queue, which a thread of its own empties."""
