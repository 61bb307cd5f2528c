"""How a text's tokens and a model's heads are named, and which to show first. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CLEAR, TIMES = 0.2, 3.0
"""A head is named after a role if its score is at least CLEAR and at least TIMES its chance level."""


def glyph(piece: str) -> str:
    """A token as drawn in a text, with visible line ends and tabs."""
    return piece.replace("\r", "␍").replace("\n", "↵").replace("\t", "→") or "∅"


def spoken(piece: str) -> str:
    """A token in quotation marks, as sentences name it."""
    return f"“{glyph(piece)}”"


def spoken_prediction(one: Mapping[str, Any]) -> dict[str, Any]:
    """A token's prediction, with its tokens as sentences name them."""
    follows = one["next"]
    return {
        "top": [[spoken(name), share] for name, share in one["top"]],
        "next": None if follows is None else [spoken(follows[0]), follows[1]],
    }


def first_layer(roles: Mapping[str, Any]) -> int:
    """The layer with the highest induction score of a head, counted from 0; 0 where no roles are known."""
    if not roles:
        return 0
    return max(range(len(roles["induction"]["score"])), key=lambda layer: max(roles["induction"]["score"][layer]))


def _named(roles: Mapping[str, Any], layer: int, head: int) -> tuple[str, float] | None:
    """The key of a head's clearest role, and its score; None if no role is clear."""
    found = []
    for key, role in roles.items():
        score = role["score"][layer][head]
        chance = max(role["uniform"], role["by_distance"][layer][head])
        # most heads give much attention to the first token, so that role needs a higher score
        if score >= (0.9 if key == "first" else CLEAR) and score >= TIMES * chance:
            found.append((key != "first", score / chance, key, score))
    return max(found)[2:] if found else None


def names(roles: Mapping[str, Any], layer: int, n_heads: int) -> list[str]:
    """For each head of a layer, its clearest role on held-out text with its score; "" if no role is clear."""
    if not roles:
        return [""] * n_heads
    found = (_named(roles, layer, head) for head in range(n_heads))
    return [f"{one[0]} {100 * one[1]:.0f} %" if one else "" for one in found]


def first_heads(roles: Mapping[str, Any], layer: int) -> list[int]:
    """The head of a layer to show first, in a list: an induction head, else the head with the clearest role."""
    if not roles:
        return [0]
    named = {head: _named(roles, layer, head) for head in range(len(roles["induction"]["score"][layer]))}

    def worth(head: int) -> tuple[bool, bool, float]:
        one = named[head]
        return (False, False, 0.0) if one is None else (one[0] == "induction", one[0] != "first", one[1])

    return [max(named, key=worth)]


def first_token(tokens: Sequence[str]) -> int:
    """The token to show first: the last one with an earlier occurrence, or else the last token."""
    for at in range(len(tokens) - 1, 0, -1):
        if tokens[at].strip() and len(tokens[at].strip()) > 2 and tokens[at] in tokens[:at]:
            return at
    return len(tokens) - 1
