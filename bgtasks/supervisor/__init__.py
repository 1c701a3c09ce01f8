"""Who keeps workers alive: forks them, renews their lease, rescues rows, enqueues cron lines.

Modules here import `bgtasks.worker` and what stands below that. Where forking cannot work, a row
is run in this very process: `in_process` and `one_by_one`.
"""
