"""Runs a command, and ends it when whoever started this has ended, also by ``kill -9``.

    python tied.py COMMAND [ARGUMENT ...]

Its starter keeps a pipe to its standard input. The system closes that pipe at the latest when the
starter dies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

# Seconds for a command to end by itself after SIGTERM.
GRACE = 8.0


def end_with_starter(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> int:
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603  it is the lab's
    threading.Thread(target=end_with_starter, args=[process], daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code  # as a shell tells the signal that has ended it


if __name__ == "__main__":
    sys.exit(main())
