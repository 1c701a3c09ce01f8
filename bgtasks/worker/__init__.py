"""One worker process: it claims rows, runs them, records how they ended, and rests.

Modules here import `bgtasks.running`, `bgtasks.queue` and what stands below those. Workers are
started and ended by `bgtasks.supervisor`, which stands above.
"""
