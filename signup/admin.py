from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from signup.models import Avatar, Report, User

admin.site.register(User, UserAdmin)


class WorkAdmin(admin.ModelAdmin):
    """Shows rows that only the worker writes. Staff may delete one, which deletes its files too."""

    list_filter = ["state"]
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Avatar)
class AvatarAdmin(WorkAdmin):
    list_display = ["user", "state", "created_at"]
    list_select_related = ["user"]
    search_fields = ["user__username"]


@admin.register(Report)
class ReportAdmin(WorkAdmin):
    list_display = ["__str__", "state", "signups", "created_by", "created_at"]
    list_select_related = ["created_by"]
