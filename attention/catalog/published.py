"""Published models and accelerators, each row with where its figures are from.

The data are the TOML files in ``catalog/``: ``models/FAMILY.toml`` (layers in the notation of
``notation.py``, the published configuration's fields beside them) and ``accelerators.toml``. A test compares
every row's layers with what ``configs/reader.py`` reads from its configuration.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from attention.catalog.notation import parse_layers
from attention.parameters import recorded
from attention.spec import ModelSpec

_DATA = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class ModelRow:
    """One published model.

    Attributes:
        id: as published, ``organisation/name`` where the weights have one.
        label: as people write it; family: the line it belongs to; generation: which one, as its makers count.
        lineage: order of the generation within its family, from 1.
        released: year-month of the release, None where not established.
        n_parameters: of the language model; None if not known exactly or not published.
        n_active_parameters: parameters a token passes through, where fewer than all, as the makers state it; the
            specification has them as counted.
        max_context: longest context the makers state, tokens.
        dtype: dtype of the published weights' model, None if not stated.
        source, date: where the figures are from, and when they were read.
        note: what a reader must know; unpublished: what is public of a model whose sizes are not.
        aliases: other spellings, and variants of the same geometry.
    """

    id: str
    label: str
    family: str
    generation: str
    lineage: int
    source: str
    date: str
    released: str | None = None
    n_parameters: int | None = None
    n_active_parameters: int | None = None
    max_context: int | None = None
    dtype: str | None = None
    hidden_size: int | None = None
    model_type: str | None = None
    note: str | None = None
    unpublished: str | None = None
    aliases: tuple[str, ...] = ()
    pattern: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    config_text: str | None = None

    @cached_property
    def spec(self) -> ModelSpec | None:
        """The model as layers; None where sizes are unpublished."""
        if self.pattern is None:
            return None
        weights = recorded().get(self.id)
        return ModelSpec(
            name=self.id,
            layers=parse_layers(self.pattern, self.kinds),
            model_dtype=self.dtype,
            hidden_size=self.hidden_size,
            max_context=self.max_context,
            n_parameters=self.n_parameters,
            n_active_parameters=weights.active if weights and weights.routed else self.n_active_parameters,
            model_type=self.model_type,
            notes=(self.note,) if self.note else (),
            weights=weights,
        )

    @property
    def config(self) -> dict[str, Any] | None:
        """The published configuration's fields that decide geometry and parameter count (a fresh copy)."""
        return None if self.config_text is None else dict(json.loads(self.config_text))


@dataclass(frozen=True, eq=False)
class Accelerator:
    """One accelerator, as its data sheet has it.

    Attributes:
        memory_bytes: data sheets' GB are taken as 10^9 unless the sheet says GiB; see `note`.
        bytes_per_s: peak memory bandwidth.
        flops_per_s: dense peak by dtype (never the figure with sparsity).
    """

    id: str
    label: str
    vendor: str
    memory_bytes: int
    bytes_per_s: float
    flops_per_s: Mapping[str, float]
    source: str
    date: str
    released: str | None = None
    note: str | None = None


def _rows(path: Path, key: str) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        rows: list[dict[str, Any]] = tomllib.load(file)[key]
    return rows


@lru_cache(maxsize=1)
def models() -> tuple[ModelRow, ...]:
    """All models, by family, then lineage, then size."""
    rows = []
    for path in sorted((_DATA / "models").glob("*.toml")):
        for row in _rows(path, "model"):
            row["aliases"] = tuple(row.get("aliases", ()))
            row["config_text"] = row.pop("config", None)
            rows.append(ModelRow(**row))
    return tuple(sorted(rows, key=lambda r: (r.family.casefold(), r.lineage, r.n_parameters or 0, r.label)))


@lru_cache(maxsize=1)
def accelerators() -> tuple[Accelerator, ...]:
    """All accelerators, in the file's order."""
    return tuple(Accelerator(**row) for row in _rows(_DATA / "accelerators.toml", "accelerator"))


def families() -> tuple[str, ...]:
    """Families in alphabetical order."""
    return tuple(dict.fromkeys(row.family for row in models()))


def _key(name: str) -> str:
    return name.strip().casefold()


@lru_cache(maxsize=1)
def _names() -> dict[str, ModelRow]:
    """Every accepted spelling. Ids first, then labels and aliases, then ids without organisation if unique."""
    names = {_key(row.id): row for row in models()}
    for row in models():
        for name in (row.label, *row.aliases):
            assert names.setdefault(_key(name), row) is row, f"{name} names two models"
    short: dict[str, list[ModelRow]] = {}
    for name, row in list(names.items()):
        if "/" in name:
            rows = short.setdefault(name.rpartition("/")[2], [])
            if row not in rows:
                rows.append(row)
    for name, rows in short.items():
        if len(rows) == 1:
            names.setdefault(name, rows[0])
    return names


def model(name: str) -> ModelRow:
    """The model called `name`: its id, the id without organisation if unique, its label, or a listed alias.

    Raises:
        ValueError: unknown name; the message gives the closest ones.
    """
    try:
        return _names()[_key(name)]
    except KeyError:
        raise ValueError(f"unknown model {name!r}{_hint(name, _names())}") from None


@lru_cache(maxsize=1)
def _accelerator_names() -> dict[str, Accelerator]:
    return {_key(name): row for row in accelerators() for name in (row.label, row.id)}


def accelerator(name: str) -> Accelerator:
    """The accelerator with this id or label.

    Raises:
        ValueError: unknown name; the message gives the closest ones.
    """
    try:
        return _accelerator_names()[_key(name)]
    except KeyError:
        names = ", ".join(row.id for row in accelerators())
        raise ValueError(f"unknown accelerator {name!r}; known are {names}") from None


def _hint(name: str, names: Mapping[str, ModelRow]) -> str:
    close = get_close_matches(_key(name)[:200], names, n=8, cutoff=0.5)
    labels = tuple(dict.fromkeys(names[c].id for c in close))[:4]
    return f"; close to it: {', '.join(labels)}" if labels else "; `python -m attention models` lists them all"
