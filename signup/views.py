from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.core.files import File
from django.core.files.storage import default_storage
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.forms import ModelForm
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST, require_safe
from django.views.generic import CreateView, FormView
from django_ratelimit.decorators import ratelimit

from signup import files, known_browsers, throttle
from signup.forms import (
    AvatarForm,
    ChangePasswordForm,
    NewPasswordForm,
    QueuedPasswordResetForm,
    ReportForm,
    SignupForm,
)
from signup.models import USERNAME_TAKEN, Avatar, Report, User
from signup.registration import UsernameTaken, register, replace_avatar
from signup.tasks import build_report
from signup.throttle import email_key, rate

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def signed_in(request: HttpRequest) -> User:
    """The user of a request, for views that only users who are logged in can reach."""
    return cast("User", request.user)


@method_decorator(
    ratelimit(key="ip", group="signup", rate=rate("SIGNUP_RATE"), method="POST"), name="dispatch"
)
class SignupView(FormView):
    template_name = "signup/signup.html"
    form_class = SignupForm
    success_url = reverse_lazy("account")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return redirect("account")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: SignupForm) -> HttpResponse:
        try:
            user = register(form)
        except UsernameTaken:
            form.add_error("username", USERNAME_TAKEN)
            return self.form_invalid(form)
        login(self.request, user)
        messages.success(self.request, "User registered")
        if self.by_htmx:  # which would follow a redirect by itself, and swap what it gets
            return HttpResponse(headers={"HX-Redirect": self.get_success_url()})
        return super().form_valid(form)

    def form_invalid(self, form: SignupForm) -> HttpResponse:
        form.keep_picture(in_page=self.by_htmx)
        return super().form_invalid(form)

    @property
    def by_htmx(self) -> bool:
        return self.request.headers.get("HX-Request") == "true"


@method_decorator(
    ratelimit(key="user", group="upload", rate=rate("UPLOAD_RATE"), method="POST"), name="post"
)
class AccountView(LoginRequiredMixin, FormView):
    """The account, and the form that changes its picture."""

    template_name = "signup/account.html"
    form_class = AvatarForm
    success_url = reverse_lazy("account")

    def form_valid(self, form: AvatarForm) -> HttpResponse:
        replace_avatar(signed_in(self.request), form.cleaned_data["avatar"])
        messages.success(self.request, "Picture uploaded")
        return super().form_valid(form)


@login_required
@require_POST
def remove_avatar(request: HttpRequest) -> HttpResponse:
    Avatar.objects.filter(user=signed_in(request)).delete()
    messages.success(request, "Picture removed")
    return redirect("account")


@login_required
@require_safe
def avatar(request: HttpRequest) -> HttpResponse:
    """The account page's picture as a fragment. The page polls this while it is being made."""
    return render(request, "signup/_avatar.html")


@login_required
@require_safe
def welcome(request: HttpRequest) -> HttpResponse:
    """What the account page says of the welcome mail. The page polls this until that is sent."""
    return render(request, "signup/_welcome.html", {"welcome": signed_in(request).welcome})


@require_safe
def picture(request: HttpRequest, key: UUID, size: int) -> HttpResponse:
    """A rendition from the storage. Whoever knows its address, which is random, may see it."""
    if size not in Avatar.SIZES:
        raise Http404("There are no pictures of this size.")
    try:
        with default_storage.open(files.picture_name(key, size)) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise Http404("There is no such picture (any more).") from error
    # The content of an address never changes. It is cached for a day only, so that a deleted
    # picture leaves all caches within a day.
    headers = {"Cache-Control": "public, max-age=86400, immutable"}
    return HttpResponse(content, content_type="image/webp", headers=headers)


class StaffRequiredMixin(LoginRequiredMixin):
    """Lets staff in. Anonymous visitors are sent to the login; other users get a 403."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and not request.user.is_staff:
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)


class ReportsView(StaffRequiredMixin, CreateView):
    """The latest reports, and the form that has a further one built."""

    template_name = "signup/reports.html"
    form_class = ReportForm
    success_url = reverse_lazy("reports")
    shown = 20

    def get_initial(self) -> dict[str, Any]:
        today = timezone.localdate()
        return {"start": today - timedelta(days=29), "end": today}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        reports = Report.objects.select_related("created_by")[: self.shown]
        waiting = any(report.pending for report in reports)
        return super().get_context_data(reports=reports, waiting=waiting, **kwargs)

    def form_valid(self, form: ModelForm) -> HttpResponse:
        form.instance.created_by = signed_in(self.request)
        with transaction.atomic():
            row = build_report(str(form.instance.pk), creator=signed_in(self.request))
            form.instance.task_id = row.pk
            return super().form_valid(form)


def staff_report(request: HttpRequest, pk: UUID) -> Report:
    """The report, for staff; 403 for everybody else."""
    if not request.user.is_staff:
        raise PermissionDenied
    return get_object_or_404(Report, pk=pk)


@login_required
@require_safe
def report(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One report as a fragment. The page polls this while it is being built."""
    return render(request, "signup/_report.html", {"report": staff_report(request, pk)})


@login_required
@require_safe
def download(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    report = staff_report(request, pk)
    try:
        file = default_storage.open(files.report_name(report.pk))
    except FileNotFoundError as error:
        raise Http404("This report's file is gone. Build it again.") from error
    name = f"signups_{report.start}_{report.end}.xlsx"
    if not isinstance(request, ASGIRequest):
        return FileResponse(file, as_attachment=True, filename=name, content_type=XLSX)
    # Under ASGI Django reads the whole file of a FileResponse into memory before it sends a byte.
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(_chunks(file), content_type=XLSX, headers=headers)


async def _chunks(file: File) -> AsyncIterator[bytes]:
    try:
        while chunk := await sync_to_async(file.read)(File.DEFAULT_CHUNK_SIZE):
            yield chunk
    finally:
        await sync_to_async(file.close)()


@method_decorator(throttle.password_change, name="post")
class PasswordChangeView(auth.PasswordChangeView):
    template_name = "signup/password_form.html"
    form_class = ChangePasswordForm
    success_url = reverse_lazy("account")
    extra_context = {"title": "Change your password", "action": "Change password"}

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, "Password changed")
        return super().form_valid(form)


@method_decorator(
    ratelimit(key="ip", group="reset-ip", rate=rate("PASSWORD_RESET_RATE"), method="POST"),
    name="dispatch",
)
@method_decorator(
    ratelimit(key=email_key, group="reset-email", rate=rate("PASSWORD_RESET_RATE"), method="POST"),
    name="dispatch",
)
class PasswordResetView(auth.PasswordResetView):
    template_name = "signup/password_form.html"
    form_class = QueuedPasswordResetForm
    extra_context = {
        "title": "Reset your password",
        "intro": "We send a link to the address of your account.",
        "action": "Send the link",
    }


class PasswordResetConfirmView(auth.PasswordResetConfirmView):
    """Django's view, which hands the link's token to the form's page by a cookie.

    Django would keep it in the session, which is a row of the database that others may read. It is
    there while Django's code runs, and is not saved.
    """

    template_name = "signup/password_reset_confirm.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("login")
    cookie = "password_reset"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        before = request.COOKIES.get(self.cookie, "")
        request.session[auth.INTERNAL_RESET_SESSION_TOKEN] = before
        try:
            response = super().dispatch(request, *args, **kwargs)
        finally:
            token = request.session.pop(auth.INTERNAL_RESET_SESSION_TOKEN, "")
        path = reverse("password_reset_confirm", args=[kwargs["uidb64"], self.reset_url_token])
        # The visitor chose this part of the address. A semicolon in it would end the cookie's path.
        path = quote(path, safe="/%")
        if not token:
            response.delete_cookie(self.cookie, path=path, samesite="Lax")
        elif token != before:
            response.set_cookie(
                self.cookie,
                token,
                path=path,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, "Password changed. You can log in with it now.")
        response = super().form_valid(form)
        # Whoever reads the account's mail is its owner, also while a stranger tries its name.
        known_browsers.remember(self.request, response, form.user)
        return response
