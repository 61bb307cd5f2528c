"""How a text's tokens and a model's heads are named, and what is worth seeing first: free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CLEAR, TIMES = 0.2, 3.0
"""A head is named after a role that has such a share of its attention, and so many times its chance."""


def glyph(piece: str) -> str:
    """A token as drawn in a text: line ends and tabs are seen."""
    return piece.replace("\r", "␍").replace("\n", "↵").replace("\t", "→") or "∅"


def spoken(piece: str) -> str:
    """A token as it is spoken of."""
    return f"“{glyph(piece)}”"


def spoken_prediction(one: Mapping[str, Any]) -> dict[str, Any]:
    """What a token's prediction says, its tokens named."""
    follows = one["next"]
    return {
        "top": [[spoken(name), share] for name, share in one["top"]],
        "next": None if follows is None else [spoken(follows[0]), follows[1]],
    }


def first_layer(roles: Mapping[str, Any]) -> int:
    """The layer, counted from 0, with the head that is most of all an induction head; 0 where no roles are known."""
    if not roles:
        return 0
    return max(range(len(roles["induction"]["score"])), key=lambda layer: max(roles["induction"]["score"][layer]))


def _named(roles: Mapping[str, Any], layer: int, head: int) -> tuple[str, float] | None:
    """The role that a head plays most clearly, and its share."""
    found = []
    for key, role in roles.items():
        score = role["score"][layer][head]
        chance = max(role["uniform"], role["by_distance"][layer][head])
        # what every head parks on the first token is no role of its own
        if score >= (0.9 if key == "first" else CLEAR) and score >= TIMES * chance:
            found.append((key != "first", score / chance, key, score))
    return max(found)[2:] if found else None


def names(roles: Mapping[str, Any], layer: int, n_heads: int) -> list[str]:
    """Per head of a layer what it does on held-out text, "" for nothing clear."""
    if not roles:
        return [""] * n_heads
    found = (_named(roles, layer, head) for head in range(n_heads))
    return [f"{one[0]} {100 * one[1]:.0f} %" if one else "" for one in found]


def first_heads(roles: Mapping[str, Any], layer: int) -> list[int]:
    """The head of a layer to show first: an induction head, else the one that is named most clearly."""
    if not roles:
        return [0]
    named = {head: _named(roles, layer, head) for head in range(len(roles["induction"]["score"][layer]))}

    def worth(head: int) -> tuple[bool, bool, float]:
        one = named[head]
        return (False, False, 0.0) if one is None else (one[0] == "induction", one[0] != "first", one[1])

    return [max(named, key=worth)]


def first_token(tokens: Sequence[str]) -> int:
    """The token to look from first: the last one that stood there before, else the last."""
    for at in range(len(tokens) - 1, 0, -1):
        if tokens[at].strip() and len(tokens[at].strip()) > 2 and tokens[at] in tokens[:at]:
            return at
    return len(tokens) - 1
