"""Where measurements are kept, under which name, and how a result is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from attention.timing import host

RESULTS = Path(__file__).parent / "results"


def slug(described: host.Host, device: str) -> str:
    """A machine's name as part of a file's name."""
    name = described.gpus[0].name if device == "cuda" and described.gpus else f"{described.cpu} {described.cores} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write(path: Path, result: Any) -> None:
    """Write a result as JSON; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
