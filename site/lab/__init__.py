"""The lab: one page that measures what waiting costs, for each way of doing slow work.

A visitor presses a button and gets the answer of a view. Meanwhile others ask for a small page, and
both are measured. It uses `bgtasks` as any project would, so that the views and tasks of `lab.ways`
are also the example of how to write such views.
"""
