"""Ways of enqueueing that people know already. All of them enqueue by `bgtasks.calls.submit`.

A dialect may import `bgtasks.calls` and what stands below that, and never another dialect.
"""
