"""What the published model's heads look at: attention over a text's tokens, roles, and how similar heads are.

A role says, for some tokens of a text, at which earlier tokens a head with this role looks. The role's score is the
share of attention on these, averaged over those tokens. It has two chance levels: attention that is spread evenly, and
attention that depends only on the distance, with the head's own average for each distance (as in
``attention.tiny.head_roles``). Sources: Clark et al. 2019, arXiv:1906.04341, section 4; for induction, Olsson et al.
2022, arXiv:2209.11895.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attention.llm.loaded import Loaded
from attention.llm.looked import squeezed
from attention.llm.model import Model
from attention.tiny.head_roles import distance_profile, group_similarity

Emit = Callable[[dict[str, Any]], None]
MAX_TOKENS = 256
PAIRS = {")": "(", "]": "[", "}": "{", "”": "“"}
QUOTES = ('"', "'", "``", "`")


class Seen(NamedTuple):
    """A model's attention and logits for one text.

    Attributes:
        attention: float32 [n_layers, n_heads, n, n]. Row t has the shares of attention that token t gives to each token
            up to itself; it sums to 1.
        logits: float32 [n, vocab_size], of the token after each token.
    """

    attention: Tensor
    logits: Tensor


@torch.inference_mode()
def look(model: Model, ids: Sequence[int]) -> Seen:
    """Every head's attention over a text.

    Raises:
        ValueError: no tokens, or more than MAX_TOKENS.
    """
    n, a = len(ids), model.architecture
    if not 1 <= n <= MAX_TOKENS:
        raise ValueError(f"the text must have from 1 to {MAX_TOKENS} tokens, got {n:,}")
    out = torch.empty(a.n_layers, a.n_heads, n, n)
    row, column = torch.arange(n)[:, None], torch.arange(n)[None]

    def observe(index: int, q: Tensor, k: Tensor, v: Tensor) -> None:
        window = a.windows[index] or n
        grouped = q[0].unflatten(0, (k.shape[1], -1)).float()
        scores = grouped @ k[0, :, None].float().mT * a.head_dim**-0.5
        scores.masked_fill_((column > row) | (column <= row - window), -torch.inf)
        out[index] = scores.softmax(-1).flatten(0, 1)

    logits = model.forward(torch.tensor([list(ids)]), model.caches(n), every=True, observe=observe)
    return Seen(out, logits[0])


def likeness(attention: Tensor, without_first: bool = False) -> np.ndarray:
    """Similarity of heads: 1 minus the Jensen–Shannon divergence (base 2) of their attention, averaged over a text.

    Args:
        attention: [heads, n, n], the maps of one layer.
        without_first: leave out the attention to the first token and scale the rest to 1. Most heads attend to the
            first token when no other token fits, and this alone would make them similar.

    Returns:
        float64 [heads, heads]. 1 means that two heads always look at the same places, 0 that they never have a place in
        common.
    """
    rows = attention[:, 2:].double()
    if without_first:
        rows = rows[:, :, 1:]
        rows = rows / rows.sum(-1, keepdim=True).clamp_min(1e-30)
    own = _entropy(rows)
    out = torch.eye(len(rows), dtype=torch.float64)
    for i in range(len(rows) - 1):
        middle = _entropy((rows[i] + rows[i + 1 :]) / 2) - (own[i] + own[i + 1 :]) / 2
        out[i, i + 1 :] = out[i + 1 :, i] = 1 - middle.mean(-1)
    found: np.ndarray = out.numpy()
    return found


def _entropy(shares: Tensor) -> Tensor:
    return torch.special.entr(shares).sum(-1) / np.log(2)


class Alike(NamedTuple):
    """Similarity of each layer's query heads, a mean over texts: of heads with the same K/V head (`within`), and of
    heads with different ones (`between`). None where there is no such pair."""

    within: list[float | None]
    between: list[float | None]


def alike(seen: Sequence[Tensor], n_kv_heads: int, without_first: bool = False) -> Alike:
    """Similarity within and between groups in every layer, averaged over texts.

    Args:
        seen: the attention of each text, [n_layers, n_heads, n, n].
        without_first: see :func:`likeness`.
    """
    within, between = [], []
    for layer in range(len(seen[0])):
        matrix = np.mean([likeness(attention[layer], without_first) for attention in seen], axis=0)
        pair = group_similarity(matrix, n_kv_heads)
        within.append(pair[0])
        between.append(pair[1])
    return Alike(within, between)


Places = Callable[[Sequence[int], Sequence[str]], np.ndarray]
"""(tokens, their texts) -> bool [n, n]: row t is true where token t should look, all false if t does not take part."""


def _previous(ids: Sequence[int], pieces: Sequence[str]) -> np.ndarray:
    return np.eye(len(ids), k=-1, dtype=bool)


def _first(ids: Sequence[int], pieces: Sequence[str]) -> np.ndarray:
    out = np.zeros((len(ids), len(ids)), dtype=bool)
    out[1:, 0] = True
    return out


def _duplicate(ids: Sequence[int], pieces: Sequence[str]) -> np.ndarray:
    data = np.asarray(ids)
    # blanks and line ends come too often to mean anything
    solid = np.array([bool(piece.strip()) for piece in pieces])
    same: np.ndarray = np.tril((data[:, None] == data[None]) & solid[:, None], -1)
    return same


def _induction(ids: Sequence[int], pieces: Sequence[str]) -> np.ndarray:
    out = np.zeros((len(ids), len(ids)), dtype=bool)
    out[:, 1:] = _duplicate(ids, pieces)[:, :-1]
    return np.tril(out, -1)


def _matching(ids: Sequence[int], pieces: Sequence[str]) -> np.ndarray:
    out = np.zeros((len(ids), len(ids)), dtype=bool)
    opened: list[tuple[str, int]] = []
    for at, piece in enumerate(pieces):
        mark = piece.strip()
        if mark in PAIRS.values():
            opened.append((mark, at))
        elif mark in PAIRS and opened and opened[-1][0] == PAIRS[mark]:
            out[at, opened.pop()[1]] = True
        elif mark in QUOTES:
            if opened and opened[-1][0] == mark:
                out[at, opened.pop()[1]] = True
            else:
                opened.append((mark, at))
    return out


class Role(NamedTuple):
    """A role: its name, its definition in words, its places, and whether it depends only on positions."""

    key: str
    label: str
    definition: str
    places: Places
    positional: bool = False


ROLES = (
    Role("previous", "previous token", "Every token but the first: the token just before it.", _previous, True),
    Role("first", "first token", "Every token but the first: the very first one, whatever it is.", _first, True),
    Role("duplicate", "duplicate", "A token that stood there before: its earlier occurrences.", _duplicate),
    Role(
        "induction", "induction", "A token that stood there before: the tokens that came next, back then.", _induction
    ),
    Role("matching", "matching bracket or quote", "A closing bracket or quote: the one that it closes.", _matching),
)


def score_roles(
    texts: Sequence[tuple[Sequence[int], Sequence[str]]], attentions: Sequence[np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Scores of every head for every role, as plain values.

    Args:
        texts: (tokens, their texts) of each text.
        attentions: the map of each text, [n_layers, n_heads, n, n].

    Returns:
        The role's key -> ``label``, ``definition``, ``score`` and ``by_distance`` [n_layers][n_heads], ``uniform``, and
        ``n_queries``, the number of tokens that take part.
    """
    profile = distance_profile(attentions)
    out: dict[str, dict[str, Any]] = {}
    for role in ROLES:
        score, expected = np.zeros(attentions[0].shape[:2]), np.zeros(attentions[0].shape[:2])
        uniform, count = 0.0, 0
        for (ids, pieces), attention in zip(texts, attentions, strict=True):
            places = role.places(ids, pieces)
            t, back = np.nonzero(places)
            taking_part = places.any(axis=-1)
            score += attention[:, :, t, back].sum(axis=-1, dtype=np.float64)
            distance = t - back
            # divided by the profile up to the text's beginning, because a row's attention sums to 1
            reach = np.cumsum(profile, axis=-1)
            expected += (profile[..., distance] / reach[..., t]).sum(axis=-1)
            uniform += float((places.sum(axis=-1) / np.arange(1, len(ids) + 1))[taking_part].sum())
            count += int(taking_part.sum())
        n = max(count, 1)
        by_distance = np.full_like(score, uniform / n) if role.positional else expected / n
        out[role.key] = {
            "label": role.label, "definition": role.definition,
            "score": np.round(score / n, 4).tolist(), "by_distance": np.round(by_distance, 4).tolist(),
            "uniform": round(uniform / n, 4), "n_queries": count,
        }  # fmt: skip
    return out


def tokens_of_text(loaded: Loaded, text: str) -> list[int]:
    """The tokens of a text, if they are from 3 to MAX_TOKENS.

    Raises:
        ValueError: too few or too many tokens.
    """
    ids = loaded.tokens.encode(text)
    if not 3 <= len(ids) <= MAX_TOKENS:
        raise ValueError(f"the text must have from 3 to {MAX_TOKENS} tokens, got {len(ids):,}")
    return ids


def tell_of(loaded: Loaded, text: str, first: int, emit: Emit, should_stop: Callable[[], bool]) -> float:
    """Emit what each layer's heads look at, for ``attention.llm.looked``, layer `first` first. Returns the seconds.

    Raises:
        ValueError: too few or too many tokens.
    """
    began = time.perf_counter()
    a, ids = loaded.model.architecture, tokens_of_text(loaded, text)
    pieces = loaded.tokens.pieces(ids)
    emit({"progress": 0.0, "message": f"Reading {len(ids)} tokens"})
    emit({"kind": "model", "model": loaded.name, "n_layers": a.n_layers, "n_heads": a.n_heads,
          "n_kv_heads": a.n_kv_heads, "tokens": pieces})  # fmt: skip
    seen = look(loaded.model, ids)
    emit({"kind": "predictions", "predictions": predictions(loaded, seen.logits, ids)})
    rows, columns = np.tril_indices(len(ids))
    for layer in sorted(range(a.n_layers), key=lambda i: i != first):
        if should_stop():
            break
        visible = seen.attention[layer].numpy()[:, rows, columns]
        # roots keep small weights distinct in a byte
        stored = np.round(255 * np.sqrt(visible)).astype(np.uint8)
        emit({"kind": "layer", "layer": layer, "maps": squeezed(stored.tobytes())})
    return time.perf_counter() - began


def predictions(loaded: Loaded, logits: Tensor, ids: Sequence[int], n: int = 5) -> list[dict[str, Any]]:
    """For each token: "top", the `n` likeliest next tokens with their probabilities, and "next", the token that really
    follows with its probability (None after the last)."""
    shares = logits.softmax(-1)
    best = shares.topk(n)
    names = loaded.tokens.pieces(best.indices.flatten().tolist())
    out = []
    for at in range(len(ids)):
        top = zip(names[at * n : (at + 1) * n], best.values[at].tolist(), strict=True)
        follows = None
        if at + 1 < len(ids):
            follows = [loaded.tokens.pieces([ids[at + 1]])[0], round(float(shares[at, ids[at + 1]]), 4)]
        out.append({"top": [[name, round(share, 4)] for name, share in top], "next": follows})
    return out


def of_text(loaded: Loaded, text: str) -> dict[str, Any]:
    """All measurements of one text, as plain values: tokens, roles, and the similarity of heads.

    Raises:
        ValueError: too few or too many tokens.
    """
    ids = tokens_of_text(loaded, text)
    pieces = loaded.tokens.pieces(ids)
    seen = look(loaded.model, ids)
    a = loaded.model.architecture
    return {
        "model": loaded.name, "n_layers": a.n_layers, "n_heads": a.n_heads, "n_kv_heads": a.n_kv_heads,
        "tokens": pieces,
        "roles": score_roles([(ids, pieces)], [seen.attention.numpy()]),
        "likeness": alike([seen.attention], a.n_kv_heads)._asdict(),
        "likeness_without_first": alike([seen.attention], a.n_kv_heads, without_first=True)._asdict(),
    }  # fmt: skip
