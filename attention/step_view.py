"""Decode steps of a whole model arranged for a figure: what each reads, and how long it took here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from attention.spec import ModelSpec
from attention.steadiness import STILL_TIMED, ratio_interval
from attention.step_cases import StepCase, StepResult, variants
from attention.timing_views import faster_text
from attention.units import tokens


class StepRow(NamedTuple):
    """One step of the whole model: what it reads in bytes, and the timing if there is one."""

    label: str
    variant: str
    weight_bytes: int
    cache_bytes: int
    result: StepResult | None

    @property
    def cache_share(self) -> float:
        """The cache's part of what is read, 0 to 1."""
        return self.cache_bytes / (self.weight_bytes + self.cache_bytes)


def mlp_width(config: Mapping[str, Any] | None) -> int | None:
    """Width of the MLP one token passes through, from a published configuration; None where it does not say.

    With experts: the chosen ones and the shared ones together, as wide as one MLP that does the same work.
    """
    if not config:
        return None
    text = config.get("text_config")
    fields = {**config, **text} if isinstance(text, Mapping) else config

    def number(*names: str) -> int:
        return next((int(fields[n]) for n in names if isinstance(fields.get(n), int)), 0)

    chosen = number("num_experts_per_tok", "num_experts_per_token", "top_k_experts")
    each = number("moe_intermediate_size", "expert_ffn_hidden_size") or number("intermediate_size")
    if chosen and each:
        shared = number("shared_expert_intermediate_size") or each * number("n_shared_experts")
        return chosen * each + shared
    return number("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim") or None


def cases(
    spec: ModelSpec, width: int, contexts: Iterable[int], batches: Iterable[int], dtype: str, device: str
) -> tuple[StepCase, ...]:
    """The model's layer as MHA, as it shares, and as MQA, at each context and batch.

    Raises:
        ValueError: a size that is unknown or out of range.
    """
    layer = spec.attention_layer
    if layer is None or not layer.n_heads:
        raise ValueError("this model has no attention layer to time")
    if spec.hidden_size is None:
        raise ValueError("the model's hidden size is not known: pick one from the catalogue")
    return tuple(
        StepCase(
            variant=name,
            n_layers=spec.n_layers,
            hidden_size=spec.hidden_size,
            intermediate_size=width,
            n_heads=layer.n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=layer.k_head_dim,
            context=context,
            batch=batch,
            dtype=dtype,
            device=device,
            prefill=batch == 1,
        )
        for context in sorted(contexts)
        for batch in sorted(batches)
        for name, n_kv_heads in variants(layer.n_heads, layer.n_kv_heads)
    )


def rows(asked: Sequence[StepCase], results: Iterable[StepResult]) -> tuple[StepRow, ...]:
    """One row per case, with its timing if it has been taken."""
    timed = {(r.variant, r.context, r.batch, r.dtype, r.n_layers, r.weight_bytes): r for r in results}
    out = []
    for case in asked:
        key = (case.variant, case.context, case.batch, case.dtype, case.n_layers, case.weight_bytes)
        batch = f" · batch {case.batch}" if case.batch > 1 else ""
        out.append(
            StepRow(
                f"{tokens(case.context)}{batch} · {case.variant}",
                case.variant,
                case.weight_bytes * case.n_layers,
                case.cache_bytes * case.n_layers,
                timed.get(key),
            )
        )
    return tuple(out)


def latest(results: Iterable[StepResult]) -> tuple[StepResult, ...]:
    """Of each step the last result; a run gives what it knows so far before it gives the final one."""
    last: dict[tuple[Any, ...], StepResult] = {}
    for r in results:
        last[r.variant, r.context, r.batch, r.dtype, r.n_layers, r.weight_bytes] = r
    return tuple(last.values())


def trouble(rows: Iterable[StepRow]) -> str:
    """Why nothing is concluded from some of the steps, in words; empty if all are steady or still being timed."""
    told = (row.result.unsteady for row in rows if row.result)
    return next((why for why in told if why and why != STILL_TIMED), "")


def comparisons(rows: Sequence[StepRow]) -> tuple[str, ...]:
    """What the timings say of each way to share beside the first of its context and batch, in sentences."""
    out = []
    for row in rows:
        base = next((other for other in rows if _together(other.result, row.result)), None)
        if base is None or base is row or base.result is None or row.result is None:
            continue
        first, own = base.result, row.result
        decode = prefill = ""
        if not first.unsteady and not own.unsteady:
            decode = faster_text(ratio_interval(first.times_s, own.times_s))
        if own.prefill_times_s and not first.prefill_unsteady and not own.prefill_unsteady:
            prefill = faster_text(ratio_interval(first.prefill_times_s, own.prefill_times_s))
        said = [f"{what} {text}" for what, text in (("decode", decode), ("prefill", prefill)) if text]
        if said:
            out.append(f"{row.label} against {base.variant}: {', '.join(said)}.")
    return tuple(out)


def _together(one: StepResult | None, other: StepResult | None) -> bool:
    return one is not None and other is not None and one.together == other.together
