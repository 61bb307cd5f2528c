"""Models side by side: one row per model with everything that a comparison shows, and curves over the context.

A column of a comparison is a model, and optionally its own cache format and number of ranks. As text it is ``MODEL``,
``MODEL~FORMAT`` or ``MODEL~FORMAT~TP`` (FORMAT may be empty). So an address can list columns, and a visitor can compare
a model with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

from attention import sharing
from attention.catalog import published
from attention.errors import check_choice
from attention.formats import cache_format
from attention.memory import allocation
from attention.memory.breakdown import weight_bytes
from attention.memory.footprint import cache_of, crossover, sequence_bytes
from attention.memory.load import Load
from attention.spec import Kind, ModelSpec

_SEPARATOR = "~"
MAX_COLUMNS = 32
PASTED, PASTED_LABEL = "config", "Pasted config.json"
"""The column of the configuration that the visitor pasted: its name in the address, and its label."""


class Column(NamedTuple):
    """One model of a comparison; a field is None where the comparison's shared setting applies."""

    model: str
    kv_dtype: str | None = None
    tp: int | None = None

    def write(self) -> str:
        """The column as its shortest text."""
        parts = (self.model, self.kv_dtype or "", str(self.tp or ""))
        return _SEPARATOR.join(parts).rstrip(_SEPARATOR)

    @property
    def label(self) -> str:
        """The label as shown: the model's label with the settings that differ from the shared ones."""
        own = [part for part in (self.kv_dtype, f"TP {self.tp}" if self.tp else None) if part]
        name = PASTED_LABEL if self.model == PASTED else published.model(self.model).label
        return " · ".join([name, *own])


@lru_cache(maxsize=1024)
def column(text: str) -> Column:
    """The column that `text` describes.

    Raises:
        ValueError: unknown model or format, or a number of ranks out of range.
    """
    name, _, rest = text.partition(_SEPARATOR)
    fmt, _, tp = rest.partition(_SEPARATOR)
    if tp and not (tp.isascii() and tp.isdigit() and 1 <= int(tp[:9]) <= allocation.MAX_TP):
        raise ValueError(f"tp must be between 1 and {allocation.MAX_TP}, got {tp[:40]!r}")
    model = PASTED if name == PASTED else published.model(name[:200]).id
    return Column(model, cache_format(fmt[:40]).name if fmt else None, int(tp) if tp else None)


@dataclass(frozen=True)
class Compared:
    """One row of a comparison.

    Attributes:
        key: the column as text; label: the column's label; sharing: "MHA", "GQA-8", "MQA", "MLA" or "no K/V".
        kinds: number of layers of each kind, e.g. "10 full + 52 sliding".
        fixed_bytes: states of one sequence that do not grow; bytes_per_token: its growth for one more token.
        state_bytes: what the states of the whole batch need.
        allocated_bytes: what is set aside for the whole batch on all ranks; bytes_per_rank: on each rank.
        weights_bytes: bytes of the weights in bf16, None if the number of parameters is not known.
        crossover: first context at which the batch's caches are larger than the weights.
        bytes_per_token_per_billion: average bytes per token held, per 10^9 parameters.
        of_own_mha: the cache divided by the cache of the same model as MHA.
        note: why figures are missing, None if none are.
        spec: the model, None where its sizes are not published; it is not part of the row as data.
    """

    key: str
    label: str
    released: str | None
    sharing: str = ""
    kinds: str = ""
    n_layers: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    head_dim: int | None = None
    n_parameters: int | None = None
    kv_dtype: str = ""
    tp: int = 1
    context: int = 0
    batch: int = 1
    fixed_bytes: int | None = None
    bytes_per_token: int | None = None
    state_bytes: int | None = None
    allocated_bytes: int | None = None
    bytes_per_rank: int | None = None
    weights_bytes: int | None = None
    crossover: int | None = None
    bytes_per_token_per_billion: float | None = None
    of_own_mha: float | None = None
    note: str | None = None
    spec: ModelSpec | None = field(default=None, repr=False, compare=False)

    def as_row(self) -> dict[str, Any]:
        """The row for a download: its fields without `spec`."""
        named = {"crossover": "outgrows_at"}  # its name in downloaded files
        return {named.get(f.name, f.name): getattr(self, f.name) for f in fields(self) if f.name != "spec"}


def compare(
    columns: Sequence[Column], load: Load, tp: int = 1, pasted: ModelSpec | None = None
) -> tuple[Compared, ...]:
    """One row per column, in order. Figures that a model does not allow stay empty, and a note says why.

    Args:
        tp: ranks of the columns that state none.
        pasted: the model of the column PASTED; without it that column is left out.

    Raises:
        ValueError: recurrent states of unknown dtype.
    """
    return tuple(
        _compared(col, replace(load, kv_dtype=col.kv_dtype or load.kv_dtype), col.tp or tp, pasted)
        for col in columns[:MAX_COLUMNS]
        if col.model != PASTED or pasted is not None
    )


def _compared(col: Column, load: Load, tp: int, pasted: ModelSpec | None) -> Compared:
    row = None if col.model == PASTED else published.model(col.model)
    spec = pasted if row is None else row.spec
    n_parameters = spec.n_parameters if spec is not None else row.n_parameters if row is not None else None
    known: dict[str, Any] = {
        "key": col.write(), "label": col.label, "released": row.released if row else None, "n_parameters": n_parameters,
        "kv_dtype": load.kv_dtype, "tp": tp, "context": load.context, "batch": load.batch,
        "weights_bytes": weight_bytes(n_parameters), "spec": spec,
    }  # fmt: skip
    if spec is None:
        assert row is not None
        return Compared(**known, note=f"sizes unpublished: {row.unpublished or 'nothing to compute from'}")
    cache = cache_of(spec, load)
    mha = sharing.mha_of(spec)
    as_mha = sequence_bytes(mha, load.context, load.kv_dtype) if mha else 0
    billions = n_parameters / 1e9 if n_parameters else None
    known |= {
        "sharing": sharing.of(spec), "kinds": kinds_in_words(spec), "n_layers": spec.n_layers, "n_heads": spec.n_heads,
        "n_kv_heads": spec.n_kv_heads, "head_dim": spec.head_dim, "fixed_bytes": cache.fixed_bytes,
        "bytes_per_token": cache.bytes_per_token, "state_bytes": cache.state_bytes,
        "crossover": crossover(spec, known["weights_bytes"], load.kv_dtype, load.batch),
        "bytes_per_token_per_billion": cache.sequence_bytes / load.context / billions if billions else None,
        "of_own_mha": cache.sequence_bytes / as_mha if as_mha else None,
    }  # fmt: skip
    try:
        aside = allocation.set_aside(spec, cache, tp=tp)
    except ValueError as refusal:
        return Compared(**known, note=str(refusal))
    return Compared(**known, allocated_bytes=aside.allocated_bytes, bytes_per_rank=aside.bytes_per_rank)


def kinds_in_words(spec: ModelSpec) -> str:
    """Number of layers of each kind: "32 full", "10 full + 52 sliding"."""
    counts: dict[Kind, int] = {}
    for layer, n in spec.groups:
        counts[layer.kind] = counts.get(layer.kind, 0) + n
    return " + ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))


VIEWS = {
    "total": "cache of the batch",
    "token": "per token held",
    "billion": "per token and billion parameters",
    "mha": "share of its own MHA",
}


class Curve(NamedTuple):
    """One model's values over the context, in bytes or as a share.

    Attributes:
        crossover: the point (context, bytes) at which the cache equals the weights, None if it is not shown.
    """

    label: str
    y: tuple[float, ...]
    crossover: tuple[int, float] | None = None


class Comparison(NamedTuple):
    """The data of the figure of several models over the context. `left_out` names models without a value."""

    view: str
    x: tuple[int, ...]
    curves: tuple[Curve, ...]
    left_out: tuple[str, ...]
    context: int


def curves(rows: Sequence[Compared], contexts: Sequence[int], view: str = "total") -> Comparison:
    """The values of every row of `compare` over `contexts`, in the view `view` (a key of VIEWS).

    Raises:
        ValueError: unknown view.
    """
    check_choice("view", view, VIEWS)
    out, left_out = [], []
    for row in rows:
        y = _values(row, contexts, view)
        if y is None:
            left_out.append(row.label)
            continue
        at = row.crossover if view == "total" else None
        point = None
        if at is not None and row.weights_bytes is not None and contexts[0] <= at <= contexts[-1]:
            point = (at, float(row.weights_bytes))
        out.append(Curve(row.label, y, point))
    return Comparison(view, tuple(contexts), tuple(out), tuple(left_out), rows[0].context if rows else 0)


def _values(row: Compared, contexts: Sequence[int], view: str) -> tuple[float, ...] | None:
    spec = row.spec
    if spec is None or (view == "billion" and not row.n_parameters):
        return None
    fmt = cache_format(row.kv_dtype)
    own = [sequence_bytes(spec, x, fmt) for x in contexts]
    if view == "total":
        return tuple(float(row.batch * b) for b in own)
    if view == "mha":
        mha = sharing.mha_of(spec)
        return (
            None if mha is None else tuple(b / sequence_bytes(mha, x, fmt) for b, x in zip(own, contexts, strict=True))
        )
    scale = 1.0 if view == "token" or not row.n_parameters else row.n_parameters / 1e9
    return tuple(b / x / scale for b, x in zip(own, contexts, strict=True))


class Ranked(NamedTuple):
    """Models whose caches are equally large in a view: the value, in bytes or as a share, and the models."""

    value: float
    members: tuple[tuple[int, str], ...]
    """(index among the rows of the comparison, label) of each model."""


def ranked(rows: Sequence[Compared], view: str = "total") -> tuple[Ranked, ...]:
    """The rows at their context in one view, in groups of equal value, the largest value first.

    Rows without a value in the view are left out, see ``curves``.

    Raises:
        ValueError: unknown view.
    """
    groups: dict[float, list[tuple[int, str]]] = {}
    for place, row in enumerate(rows):
        found = curves((row,), (row.context,), view).curves
        if found:
            groups.setdefault(found[0].y[0], []).append((place, row.label))
    return tuple(Ranked(value, tuple(groups[value])) for value in sorted(groups, reverse=True))
