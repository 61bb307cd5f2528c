"""A timed decoder layer of a model: what is asked for and answered, in plain values, so that pages need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from attention import sharing
from attention.kernels.case import DEVICES, DTYPES, check_bytes
from attention.spec import check_size


@dataclass(frozen=True)
class StepCase:
    """One decoder layer at one context and batch, timed for prefill and for decode.

    Attributes:
        variant: as shown: "MHA", "GQA-8", "MQA". intermediate_size: width of the MLP a token passes through.
    """

    variant: str
    n_layers: int
    hidden_size: int
    intermediate_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    context: int
    batch: int = 1
    dtype: str = "bfloat16"
    device: str = "auto"
    prefill: bool = True

    def __post_init__(self) -> None:
        for name, most in (("n_layers", 10_000), ("hidden_size", 2**17), ("intermediate_size", 2**20)):
            check_size(name, getattr(self, name), maximum=most)
        for name, most in (("n_heads", 1024), ("n_kv_heads", 1024), ("head_dim", 1024), ("batch", 4096)):
            check_size(name, getattr(self, name), maximum=most)
        check_size("context", self.context, maximum=2**24)
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads = {self.n_heads}, got {self.n_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even to be rotated in pairs, got {self.head_dim}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for an unknown or missing field, or a value out of range."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"not a model step: {error}") from None

    @property
    def compared_with(self) -> tuple[Any, ...]:
        """Steps that are equal but for how heads are shared are timed in the same rounds."""
        return (self.n_layers, self.hidden_size, self.intermediate_size, self.n_heads, self.head_dim,
                self.context, self.batch, self.dtype, self.device, self.prefill)  # fmt: skip

    @property
    def n_weights(self) -> int:
        """Parameters of the layer's matrices and norms."""
        projections = 2 * self.hidden_size * self.head_dim * (self.n_heads + self.n_kv_heads)
        return projections + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size

    @property
    def weight_bytes(self) -> int:
        return self.n_weights * DTYPES[self.dtype]

    @property
    def cache_bytes(self) -> int:
        """K and V of one layer, all sequences, with the newest token."""
        return 2 * self.batch * self.n_kv_heads * self.context * self.head_dim * DTYPES[self.dtype]

    @property
    def decode_flops(self) -> int:
        """One token of each sequence through the layer."""
        return 2 * self.batch * (self.n_weights + 2 * self.n_heads * self.head_dim * self.context)

    @property
    def prefill_flops(self) -> int:
        pairs = self.context * (self.context + 1) // 2
        return 2 * self.batch * (self.n_weights * self.context + 2 * self.n_heads * self.head_dim * pairs)

    @property
    def memory_bytes(self) -> int:
        """What timing it allocates at most."""
        widest = max(self.hidden_size, self.intermediate_size, self.n_heads * self.head_dim)
        activations = self.batch * (self.context if self.prefill else 1) * widest * 6 * DTYPES[self.dtype]
        scores = 12 * self.batch * self.n_heads * self.context
        check = check_bytes(self.n_heads, self.n_kv_heads, self.head_dim, self.context)
        return self.weight_bytes + 2 * self.cache_bytes + activations + scores + check


@dataclass(frozen=True)
class StepResult:
    """A timed layer and what it means for the model. Times in seconds; None where not timed (`note` says why).

    It does not hold its StepCase: rows that were kept or shared so far say less of it than a StepCase needs.

    Attributes:
        layer_s, iqr_s: one decode step of one layer, median and interquartile range.
        token_s: layer_s times n_layers: one token for each sequence. tokens_per_s: of the whole batch.
        layer_prefill_s, prefill_s: all `context` tokens through one layer, and times n_layers.
        weight_bytes, cache_bytes: what one layer's decode step reads; cache_share: the cache's part of it, 0 to 1.
        floor_s: max(bytes / bandwidth, flops / matmul rate) of one layer's decode step, measured in this run.
        error: of the attention against float64, divided by the reference's root mean square.
        times_s, prefill_times_s: seconds of one layer in each counted round, in order.
        together: results of one run with the same number were timed in the same rounds.
        unsteady, prefill_unsteady: why nothing may be concluded from the time, in words; empty if it is steady.
    """

    variant: str
    n_layers: int
    n_kv_heads: int
    context: int
    batch: int
    dtype: str
    device: str
    layer_s: float
    iqr_s: float
    token_s: float
    tokens_per_s: float
    layer_prefill_s: float | None
    prefill_s: float | None
    weight_bytes: int
    cache_bytes: int
    cache_share: float
    floor_s: float
    times_floor: float
    error: float
    note: str
    times_s: tuple[float, ...] = ()
    prefill_times_s: tuple[float, ...] = ()
    together: int = 0
    unsteady: str = ""
    prefill_unsteady: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` wrote, as it comes from the worker."""
        known = dict(values)
        for name in ("times_s", "prefill_times_s"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def variants(n_heads: int, n_kv_heads: int) -> tuple[tuple[str, int], ...]:
    """MHA, the model's own sharing, MQA: (name, n_kv_heads), without doubles."""
    return tuple((sharing.name(n_heads, n), n) for n in sorted({n_heads, n_kv_heads, 1}, reverse=True))
