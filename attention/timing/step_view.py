"""Decode steps of a whole model arranged for a figure: what each reads, and how long its layers took here.

What is read is the whole model's, counted as everywhere else (``parameters.py``, ``memory/footprint.py``).
What is timed is one ordinary decoder layer, times the layers: the output head and what differs from such a layer stay
outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from attention.formats import weight_bytes
from attention.memory.counterfactuals import Variant, ends
from attention.memory.load import Load
from attention.sharing import with_n_kv_heads
from attention.spec import Kind, ModelSpec, Role, attention_layer
from attention.timing.steadiness import STILL_TIMED, ratio_interval
from attention.timing.step_cases import StepCase, StepResult
from attention.timing.views import faster_text
from attention.units import tokens

FORMATS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""Data type of a timing -> name of the format of weights and cache."""


class Step(NamedTuple):
    """One step of the whole model, not timed yet.

    Attributes:
        label: context, batch and sharing, as shown. variant: the sharing alone: "MHA", "GQA-8", "MLA", "MQA".
        weight_bytes: fewest bytes of weights that the step reads, the output head included; of the timed layers alone
            where the model's parameters are not known.
        cache_bytes: the states of all sequences and layers.
        case: the layer to time; None where no ordinary layer stands for the model (MLA).
    """

    label: str
    variant: str
    weight_bytes: int
    cache_bytes: int
    case: StepCase | None


class StepRow(NamedTuple):
    """A :class:`Step` with its timing if there is one.

    timed_bytes: weights of the layers that are timed; 0 where none is.
    """

    label: str
    variant: str
    weight_bytes: int
    cache_bytes: int
    result: StepResult | None
    timed_bytes: int = 0

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


def steps(
    spec: ModelSpec, width: int, contexts: Iterable[int], batches: Iterable[int], dtype: str, device: str
) -> tuple[Step, ...]:
    """The model as MHA, as it shares, and as MQA, at each context and batch.

    Args:
        width: of the MLP that a token passes through, for the timed layer.
        dtype: of weights and cache, one of FORMATS.

    Raises:
        ValueError: a size that is unknown or out of range.
    """
    layer = spec.attention_layer
    if layer is None or not layer.n_heads:
        raise ValueError("this model has no attention layer to time")
    if spec.hidden_size is None:
        raise ValueError("the model's hidden size is not known: pick one from the catalogue")
    hidden = spec.hidden_size
    batches = sorted(batches)

    def step(shared: Variant, load: Load) -> Step:
        def case(n_kv_heads: int) -> StepCase:
            return StepCase(
                variant=shared.label,
                n_layers=spec.n_layers,
                hidden_size=hidden,
                intermediate_size=width,
                n_heads=layer.n_heads,
                n_kv_heads=n_kv_heads,
                head_dim=layer.k_head_dim,
                context=load.context,
                batch=load.batch,
                dtype=dtype,
                device=device,
                prefill=load.batch == 1,
            )

        timed = None if shared.is_model and layer.kind is Kind.LATENT else case(shared.n_kv_heads)
        read = _weights_read(spec, shared, dtype)
        if read is None:
            if timed is None:
                raise ValueError("how many parameters this model has is not known, so its step cannot be counted")
            read = timed.weight_bytes * timed.n_layers
        several = f" · batch {load.batch}" if load.batch > 1 else ""
        label = f"{tokens(load.context)}{several} · {shared.label}"
        return Step(label, shared.label, read, shared.state_bytes, timed)

    return tuple(
        step(shared, load)
        for load in (Load(context, batch, FORMATS[dtype]) for context in sorted(contexts) for batch in batches)
        for shared in ends(spec, load)
    )


def _weights_read(spec: ModelSpec, shared: Variant, dtype: str) -> int | None:
    """Fewest bytes of weights a step of the model with this sharing reads; None where the parameters are not known."""
    if spec.parameters is None:
        return None
    read = spec.parameters.read
    if not shared.is_model:
        other = with_n_kv_heads(spec, None if shared.label == "MHA" else shared.n_kv_heads)
        read += _kv_projections(other) - _kv_projections(spec)
    return weight_bytes(read, FORMATS[dtype])


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


def timed_apart(spec: ModelSpec) -> str:
    """What of the model the timed layer is not, in a sentence; empty where all layers are like it."""
    layer = spec.attention_layer
    if layer is not None and layer.kind is Kind.LATENT:
        return (
            "MLA is not timed: its heads read one latent vector. What Run times are ordinary layers with the keys "
            "and values that its heads would need."
        )
    like = 0
    if layer is not None and layer.n_heads:
        timed = attention_layer(layer.n_heads, layer.n_kv_heads, layer.k_head_dim)
        like = sum(n for other, n in spec.groups if other == timed)
    if like == spec.n_layers:
        return ""
    return (
        f"The timed layer keeps K and V of every token; {spec.n_layers - like} of this model's {spec.n_layers} layers "
        "are of another kind, so its own step takes another time."
    )


def rows(asked: Sequence[Step], results: Iterable[StepResult]) -> tuple[StepRow, ...]:
    """One row per step, with its timing if it has been taken."""
    timed = {(r.variant, r.context, r.batch, r.dtype, r.n_layers, r.weight_bytes): r for r in results}
    out = []
    for label, variant, weights, cache, case in asked:
        result, layers = None, 0
        if case is not None:
            layers = case.weight_bytes * case.n_layers
            key = (variant, case.context, case.batch, case.dtype, case.n_layers, case.weight_bytes)
            result = timed.get(key)
        out.append(StepRow(label, variant, weights, cache, result, layers))
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
