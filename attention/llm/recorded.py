"""The recorded results of the model that ship with this project, made by ``attention.llm.record``. Free of torch."""

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
"""The end of the name of a second file, which has a text with all heads' attention."""


def heads_file(path: Path = FILE) -> Path:
    """The file of a record's text with all heads' attention."""
    return path.with_suffix(f".{HEADS}")


@cache
def load() -> dict[str, Any]:
    """The record."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


@cache
def run(merge: str = "mean") -> Written:
    """The recorded run, with mqa merged by `merge`, one of ``plan.MERGES``."""
    return Written().take_in(load()["runs"][merge])


@cache
def looked() -> Looked:
    """The recorded text, and what all heads look at in it."""
    return Looked().take_in(json.loads(heads_file().read_text(encoding="utf-8")))


def losses(model: str, merge: str = "mean") -> dict[str, float]:
    """Sharing -> its held-out loss in nats per token; empty if `model` is not the recorded one."""
    record = load()
    if record["model"] != model:
        return {}
    found = dict(record["losses"])
    calibrated = found.pop("mqa_calibrated")
    return found if merge == "mean" else {**found, "mqa": calibrated}


def roles(model: str) -> dict[str, Any]:
    """The heads' role scores on held-out text, see ``heads.score_roles``; empty if `model` is not the recorded one."""
    record = load()
    found: dict[str, Any] = record["roles"] if record["model"] == model else {}
    return found


@cache
def format_costs() -> costs.Costs:
    """The costs of each format of the cache on held-out text."""
    return costs.of_results(load()["formats"]["results"])
