"""The only place that writes the task tables."""
