"""Published models and accelerators, each row with where its figures are from.

The data are the TOML files in ``catalog/``: ``models/FAMILY.toml`` (layers in the notation of
``notation.py``, the published configuration's fields beside them) and ``accelerators.toml``. A test compares
every row's layers with what ``configs/reader.py`` reads from its configuration.

A row is read when it is asked for: reading all takes a twentieth of a second, one of them a five-hundredth.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
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
        weights = recorded(self.id)
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
        driver_mib: MiB of memory that its driver shows, None where that is not known.
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
    driver_mib: int | None = None


_HEAD = "\n[[model]]\n"


@cache
def _texts() -> tuple[tuple[str, str], ...]:
    """The text of each row, folded for a search and as it stands."""
    files = [path.read_text(encoding="utf-8") for path in sorted((_DATA / "models").glob("*.toml"))]
    rows = [_HEAD + row for text in files for row in f"\n{text}".split(_HEAD)[1:]]
    return tuple((row.casefold(), row) for row in rows)


@cache
def _row(text: str) -> ModelRow:
    (row,) = tomllib.loads(text)["model"]
    row["aliases"] = tuple(row.get("aliases", ()))
    row["config_text"] = row.pop("config", None)
    return ModelRow(**row)


@lru_cache(maxsize=1)
def models() -> tuple[ModelRow, ...]:
    """All models, by family, then lineage, then size."""
    rows = [_row(text) for _, text in _texts()]
    return tuple(sorted(rows, key=lambda r: (r.family.casefold(), r.lineage, r.n_parameters or 0, r.label)))


@lru_cache(maxsize=1)
def accelerators() -> tuple[Accelerator, ...]:
    """All accelerators, in the file's order."""
    rows = tomllib.loads((_DATA / "accelerators.toml").read_text(encoding="utf-8"))["accelerator"]
    return tuple(Accelerator(**row) for row in rows)


def families() -> tuple[str, ...]:
    """Families in alphabetical order."""
    return tuple(dict.fromkeys(row.family for row in models()))


def _key(name: str) -> str:
    return name.strip().casefold()


def spellings(rows: Iterable[ModelRow]) -> dict[str, ModelRow]:
    """Every accepted name of the rows. Ids first, then labels and aliases, then ids without organisation if unique."""
    rows = tuple(rows)
    names = {_key(row.id): row for row in rows}
    for row in rows:
        for name in (row.label, *row.aliases):
            assert names.setdefault(_key(name), row) is row, f"{name} names two models"
    short: dict[str, set[ModelRow]] = {}
    for name, row in names.items():
        if "/" in name:
            short.setdefault(name.rpartition("/")[2], set()).add(row)
    for name, found in short.items():
        if len(found) == 1:
            names.setdefault(name, *found)
    return names


def find(name: str) -> ModelRow | None:
    """The model called `name`, see :func:`model`; None if there is none."""
    key = _key(name)
    # a row can only be meant, or be a second one of that name, if the name stands in it
    return spellings(_row(text) for folded, text in _texts() if key in folded).get(key)


def model(name: str) -> ModelRow:
    """The model called `name`: its id, the id without organisation if unique, its label, or a listed alias.

    Raises:
        ValueError: unknown name; the message gives the closest ones.
    """
    row = find(name)
    if row is None:
        raise ValueError(f"unknown model {name!r}{_hint(name)}")
    return row


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


def _hint(name: str) -> str:
    from difflib import get_close_matches

    names = spellings(models())
    close = get_close_matches(_key(name)[:200], names, n=8, cutoff=0.5)
    labels = tuple(dict.fromkeys(names[c].id for c in close))[:4]
    return f"; close to it: {', '.join(labels)}" if labels else "; `python -m attention models` lists them all"
