"""One worker process: it claims rows, runs them, records what they came to, and rests.

Modules here import `bgtasks.running`, `bgtasks.queue` and what stands below those; the supervisor
above starts workers and ends them.
"""
