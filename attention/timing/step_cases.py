"""A decoder layer that is timed, and its result. Both are plain values, so that pages can show them without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import median, quantiles
from typing import Any, Self

from attention import sharing
from attention.errors import check_choice
from attention.kernels.case import DEVICES, DTYPES, check_bytes
from attention.spec import check_divides, check_size


@dataclass(frozen=True)
class StepCase:
    """One decoder layer at one context and batch, timed for prefill and for decode.

    Attributes:
        variant: the sharing as shown: "MHA", "GQA-8", "MLA", "MQA".
        n_layers: how many of the model's layers are like this one.
        intermediate_size: width of the MLP that every token passes through; 0 if there are only experts.
        prefill: the prefill is timed too.
        window: most tokens that the layer keeps; None keeps all `context`.
        experts: different experts that the batch's tokens choose together, which a step reads; 0 without experts.
        n_chosen, expert_width: experts of a token, and the width of each one's MLP.
        latent, rope_dim: sizes of MLA's latent vector and of its part for RoPE, attended to in absorbed form; 0 for
            ordinary keys and values. With a latent, n_kv_heads is 1.
        q_rank, v_head_dim: of MLA, the rank of its queries (0: not compressed) and the size of its values.
        plain: the step is also timed as in plain PyTorch.

    Raises:
        ValueError: a value out of range or unknown, or fields that do not fit each other.
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
    window: int | None = None
    experts: int = 0
    n_chosen: int = 0
    expert_width: int = 0
    latent: int = 0
    rope_dim: int = 0
    q_rank: int = 0
    v_head_dim: int = 0
    plain: bool = True

    def __post_init__(self) -> None:
        for name, most in (("n_layers", 10_000), ("hidden_size", 2**17)):
            check_size(name, getattr(self, name), maximum=most)
        for name in ("intermediate_size", "expert_width", "latent", "rope_dim", "q_rank"):
            check_size(name, getattr(self, name), minimum=0, maximum=2**20)
        for name in ("experts", "n_chosen", "v_head_dim"):
            check_size(name, getattr(self, name), minimum=0, maximum=4096)
        if self.window is not None:
            check_size("window", self.window, maximum=2**24)
        if not self.intermediate_size and not self.experts:
            raise ValueError("intermediate_size must be at least 1 in a layer without experts, got 0")
        if self.experts and not (1 <= self.n_chosen <= self.experts and self.expert_width):
            raise ValueError(
                f"n_chosen must be between 1 and experts = {self.experts} and expert_width at least 1, "
                f"got {self.n_chosen} and {self.expert_width}"
            )
        if self.latent and not (self.n_kv_heads == 1 and self.v_head_dim and self.rope_dim < self.head_dim):
            raise ValueError(
                "a latent layer must have n_kv_heads 1, a v_head_dim and a rope_dim below its head_dim, got "
                f"{self.n_kv_heads}, {self.v_head_dim} and {self.rope_dim}"
            )
        for name, most in (("n_heads", 1024), ("n_kv_heads", 1024), ("head_dim", 1024), ("batch", 4096)):
            check_size(name, getattr(self, name), maximum=most)
        check_size("context", self.context, maximum=2**24)
        check_divides(self.n_heads, self.n_kv_heads)
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even to be rotated in pairs, got {self.head_dim}")
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("device", self.device, DEVICES)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for an unknown or missing field, or a value out of range."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"not a model step: {error}") from None

    @property
    def compared_with(self) -> tuple[Any, ...]:
        """What steps of one model at one load have in common, whatever their sharing and kind of layer. Steps that are
        equal in this are timed in the same rounds."""
        return self.hidden_size, self.context, self.batch, self.dtype, self.device

    @property
    def shape(self) -> StepShape:
        """The fields by which the result names the layer."""
        return StepShape(**{each.name: getattr(self, each.name) for each in fields(StepShape)})

    @property
    def held(self) -> int:
        """Tokens the layer keeps of each sequence, the newest among them."""
        return self.context if self.window is None else min(self.context, self.window)

    @property
    def n_weights(self) -> int:
        """Parameters of the layer's matrices and norms, without the router. Of the experts only those read count."""
        return self._attention_weights + self._mlp_weights(self.experts) + 2 * self.hidden_size

    @property
    def _attention_weights(self) -> int:
        hidden, heads = self.hidden_size, self.n_heads
        if not self.latent:
            return 2 * hidden * self.head_dim * (heads + self.n_kv_heads)
        queries = heads * self.head_dim
        down = hidden * (self.latent + self.rope_dim)
        up = self.latent * heads * (self.head_dim - self.rope_dim + self.v_head_dim)
        asked = self.q_rank * (hidden + queries) if self.q_rank else hidden * queries
        return asked + down + up + heads * self.v_head_dim * hidden

    def _mlp_weights(self, experts: int) -> int:
        return 3 * self.hidden_size * (self.intermediate_size + experts * self.expert_width)

    @property
    def weight_bytes(self) -> int:
        return self.n_weights * DTYPES[self.dtype]

    @property
    def cache_bytes(self) -> int:
        """Bytes that one layer keeps of all sequences, the newest token included."""
        each = self.latent + self.rope_dim if self.latent else 2 * self.n_kv_heads * self.head_dim
        return self.batch * self.held * each * DTYPES[self.dtype]

    @property
    def _attended_flops(self) -> int:
        """Multiply-adds of one new token with each token held."""
        return self.n_heads * (2 * self.latent + self.rope_dim if self.latent else 2 * self.head_dim)

    @property
    def _passed_weights(self) -> int:
        """Parameters one token passes through."""
        return self._attention_weights + self._mlp_weights(self.n_chosen) + 2 * self.hidden_size

    @property
    def decode_flops(self) -> int:
        """Operations of one token of each sequence through the layer."""
        return 2 * self.batch * (self._passed_weights + self._attended_flops * self.held)

    @property
    def prefill_flops(self) -> int:
        """Operations of all `context` tokens of each sequence through the layer."""
        pairs = self.context * (self.context + 1) // 2
        return 2 * self.batch * (self._passed_weights * self.context + self._attended_flops * pairs)

    @property
    def memory_bytes(self) -> int:
        """Most bytes that timing the layer allocates."""
        widest = max(
            self.hidden_size, self.intermediate_size, self.expert_width, self.n_heads * (self.latent + self.head_dim)
        )
        activations = self.batch * (self.context if self.prefill else 1) * widest * 6 * DTYPES[self.dtype]
        scores = 12 * self.batch * self.n_heads * self.held
        check = check_bytes(self.n_heads, self.n_kv_heads, self.head_dim + self.latent, self.held)
        return self.weight_bytes + 2 * self.cache_bytes + activations + scores + check


@dataclass(frozen=True)
class StepShape:
    """The timed layer as its result names it, its device resolved. For several kinds of layer it is the mean layer.

    It has fewer fields than a StepCase, because rows of earlier versions have no more, and a mean layer is no case.

    Attributes:
        weight_bytes, cache_bytes: bytes that one layer's decode step reads.
    """

    variant: str
    n_layers: int
    n_kv_heads: int
    context: int
    batch: int
    dtype: str
    device: str
    weight_bytes: int
    cache_bytes: int

    @property
    def key(self) -> tuple[Any, ...]:
        """The fields that distinguish a step from the others of a run. The device is not among them."""
        return (self.variant, self.context, self.batch, self.dtype, self.n_layers, self.weight_bytes, self.cache_bytes)

    @property
    def cache_share(self) -> float:
        """The cache's part of what a step reads, 0 to 1."""
        return self.cache_bytes / (self.cache_bytes + self.weight_bytes)


@dataclass(frozen=True)
class StepResult:
    """A timed layer and what it means for the model. Times are in seconds, None where not timed (`note` says why).

    Attributes:
        case: the layer that was timed.
        layer_s, iqr_s: median and interquartile range of one decode step of one layer.
        layer_prefill_s: median time of all `context` tokens through one layer.
        floor_s: max(bytes / bandwidth, flops / matmul rate) of one layer's decode step, with the rates of this run.
        error: the attention's largest deviation from float64, divided by the reference's root mean square.
        note: what a reader must know to understand the numbers.
        times_s, prefill_times_s: seconds of one layer in each counted round, in order.
        together: a number; results of one run with the same number were timed in the same rounds.
        plain_times_s: seconds of the layer's step in plain PyTorch, in the same rounds; empty where not timed apart.
        unsteady, prefill_unsteady: why nothing may be concluded from the time, in words; empty if it is steady.
    """

    case: StepShape
    layer_s: float
    iqr_s: float
    layer_prefill_s: float | None
    floor_s: float
    error: float
    note: str
    times_s: tuple[float, ...] = ()
    prefill_times_s: tuple[float, ...] = ()
    together: int = 0
    unsteady: str = ""
    prefill_unsteady: str = ""
    plain_times_s: tuple[float, ...] = ()

    @property
    def token_s(self) -> float:
        """Seconds of all layers for one token of each sequence."""
        return self.layer_s * self.case.n_layers

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of the whole batch."""
        return self.case.batch / self.token_s

    @property
    def prefill_s(self) -> float | None:
        """Seconds of all layers for `context` tokens of each sequence."""
        return None if self.layer_prefill_s is None else self.layer_prefill_s * self.case.n_layers

    @property
    def times_floor(self) -> float:
        return self.layer_s / self.floor_s

    @property
    def plain_s(self) -> float | None:
        """Seconds of all layers in plain PyTorch for one token of each sequence; None where not timed apart."""
        return median(self.plain_times_s) * self.case.n_layers if self.plain_times_s else None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, now or in an earlier version. Figures that follow from others are computed."""
        known = {name: value for name, value in values.items() if name not in _FOLLOWS}
        case = StepShape(**{each.name: known.pop(each.name) for each in fields(StepShape)})
        for name in ("times_s", "prefill_times_s", "plain_times_s"):
            known[name] = tuple(known.get(name, ()))
        return cls(case, **known)

    def to_json(self) -> dict[str, Any]:
        """One flat row: the case's fields, what follows from them and the times, then the other fields."""
        own = asdict(self)
        follows = {name: getattr(self, name) for name in _FOLLOWS if name != "cache_share"}
        return {**own.pop("case"), "cache_share": self.case.cache_share, **follows, **own}


_FOLLOWS = ("token_s", "tokens_per_s", "prefill_s", "cache_share", "times_floor", "plain_s")
"""Figures that a row gives for readers of the JSON, though they follow from its other fields."""


def variants(n_heads: int, n_kv_heads: int) -> tuple[tuple[str, int], ...]:
    """(name, n_kv_heads) of MHA, of the model's own sharing and of MQA, each once."""
    return tuple((sharing.name(n_heads, n), n) for n in sorted({n_heads, n_kv_heads, 1}, reverse=True))


def summed(parts: Sequence[StepResult]) -> StepResult:
    """The step of all kinds of layer together as one result, whose layer is the mean of all layers.

    Where all kinds were timed in the same rounds, their times are added round by round. Elsewhere nothing may be
    concluded from the sum, and `unsteady` says so.
    """
    if len(parts) == 1:
        return parts[0]
    first, n_layers = parts[0], sum(part.case.n_layers for part in parts)

    def mean(each: Sequence[float]) -> float:
        return sum(part.case.n_layers * value for part, value in zip(parts, each, strict=True)) / n_layers

    def rounds(name: str) -> tuple[float, ...]:
        times = [getattr(part, name) for part in parts]
        apart = len({part.together for part in parts}) > 1 or len({len(t) for t in times}) > 1
        return () if apart else tuple(mean(each) for each in zip(*times, strict=True))

    times = rounds("times_s")
    unsteady = next((part.unsteady for part in parts if part.unsteady), "")
    if not times:
        unsteady = unsteady or "its kinds of layer were not timed in the same rounds"
    layer_s = median(times) if times else mean([part.layer_s for part in parts])
    low, _, high = quantiles(times, n=4) if len(times) > 1 else (0.0, 0.0, 0.0)
    prefills = [part.layer_prefill_s for part in parts if part.layer_prefill_s is not None]
    prefill = mean(prefills) if len(prefills) == len(parts) else None
    weights, cache = (mean([getattr(part.case, name) for part in parts]) for name in ("weight_bytes", "cache_bytes"))
    return replace(
        first,
        case=replace(first.case, n_layers=n_layers, weight_bytes=round(weights), cache_bytes=round(cache)),
        layer_s=layer_s,
        iqr_s=high - low,
        layer_prefill_s=prefill,
        floor_s=min(layer_s, mean([part.floor_s for part in parts])),
        error=max(part.error for part in parts),
        note="; ".join(f"{part.case.n_layers} layers: {part.note}" for part in parts),
        times_s=times,
        prefill_times_s=rounds("prefill_times_s") if prefill is not None else (),
        unsteady=unsteady,
        prefill_unsteady=next((part.prefill_unsteady for part in parts if part.prefill_unsteady), ""),
        plain_times_s=rounds("plain_times_s"),
    )
