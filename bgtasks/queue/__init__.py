"""The tables of the queue, and every SQL statement that reads or writes them.

Modules here import `bgtasks.tasks`, `bgtasks.serialize`, the models and what stands below those;
they know nothing of workers' processes and threads.
"""
