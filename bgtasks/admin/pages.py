"""The pages below the entry "Background tasks": each is a function, and this module has their list.

To add a page, write a module with

    @page("schedules/", "schedules")
    def schedules(request: HttpRequest, console: ModelAdmin) -> HttpResponse:
        return render(request, console, "schedules", "Schedules", cron=...)

and a template ``bgtasks/templates/bgtasks/admin/schedules.html`` that extends
``bgtasks/admin/base.html`` and fills its block ``page``, and import the module in
``bgtasks/admin/__init__.py``. Links to it are ``{% url 'admin:bgtasks_operations_schedules' %}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

View = Callable[..., HttpResponse]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        route: its address below that of the entry, as `django.urls.path` takes it.
        name: what the name of its URL ends with; see `url_name`.
        view: takes the request, the `ModelAdmin` of the entry, and what the route captures.
        permission: "view", "act" or "pause": whoever lacks it is refused.
        methods: of HTTP, which it answers.
    """

    route: str
    name: str
    view: View
    permission: str
    methods: tuple[str, ...]


PAGES: list[Page] = []
# What leads to the pages, in this order: the name and the title of each. The overview has the name
# by which Django's index links to an entry.
OVERVIEW = "changelist"
NAVIGATION = (
    (OVERVIEW, "Overview"),
    ("tasks", "Tasks"),
    ("workers", "Workers"),
    ("schedules", "Schedules"),
)


def page(
    route: str, name: str, permission: str = "view", methods: tuple[str, ...] = ("GET", "HEAD")
) -> Callable[[View], View]:
    """Declare a view as a page; see `Page`. What changes something asks for another permission."""

    def declare(view: View) -> View:
        PAGES.append(Page(route, name, view, permission, methods))
        return view

    return declare


def urls(console: ModelAdmin) -> list[URLPattern]:
    """The URLs of all pages.

    Args:
        console: the admin of the entry. Its site asks for a login, and its methods
            ``has_view_permission`` and so on say who may see what.
    """
    return [path(each.route, _guarded(console, each), name=url_name(each.name)) for each in PAGES]


def url_name(name: str) -> str:
    """The name of a page's URL, without the namespace."""
    return f"bgtasks_operations_{name}"


def url(console: ModelAdmin, name: str, *args: Any) -> str:
    """The address of a page in the site of this admin."""
    site = console.admin_site.name
    return reverse(f"admin:{url_name(name)}", args=args, current_app=site)


def _guarded(console: ModelAdmin, page: Page) -> View:
    @wraps(page.view)
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in page.methods:
            return HttpResponseNotAllowed(page.methods)
        if not may(console, request, page.permission):
            raise PermissionDenied
        return page.view(request, console, *args, **kwargs)

    guarded: View = console.admin_site.admin_view(view)
    return guarded


def may(console: ModelAdmin, request: HttpRequest, permission: str) -> bool:
    """Whether the user has a permission: "view", "act" or "pause"."""
    return bool(getattr(console, f"has_{permission}_permission")(request))


def render(
    request: HttpRequest, console: ModelAdmin, template: str, title: str, **context: Any
) -> TemplateResponse:
    """A page of the admin.

    Args:
        template: the name of the file in ``bgtasks/templates/bgtasks/admin``, without its ending.
        title: of the page.
        context: what the template needs beside the navigation, ``may_act`` and ``may_pause``.
    """
    current = request.resolver_match.url_name if request.resolver_match else ""
    navigation = [
        {"url": url(console, name), "title": text, "is_current": url_name(name) == current}
        for name, text in NAVIGATION
    ]
    about = {
        "title": title,
        "opts": console.opts,
        "navigation": navigation,
        "may_act": may(console, request, "act"),
        "may_pause": may(console, request, "pause"),
    }
    site = console.admin_site.each_context(request)
    return TemplateResponse(request, f"bgtasks/admin/{template}.html", {**site, **about, **context})


def render_live(
    request: HttpRequest,
    console: ModelAdmin,
    part: str,
    title: str,
    query: Mapping[str, str] | None = None,
    **context: Any,
) -> TemplateResponse:
    """A page with a part that its script asks for anew, with ``?live``, and puts in its place.

    Args:
        part: the name of the part's template, as for `render`.
        query: the further parameters of the address at which the part is.
    """
    if "live" in request.GET:
        return render(request, console, part, title, **context)
    address = f"?{urlencode({**(query or {}), 'live': 1})}"
    about = {"live_part": f"bgtasks/admin/{part}.html", "live_address": address}
    return render(request, console, "live", title, **about, **context)
