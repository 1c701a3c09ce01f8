from typing import Any

from django.apps import AppConfig
from django.core.management import call_command
from django.db.models.signals import post_migrate

from config.logs import mask_what_servers_log


class SiteConfig(AppConfig):
    name = "config"
    verbose_name = "Site"

    def ready(self) -> None:
        from config import checks  # noqa: F401  registers them

        mask_what_servers_log()
        post_migrate.connect(create_cache_table, sender=self)


def create_cache_table(using: str, verbosity: int, **kwargs: Any) -> None:
    """Make the table of the database cache, unless it is there or another cache is used."""
    call_command("createcachetable", database=using, verbosity=max(0, verbosity - 1))
