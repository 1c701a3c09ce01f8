"""What ``manage.py lab`` sets up: slow servers, a WSGI server, a worker, and other visitors."""
