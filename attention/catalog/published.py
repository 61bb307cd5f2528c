"""Published models and accelerators; each row states the source of its figures.

The data are the TOML files in ``catalog/``: ``models/FAMILY.toml`` (layers in the notation of ``notation.py``, and the
fields of the published configuration) and ``accelerators.toml``. A test compares every row's layers with what
``configs/reader.py`` reads from its configuration.

A row is parsed when it is first needed: parsing all rows takes 50 ms, parsing one takes 2 ms.
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
        id: the published id, ``organisation/name`` where the weights have one.
        label: the name as people write it.
        family: the family of models it belongs to; generation: its generation, as the makers count.
        lineage: order of the generation within its family, from 1.
        source, date: where the figures come from, and when they were read.
        released: year and month of the release, None where that is not known.
        n_parameters: parameters of the language model; None if not known exactly or not published.
        n_active_parameters: parameters that a token passes through, as the makers state them, where they are fewer than
            all; `spec` has the counted number.
        max_context: longest context that the makers state, in tokens.
        dtype: the model's dtype in the published configuration, None if not stated.
        hidden_size, model_type: as the published configuration has them, None where it does not.
        note: what a reader must know; unpublished: what is public about a model whose sizes are not.
        aliases: other spellings, and variants with the same layers and sizes.
        pattern: the layers as a pattern of letters; kinds: the layer that each letter stands for (``notation.py``).
        config_text: the published configuration's fields as JSON, see `config`.
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
        """The model as layers; None where its sizes are not published."""
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
        """The published configuration's fields that decide the layers, their sizes and the number of parameters.

        Each call returns a new dictionary; None where the catalogue has no configuration.
        """
        return None if self.config_text is None else dict(json.loads(self.config_text))


@dataclass(frozen=True, eq=False)
class Accelerator:
    """One accelerator, with the figures of its data sheet.

    Attributes:
        memory_bytes: memory; a data sheet's GB count as 10^9 bytes unless it says GiB; see `note`.
        bytes_per_s: peak memory bandwidth, in bytes per second.
        flops_per_s: dense peak by dtype, in operations per second (never the figure with sparsity).
        source, date: where the figures come from, and when they were read.
        driver_mib: memory that its driver shows, in MiB; None where that is not known.
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
    """(the case-folded text for searches, the text itself) of each row."""
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
    """The row of every accepted name: ids, labels and aliases, and ids without their organisation where unique."""
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
    # only rows whose text holds the name can have it as one of their names
    return spellings(_row(text) for folded, text in _texts() if key in folded).get(key)


def model(name: str) -> ModelRow:
    """The model called `name`, which is its id, the id without organisation if unique, its label or a listed alias.

    Raises:
        ValueError: unknown name; the message gives the closest names.
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
        ValueError: unknown name; the message lists the known ids.
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
