"""Numbers for what a head attends to: role scores compared with chance, and how similar heads are.

A role says, for some bytes of a text, at which earlier bytes (its places) a head with this role looks: see
``role_places``. The role's score
is the share of attention on these places, averaged over those bytes. Each score has two chance levels:

* uniform: the score of attention that is spread evenly over all visible bytes,
* by distance: the score of attention that depends only on the distance, with the head's own average for each distance.
  If a role's places are usually near, a head that always looks nearby exceeds the first level but not this one.

Source of naming heads by such scores: Clark et al. 2019 (arXiv:1906.04341, section 4). Source of induction: Olsson et
al. 2022 (arXiv:2209.11895, "induction heads").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attention.tiny.config import DATA, MODELS
from attention.tiny.corpus import Corpus, load_corpus, windows
from attention.tiny.numpy_forward import TinyWeights, load_weights, maps
from attention.tiny.role_places import ROLES, HeadRole


class RoleScore(NamedTuple):
    """Scores of one role, averaged over the `n_queries` bytes that take part; all NaN if there are none.

    `score` and `by_distance` are float64[n_layers, n_heads].
    """

    score: np.ndarray
    uniform: float
    by_distance: np.ndarray
    n_queries: int

    @property
    def chance(self) -> np.ndarray:
        """The larger of the two chance levels."""
        return np.maximum(self.by_distance, self.uniform)


def distance_profile(attentions: Sequence[np.ndarray]) -> np.ndarray:
    """Average attention of each head by distance, float64[n_layers, n_heads, longest].

    The average at a distance is over the rows that reach so far back. `attentions` are maps of several texts,
    [n_layers, n_heads, length, length] each.
    """
    n_layers, n_heads = attentions[0].shape[:2]
    longest = max(a.shape[-1] for a in attentions)
    total, rows = np.zeros((n_layers * n_heads, longest)), np.zeros(longest)
    for a in attentions:
        length = a.shape[-1]
        t, back = np.tril_indices(length)
        distance = t - back
        for head, weights in enumerate(a.reshape(-1, length, length)):
            total[head] += np.bincount(distance, weights=weights[t, back], minlength=longest)
        rows[:length] += np.arange(length, 0, -1)
    return (total / rows).reshape(n_layers, n_heads, longest)


def _profile_rows(profile: np.ndarray, length: int) -> np.ndarray:
    """Attention that depends only on the distance, [n_layers, n_heads, length, length]; each row sums to 1."""
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    rows = np.where(distance >= 0, profile[..., np.maximum(distance, 0)], 0.0)
    return rows / rows.sum(axis=-1, keepdims=True)


def score_roles(
    texts: Sequence[bytes], attentions: Sequence[np.ndarray], profile: np.ndarray | None = None
) -> dict[str, RoleScore]:
    """Score every head for every role over `texts`.

    Args:
        texts: the texts.
        attentions: the map of each text, [n_layers, n_heads, length, length].
        profile: the distance profile for the chance level; by default the profile of these maps.

    Returns:
        The role's key -> its scores.
    """
    if profile is None:
        profile = distance_profile(attentions)
    shape = attentions[0].shape[:2]
    score = {role.key: np.zeros(shape) for role in ROLES}
    by_distance = {role.key: np.zeros(shape) for role in ROLES}
    uniform, count = dict.fromkeys(score, 0.0), dict.fromkeys(score, 0)
    by_length: dict[int, np.ndarray] = {}
    for text, attention in zip(texts, attentions, strict=True):
        if len(text) not in by_length:
            by_length[len(text)] = _profile_rows(profile, len(text))
        expected = by_length[len(text)]
        visible = np.arange(1, len(text) + 1)
        for role in ROLES:
            places = role.places(text)
            taking_part = places.any(axis=-1)
            t, back = np.nonzero(places)
            score[role.key] += attention[:, :, t, back].sum(axis=-1, dtype=np.float64)
            by_distance[role.key] += expected[:, :, t, back].sum(axis=-1)
            uniform[role.key] += float((places.sum(axis=-1) / visible)[taking_part].sum())
            count[role.key] += int(taking_part.sum())
    out = {}
    for role in ROLES:
        key, n = role.key, count[role.key] or float("nan")
        # the profile itself contains a positional role, so it is no chance level for it
        chance = np.full(shape, uniform[key] / n) if role.positional else by_distance[key] / n
        out[key] = RoleScore(score[key] / n, uniform[key] / n, chance, count[key])
    return out


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0), axis=-1)


def similarity(attention: np.ndarray) -> np.ndarray:
    """Similarity of heads: 1 minus the Jensen–Shannon divergence (base 2) of their attention, averaged over a text.

    Args:
        attention: [n, length, length], the maps of n heads.

    Returns:
        float64[n, n]. 1 means that two heads always look at the same places, 0 that they never have a place in common.
        Row 0, where every head must look at itself, is left out.
    """
    rows = attention[:, 1:].astype(np.float64)
    n = len(rows)
    if rows.shape[1] == 0:
        return np.ones((n, n))
    own = _entropy(rows)
    out = np.eye(n)
    for i in range(n):
        middle = _entropy((rows[i] + rows[i + 1 :]) / 2) - (own[i] + own[i + 1 :]) / 2
        out[i, i + 1 :] = out[i + 1 :, i] = 1 - middle.mean(axis=-1)
    return out


def group_similarity(matrix: np.ndarray, n_kv_heads: int) -> tuple[float | None, float | None]:
    """Mean similarity of a layer's query heads: (those with the same K/V head, those with different K/V heads).

    Args:
        matrix: [n_heads, n_heads], from :func:`similarity`.

    Returns:
        None in place of a mean over no pairs.
    """
    n = len(matrix)
    group = np.arange(n) // (n // n_kv_heads)
    same = group[:, None] == group[None, :]
    pairs = np.triu(np.ones((n, n), dtype=bool), 1)
    within, between = matrix[pairs & same], matrix[pairs & ~same]
    return (
        float(within.mean()) if within.size else None,
        float(between.mean()) if between.size else None,
    )


def sample_texts(corpus: Corpus, length: int, n: int) -> list[bytes]:
    """`n` windows of `length` bytes, spread evenly over the held-out files."""
    rows = [row[:-1].tobytes() for f in corpus.held_out for row in windows(f.text, length)]
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]


def score_model(weights: TinyWeights, texts: Sequence[bytes], n_similar: int = 16) -> dict[str, Any]:
    """All scores of one model as plain JSON values. The similarity is over about `n_similar` of the texts."""
    attentions = [maps(weights, text).attention for text in texts]
    scored = score_roles(texts, attentions)
    n_layers, n_heads = attentions[0].shape[:2]
    chosen = attentions[:: max(1, len(attentions) // n_similar)]
    matrix = np.mean([similarity(a.reshape(n_layers * n_heads, *a.shape[2:])) for a in chosen], axis=0)
    layers = [matrix[i * n_heads : (i + 1) * n_heads, i * n_heads : (i + 1) * n_heads] for i in range(n_layers)]
    return {
        "n_kv_heads": weights.config.n_kv_heads,
        "roles": {
            key: {
                "score": np.round(s.score, 4).tolist(),
                "uniform": round(s.uniform, 4),
                "by_distance": np.round(s.by_distance, 4).tolist(),
                "n_queries": s.n_queries,
            }
            for key, s in scored.items()
        },
        "similarity": np.round(matrix, 4).tolist(),
        "within_and_between": [group_similarity(m, weights.config.n_kv_heads) for m in layers],
    }


def score_models(folder: Path = DATA, n_texts: int = 96) -> dict[str, Any]:
    """Scores of the shipped models on held-out text, as in roles.json."""
    corpus = load_corpus()
    out: dict[str, Any] = {"corpus_sha256": corpus.sha256, "definitions": {r.key: r.definition for r in ROLES}}
    out["models"] = {}
    for name in MODELS:
        weights = load_weights(folder / f"{name}.safetensors")
        texts = sample_texts(corpus, weights.config.max_context, n_texts)
        out["models"][name] = score_model(weights, texts)
        out["n_texts"] = len(texts)
    return out


def recorded_roles() -> dict[str, Any]:
    """The recorded scores of the shipped models (roles.json)."""
    record: dict[str, Any] = json.loads((DATA / "roles.json").read_text())
    return record


CLEARLY = 2.0
"""A head is named after a role if its score is at least so many times the larger chance level …"""
NOTABLE = 0.1
"""… and its score is at least this."""


class Named(NamedTuple):
    """A head's clearest role, with its recorded score and the larger of its chance levels."""

    role: HeadRole
    score: float
    chance: float


def named(model: dict[str, Any], layer: int, head: int) -> Named | None:
    """The clearest role of a head, None if no role is clear.

    Args:
        model: a model's entry in roles.json.
    """
    found = []
    for role in ROLES:
        entry = model["roles"][role.key]
        chance = max(entry["uniform"], entry["by_distance"][layer][head])
        score = entry["score"][layer][head]
        if score >= NOTABLE and score >= CLEARLY * chance:
            found.append(Named(role, score, chance))
    return max(found, key=lambda n: n.score / n.chance, default=None)
