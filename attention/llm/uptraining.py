"""The recorded uptraining of a published model whose K/V heads were merged, without torch.

``python -m bench.real_uptraining`` makes the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[1] / "data" / "llm" / "uptraining-nvidia-h200.json"
MERGE_ALONE = "calibrated, merge alone"


@dataclass(frozen=True, slots=True)
class Course:
    """One converted model that was trained on. Losses in nats per token.

    Attributes:
        start: how its heads were merged, "calibrated" or "mean". distilled: taught by the original's logits.
        tokens, losses: the curve, on the record's few held-out windows.
        before, after: on all held-out windows.
    """

    start: str
    distilled: bool
    tokens: tuple[int, ...]
    losses: tuple[float, ...]
    before: float
    after: float

    @property
    def name(self) -> str:
        return f"{self.start}, distilled" if self.distilled else self.start


@dataclass(frozen=True, slots=True)
class Record:
    """The whole record.

    Attributes:
        about: device, versions and command. text: what was trained on and held out.
        n_kv_heads: after conversion. created: the date.
        original: loss of the model as published, on all held-out windows; original_curve: on those of the curves.
        converted: loss just after each conversion, on all held-out windows, by its name.
        courses: in the order of the record.
    """

    about: Mapping[str, Any]
    text: Mapping[str, Any]
    created: str
    n_kv_heads: int
    original: float
    original_curve: float
    converted: Mapping[str, float]
    courses: tuple[Course, ...]

    def course(self, start: str, distilled: bool) -> Course:
        return next(c for c in self.courses if (c.start, c.distilled) == (start, distilled))


def read(path: Path = FILE) -> Record | None:
    """The record; None if there is none."""
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    conversions = document["conversions"]
    return Record(
        document["about"],
        document["text"],
        document["created"],
        conversions["n_kv_heads"],
        conversions["original"]["held_out_loss"],
        conversions["original"]["curve_loss"],
        {name: conversions[name]["held_out_loss"] for name in ("calibrated", MERGE_ALONE, "mean")},
        tuple(
            Course(
                run["start"],
                run["distilled"],
                tuple(point["tokens"] for point in run["points"]),
                tuple(point["curve_loss"] for point in run["points"]),
                run["before"]["held_out_loss"],
                run["after"]["held_out_loss"],
            )
            for run in document["runs"]
        ),
    )
