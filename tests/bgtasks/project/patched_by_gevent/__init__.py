"""An app that patches its process, as some wsgi.py do."""
