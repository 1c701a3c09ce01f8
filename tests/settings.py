"""The site's own settings, in an environment that no ``.env`` or shell reaches into."""

import os
import tempfile
from pathlib import Path

POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
FOLDER = tempfile.TemporaryDirectory(prefix="signup-tests-")

SETTINGS_IN_ENVIRONMENT = {
    "DOTENV": os.devnull,
    "DEBUG": "0",
    "SECRET_KEY": "tests-only",
    "ALLOWED_HOSTS": "testserver,127.0.0.1",
    "SITE_URL": "http://testserver",
    "EMAIL_URL": "smtp://127.0.0.1:1",
    "SECURE_SSL_REDIRECT": "0",
    "PROXY_HOPS": "0",
    "RATELIMIT_ENABLE": "0",
    "LAB": "1",
    "MEDIA_ROOT": f"{FOLDER.name}/media",
    "DATABASE_URL": POSTGRES_URL if DATABASE == "postgresql" else f"sqlite:///{FOLDER.name}/db",
}
for _name in ("CACHE_URL", "STORAGE_BACKEND", "STORAGE_OPTIONS", "LOG_LEVEL", "TIME_ZONE"):
    os.environ.pop(_name, None)
os.environ.update(SETTINGS_IN_ENVIRONMENT)

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES, STORAGES  # noqa: E402

# A file, not memory: threads then have connections of their own and really collide.
if DATABASE == "sqlite":
    DATABASES["default"]["TEST"] = {"NAME": str(Path(FOLDER.name) / "test")}
else:
    DATABASES["default"]["TEST"] = {"NAME": f"signup_test_{os.getpid()}"}
STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
# Each client of a test would look for all static files anew, and no test asks for one in this
# process: tests/live and tests/browser do, of a site that has collected them.
SERVESTATIC_USE_FINDERS = SERVESTATIC_USE_STATIC_ROOT = False
PASSWORD_HASHERS = ["tests.harness.hashers.QuickArgon2"]
