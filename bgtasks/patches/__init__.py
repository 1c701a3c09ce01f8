"""The replacements for methods of django-background-tasks; `table` lists all of them.

Modules here import `bgtasks.calls` and what stands below that. The rest of bgtasks does not rely
on the patches: it calls its own functions directly, and the patches call the same ones.
"""
