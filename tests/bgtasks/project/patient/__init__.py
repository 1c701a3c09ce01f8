"""An app whose receiver waits for the database longer than a lease."""
