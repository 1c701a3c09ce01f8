from django.apps import apps
from django.contrib import admin
from django.contrib.auth import views as auth
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import TemplateView

from bgtasks import metrics
from signup import throttle
from signup.forms import LoginForm

handler403 = "signup.throttle.forbidden"

admin_password_change = admin.site.admin_view(admin.site.password_change, cacheable=True)

urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("", include("signup.urls")),
    path("tasks/", include("bgtasks.watch.urls")),
    path("metrics", metrics.view, name="metrics"),
    path("login/", throttle.login(auth.LoginView.as_view(form_class=LoginForm)), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/login/", throttle.login(admin.site.login)),
    path("admin/password_change/", throttle.password_change(admin_password_change)),
    path("admin/", admin.site.urls),
    # Browsers ask for this if a page names no icon, as the pages of the admin do.
    path("favicon.ico", lambda _request: redirect(static("favicon.svg"))),
]
if apps.is_installed("lab"):
    urlpatterns.append(path("lab/", include("lab.urls")))
