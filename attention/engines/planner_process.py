"""Asks an engine's own code, in a process of its own, because the engine is large and may not be installed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any


def answers(planner: Path, requests: list[dict[str, Any]], seconds: float, silent: str) -> list[dict[str, Any]]:
    """The answer to each request, in order.

    Args:
        planner: a program that reads a request per line and prints a line about itself, then an answer per line.
        seconds: the process ends after so long.
        silent: what to say when answers are missing.

    Raises:
        ValueError: there is not one answer for each request.
    """
    # -P keeps the program's folder off the import path, because it has modules named as the engines are
    with subprocess.Popen(
        [sys.executable, "-P", str(planner)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            out, _ = child.communicate("".join(json.dumps(one) + "\n" for one in requests))
        finally:
            timer.cancel()
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if len(lines) != len(requests) + 1:
        raise ValueError(silent)
    return lines[1:]
