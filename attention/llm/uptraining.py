"""The recorded uptraining of a published model with merged K/V heads. Free of torch.

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
    """The uptraining of one converted model. Losses are in nats per token.

    Attributes:
        start: how its heads were merged, "calibrated" or "mean".
        distilled: whether it learned from the original's logits too.
        tokens, losses: the curve: tokens trained on, and the loss on a few held-out windows.
        before, after: the loss on all held-out windows.
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
        about: device, versions and command.
        text: the text to train on, and the held-out text.
        created: the date.
        n_kv_heads: K/V heads after the conversion.
        original: loss of the published model on all held-out windows.
        original_curve: its loss on the windows of the curves.
        converted: name of a conversion -> the loss just after it, on all held-out windows.
        courses: the trained models, in the order of the record.
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
        """The course with this start. Raises StopIteration if there is none."""
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
