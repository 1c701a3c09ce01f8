"""What a task is: the decorator, its options and their checks, and the registry of all tasks.

Modules here import `bgtasks.conf`, `bgtasks.exceptions` and each other; nothing here writes to the
database.
"""
