"""The layers of a model that are timed: one of each kind, and what of the model they are not.

A kind is what a layer keeps (all tokens, a window, a latent vector; its heads) and what a token passes through (an MLP,
experts). The parts of a step add up, so which of the layers have experts decides nothing: they are counted out among
the kinds in order.
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
"""A layer of cross-attention is timed if it attends to the tokens decoded so far too, and that alone."""
NOT_TIMED = {
    Kind.RECURRENT: "recurrent",
    Kind.COMPRESSED: "of compressed keys and values",
    Kind.CROSS: "of cross-attention",
    Kind.NONE: "without memory",
}
ABOUT = 0.9
"""A published width that weighs more than what the parameters leave, by more than this, is not of three matrices."""


class Width(NamedTuple):
    """What a token passes through beside attention.

    Attributes:
        dense: width of the MLP of a layer without experts.
        shared: of the MLP beside the experts that every token passes through; 0 without one.
        routed: the experts, None without any; expert: their width.
        q_rank: of MLA's queries, 0 where they are not compressed.
        said: how a width was come by that is not published, in a sentence; else empty.
    """

    dense: int
    shared: int = 0
    routed: Routed | None = None
    expert: int = 0
    q_rank: int = 0
    said: str = ""


def width_of(spec: ModelSpec, config: Mapping[str, Any] | None, typed: int = 0) -> Width:
    """Widths from a published configuration and the model's parameters; `typed` replaces them all.

    Where no width is published, or one that is not of three matrices, it is one that weighs what the parameters leave,
    or four times the hidden size where those are not known either; `said` says so.

    Raises:
        ValueError: the hidden size is not known, so that nothing can be said.
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
        # less than a tenth of an expert is what is not an MLP at all
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
    """Width of the MLP one token passes through, from a published configuration; None where it does not say.

    With experts: the chosen ones and the shared ones together, as wide as one MLP that does the same work.
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
    """The width of three matrices in every layer that weigh what a step reads beside attention and the output head;
    None where the parameters are not known or some layers are not timed."""
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
    # what a part of the layers takes says nothing of a prompt's time, and costs the visitor many seconds
    prefill = load.batch == 1 and _prefill_is_timed(spec)
    return tuple(replace(case, prefill=prefill) for case in found.values())


def _prefill_is_timed(spec: ModelSpec) -> bool:
    return all(state.window is None and layer.kind is not Kind.LATENT for layer, state, _ in _timed(spec))


def _timed(spec: ModelSpec) -> Iterator[tuple[Layer, PositionState, int]]:
    """Layers that can be timed, each with the state it reads and how many of it there are."""
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
    """What of the model the timed layers are not, in sentences; may be empty."""
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
