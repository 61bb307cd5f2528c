"""The results of a run of ``attention.llm.generate`` so far, collected per column. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from attention import sharing

ENDS = {"end": "the answer is over", "length": "the most asked for"}


@dataclass
class Column:
    """One sharing's words and figures so far.

    Attributes:
        weight_bytes: bytes of weights that a step reads.
        cache_bytes, context: bytes of the cache, and tokens in it, after the last step.
        prefill_s: seconds to the first token, None before it.
        times_s: seconds of each further token.
        ended: why the column is finished, see ENDS; "" while it writes.
    """

    sharing: str
    n_kv_heads: int
    weight_bytes: int
    text: str = ""
    n_tokens: int = 0
    context: int = 0
    cache_bytes: int = 0
    prefill_s: float | None = None
    times_s: list[float] = field(default_factory=list)
    ended: str = ""

    @property
    def step_s(self) -> float | None:
        """The median seconds per step."""
        return median(self.times_s) if self.times_s else None

    def floor_s(self, read_bytes_per_s: float | None) -> float | None:
        """The least time of a step: the bytes of weights and cache divided by the measured bandwidth."""
        return (self.weight_bytes + self.cache_bytes) / read_bytes_per_s if read_bytes_per_s else None


@dataclass
class Written:
    """The results of a run so far.

    Attributes:
        about: facts about the model and the run, empty before they come.
        columns: sharing -> its column.
        read_bytes_per_s: the measured bandwidth, None before it comes.
        others: the share of the processor that other processes took during the writing, known at the end.
    """

    about: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)
    read_bytes_per_s: float | None = None
    others: float = 0.0
    _seen: int = 0

    def take_in(self, results: Sequence[dict[str, Any]]) -> Written:
        """Add the results since the last call. `results` only grows at its end."""
        for item in results[self._seen : len(results)]:
            self._one(item)
            self._seen += 1
        return self

    def _one(self, item: dict[str, Any]) -> None:
        match item["kind"]:
            case "model":
                self.about = {name: value for name, value in item.items() if name not in ("kind", "columns")}
                self.columns = {c["sharing"]: Column(**c) for c in item["columns"]}
            case "load":
                self.others = item["others"]
            case "machine":
                self.read_bytes_per_s = item["read_bytes_per_s"]
            case "first":
                name, text, seconds, context, cache_bytes = item["row"]
                column = self.columns[name]
                column.prefill_s = seconds
                self._row(column, text, context, cache_bytes)
            case "steps":
                for name, text, seconds, context, cache_bytes in item["rows"]:
                    self.columns[name].times_s.append(seconds)
                    self._row(self.columns[name], text, context, cache_bytes)
            case "end":
                self.columns[item["sharing"]].ended = item["why"]

    @staticmethod
    def _row(column: Column, text: str, context: int, cache_bytes: int) -> None:
        column.text += text
        column.n_tokens += 1
        column.context, column.cache_bytes = context, cache_bytes

    def title(self, name: str) -> str:
        """A column's title, for example "GQA-3"."""
        kind = sharing.name(self.about["n_heads"], self.columns[name].n_kv_heads)
        return kind if "-" in kind else f"{kind}-{self.columns[name].n_kv_heads}"
