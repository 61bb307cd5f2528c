"""What a run of ``attention.llm.cache_formats`` has told, for pages: free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Cost:
    """A pair of formats.

    Attributes:
        k, v: formats of keys and of values.
        bytes_per_token: of the cache, all layers. scratch_step, scratch_reading: what is widened beside it, one layer.
        logit_error: root mean square beside that of the logits with a float32 cache. same_word: share of positions
            with the same likeliest token.
        loss: nats per token; loss_more: than with a float32 cache, loss_more_error: its standard error over texts.
        step_s, floor_s: of a timed step, where it was timed.
    """

    k: str
    v: str
    bytes_per_token: int
    scratch_step: int
    scratch_reading: int
    logit_error: float
    same_word: float
    loss: float
    loss_more: float
    loss_more_error: float | None = None
    step_s: float | None = None
    floor_s: float | None = None

    @property
    def which(self) -> str:
        """What is rounded below bf16: "both", "keys" or "values"."""
        if self.k != "bf16" and self.v == "bf16":
            return "keys"
        return "values" if self.k == "bf16" and self.v != "bf16" else "both"

    @property
    def label(self) -> str:
        return self.k if self.k == self.v else f"K {self.k}, V {self.v}"


@dataclass
class Costs:
    """A run so far.

    Attributes:
        reference_loss: with a cache in float32. tokens: read. timed_context: tokens held by the timed steps, 0 before.
        others: the share of the processor that other processes took while steps were timed.
    """

    reference_loss: float = 0.0
    tokens: int = 0
    timed_context: int = 0
    others: float = 0.0
    rows: list[Cost] = field(default_factory=list)


_NAMES = {one.name for one in fields(Cost)}


def of_results(results: Sequence[dict[str, Any]]) -> Costs:
    """What was told so far."""
    out = Costs()
    for item in results:
        match item["kind"]:
            case "reference":
                out.reference_loss, out.tokens = item["loss"], item["tokens"]
            case "row":
                out.rows.append(Cost(**{name: value for name, value in item.items() if name in _NAMES}))
            case "times":
                out.timed_context, out.others = item["context"], item["others"]
                for timed in item["rows"]:
                    for row in out.rows:
                        if (row.k, row.v) == (timed["k"], timed["v"]):
                            row.step_s, row.floor_s = timed["step_s"], timed["floor_s"]
    return out


def finding(costs: Costs) -> str:
    """Whether keys suffer more than values, in a sentence of the run's own figures; "" before it is known."""
    by_pair = {(row.k, row.v): row for row in costs.rows}
    parts = []
    for name in ("q4_0", "int4-g32"):
        keys, values = by_pair.get((name, "bf16")), by_pair.get(("bf16", name))
        if keys is None or values is None:
            continue
        parts.append(
            f"In {name}, keys alone put the logits off by {100 * keys.logit_error:.1f} %, values alone by "
            f"{100 * values.logit_error:.1f} % ({keys.loss_more:+.3f} and {values.loss_more:+.3f} nats per token)."
        )
    return " ".join(parts)
