"""How much slow work the ways do: all of it is bounded, and no visitor can ask for more."""

from __future__ import annotations

from django.conf import settings

# 1 for about a second of work on a usual machine.
SCALE: float = settings.LAB_SCALE

PICTURE_WIDTH, PICTURE_HEIGHT = 4000, 3000  # pixels: 12 megapixels
API_SECONDS = 1.0 * SCALE
SMTP_SECONDS = 1.0 * SCALE
REPORT_LINES = int(30_000 * SCALE)
PRIMES_BELOW = int(300_000 * SCALE)
FILES = max(2, int(100 * SCALE))
FILE_BYTES = 200_000
CALLS = max(4, int(200 * SCALE))
CALL_SECONDS = 0.2
# Milliseconds for which a script keeps the browser's main thread busy.
SCRIPT_MS = 400
