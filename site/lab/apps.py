from __future__ import annotations

import logging

from django.apps import AppConfig


class LabConfig(AppConfig):
    name = "lab"
    verbose_name = "Lab"

    def ready(self) -> None:
        logging.getLogger("uvicorn.access").addFilter(worth_logging)


def worth_logging(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's log tells of a visitor: the others ask eighty times a second."""
    return "GET /lab/light/ " not in record.getMessage()
