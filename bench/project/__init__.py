"""The project whose tasks bench/figures.py measures."""
