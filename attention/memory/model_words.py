"""The words by which each published model can be found: names, other spellings, family, how it shares heads, and the
kinds of its layers."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from attention import sharing
from attention.catalog import published
from attention.spec import Kind, ModelSpec

_WORDS = {
    Kind.FULL: "",
    Kind.SLIDING: "sliding window",
    Kind.CHUNKED: "chunked window",
    Kind.LATENT: "MLA latent",
    Kind.COMPRESSED: "compressed sparse",
    Kind.SHARED: "shared layers cross-layer",
    Kind.RECURRENT: "recurrent state linear mamba ssm",
    Kind.CROSS: "encoder decoder cross-attention",
    Kind.NONE: "",
}


class Findable(NamedTuple):
    """One model: its catalogue id, label, other names, further words, and how it shares heads, as shown beside the
    label."""

    id: str
    label: str
    names: tuple[str, ...]
    words: str
    sharing: str


@lru_cache(maxsize=1)
def findable() -> tuple[Findable, ...]:
    """All models of the catalogue: by family, then release, then size."""
    rows = sorted(published.models(), key=lambda row: (row.family, row.released or "", row.n_parameters or 0))
    return tuple(_findable(row) for row in rows)


def _findable(row: published.ModelRow) -> Findable:
    if row.spec is None:
        return Findable(row.id, row.label, row.aliases, f"{row.family} unpublished", "unpublished")
    own = sharing.of(row.spec)
    experts = "MoE mixture of experts" if row.n_active_parameters else ""
    return Findable(row.id, row.label, row.aliases, f"{row.family} {own} {kinds_in_words(row.spec)} {experts}", own)


def kinds_in_words(spec: ModelSpec) -> str:
    """Words for the kinds of layers of a model, with "hybrid" where only some of its layers are recurrent."""
    kinds = dict.fromkeys(layer.kind for layer in spec.layers)
    mixed = "hybrid" if Kind.RECURRENT in kinds and len(kinds) > 1 else ""
    return " ".join(word for word in (*(_WORDS[kind] for kind in kinds), mixed) if word)
