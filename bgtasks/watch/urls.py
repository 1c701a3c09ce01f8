"""The URLs to include: ``path("tasks/", include("bgtasks.watch.urls"))``."""

from __future__ import annotations

from django.urls import path

from bgtasks.watch.views import watch

app_name = "bgtasks"

urlpatterns = [path("<str:signed>/", watch, name="watch")]
