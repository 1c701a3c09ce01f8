"""An app that resets the session of PostgreSQL after each task."""
