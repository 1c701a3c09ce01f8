"""The settings of the project's web server. They add what its workers do not need."""

from tests.bgtasks.project.settings import *  # noqa: F403

ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.bgtasks.project.urls"
# The session is in the cookie, so that it needs no table.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
