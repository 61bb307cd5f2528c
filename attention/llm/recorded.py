"""The results that ship with the program: read here, free of torch; made by ``attention.llm.record``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from attention.llm import format_costs as costs
from attention.llm.looked import Looked
from attention.llm.written import Written

FILE = Path(__file__).resolve().parents[1] / "data" / "llm" / "SmolLM2-135M-Instruct.Q4_1.json"
HEADS = "heads.json"
"""Ends the name of the file beside it that has a text with all heads' attention."""


def heads_file(path: Path = FILE) -> Path:
    """Where a record's text with its heads' attention is."""
    return path.with_suffix(f".{HEADS}")


@cache
def load() -> dict[str, Any]:
    """The record."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


@cache
def run(merge: str = "mean") -> Written:
    """The recorded run, its merged column made as ``plan.MERGES`` says."""
    return Written().take_in(load()["runs"][merge])


@cache
def looked() -> Looked:
    """The recorded text and what all heads look at in it."""
    return Looked().take_in(json.loads(heads_file().read_text(encoding="utf-8")))


def losses(model: str, merge: str = "mean") -> dict[str, float]:
    """Held-out loss of each sharing, nats per token; empty for a model that none were recorded of."""
    record = load()
    if record["model"] != model:
        return {}
    found = dict(record["losses"])
    calibrated = found.pop("mqa_calibrated")
    return found if merge == "mean" else {**found, "mqa": calibrated}


def roles(model: str) -> dict[str, Any]:
    """What each head does on held-out text; empty for a model that none were recorded of."""
    record = load()
    found: dict[str, Any] = record["roles"] if record["model"] == model else {}
    return found


@cache
def format_costs() -> costs.Costs:
    """What each format of the cache costs on held-out text."""
    return costs.of_results(load()["formats"]["results"])
