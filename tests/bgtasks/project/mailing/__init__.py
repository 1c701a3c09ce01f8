"""An app whose mails go through the queue, and backends that something happens to."""
