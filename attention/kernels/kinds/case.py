"""A decode step over a kind of cache, and its result. Both are plain values, so that pages can show them without torch.

``attention/kernels/case.py`` has the ordinary step (K and V of one dtype, one new token) and prefill. This module has
the other kinds of cache that models and engines keep, and counts what a step over each must move and compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Any, Self

from attention.errors import check_choice, shown
from attention.formats import FORMATS
from attention.kernels.case import DEVICES, DTYPES, MAX_TIMED_CONTEXT
from attention.spec import check_divides, check_size

KINDS = ("full", "expanded", "latent", "window", "shared", "sparse")
"""full: K and V of every position. expanded: MLA's keys and values, unfolded for every head and kept. latent: MLA
absorbed; each position keeps one vector for all heads, which is the key, and its first part is the value (DeepSeek-V2,
arXiv:2405.04434, section 2.1). window: a ring of the last positions. shared: one vector per head is both key and value
(K = V). sparse: MLA's latents, of which a step reads the `top_k` positions that an indexer picks (DeepSeek-V3.2's
DSA)."""
ONE_PLANE = ("latent", "shared", "sparse")
"""Kinds whose values are the keys, or the first part of them: one plane is kept, and read once."""
CACHE_FORMATS = ("dtype", "int8-token", "fp8-head", "q8_0", "q4_0", "int4-g32")
"""Formats of K or V in memory. "dtype" is the case's own dtype. int8-token has one float32 scale per position and head
(vLLM's int8_per_token_head). ``attention/formats.py`` describes the others."""
BLOCK = 32
"""Elements of a group of q8_0, q4_0 and int4-g32."""
LATENT_SCORE_DIM = 192
"""A latent head's scores are divided by the square root of this, the size of its expanded key: 128 + 64 for RoPE in
DeepSeek-V2 and -V3."""
MAX_Q_LEN = 64


@dataclass(frozen=True)
class KindCase:
    """One step: `q_len` new tokens of each sequence attend to `context` positions, themselves included.

    Attributes:
        kind: one of KINDS.
        implementation: a name of ``attention.kernels.kinds.registry``.
        head_dim, value_dim: elements of a head's key and of its value; in latent and sparse, elements of the latent
            vector and of its part that is the value.
        q_len: new tokens of each sequence; token i sees all but the `q_len` - 1 - i newest positions.
        window: positions a token sees, itself included; 0 in every kind but window.
        top_k: positions a token attends to; 0 in every kind but sparse.
        index_heads, index_dim: the indexer's query heads, and the size of the one key that it keeps per position; 0 in
            every kind but sparse.
        k_format, v_format: formats of CACHE_FORMATS.
        dtype: of the queries, of the result and of a cache in the format "dtype".

    Raises:
        ValueError: a value out of range or unknown, or fields that do not fit each other or the kind.
    """

    kind: str
    implementation: str = "plain"
    n_heads: int = 32
    n_kv_heads: int = 8
    head_dim: int = 128
    value_dim: int = 128
    context: int = 4096
    batch: int = 1
    q_len: int = 1
    window: int = 0
    top_k: int = 0
    index_heads: int = 0
    index_dim: int = 0
    k_format: str = "dtype"
    v_format: str = "dtype"
    dtype: str = "bfloat16"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("kind", self.kind, KINDS),
            ("k_format", self.k_format, CACHE_FORMATS),
            ("v_format", self.v_format, CACHE_FORMATS),
            ("dtype", self.dtype, tuple(DTYPES)),
            ("device", self.device, DEVICES),
        ):
            check_choice(name, value, known)
        if not isinstance(self.implementation, str):
            raise ValueError(f"implementation must be a name, got {shown(self.implementation)}")
        for name, most in (
            *(("n_heads", 1024), ("n_kv_heads", 1024), ("head_dim", 1024), ("value_dim", 1024)),
            *(("context", MAX_TIMED_CONTEXT), ("batch", 4096), ("q_len", MAX_Q_LEN)),
        ):
            check_size(name, getattr(self, name), maximum=most)
        check_divides(self.n_heads, self.n_kv_heads)
        if self.q_len > self.context:
            raise ValueError(f"q_len must be at most the context of {self.context:,} positions, got {self.q_len}")
        for name, kind, most in (
            *(("window", "window", MAX_TIMED_CONTEXT), ("top_k", "sparse", MAX_TIMED_CONTEXT)),
            *(("index_heads", "sparse", 1024), ("index_dim", "sparse", 1024)),
        ):
            if self.kind == kind:
                check_size(name, getattr(self, name), maximum=most)
            elif getattr(self, name):
                raise ValueError(f"{name} belongs to kind {kind}, got {shown(getattr(self, name))} in {self.kind}")
        self._check_planes()

    def _check_planes(self) -> None:
        if self.kind in ("latent", "sparse"):
            if self.n_kv_heads != 1:
                raise ValueError(f"n_kv_heads must be 1 in kind {self.kind}: all heads read one, got {self.n_kv_heads}")
            if self.value_dim > self.head_dim:
                raise ValueError(f"value_dim must be at most head_dim = {self.head_dim}, got {self.value_dim}")
        if self.kind == "expanded" and self.n_kv_heads != self.n_heads:
            raise ValueError(f"n_kv_heads must be n_heads = {self.n_heads} in kind expanded, got {self.n_kv_heads}")
        if self.kind == "shared" and self.value_dim != self.head_dim:
            raise ValueError(f"value_dim must be head_dim = {self.head_dim} in kind shared, got {self.value_dim}")
        if self.kind in ONE_PLANE and self.v_format != self.k_format:
            raise ValueError(f"v_format must be k_format = {self.k_format} in kind {self.kind}, got {self.v_format}")
        for plane, size, name in (("k_format", self.head_dim, "head_dim"), ("v_format", self.value_dim, "value_dim")):
            if getattr(self, plane) in ("q8_0", "q4_0", "int4-g32") and size % BLOCK:
                raise ValueError(f"{name} must be divisible by {BLOCK} in {getattr(self, plane)}, got {size}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for an unknown field or a value out of range."""
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or (unknown := [name for name in values if name not in known]):
            what = shown(unknown[0]) if isinstance(values, Mapping) else shown(values)
            raise ValueError(f"a case must be an object of {', '.join(sorted(known))}; got {what}")
        if "kind" not in values:
            raise ValueError("a case must say its kind")
        return cls(**values)

    @property
    def group_size(self) -> int:
        return self.n_heads // self.n_kv_heads

    @property
    def shape(self) -> tuple[Any, ...]:
        """All fields but the implementation. Cases of one shape are timed on the same tensors."""
        return astuple(replace(self, implementation=""))

    @property
    def compared_with(self) -> tuple[str, str]:
        """Fields that two cases of the same rounds must have in common for a ratio of their times."""
        return self.device, self.dtype

    @property
    def score_dim(self) -> int:
        """The size by whose square root the scores are divided."""
        return LATENT_SCORE_DIM if self.kind in ("latent", "sparse") else self.head_dim

    @property
    def slots(self) -> int:
        """Positions held of one sequence: all, or those that the windows of all new tokens reach."""
        return min(self.context, self.window + self.q_len - 1) if self.window else self.context

    @property
    def row_bytes(self) -> int:
        """Bytes of one position of one K/V head: the key, and the value where it is stored apart."""
        return plane_row_bytes(self.head_dim, self.k_format, self.dtype) + (
            0 if self.kind in ONE_PLANE else plane_row_bytes(self.value_dim, self.v_format, self.dtype)
        )

    @property
    def index_bytes(self) -> int:
        """Bytes of the indexer's keys."""
        return self.batch * self.context * self.index_dim * DTYPES[self.dtype]

    @property
    def cache_bytes(self) -> int:
        """Bytes that one layer keeps, scales and the indexer's keys included."""
        return self.batch * self.n_kv_heads * self.slots * self.row_bytes + self.scale_bytes + self.index_bytes

    @property
    def scale_bytes(self) -> int:
        """Bytes of calibrated scales: one float32 per head and plane, whatever the context."""
        planes = [self.k_format] if self.kind in ONE_PLANE else [self.k_format, self.v_format]
        return 4 * self.n_kv_heads * planes.count("fp8-head")

    @property
    def visible(self) -> int:
        """Pairs of a new token and a position that it attends to, of one sequence and one query head."""
        most = self.window or self.top_k or self.context
        return sum(min(most, self.context - i) for i in range(self.q_len))


def plane_row_bytes(dim: int, cache_format: str, dtype: str) -> int:
    """Bytes of one head's key or value of `dim` elements."""
    if cache_format == "dtype":
        return dim * DTYPES[dtype]
    return dim + 4 if cache_format == "int8-token" else FORMATS[cache_format].row_bytes(dim)


def kind_bytes(case: KindCase) -> int:
    """Bytes that must cross the memory bus at least: what is attended to once, queries once, result once.

    In sparse, `top_k` positions are counted once however many new tokens pick: all may pick the same ones.
    """
    read = min(case.slots, case.top_k) if case.top_k else case.slots
    cache = case.batch * case.n_kv_heads * read * case.row_bytes + case.scale_bytes + case.index_bytes
    size = DTYPES[case.dtype]
    rows = case.batch * case.q_len
    index = rows * case.index_heads * (case.index_dim * size + 4)  # queries, and a float32 weight of each
    return cache + rows * case.n_heads * (case.head_dim + case.value_dim) * size + index


def kind_flops(case: KindCase) -> int:
    """Operations of the products: scores, values, and an indexer's weighted scores. A multiply-add counts as two."""
    index = sum(case.context - i for i in range(case.q_len)) * case.index_heads * 2 * (case.index_dim + 1)
    return case.batch * (2 * case.n_heads * (case.head_dim + case.value_dim) * case.visible + index)


@dataclass(frozen=True)
class KindResult:
    """A timing and what is needed to judge it. Figures that follow from others are computed, never kept.

    Attributes:
        case: what was asked for, its device resolved.
        median_s, iqr_s: median and interquartile range of the counted rounds, in seconds; None if the case was not
            timed (`note` says why).
        error: largest deviation from float64, divided by the root mean square of the float64 result.
        tolerance: the largest error that is allowed.
        floor_s: max(bytes / bandwidth, flops / matmul rate), both rates measured in this run.
        bound: which of the two is larger, "memory" or "arithmetic".
        read_bytes_per_s, flops_per_s: the measured rates that give the floor.
        times_s: seconds of each counted round.
        together: a number; results of one run with the same number were timed in the same rounds.
        note: what a reader must know to understand the number; may be empty.
        unsteady: why nothing may be concluded from the timing, in words; empty if it is steady.
    """

    case: KindCase
    median_s: float | None = None
    iqr_s: float | None = None
    error: float | None = None
    tolerance: float | None = None
    floor_s: float | None = None
    bound: str = ""
    read_bytes_per_s: float | None = None
    flops_per_s: float | None = None
    times_s: tuple[float, ...] = ()
    together: int = 0
    note: str = ""
    unsteady: str = ""

    @property
    def times_floor(self) -> float | None:
        return self.median_s / self.floor_s if self.median_s and self.floor_s else None

    @property
    def bytes_per_s(self) -> float | None:
        """The least traffic (:func:`kind_bytes`) divided by the median."""
        return kind_bytes(self.case) / self.median_s if self.median_s else None

    def to_json(self) -> dict[str, Any]:
        """One row: the case's fields, then the others."""
        own = asdict(self)
        return {**own.pop("case"), **own}

    def to_row(self) -> dict[str, Any]:
        """As :meth:`to_json`, without the fields at their defaults: a run's file has hundreds of such rows."""
        given = {field.name: field.default for known in (KindCase, KindResult) for field in fields(known)}
        return {name: value for name, value in self.to_json().items() if value != given[name]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` wrote.

        Raises:
            ValueError: an unknown field, or a case out of range.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"a timing must be an object, got {shown(values)}")
        of_case = {field.name for field in fields(KindCase)}
        own = {field.name for field in fields(cls)} - {"case"}
        if unknown := [name for name in values if name not in of_case | own]:
            raise ValueError(f"unknown field {shown(unknown[0])}; known are {', '.join(sorted(of_case | own))}")
        case = KindCase.from_json({name: values[name] for name in of_case if name in values})
        rest = {name: values[name] for name in own if name in values}
        if isinstance(rest.get("times_s"), list):
            rest["times_s"] = tuple(rest["times_s"])
        return cls(case, **rest)
