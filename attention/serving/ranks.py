"""Which K/V heads each accelerator holds: tensor, decode context and data parallelism.

Tensor parallelism deals a layer's K/V heads out in order; with more ranks than heads, neighbouring ranks hold copies of
one. Decode context parallelism deals the tokens of such copies out (vLLM, docs/serving/context_parallel_deployment).
Data parallel attention sets up as many such groups, each with requests of its own. A latent vector has no heads to deal
out, so it counts as one head.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from attention.sharing import divisors, layer_with
from attention.spec import Kind, Layer, check_size
from attention.units import counted

MAX_TP = 64
MAX_DP = 8


class Rank(NamedTuple):
    """One accelerator.

    Attributes:
        number: from 0, over all groups. group: of data parallelism.
        heads: K/V heads it holds, from 0.
        share: it holds every token whose position leaves `share` on division by dcp.
        copied: whether a rank of a lower number holds the same heads of the same tokens.
    """

    number: int
    group: int
    heads: tuple[int, ...]
    share: int
    copied: bool


class Ranks(NamedTuple):
    """All accelerators of one layer.

    Attributes:
        copies: how often the same entry is kept within a group.
        lost: part of the cache's memory that holds what another rank of the group holds too.
        says: the same in a sentence.
    """

    ranks: tuple[Rank, ...]
    copies: int
    lost: Fraction
    says: str


def tp_options(layer: Layer, most: int = MAX_TP) -> tuple[int, ...]:
    """Numbers of ranks that the layer's heads allow."""
    return tuple(tp for tp in range(1, most + 1) if _refusal(layer, tp) is None)


def dcp_options(layer: Layer, tp: int) -> tuple[int, ...]:
    """Numbers of ranks that the tokens of one head can be dealt out to."""
    copies = max(1, tp // _heads(layer))
    return tuple(dcp for dcp in range(1, copies + 1) if copies % dcp == 0)


def ranks(layer: Layer, tp: int, dcp: int = 1, dp: int = 1) -> Ranks:
    """Who holds what.

    Args:
        layer: one that keeps keys and values, or a latent vector.
        tp, dcp, dp: ranks of tensor, decode context and data parallelism; dcp reuses ranks of tp.

    Raises:
        ValueError: heads that cannot be dealt out, or more ranks of dcp than copies to deal out.
    """
    check_size("tp", tp, maximum=MAX_TP)
    check_size("dp", dp, maximum=MAX_DP)
    if refusal := _refusal(layer, tp):
        raise ValueError(refusal)
    allowed = dcp_options(layer, tp)
    if dcp not in allowed:
        raise ValueError(
            f"dcp must be one of {', '.join(map(str, allowed))}: {counted(tp, 'rank')} over "
            f"{counted(_heads(layer), 'K/V head')} leave {counted(allowed[-1], 'holder')} of each; got {dcp}"
        )
    heads = _heads(layer)
    held, holders = max(1, heads // tp), max(1, tp // heads)
    found = []
    for index in range(dp * tp):
        rank = index % tp
        first = rank * heads // tp
        # of the holders of one head, neighbours deal out its tokens
        place = rank % holders
        own = tuple(range(first, first + held))
        found.append(Rank(index, index // tp, own, place % dcp, place >= dcp))
    copies = holders // dcp
    return Ranks(tuple(found), copies, 1 - Fraction(1, copies), _says(layer, tp, dcp, dp, copies))


class Dealt(NamedTuple):
    """A layer with another number of K/V heads, dealt out.

    Attributes:
        kept: K/V heads that each rank keeps of one sequence; needed: what it would keep if nothing were kept twice.
    """

    n_kv_heads: int
    ranks: Ranks
    kept: int
    needed: Fraction


def sharings(layer: Layer, tp: int) -> tuple[Dealt, ...]:
    """From a K/V head for each query head to one for all: every number that `tp` ranks can deal out, falling.

    Raises:
        ValueError: as :func:`ranks`, where tp does not suit the query heads.
    """
    check_size("tp", tp, maximum=MAX_TP)
    if refusal := _refusal(layer_with(layer, None), tp):
        raise ValueError(refusal)
    found = []
    for n_kv_heads in reversed(divisors(layer.n_heads)):
        shared = layer_with(layer, n_kv_heads)
        if _refusal(shared, tp) is None:
            dealt = ranks(shared, tp)
            found.append(Dealt(n_kv_heads, dealt, len(dealt.ranks[0].heads), Fraction(n_kv_heads, tp)))
    return tuple(found)


def _says(layer: Layer, tp: int, dcp: int, dp: int, copies: int) -> str:
    latent = layer.kind is Kind.LATENT
    what = "the one latent vector" if latent else counted(_heads(layer), "K/V head")
    text = f"{counted(tp, 'rank')}, {what}: "
    if copies > 1:
        lost = 1 - Fraction(1, copies)
        text += f"{copies} copies of every entry, {lost} of the cache's memory is lost"
        if latent:
            text += ", for a latent has no heads to deal out"
    elif dcp > 1:
        text += f"each holds every {_ordinal(dcp)} token, and nothing is kept twice"
    else:
        held = max(1, _heads(layer) // tp)
        each = "it" if latent else "all of them" if tp == 1 else counted(held, "head")
        text += f"each rank holds {each}, and nothing is kept twice" if tp > 1 else f"it holds {each}"
    if dcp > 1 and copies > 1:
        text += f"; each holds every {_ordinal(dcp)} token"
    if dp > 1:
        text += f". {dp} such groups, each with requests of its own"
    return text + "."


def _ordinal(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _heads(layer: Layer) -> int:
    return 1 if layer.kind is Kind.LATENT else max(1, layer.n_kv_heads)


def _refusal(layer: Layer, tp: int) -> str | None:
    if not layer.n_kv_heads:
        return "this layer keeps no keys and values of its own, so there are no heads to deal out"
    if layer.n_heads % tp:
        return f"tp must divide n_heads = {layer.n_heads}, got {tp}"
    heads = _heads(layer)
    if heads % tp and tp % heads:
        return f"tp = {tp} cannot deal out {counted(heads, 'K/V head')} evenly: it must divide them or be a multiple"
    return None
