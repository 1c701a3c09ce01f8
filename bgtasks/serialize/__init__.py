"""How arguments, results and exceptions become JSON and come back.

Modules here import `bgtasks.exceptions` and nothing else of bgtasks.
"""
