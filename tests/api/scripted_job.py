"""A job's process that does what a script says: it tells lines, waits, dies.

The script is the file `script.json` in the job's directory: one list of steps for each attempt.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 60.0


def main() -> None:
    """Play this attempt's steps."""
    sys.stdin.readline()
    script = json.loads(Path("script.json").read_text())
    attempt = sum(1 for _ in Path().glob("attempt-*"))
    Path(f"attempt-{attempt}").touch()
    for step in script[min(attempt, len(script) - 1)]:
        _do(step)


def _do(step: Any) -> None:
    if isinstance(step, dict):
        os.write(1, json.dumps(step).encode() + b"\n")
    elif step == "hang":
        time.sleep(SECONDS)
    elif step == "torn":
        os.write(1, b'{"kind": "note", "te')
    elif step.startswith("say "):
        os.write(1, step.removeprefix("say ").encode() + b"\n")
    elif step.startswith("append "):
        _, path, text = step.split(" ", 2)
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a") as file:
            file.write(f"{text}\n")
    elif step == "die":
        os._exit(7)
    else:  # wait for a file that the test makes
        end = time.monotonic() + SECONDS
        while not Path(step).exists() and time.monotonic() < end:
            time.sleep(0.02)


if __name__ == "__main__":
    main()
