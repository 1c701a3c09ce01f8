"""Fewer indexes on the task tables, see `bgtasks.queue.indexes`."""

from django.db import migrations

from bgtasks.queue import indexes


def tune(apps, schema_editor):
    indexes.tune(schema_editor.connection)


def restore(apps, schema_editor):
    indexes.restore(schema_editor.connection)


class Migration(migrations.Migration):
    # On PostgreSQL indexes are made and dropped while others go on writing.
    atomic = False
    dependencies = [
        ("bgtasks", "0001_initial"),
        ("background_task", "0002_auto_20170927_1109"),
    ]
    operations = [migrations.RunPython(tune, restore)]
