"""The entry "Background tasks" in the index of the admin, and who may see it and act."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_permission_codename
from django.http import HttpRequest
from django.urls import URLPattern

from bgtasks.admin import pages
from bgtasks.models import Operations


@admin.register(Operations)
class OperationsAdmin(admin.ModelAdmin):
    """The pages of `bgtasks.admin.pages`. Nothing is added, changed or deleted by forms.

    A project's own class or admin site may override who may do what: every page asks these methods.
    """

    def get_urls(self) -> list[URLPattern]:
        return pages.urls(self)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._has(request, "view")

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whether the user may retry, cancel, move and delete tasks, and run them now."""
        return self.has_view_permission(request) and self._has(request, "act")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Whether the user may pause queues and schedules, and resume them."""
        return self.has_view_permission(request) and self._has(request, "pause")

    def _has(self, request: HttpRequest, permission: str) -> bool:
        codename = get_permission_codename(permission, self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))
