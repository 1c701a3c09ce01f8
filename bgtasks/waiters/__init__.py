"""Wakes coroutines whose tasks have changed: one thread and one connection for a whole process."""
