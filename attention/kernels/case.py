"""A timing that is asked for, and its result. Both are plain values, so that pages can show them without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, astuple, dataclass, fields
from typing import Any, Self

from attention.errors import check_choice, shown
from attention.spec import check_divides, check_size

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Dtypes that can be timed, and their bytes."""
DEVICES = ("auto", "cpu", "cuda")
PHASES = ("decode", "prefill")
MAX_TIMED_CONTEXT = 2**24
"""Longest context accepted for a timing. The free memory may allow less."""


@dataclass(frozen=True)
class Case:
    """One timing: an implementation at one shape.

    Attributes:
        implementation: a name of ``attention.kernels.registry`` of the same phase.
        phase: "decode" (one new token per sequence) or "prefill" (all `context` tokens at once, causal).

    Raises:
        ValueError: a size out of range, n_kv_heads that does not divide n_heads, or an unknown choice.
    """

    implementation: str
    n_heads: int = 32
    n_kv_heads: int = 8
    head_dim: int = 128
    context: int = 4096
    batch: int = 1
    dtype: str = "float32"
    device: str = "auto"
    phase: str = "decode"

    def __post_init__(self) -> None:
        check_size("n_heads", self.n_heads, maximum=1024)
        check_size("n_kv_heads", self.n_kv_heads, maximum=1024)
        check_size("head_dim", self.head_dim, maximum=1024)
        check_size("context", self.context, maximum=MAX_TIMED_CONTEXT)
        check_size("batch", self.batch, maximum=4096)
        check_divides(self.n_heads, self.n_kv_heads)
        for name, value, known in (
            ("dtype", self.dtype, DTYPES),
            ("device", self.device, DEVICES),
            ("phase", self.phase, PHASES),
        ):
            check_choice(name, value, known)
        if not isinstance(self.implementation, str):
            raise ValueError(f"implementation must be a name, got {shown(self.implementation)}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for an unknown field or a value out of range."""
        return cls(**_known_fields("case", values, {field.name for field in fields(cls)}))

    @property
    def group_size(self) -> int:
        return self.n_heads // self.n_kv_heads

    @property
    def shape(self) -> tuple[Any, ...]:
        """All fields but the implementation. Cases of one shape are timed on the same tensors."""
        return astuple(self)[1:]

    @property
    def compared_with(self) -> tuple[Any, ...]:
        """All fields but implementation and K/V heads. Cases that agree in them are timed in the same rounds."""
        n_heads, _, *rest = self.shape
        return (n_heads, *rest)

    @property
    def cache_bytes(self) -> int:
        """Bytes of K and V of one layer."""
        return 2 * self.batch * self.n_kv_heads * self.context * self.head_dim * DTYPES[self.dtype]

    @property
    def query_bytes(self) -> int:
        """Bytes of the queries. The result has the same size."""
        positions = 1 if self.phase == "decode" else self.context
        return self.batch * self.n_heads * positions * self.head_dim * DTYPES[self.dtype]


def case_bytes(case: Case) -> int:
    """Bytes that must cross the memory bus at least: K and V once, the queries once, the result once."""
    return case.cache_bytes + 2 * case.query_bytes


def case_flops(case: Case) -> int:
    """Floating-point operations of the two products; a multiply-add counts as two.

    A causal prefill counts only the pairs of a query and a position that it sees: about half of them.
    """
    pairs = case.context if case.phase == "decode" else case.context * (case.context + 1) // 2
    return 4 * case.batch * case.n_heads * case.head_dim * pairs


def check_bytes(n_heads: int, n_kv_heads: int, head_dim: int, context: int, query: int = 1) -> int:
    """Most bytes that ``reference.attention`` needs beside its inputs.

    They are one K/V head in float64, the scores of one query head, and the mask.
    """
    return 8 * (2 * context * head_dim + 3 * query * context) + 2 * query * context


@dataclass(frozen=True)
class Result:
    """A timing and what is needed to judge it.

    Attributes:
        case: what was asked for, its device resolved.
        median_s, iqr_s: median and interquartile range of `repeats` runs in seconds; None if the case was not timed
            (`note` says why).
        bytes_per_s: the least traffic (``case_bytes``) divided by the median.
        error: largest deviation from the float64 reference, divided by the reference's root mean square.
        tolerance: the largest error that dtype and context allow.
        floor_s: max(bytes / bandwidth, flops / matmul rate), both rates measured in this run.
        times_floor: median / floor.
        bound: which of the two is larger, "memory" or "arithmetic".
        read_bytes_per_s, flops_per_s: the measured rates that give the floor.
        note: what a reader must know to understand the number; may be empty.
        times_s: seconds of each counted round, in order; empty in results of older versions.
        together: a number; results of one run with the same number were timed in the same rounds.
        unsteady: why nothing may be concluded from the timing, in words; empty if it is steady.
    """

    case: Case
    median_s: float | None
    iqr_s: float | None
    bytes_per_s: float | None
    error: float | None
    floor_s: float | None
    times_floor: float | None
    note: str = ""
    bound: str = ""
    repeats: int = 0
    tolerance: float | None = None
    read_bytes_per_s: float | None = None
    flops_per_s: float | None = None
    times_s: tuple[float, ...] = ()
    together: int = 0
    unsteady: str = ""

    def to_json(self) -> dict[str, Any]:
        """One row: the case's fields, then the others."""
        return as_row(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` wrote, now or in an earlier version.

        Raises:
            ValueError: an unknown or missing field, a case out of range, or `cache_bytes` of another shape.
        """
        of_case = [field.name for field in fields(Case)]
        own = [field for field in fields(cls) if field.name != "case"]
        known = _known_fields("result", values, {*of_case, "cache_bytes", *(field.name for field in own)})
        needed = [name for name in of_case if name != "phase"]
        needed += ["cache_bytes", *(field.name for field in own if field.default is MISSING)]
        for name in needed:
            if name not in known:
                raise ValueError(f"a timing must say its {name}")
        case = Case(**{name: known.pop(name) for name in of_case if name in known})
        if (cache_bytes := known.pop("cache_bytes")) != case.cache_bytes:
            raise ValueError(f"cache_bytes must be {case.cache_bytes:,} for this shape, got {cache_bytes!r}")
        if isinstance(known.get("times_s"), list):
            known["times_s"] = tuple(known["times_s"])
        return cls(case, **known)


def as_row(result: Any) -> dict[str, Any]:
    """A result and its `case` as one flat row: the case's fields, its bytes of K and V, the result's own fields."""
    own = asdict(result)
    return {**own.pop("case"), "cache_bytes": result.case.cache_bytes, **own}


def _known_fields(what: str, values: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"a {what} must be an object, got {values!r}")
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return dict(values)
