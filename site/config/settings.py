"""Settings, read from the environment; `.env` beside `manage.py` is read as well.

Without any, the site is safe rather than handy: ``DEBUG`` is off, and a missing
``SECRET_KEY`` stops it. ``docs/operating/deploy.md`` lists the variables.
"""

import os
from pathlib import Path
from typing import Any

import django
import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parents[2]
VAR_DIR = BASE_DIR / "var"

env = environ.Env()
env.read_env(os.environ.get("DOTENV", BASE_DIR / ".env"))

# --- what kind of deployment this is

DEBUG = env.bool("DEBUG", default=False)

# Not env.str, which takes a key that begins with "$" for the name of another variable.
SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set, and DEBUG is off. Set SECRET_KEY to a long random string "
            "(python -c 'import secrets; print(secrets.token_urlsafe(50))'), "
            "or set DEBUG=1 on a development machine."
        )
    SECRET_KEY = "development only; production refuses to start without its own"  # noqa: S105
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])

ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# Where links in mails lead. A worker has no request to take it from, and a request's
# Host header is the visitor's to forge.
SITE_URL = env.str(
    "SITE_URL",
    default="http://127.0.0.1:8000"
    if DEBUG
    else "https://" + next((h.lstrip(".") for h in ALLOWED_HOSTS if h != "*"), "localhost"),
).rstrip("/")

# How many reverse proxies of ours stand in front. In production at least one does: it
# ends TLS, which the application server does not speak.
PROXY_HOPS = env.int("PROXY_HOPS", default=0 if DEBUG else 1)

# --- the applications

INSTALLED_APPS = [
    "bgtasks",
    "background_task",
    "signup",
    "config",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic",
    "django.contrib.staticfiles",
    "django.forms",
    "csp",
    "django_htmx",
    "django_ratelimit",
]

MIDDLEWARE = [
    "config.health.HealthCheckMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

FORM_RENDERER = "config.forms.SiteRenderer"

# --- data

DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'db.sqlite3'}")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_engine = DATABASES["default"]["ENGINE"]
_database_options = DATABASES["default"].setdefault("OPTIONS", {})
if _engine.endswith("sqlite3"):
    VAR_DIR.mkdir(exist_ok=True)
    # One file, written by a web server and a worker. WAL: readers never wait for the
    # writer. IMMEDIATE: a transaction takes the write lock when it begins, where the
    # busy timeout applies; a deferred one that has read fails at its first write with
    # "database is locked", at once. NORMAL: a power cut may undo the last commits, a
    # crash of the process does not; synchronous=FULL would fsync at every commit.
    _database_options.setdefault("timeout", 20)
    _database_options.setdefault("transaction_mode", "IMMEDIATE")
    _database_options.setdefault(
        "init_command",
        "PRAGMA journal_mode=WAL;"
        "PRAGMA synchronous=NORMAL;"
        "PRAGMA temp_store=MEMORY;"
        "PRAGMA mmap_size=134217728;"
        "PRAGMA journal_size_limit=67108864;",
    )
elif _engine.endswith("postgresql"):
    # A dead host is an error after five seconds, not a page that hangs for minutes.
    _database_options.setdefault("connect_timeout", 5)

# Counts for the throttle live in the database, so that all web processes share them and
# nobody needs another service. CACHE_URL=redis://... moves them.
if env.str("CACHE_URL", default=""):
    CACHES = {"default": env.cache_url("CACHE_URL")}
else:
    CACHES = {
        "default": {
            "BACKEND": "config.cache.CountingDatabaseCache",
            "LOCATION": "site_cache",
            # As long as a throttle's window: counting up renews the expiry.
            "TIMEOUT": 60 * 60,
            # Past this many Django deletes a third, counts that still count among them.
            "OPTIONS": {"MAX_ENTRIES": 10_000},
        }
    }

# Uploads, pictures and reports. Any Django storage: STORAGE_BACKEND is its class,
# STORAGE_OPTIONS its keyword arguments as JSON.
STORAGES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": env.str(
            "STORAGE_BACKEND", default="django.core.files.storage.FileSystemStorage"
        ),
        "OPTIONS": env.json("STORAGE_OPTIONS", default={}),
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "servestatic.storage.CompressedManifestStaticFilesStorage",
    },
}
# Nothing is served from here by path: signup.views hands out what a visitor may see.
MEDIA_ROOT = env.path("MEDIA_ROOT", default=str(VAR_DIR / "media"))()
STATIC_URL = "/static/"
STATIC_ROOT = env.path("STATIC_ROOT", default=str(VAR_DIR / "static"))()
STATICFILES_DIRS = [BASE_DIR / "site" / "static"]

# --- mail

EMAIL_URL_SET = bool(env.str("EMAIL_URL", default=""))
_email = env.email_url("EMAIL_URL", default="smtp://localhost:25")
if DEBUG and not EMAIL_URL_SET:
    _email = {
        "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
        "EMAIL_FILE_PATH": str(VAR_DIR / "mail"),
    }
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Signup <noreply@localhost>")
SERVER_EMAIL = env.str("SERVER_EMAIL", default=DEFAULT_FROM_EMAIL)
# A mail server that accepts a connection and says nothing holds a worker this long.
_email["EMAIL_TIMEOUT"] = env.int("EMAIL_TIMEOUT", default=10)
if django.VERSION >= (6, 1):
    from config.mail import mailers

    MAILERS = mailers(_email)
else:
    globals().update({name: value for name, value in _email.items() if name != "OPTIONS"})

# --- accounts

AUTH_USER_MODEL = "signup.User"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "signup.validators.MaximumLengthValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "account"
LOGOUT_REDIRECT_URL = "home"

# --- tasks

# Seconds that running tasks have when the worker is told to stop.
BGTASKS_GRACE = env.float("BGTASKS_GRACE", default=25.0)

# --- throttle: requests per visitor's address, as django-ratelimit writes rates

RATELIMIT_ENABLE = env.bool("RATELIMIT_ENABLE", default=True)
RATELIMIT_IP_META_KEY = "config.network.client_ip"
SIGNUP_RATE = env.str("SIGNUP_RATE", default="30/h")
LOGIN_RATE = env.str("LOGIN_RATE", default="30/10m")
PASSWORD_RESET_RATE = env.str("PASSWORD_RESET_RATE", default="10/h")
UPLOAD_RATE = env.str("UPLOAD_RATE", default="30/h")

# --- the browser's side of security

SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=3600 if SECURE_SSL_REDIRECT else 0)
if PROXY_HOPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],  # the admin's icons are data: URLs
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

SILENCED_SYSTEM_CHECKS = [
    # HSTS for every subdomain, for good: the owner of the domain decides, not one site.
    "security.W005",
    "security.W021",
    # "Not officially supported": config.cache counts atomically, and is tested to.
    "django_ratelimit.W001",
]

# --- the rest

LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"brief": {"()": "config.logs.NoTracebackForRefusals"}},
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["brief"]}
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    # Its handlers repeat what the root's prints.
    "loggers": {"django": {"handlers": [], "propagate": True}},
}
