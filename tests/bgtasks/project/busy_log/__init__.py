"""An app with a thread that nearly always is in the middle of a write to the log's stream."""
