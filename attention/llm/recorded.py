"""The results that ship with the program: read here, free of torch; made by ``attention.llm.record``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from attention.llm.written import Written

FILE = Path(__file__).resolve().parents[1] / "data" / "llm" / "SmolLM2-135M-Instruct.Q4_1.json"


@cache
def load() -> dict[str, Any]:
    """The record."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def run() -> Written:
    """The recorded run."""
    return Written().take_in(load()["results"])


def losses(model: str) -> dict[str, float]:
    """Held-out loss of each sharing, nats per token; empty for a model that none were recorded of."""
    record = load()
    return dict(record["losses"]) if record["model"] == model else {}
