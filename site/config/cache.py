"""A cache in the site's own database that can count."""

from typing import Any

from django.core.cache.backends.db import DatabaseCache
from django.db import connections, router, transaction


class CountingDatabaseCache(DatabaseCache):
    """Django's database cache with an ``incr`` that loses no count.

    The ``incr`` of Django's cache reads the number and then writes it. So two requests at once
    would write the same number, and the throttle that counts them would let too many through.
    """

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Add ``delta`` to ``key`` and return the sum.

        Raises:
            ValueError: the cache has no such key.
        """
        alias = router.db_for_write(self.cache_model_class)
        with transaction.atomic(using=alias):
            self._lock(alias, self.make_and_validate_key(key, version=version))
            return super().incr(key, delta, version)

    def _lock(self, alias: str, cache_key: Any) -> None:
        connection = connections[alias]
        # SQLite needs no row lock: its transactions begin IMMEDIATE (see the settings).
        if connection.features.has_select_for_update:
            table = connection.ops.quote_name(self.cache_model_class._meta.db_table)
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT 1 FROM {table} WHERE cache_key = %s FOR UPDATE",  # noqa: S608
                    [cache_key],
                )
