"""What the site's log leaves out: tracebacks of refusals, and the secrets in addresses."""

import copy
import logging
import re
from typing import Any

# Loggers of servers that write each request's address. They have handlers of their own.
SERVERS = ["uvicorn.access", "gunicorn.access", "hypercorn.access", "django.server"]
# The token in the link of a password reset. Until it is used, whoever reads it is let in.
_TOKEN = re.compile(r"""(/password/reset/[^/\s]+/)(?!set-password\b)[^/\s?"']+""")


class NoTracebackForRefusals(logging.Filter):
    """Logs a 403, 404 or 429 in one line.

    Django adds the traceback of the exception that stands for the refusal. These are thirty lines
    of our own code for each request, and they say nothing about the visitor.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "django.request" and record.levelno < logging.ERROR:
            record.exc_info = None
        return True


class MaskedSecrets(logging.Filter):
    """Masks the tokens of password resets in addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _masked(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_masked, record.args))
        elif isinstance(record.args, dict):
            # A copy of the same class: gunicorn's gives "-" for a name that it lacks.
            masked = copy.copy(record.args)
            masked.update({name: _masked(value) for name, value in record.args.items()})
            record.args = masked
        return True


def _masked(value: Any) -> Any:
    return _TOKEN.sub(r"\1***", value) if isinstance(value, str) else value


def mask_what_servers_log() -> None:
    """Mask secrets in the lines that a web server writes of each request.

    It is not done by the setting LOGGING, which would take the loggers' own handlers away.
    """
    masked = MaskedSecrets()
    for name in SERVERS:
        logging.getLogger(name).addFilter(masked)
