"""The layers of a model that are timed, one of each kind, and what they leave out of the model.

Layers of one kind keep the same (all tokens, a window, a latent vector; the heads), and a token passes through the same
(an MLP, experts). The times of the layers are added, so it does not matter which of the layers have experts: the first
kinds get them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from attention.memory.load import Load
from attention.parameters import Routed
from attention.spec import Kind, Layer, ModelSpec, PositionState
from attention.timing.step_cases import StepCase

TIMED = (Kind.FULL, Kind.SLIDING, Kind.CHUNKED, Kind.LATENT, Kind.SHARED, Kind.CROSS)
"""Kinds of layer that are timed. Of a layer with cross-attention only its attention to the decoded tokens is timed; one
without that is not timed."""
NOT_TIMED = {
    Kind.RECURRENT: "recurrent",
    Kind.COMPRESSED: "of compressed keys and values",
    Kind.CROSS: "of cross-attention",
    Kind.NONE: "without memory",
}
ABOUT = 0.9
"""A published width belongs to an MLP of three matrices if the parameters leave at least this share of its weights."""


class Width(NamedTuple):
    """Widths of what a token passes through beside attention.

    Attributes:
        dense: width of the MLP of a layer without experts.
        shared: width of the MLP beside the experts, which every token passes through; 0 without one.
        routed: the experts, None without any.
        expert: width of each expert.
        q_rank: rank of MLA's queries, 0 where they are not compressed.
        said: a sentence on how the width was found if it is not published; else empty.
    """

    dense: int
    shared: int = 0
    routed: Routed | None = None
    expert: int = 0
    q_rank: int = 0
    said: str = ""


def width_of(spec: ModelSpec, config: Mapping[str, Any] | None, typed: int = 0) -> Width:
    """Widths from a published configuration and the model's parameters.

    Where no width is published, or one that does not belong to three matrices, the MLP gets the weights that the
    model's parameters leave. Where the parameters are not known either, the width is four times the hidden size. Then
    `said` says so.

    Args:
        typed: a width that replaces all of these; 0 for none.

    Raises:
        ValueError: the hidden size is not known.
    """
    fields = _fields(config)
    q_rank = _number(fields, "q_lora_rank")
    if typed:
        return Width(typed, q_rank=q_rank)
    if spec.hidden_size is None:
        raise ValueError("the model's hidden size is not known: pick one from the catalogue")
    routed = spec.parameters.routed[0] if spec.parameters is not None and spec.parameters.routed else None
    joint = mlp_width(config)
    dense = _number(fields, "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "d_ff") or joint
    left = _left(spec, fields)
    if routed is not None:
        expert = max(1, round(routed.each / (3 * spec.hidden_size)))
        beside = max(0, (joint or 0) - routed.n_chosen * expert)
        if left is not None and not beside:
            plain = (spec.n_layers - routed.n_layers) * (dense or 0)
            beside = (left * spec.n_layers - plain) // routed.n_layers - routed.n_chosen * expert
        # a rest of at most a tenth of an expert is other weights, not an MLP
        shared = beside if beside > expert // 10 else 0
        return Width(dense or shared or expert, shared, routed, expert, q_rank)
    if joint is not None and (left is None or left >= ABOUT * joint):
        return Width(joint, q_rank=q_rank)
    if left is not None:
        why = "is not published" if joint is None else f"of {joint:,} is not that of three matrices"
        return Width(left, q_rank=q_rank, said=f"The MLP's width {why}: it is timed as heavy as the parameters leave.")
    said = "The MLP's width is not known: four times the hidden size is timed; type another under More."
    return Width(4 * spec.hidden_size, q_rank=q_rank, said=said)


def mlp_width(config: Mapping[str, Any] | None) -> int | None:
    """Width of the MLP that one token passes through, from a published configuration; None where it gives none.

    With experts it is the sum of the chosen and the shared ones: the width of one MLP with the same work.
    """
    fields = _fields(config)
    chosen = _number(fields, "num_experts_per_tok", "num_experts_per_token", "top_k_experts")
    each = _number(fields, "moe_intermediate_size", "expert_ffn_hidden_size") or _number(fields, "intermediate_size")
    if chosen and each:
        shared = _number(fields, "shared_expert_intermediate_size") or each * _number(fields, "n_shared_experts")
        return chosen * each + shared
    names = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "d_ff", "shared_intermediate_size")
    return _number(fields, *names) or None


def _fields(config: Mapping[str, Any] | None) -> dict[str, Any]:
    text = (config or {}).get("text_config")
    return {**(config or {}), **(text if isinstance(text, Mapping) else {})}


def _number(fields: Mapping[str, Any], *names: str) -> int:
    return next((fields[n] for n in names if isinstance(fields.get(n), int) and not isinstance(fields[n], bool)), 0)


def _left(spec: ModelSpec, fields: Mapping[str, Any]) -> int | None:
    """The width of an MLP of three matrices in every layer, if the MLPs have all weights that a step reads beside
    attention and the output head. None where the parameters are not known, or a layer is latent or not timed."""
    hidden = spec.hidden_size or 0
    if spec.parameters is None or sum(n for *_, n in _timed(spec)) < spec.n_layers:
        return None
    attention = 0
    for layer, state, n in _timed(spec):
        if layer.kind is Kind.LATENT:
            return None
        kept = 0 if layer.kind is Kind.SHARED else state.elements_per_position
        attention += n * hidden * (layer.n_heads * (layer.k_head_dim + layer.v_head_dim) + kept)
    left = spec.parameters.read - attention - hidden * _number(fields, "vocab_size")
    return max(0, round(left / (3 * hidden * spec.n_layers))) or None


def layer_cases(
    spec: ModelSpec, width: Width, load: Load, dtype: str, device: str, variant: str
) -> tuple[StepCase, ...]:
    """One case for each kind of layer that can be timed.

    Raises:
        ValueError: a size out of range.
    """
    found: dict[tuple[Any, ...], StepCase] = {}
    with_experts = width.routed.n_layers if width.routed else 0
    for layer, state, n in _timed(spec):
        routed = min(n, with_experts)
        with_experts -= routed
        for count, experts in ((routed, True), (n - routed, False)):
            if count:
                case = _case(layer, state, count, spec.hidden_size or 0, width, experts, load, dtype, device, variant)
                same = (case.n_heads, case.n_kv_heads, case.head_dim, case.held, case.latent, case.experts)
                before = found[same].n_layers if same in found else 0
                found[same] = replace(case, n_layers=case.n_layers + before)
    # the prefill of a part of the layers says nothing about a prompt's time, and it takes many seconds
    prefill = load.batch == 1 and _prefill_is_timed(spec)
    return tuple(replace(case, prefill=prefill) for case in found.values())


def _prefill_is_timed(spec: ModelSpec) -> bool:
    return all(state.window is None and layer.kind is not Kind.LATENT for layer, state, _ in _timed(spec))


def _timed(spec: ModelSpec) -> Iterator[tuple[Layer, PositionState, int]]:
    """Layers that can be timed, each with the state that it reads and the number of such layers."""
    for layer, n in spec.groups:
        read = spec.layers[layer.shares] if layer.shares is not None else layer
        state = read.key_value
        if layer.kind in TIMED and read.kind in TIMED and state is not None and state.stride == 1 and layer.k_head_dim:
            yield layer, state, n


def _case(
    layer: Layer, state: PositionState, n_layers: int, hidden: int, width: Width, experts: bool, load: Load, dtype: str,
    device: str, variant: str,
) -> StepCase:  # fmt: skip
    routed = width.routed if experts else None
    latent = layer.kind is Kind.LATENT
    return StepCase(
        variant=variant,
        n_layers=n_layers,
        hidden_size=hidden,
        intermediate_size=width.shared if routed else width.dense,
        n_heads=layer.n_heads or state.n_kv_heads,
        n_kv_heads=state.n_kv_heads,
        head_dim=layer.k_head_dim or state.k_head_dim,
        context=load.context,
        batch=load.batch,
        dtype=dtype,
        device=device,
        prefill=False,
        window=state.window,
        experts=max(routed.n_chosen, round(routed.distinct(load.batch))) if routed else 0,
        n_chosen=routed.n_chosen if routed else 0,
        expert_width=width.expert if routed else 0,
        latent=state.k_head_dim if latent else 0,
        rope_dim=state.v_head_dim if latent else 0,
        q_rank=width.q_rank if latent else 0,
        v_head_dim=layer.v_head_dim if latent else 0,
    )


def timed_apart(spec: ModelSpec, width: Width) -> str:
    """What the timed layers leave out of the model, in sentences; may be empty."""
    out = [width.said] if width.said else []
    kinds = [layer.kind for layer, _ in spec.groups]
    timed = sum(n for *_, n in _timed(spec))
    if timed < spec.n_layers:
        what = " and ".join(dict.fromkeys(NOT_TIMED[kind] for kind in kinds if kind in NOT_TIMED)) or "of another kind"
        out.append(f"{spec.n_layers - timed} of this model's {spec.n_layers} layers are {what}: they are not timed.")
    if Kind.LATENT in kinds:
        out.append("MLA is timed in absorbed form, its attention with PyTorch's own products.")
        if any(isinstance(s, PositionState) and s.reads for layer, _ in spec.groups for s in layer.states):
            out.append("It attends to all vectors held, though an indexer picks some of them.")
    if any(layer.kind is Kind.CROSS for layer, *_ in _timed(spec)):
        out.append("Cross-attention is not timed.")
    if Kind.SHARED in kinds:
        out.append("Layers that read another's cache are timed with keys and values of their own.")
    if not _prefill_is_timed(spec):
        out.append("Prefill is timed of models alone whose layers all keep every token.")
    if width.routed is not None:
        chosen = f"{width.routed.n_chosen} of {width.routed.n_experts} experts a token"
        out.append(f"{chosen}; of a batch as many different ones as are expected if all are equally likely.")
    return " ".join(out)
