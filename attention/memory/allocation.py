"""Bytes that a serving engine sets aside for the states that ``footprint.py`` counts, step by step.

Engines differ, so every step is a named assumption that comes from the documentation of engines:

* memory comes in pages of tokens: vLLM's block (arXiv:2309.06180, section 4.2), TensorRT-LLM's block;
* windowed layers have their own pool, or hold the full length (``window_pool="shared"``), as vLLM's
  ``FullAttentionSpec`` does with the hybrid allocator disabled (docs.vllm.ai, design/hybrid_kv_cache_manager);
* the ranks of tensor parallelism divide the K/V heads among them, and hold copies where there are more ranks than
  heads;
* a latent vector has no head axis, so every rank keeps all of it.

Not modelled: prefix caching, the transient states of prefill, padding of recurrent states to the page size, and the
pool that an engine takes from free memory in advance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from attention.errors import check_choice
from attention.formats import CacheFormat, cache_format
from attention.memory.footprint import CacheBytes, cache_bytes
from attention.memory.load import MAX_CONTEXT
from attention.memory.terms import (
    Bend,
    fixed_state_bytes,
    remembered,
    row_bytes,
    state_counts,
)
from attention.spec import FixedState, ModelSpec, PositionState, Role, State, check_size
from attention.units import counted

PAGE_TOKENS = 16
"""Default tokens per page: vLLM's default block size on CUDA."""
WINDOW_POOLS = ("own", "shared")
MAX_TP = 1024


class Step(NamedTuple):
    """One step from the states to what is set aside.

    Attributes:
        name: what the step does; bytes_after: bytes on all ranks together after it; why: the reason in one sentence.
    """

    name: str
    bytes_after: int
    why: str


@dataclass(frozen=True)
class Allocation:
    """What is set aside for the states of a batch.

    Attributes:
        state_bytes: bytes that the states of the batch need, without copies.
        allocated_bytes: bytes set aside on all ranks together.
        bytes_per_rank: bytes set aside on each rank (all ranks set aside the same).
        tp: ranks of tensor parallelism.
        steps: the steps from state_bytes to allocated_bytes.
    """

    state_bytes: int
    allocated_bytes: int
    bytes_per_rank: int
    tp: int
    steps: tuple[Step, ...]


class _Plan(NamedTuple):
    """How positions and heads are counted. The default plan counts what the states need."""

    context: int
    encoder_context: int
    page_tokens: int = 1
    windows: bool = True
    tp: int = 1


def allocate(
    spec: ModelSpec,
    context: int,
    batch: int = 1,
    kv_dtype: str = "bf16",
    *,
    tp: int = 1,
    page_tokens: int = PAGE_TOKENS,
    max_context: int | None = None,
    window_pool: str = "own",
    encoder_context: int | None = None,
) -> Allocation:
    """Bytes set aside for `batch` sequences that hold `context` tokens; see :func:`set_aside`.

    Raises:
        ValueError: context, batch or kv_dtype out of range, recurrent states of unknown dtype, or as in `set_aside`.
    """
    return set_aside(
        spec,
        cache_bytes(spec, context, batch, kv_dtype, encoder_context),
        tp=tp,
        page_tokens=page_tokens,
        max_context=max_context,
        window_pool=window_pool,
        encoder_context=encoder_context,
    )


def set_aside(
    spec: ModelSpec,
    cache: CacheBytes,
    *,
    tp: int = 1,
    page_tokens: int = PAGE_TOKENS,
    max_context: int | None = None,
    window_pool: str = "own",
    encoder_context: int | None = None,
) -> Allocation:
    """Bytes set aside for a cache.

    Args:
        cache: what the states need, with this `encoder_context`.
        tp: ranks of tensor parallelism.
        page_tokens: tokens per page; 1 switches pages off.
        max_context: tokens set aside in advance for each sequence; None sets aside memory as the context grows.
        window_pool: "own" or "shared", see the module's docstring.
        encoder_context: source tokens of an encoder-decoder model; defaults to the cache's context.

    Raises:
        ValueError: an argument out of range, tp that does not divide a layer's query heads, or K/V heads that tp ranks
            cannot share evenly.
    """
    context, batch = cache.context, cache.batch
    check_size("page_tokens", page_tokens, maximum=2**20)
    if max_context is not None and check_size("max_context", max_context, maximum=MAX_CONTEXT) < context:
        raise ValueError(f"max_context must be at least the context of {context:,}, got {max_context:,}")
    check_choice("window_pool", window_pool, WINDOW_POOLS)
    check_tp(spec, tp)
    encoder = context if encoder_context is None else encoder_context
    fmt = cache_format(cache.kv_dtype)

    def total(plan: _Plan) -> int:
        return batch * plan.tp * _rank_bytes(spec, fmt, plan)

    needed = cache.state_bytes
    plan = _Plan(context, encoder)
    steps = [Step("states", needed, "what the layers' states need")]
    if max_context is not None:
        plan = plan._replace(context=max_context)
        why = f"every sequence gets room for {counted(max_context, 'token')} in advance, whatever it holds"
        steps.append(Step("static pre-allocation", total(plan), why))
    if window_pool == "shared" and _has_windows(spec):
        plan = plan._replace(windows=False)
        why = "one pool for all layers: windowed layers set aside as many pages as layers with full attention"
        steps.append(Step("windows in the shared pool", total(plan), why))
    if page_tokens > 1:
        plan = plan._replace(page_tokens=page_tokens)
        pages = counted(page_tokens, "token")
        why = f"memory is given out in pages of {pages}; a window can lie across one page more than it fills"
        steps.append(Step("whole pages", total(plan), why))
    if tp > 1:
        plan = plan._replace(tp=tp)
        steps.append(
            Step(
                f"tensor parallel over {tp} ranks",
                total(plan),
                remembered(spec, ("tp reason", tp), lambda: _tp_reason(spec, tp)),
            )
        )
    allocated = steps[-1].bytes_after
    return Allocation(needed, allocated, allocated // tp, tp, tuple(steps))


def check_tp(spec: ModelSpec, tp: int) -> None:
    """Refuse a number of ranks that this model's heads do not allow.

    Raises:
        ValueError: tp is out of range, or its ranks cannot share some heads evenly; the message names the heads.
    """
    check_size("tp", tp, maximum=MAX_TP)
    if refusal := remembered(spec, ("tp", tp), lambda: _refusal(spec, tp)):
        raise ValueError(refusal)


def _refusal(spec: ModelSpec, tp: int) -> str | None:
    """Why `tp` ranks cannot share this model's heads evenly, None if they can."""
    dealt = _dealt(spec)
    for n_heads in dealt.query_heads:
        if n_heads % tp:
            return f"tp must divide n_heads = {n_heads}, got {tp}"
    for role, heads in dealt.state_heads:
        if heads % tp and tp % heads:
            return (
                f"tp = {tp} cannot deal out the {heads} heads of a layer's {role} evenly: "
                f"it must divide {heads} or be a multiple of it"
            )
    return None


class _Dealt(NamedTuple):
    """The numbers of heads that the ranks of tensor parallelism share, each once: query heads, and heads of states."""

    query_heads: tuple[int, ...]
    state_heads: tuple[tuple[Role, int], ...]


def _dealt(spec: ModelSpec) -> _Dealt:
    def make() -> _Dealt:
        heads = {
            (state.role, state.n_kv_heads if isinstance(state, PositionState) else state.n_heads): None
            for _, state in state_counts(spec)
        }
        return _Dealt(tuple(dict.fromkeys(layer.n_heads for layer, _ in spec.groups)), tuple(heads))

    return remembered(spec, ("dealt",), make)


def tp_choices(spec: ModelSpec, maximum: int = 64) -> tuple[int, ...]:
    """Numbers of ranks up to `maximum` that this model's heads allow."""

    counts = range(1, min(maximum, MAX_TP) + 1)
    return remembered(spec, ("tp up to", maximum), lambda: tuple(tp for tp in counts if not _refusal(spec, tp)))


class _Pages(NamedTuple):
    """One rank's part of the sum.

    Attributes:
        fixed: bytes that do not depend on the context.
        own, source: (stride, bytes over the number of pages) of states over the context, and over the source.
    """

    fixed: int
    own: tuple[tuple[int, Bend], ...]
    source: tuple[tuple[int, Bend], ...]


def _rank_bytes(spec: ModelSpec, fmt: CacheFormat, plan: _Plan) -> int:
    """Bytes set aside for one sequence's states on one rank."""
    page = plan.page_tokens
    pages = remembered(spec, ("rank", fmt.name, page, plan.windows, plan.tp), lambda: _summed(spec, fmt, plan))
    total = pages.fixed
    for context, sums in ((plan.context, pages.own), (plan.encoder_context, pages.source)):
        total += sum(bend.at(-(-(context // stride) // page)) for stride, bend in sums)
    return total


def _summed(spec: ModelSpec, fmt: CacheFormat, plan: _Plan) -> _Pages:
    """One rank's sums. A state takes the whole pages of its entries, a window at most the pages that it can touch."""
    page, fixed = plan.page_tokens, 0
    rows: dict[tuple[bool, int], list[tuple[int, int | None]]] = {}
    for (_, state), n in state_counts(spec).items():
        if isinstance(state, FixedState):
            fixed += n * -(-fixed_state_bytes(state, spec.model_dtype, fmt) // min(plan.tp, state.n_heads))
            continue
        local = _local(state, plan.tp)
        fixed += n * fmt.fixed_bytes(local) if state.dtype is None else 0
        # w entries are on at most ceil((w - 1) / page) + 1 pages, wherever they begin
        most = -(-(state.window - 1) // page) + 1 if state.window is not None and plan.windows else None
        rows.setdefault((state.role is Role.CROSS, state.stride), []).append((n * page * row_bytes(local, fmt), most))
    own, source = (
        tuple((stride, Bend(terms)) for (is_cross, stride), terms in rows.items() if is_cross is wanted)
        for wanted in (False, True)
    )
    return _Pages(fixed, own, source)


def _local(state: PositionState, tp: int) -> PositionState:
    """The part of a state on one rank: its part of the heads, at least one head."""
    if tp == 1 or state.n_kv_heads == 1:
        return state
    heads = max(1, state.n_kv_heads // tp)
    return PositionState(state.role, heads, state.k_head_dim, state.v_head_dim, state.window, state.stride, state.dtype)


def _states(spec: ModelSpec) -> Iterator[State]:
    return (state for _, state in state_counts(spec))


def _has_windows(spec: ModelSpec) -> bool:
    return remembered(
        spec,
        ("has windows",),
        lambda: any(isinstance(s, PositionState) and s.window is not None for s in _states(spec)),
    )


def _tp_reason(spec: ModelSpec, tp: int) -> str:
    parts = []
    heads = {
        s.n_kv_heads
        for s in _states(spec)
        if isinstance(s, PositionState) and s.role not in (Role.LATENT, Role.INDEXER)
    }
    if dealt := sorted(n for n in heads if n >= tp):
        parts.append(f"{_heads(dealt)} dealt out, {_words([n // tp for n in dealt])} to a rank")
    if copied := sorted(n for n in heads if n < tp):
        parts.append(f"{_heads(copied)} fewer than {counted(tp, 'rank')}, so each rank keeps one")
    if any(s.role is Role.LATENT for s in _states(spec)):
        parts.append("a latent vector has no heads to divide, so every rank keeps all of it")
    if any(isinstance(s, FixedState) for s in _states(spec)):
        parts.append("recurrent states divide by their heads")
    return "; ".join(parts) or "nothing to divide"


def _heads(numbers: list[int]) -> str:
    return "1 K/V head is" if numbers == [1] else f"{_words(numbers)} K/V heads are"


def _words(numbers: list[int]) -> str:
    named = [str(n) for n in numbers[:8]] + (["more"] if len(numbers) > 8 else [])
    return " and ".join(named)
