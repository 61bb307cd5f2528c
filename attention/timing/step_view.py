"""Decode steps of a whole model arranged for a figure: the bytes that each reads, and the time of its layers here.

The bytes are those of the whole model, counted as everywhere else (``parameters.py``, ``memory/footprint.py``).
The time is that of one layer of each kind times the layers of that kind (``step_layers.py``). It leaves out the output
head and layers without attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from attention.formats import FORMAT_NAMES, weight_bytes
from attention.memory.counterfactuals import Variant, ends
from attention.memory.load import Load
from attention.sharing import with_n_kv_heads
from attention.spec import ModelSpec, Role
from attention.timing.steadiness import STILL_TIMED, ratio_interval
from attention.timing.step_cases import StepCase, StepResult, summed
from attention.timing.step_layers import Width, layer_cases
from attention.timing.views import faster_text
from attention.units import tokens


class Step(NamedTuple):
    """One step of the whole model, not timed yet.

    Attributes:
        label: context, batch and sharing, as shown.
        variant: the sharing alone: "MHA", "GQA-8", "MLA", "MQA".
        weight_bytes: fewest bytes of weights that the step reads, the output head included. Where the model's
            parameters are not known, they are the bytes of the timed layers.
        cache_bytes: bytes of the states of all sequences and layers.
        cases: the layers to time, one of each kind; empty where none can be.
    """

    label: str
    variant: str
    weight_bytes: int
    cache_bytes: int
    cases: tuple[StepCase, ...]


class StepRow(NamedTuple):
    """A :class:`Step` with its timing if there is one.

    Attributes:
        result: the timing of all kinds of layer together, or None.
        timed_bytes, timed_cache_bytes: bytes of weights and cache of the timed layers; 0 where none is timed.
    """

    label: str
    variant: str
    weight_bytes: int
    cache_bytes: int
    result: StepResult | None
    timed_bytes: int = 0
    timed_cache_bytes: int = 0

    @property
    def cache_share(self) -> float:
        """The cache's part of what is read, 0 to 1."""
        return self.cache_bytes / (self.weight_bytes + self.cache_bytes)


def steps(
    spec: ModelSpec, width: Width, contexts: Iterable[int], batches: Iterable[int], dtype: str, device: str
) -> tuple[Step, ...]:
    """The model as MHA, with its own sharing, and as MQA, at each context and batch.

    Args:
        width: widths of the MLPs that a token passes through, for the timed layers.
        dtype: of weights and cache, one of ``formats.FORMAT_NAMES``.

    Raises:
        ValueError: a size that is unknown or out of range.
    """
    layer = spec.attention_layer
    if layer is None or not layer.n_heads:
        raise ValueError("this model has no attention layer to time")
    if spec.hidden_size is None:
        raise ValueError("the model's hidden size is not known: pick one from the catalogue")
    batches = sorted(batches)

    def step(shared: Variant, load: Load) -> Step:
        cases = layer_cases(_shared_as(spec, shared), width, load, dtype, device, shared.label)
        read = _weights_read(spec, shared, dtype)
        if read is None:
            if not cases:
                raise ValueError("how many parameters this model has is not known, so its step cannot be counted")
            read = sum(case.weight_bytes * case.n_layers for case in cases)
        several = f" · batch {load.batch}" if load.batch > 1 else ""
        label = f"{tokens(load.context)}{several} · {shared.label}"
        return Step(label, shared.label, read, shared.state_bytes, cases)

    return tuple(
        step(shared, load)
        for load in (Load(context, batch, FORMAT_NAMES[dtype]) for context in sorted(contexts) for batch in batches)
        for shared in ends(spec, load)
    )


def _shared_as(spec: ModelSpec, shared: Variant) -> ModelSpec:
    """The model itself, or the model with the sharing of the variant."""
    if shared.is_model:
        return spec
    return with_n_kv_heads(spec, None if shared.label == "MHA" else shared.n_kv_heads)


def _weights_read(spec: ModelSpec, shared: Variant, dtype: str) -> int | None:
    """Fewest bytes of weights that a step with this sharing reads; None where the parameters are not known."""
    if spec.parameters is None:
        return None
    read = spec.parameters.read
    if not shared.is_model:
        read += _kv_projections(_shared_as(spec, shared)) - _kv_projections(spec)
    return weight_bytes(read, FORMAT_NAMES[dtype])


def _kv_projections(spec: ModelSpec) -> int:
    """Weights that make keys and values from a layer's input, all layers together."""
    total = 0
    for layer, n in spec.groups:
        own = layer.key_value
        if own is None:
            continue
        if own.role is Role.LATENT:
            rank, rope = own.k_head_dim, own.v_head_dim
            expanded = layer.n_heads * (layer.k_head_dim - rope + layer.v_head_dim)
            total += n * ((spec.hidden_size or 0) * (rank + rope) + rank * expanded)
        else:
            total += n * (spec.hidden_size or 0) * own.elements_per_position
    return total


def rows(asked: Sequence[Step], results: Iterable[StepResult]) -> tuple[StepRow, ...]:
    """One row per step, with its timing once all its kinds of layer have one."""
    timed = {r.case.key: r for r in results}
    out = []
    for label, variant, weights, cache, cases in asked:
        found = [timed[case.shape.key] for case in cases if case.shape.key in timed]
        result = summed(found) if cases and len(found) == len(cases) else None
        layers = sum(case.weight_bytes * case.n_layers for case in cases)
        kept = sum(case.cache_bytes * case.n_layers for case in cases)
        out.append(StepRow(label, variant, weights, cache, result, layers, kept))
    return tuple(out)


def latest(results: Iterable[StepResult]) -> tuple[StepResult, ...]:
    """The last result of each layer. A run gives provisional results before the final one."""
    last: dict[tuple[Any, ...], StepResult] = {}
    for r in results:
        last[r.case.key] = r
    return tuple(last.values())


def trouble(rows: Iterable[StepRow]) -> str:
    """Why nothing is concluded from some of the steps, in words; empty if all are steady or still being timed."""
    told = (row.result.unsteady for row in rows if row.result)
    return next((why for why in told if why and why != STILL_TIMED), "")


def comparisons(rows: Sequence[StepRow]) -> tuple[str, ...]:
    """Sentences that compare each sharing with the first of its rounds, and the fastest layers with those in plain
    PyTorch."""
    out = []
    for row in rows:
        if row.result and not row.result.unsteady and row.result.plain_times_s:
            plain = ratio_interval(row.result.plain_times_s, row.result.times_s)
            if text := faster_text(plain):
                out.append(f"{row.label} against the same layers in plain PyTorch: decode {text}.")
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
