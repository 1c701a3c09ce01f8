"""How each figure is measured.

Every function takes a ``Bench``, measures once, and returns values by what they are called in
``bench/figures.py``.
"""
