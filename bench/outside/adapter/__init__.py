"""A Django project with three tasks, and what drives it by the contract of the harness."""
