"""Other systems that run the rows: a worker publishes what is due, and their fleet runs it."""
