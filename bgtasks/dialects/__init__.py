"""Ways of enqueueing that people know already. Under all of them is `bgtasks.calls.submit`.

Each module stands above `bgtasks.calls`, may import what stands below that, and imports no other
dialect.
"""
