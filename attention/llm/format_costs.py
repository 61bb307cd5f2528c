"""The results of a run of ``attention.llm.cache_formats``, for pages. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Cost:
    """A pair of formats and its costs.

    Attributes:
        k, v: formats of keys and of values.
        bytes_per_token: bytes of the cache per token, over all layers.
        scratch_step, scratch_reading: bytes that are widened beside one layer's cache, in a step and in reading a text.
        logit_error: root mean square of the logits' error, as a share of that of the logits with a float32 cache.
        same_word: share of positions where the likeliest token is the same as with a float32 cache.
        loss: nats per token.
        loss_more: loss minus the loss with a float32 cache.
        loss_more_error: the standard error of `loss_more` over texts, None with one text.
        step_s, floor_s: seconds of a step and of its floor, None where no step was timed.
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
        """Which are not bf16: "both", "keys" or "values". Two in bf16 are "both" too."""
        if self.k != "bf16" and self.v == "bf16":
            return "keys"
        return "values" if self.k == "bf16" and self.v != "bf16" else "both"

    @property
    def label(self) -> str:
        return self.k if self.k == self.v else f"K {self.k}, V {self.v}"


@dataclass
class Costs:
    """The results of a run so far.

    Attributes:
        reference_loss: loss with a cache in float32, in nats per token.
        tokens: number of tokens read.
        timed_context: tokens in the cache during the timed steps, 0 before these are timed.
        others: the share of the processor that other processes took while steps were timed.
        rows: the costs of each pair.
    """

    reference_loss: float = 0.0
    tokens: int = 0
    timed_context: int = 0
    others: float = 0.0
    rows: list[Cost] = field(default_factory=list)


_NAMES = {one.name for one in fields(Cost)}


def of_results(results: Sequence[dict[str, Any]]) -> Costs:
    """The costs from a run's messages so far."""
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
    """Sentences that compare the errors from rounded keys with those from rounded values; "" before they are known."""
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
