"""Settings, read from the environment; `.env` beside `manage.py` is read as well.

Without any, the settings are those for production: ``DEBUG`` is off, and the site does not start
without a ``SECRET_KEY``. ``docs/operating/deploy.md`` lists the variables.
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

# It is not read by env.str, which takes a value that begins with "$" for the name of a variable.
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

# The address to which links in mails lead. A worker has no request to take it from, and a visitor
# could forge the Host header of a request.
SITE_URL = env.str(
    "SITE_URL",
    default="http://127.0.0.1:8000"
    if DEBUG
    else "https://" + next((h.lstrip(".") for h in ALLOWED_HOSTS if h != "*"), "localhost"),
).rstrip("/")

# How many reverse proxies of ours stand before the application server. In production there is at
# least one, which does TLS: the application server does not.
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
    "config.caching.private_pages",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "signup.known_browsers.known_browsers",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

# How many requests that read, and how many that write, a web process handles at a time. Each has a
# thread and a database connection. Further ones wait.
REQUESTS_AT_ONCE = env.int("REQUESTS_AT_ONCE", default=10)
if REQUESTS_AT_ONCE < 1:
    raise ImproperlyConfigured(
        f"REQUESTS_AT_ONCE is {REQUESTS_AT_ONCE}, so that every request would wait for ever. "
        "Set it to 1 or more, or leave it out: then it is 10."
    )

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
                "config.unserved.unserved",
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
    # A web server and a worker write to one file.
    # WAL: readers never wait for the writer.
    # IMMEDIATE: a transaction takes the write lock when it begins, and waits for it as long as the
    # timeout says. A deferred transaction takes it at its first write. If it has read before and
    # another has written since, it does not wait, but fails at once with "database is locked".
    # NORMAL: a power cut may undo the last commits, and a crash of the process does not.
    # synchronous=FULL would call fsync at every commit.
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
    # If the database's host is dead, a page fails after five seconds instead of minutes.
    _database_options.setdefault("connect_timeout", 5)

# The throttle counts in the database, so that all web processes share the counts and no further
# service is needed. With CACHE_URL=redis://... it counts there.
if env.str("CACHE_URL", default=""):
    CACHES = {"default": env.cache_url("CACHE_URL")}
else:
    CACHES = {
        "default": {
            "BACKEND": "config.cache.CountingDatabaseCache",
            "LOCATION": "site_cache",
            # As long as the longest window of a throttle, because each count renews the expiry.
            "TIMEOUT": 60 * 60,
            # If there are more, Django deletes a third of them, also counts that are in use.
            "OPTIONS": {"MAX_ENTRIES": 100_000},
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
# No server serves files of this folder by their paths. Views of `signup` send them.
MEDIA_ROOT = env.path("MEDIA_ROOT", default=str(VAR_DIR / "media"))()
STATIC_URL = "/static/"
STATIC_ROOT = env.path("STATIC_ROOT", default=str(VAR_DIR / "static"))()
STATICFILES_DIRS = [BASE_DIR / "site" / "static"]

# --- mail

EMAIL_URL_SET = bool(env.str("EMAIL_URL", default=""))
_email = env.email_url("EMAIL_URL", default="smtp://localhost:25")
if DEBUG and not EMAIL_URL_SET:
    _email = {
        "EMAIL_BACKEND": "config.mail.EmlBackend",
        "EMAIL_FILE_PATH": str(VAR_DIR / "mail"),
    }
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Signup <noreply@localhost>")
SERVER_EMAIL = env.str("SERVER_EMAIL", default=DEFAULT_FROM_EMAIL)
# A mail server that accepts a connection and does not answer holds up a worker for so many seconds.
_email["EMAIL_TIMEOUT"] = env.int("EMAIL_TIMEOUT", default=10)
if django.VERSION >= (6, 1):
    from config.mail import mailers

    MAILERS = mailers(_email)
else:
    globals().update({name: value for name, value in _email.items() if name != "OPTIONS"})

# --- accounts

AUTH_USER_MODEL = "signup.User"
PASSWORD_HASHERS = [
    "config.hashers.Argon2InTurn",
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

# Seconds that running tasks have to finish when the worker is stopped.
BGTASKS_GRACE = env.float("BGTASKS_GRACE", default=25.0)
# With "celery", Celery's workers run the tasks, and `process_tasks` only sends them.
ENGINE = env.str("ENGINE", default="")
if ENGINE:
    BGTASKS_ENGINE = {"ENGINE": ENGINE, "APP": "config.celery.app"}
# The rest of what begins with CELERY_ is Celery's own.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="amqp://guest:guest@127.0.0.1:5672//")
CELERY_TASK_DEFAULT_QUEUE = env.str("CELERY_TASK_DEFAULT_QUEUE", default="celery")
# What Prometheus sends to read /metrics. Staff can read them anyway.
BGTASKS_METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

# --- the lab: pages that measure what waiting costs, always open in development

# Whether staff may open /lab/ in production. It keeps the server busy on purpose.
LAB = env.bool("LAB", default=False)
# Where a browser reaches the lab's WSGI server. Without it, the site's own server runs all ways,
# unless the page is opened on the machine itself.
LAB_WSGI_URL = env.str("LAB_WSGI_URL", default="")
# How much slow work the lab does: 1 for about a second.
LAB_SCALE = env.float("LAB_SCALE", default=1.0)
# How many others ask for a small page at a time, while somebody does slow work.
LAB_OTHERS = max(1, env.int("LAB_OTHERS", default=20))
if DEBUG or LAB:
    INSTALLED_APPS.append("lab")

# --- throttle: how many requests an address or a user may send, in django-ratelimit's notation

RATELIMIT_ENABLE = env.bool("RATELIMIT_ENABLE", default=True)
RATELIMIT_IP_META_KEY = "config.network.client_ip"
# Providers give a customer up to a /48, and so 65,536 networks of the size /64.
RATELIMIT_IPV6_MASK = 48
SIGNUP_RATE = env.str("SIGNUP_RATE", default="30/h")
LOGIN_RATE = env.str("LOGIN_RATE", default="30/10m")
LOGIN_NAME_RATE = env.str("LOGIN_NAME_RATE", default="50/h")
LOGIN_NO_EMAIL_RATE = env.str("LOGIN_NO_EMAIL_RATE", default="5/h")
PASSWORD_CHANGE_RATE = env.str("PASSWORD_CHANGE_RATE", default="20/h")
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
    # These ask for HSTS on all subdomains and for preloading. The owner of the domain decides that.
    "security.W005",
    "security.W021",
    # This says that the cache is not officially supported. config.cache counts atomically.
    "django_ratelimit.W001",
]

# --- the rest

LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "brief": {"()": "config.logs.NoTracebackForRefusals"},
        "masked": {"()": "config.logs.MaskedSecrets"},
    },
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["brief", "masked"],
        }
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    # Django's logger has handlers of its own, which would repeat the lines of the root's.
    # Pillow's debug level writes a line for each part of a picture, and whoever sends a picture can
    # give it a great many.
    # httpx writes a line for each request that is sent, and waitress for each that has to wait: the
    # lab has many of both.
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "PIL": {"level": "ERROR"},
        "httpx": {"level": "WARNING"},
        "waitress": {"level": "ERROR"},
    },
}
