"""Keeps workers alive: forks them, renews their lease, rescues rows, enqueues by cron lines.

Modules here import `bgtasks.worker` and what stands below that. Where forking cannot work, rows
run in this process, by `in_process` or by `one_by_one`.
"""
