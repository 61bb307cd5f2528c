"""Which K/V heads each accelerator holds under tensor, decode context and data parallelism.

Tensor parallelism divides a layer's K/V heads among its ranks in order. With more ranks than heads, neighbouring ranks
hold copies of one head. Decode context parallelism divides the tokens among the ranks that would hold copies (vLLM,
docs/serving/context_parallel_deployment). Data parallel attention has several such groups of ranks, and each group
serves its own requests. A latent vector has no heads to divide, so it counts as one head.
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
        number: number of the rank, from 0, over all groups; group: its group of data parallelism, from 0.
        heads: numbers of the K/V heads that it holds, from 0.
        share: it holds the tokens at positions p with p mod dcp = share.
        copied: whether a rank with a lower number in its group holds the same heads of the same tokens.
    """

    number: int
    group: int
    heads: tuple[int, ...]
    share: int
    copied: bool


class Ranks(NamedTuple):
    """The ranks over which one layer's cache is divided.

    Attributes:
        ranks: all ranks, in order of their number.
        copies: how many ranks of a group keep the same entry.
        lost: part of the cache's memory that holds further copies, between 0 and 1.
        says: the result in a sentence.
    """

    ranks: tuple[Rank, ...]
    copies: int
    lost: Fraction
    says: str


def tp_options(layer: Layer, most: int = MAX_TP) -> tuple[int, ...]:
    """Numbers of ranks up to `most` that the layer's heads allow."""
    return tuple(tp for tp in range(1, most + 1) if _refusal(layer, tp) is None)


def dcp_options(layer: Layer, tp: int) -> tuple[int, ...]:
    """Numbers of ranks among which the tokens of one head can be divided."""
    copies = max(1, tp // _heads(layer))
    return tuple(dcp for dcp in range(1, copies + 1) if copies % dcp == 0)


def ranks(layer: Layer, tp: int, dcp: int = 1, dp: int = 1) -> Ranks:
    """What each rank holds.

    Args:
        layer: a layer that keeps keys and values, or a latent vector.
        tp, dcp, dp: ranks of tensor, decode context and data parallelism; dcp uses the ranks of tp.

    Raises:
        ValueError: tp ranks cannot share the heads evenly, or dcp is not one of `dcp_options`.
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
        # neighbouring holders of one head divide its tokens
        place = rank % holders
        own = tuple(range(first, first + held))
        found.append(Rank(index, index // tp, own, place % dcp, place >= dcp))
    copies = holders // dcp
    return Ranks(tuple(found), copies, 1 - Fraction(1, copies), _says(layer, tp, dcp, dp, copies))


class Dealt(NamedTuple):
    """A layer with some number of K/V heads, divided among ranks.

    Attributes:
        kept: K/V heads that each rank keeps; needed: K/V heads that each rank would keep without copies.
    """

    n_kv_heads: int
    ranks: Ranks
    kept: int
    needed: Fraction


def sharings(layer: Layer, tp: int) -> tuple[Dealt, ...]:
    """The layer with every number of K/V heads that `tp` ranks can share evenly, in falling order: from one per query
    head (MHA) to one for all (MQA).

    Raises:
        ValueError: tp is out of range or does not divide the query heads.
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
