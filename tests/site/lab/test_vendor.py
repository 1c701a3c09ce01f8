"""The library that measures in the browser is the one that npm has under the pinned version."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.harness.process import ROOT

pytestmark = pytest.mark.any_database

LAB = ROOT / "site" / "lab"
# Of the file as `make vendor` copies it: whoever changes the version changes this too.
VERSION = "6.2.3"
SHA256 = "3fa8f559c2f2fa714c4fb6706d333dee3c161d7192879b9e4feee3d54370d4b2"


def test_the_vendored_file_is_the_pinned_one() -> None:
    vendor = LAB / "static" / "lab" / "vendor"
    content = (vendor / "web-vitals.attribution.iife.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert "Apache License" in (vendor / "web-vitals.LICENSE").read_text()


def test_the_version_is_pinned_exactly() -> None:
    assert json.loads((LAB / "npm" / "package.json").read_text())["dependencies"] == {
        "web-vitals": VERSION
    }
    locked = json.loads((LAB / "npm" / "package-lock.json").read_text())["packages"]
    assert locked["node_modules/web-vitals"]["version"] == VERSION
    assert locked["node_modules/web-vitals"]["integrity"].startswith("sha512-")
