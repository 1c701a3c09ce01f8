"""A project whose spans go to a file, a line of JSON each."""
