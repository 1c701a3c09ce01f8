"""Running one claimed row: a straight line from its arguments to its ending.

Modules here import `bgtasks.results`, `bgtasks.queue` and what stands below those; a worker, a test
and a call of ``task.now()`` all run a row by them.
"""
