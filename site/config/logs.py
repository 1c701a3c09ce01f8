import logging


class NoTracebackForRefusals(logging.Filter):
    """Logs a 403, 404 or 429 in one line.

    Django adds the traceback of the exception that stands for the refusal. These are thirty lines
    of our own code for each request, and they say nothing about the visitor.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "django.request" and record.levelno < logging.ERROR:
            record.exc_info = None
        return True
