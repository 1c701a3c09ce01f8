"""All that takes the place of django-background-tasks' own methods; `table` lists the whole of it.

Modules here import `bgtasks.calls` and what stands below that. Nothing else in bgtasks needs a
patch to be in place: what a patch does, the rest of the package calls by its own name.
"""
