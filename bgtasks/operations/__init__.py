"""What an operator sees of the queue: one list of all tasks, whatever has become of them.

It may import from `queue`, `tasks` and what is below them.
"""
