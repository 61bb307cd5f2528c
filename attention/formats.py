"""Element formats of a KV cache and of weights: bits per element and the scales that come with them.

A plain name (``fp8``, ``int8``, ``int4``) counts the elements alone. The formats that engines store add scales: one
per tensor or head (calibrated once, of constant size), one per group of elements (at every position), or one inside
each block (GGUF).
"""

from __future__ import annotations

from dataclasses import dataclass

from attention.errors import check_choice
from attention.spec import PositionState, check_size


@dataclass(frozen=True, slots=True)
class CacheFormat:
    """How one element of the cache is stored.

    Attributes:
        name: the name that the user types.
        bits: bits per element, without scales.
        group_size: elements that share one scale, None if positions bring no scales.
        scale_bits, zero_bits: bits of a group's scale and of its zero point.
        fixed_scales: scales of a layer that do not grow with positions: "tensor" (one for K, one for V), "head" (one
            for K and one for V of each K/V head), None without such scales.
        label: the name as shown to the reader.
        source: where the layout is defined.
    """

    name: str
    bits: int
    group_size: int | None = None
    scale_bits: int = 0
    zero_bits: int = 0
    fixed_scales: str | None = None
    label: str = ""
    source: str = ""

    @property
    def bits_per_element(self) -> float:
        """Bits per element, with its part of the scales that grow with positions."""
        if self.group_size is None:
            return float(self.bits)
        return self.bits + (self.scale_bits + self.zero_bits) / self.group_size

    def row_bytes(self, elements: int) -> int:
        """Bytes of one row: the K (or V) of one position of a layer, `elements` elements in whole groups."""
        if not elements:
            return 0
        payload = elements * self.bits
        if self.group_size is not None:
            groups = -(-elements // self.group_size)
            if self.name in GGUF_BLOCKS:
                payload = groups * self.group_size * self.bits
            payload += groups * (self.scale_bits + self.zero_bits)
        return -(-payload // 8)

    def fixed_bytes(self, state: PositionState) -> int:
        """Bytes of the calibrated fp32 scales of a layer's state, at any context."""
        tensors = 2 if state.v_head_dim else 1
        if self.fixed_scales == "tensor":
            return 4 * tensors
        if self.fixed_scales == "head":
            return 4 * tensors * state.n_kv_heads
        return 0


GGUF_BLOCKS = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Formats whose rows are whole blocks of 32 elements. A block holds a 16-bit scale, a 16-bit minimum (in formats that
end in 1) and the elements."""


def _block(name: str, bits: int, size: int, zero_bits: int = 0) -> CacheFormat:
    """The format of one of ggml's blocks: 32 elements in `size` bytes."""
    source = f"ggml-common.h: block_{name} is {size} bytes for 32 elements"
    return CacheFormat(name, bits, 32, 16, zero_bits, label=f"GGUF {name}: {size} bytes for 32 elements", source=source)


def _grouped(name: str, bits: int, group: int, zero_bits: int = 0) -> CacheFormat:
    zero = f", {zero_bits}-bit zero point" if zero_bits else ""
    return CacheFormat(name, bits, group, 16, zero_bits, label=f"int{bits}, groups of {group}, 16-bit scale{zero}")


FORMATS: dict[str, CacheFormat] = {
    f.name: f
    for f in (
        CacheFormat("bf16", 16, label="bfloat16"),
        CacheFormat("fp16", 16, label="float16"),
        CacheFormat("fp32", 32, label="float32"),
        CacheFormat("fp8", 8, label="fp8, elements alone"),
        CacheFormat("fp8-tensor", 8, fixed_scales="tensor", label="fp8, one fp32 scale per tensor"),
        CacheFormat("fp8-head", 8, fixed_scales="head", label="fp8, one fp32 scale per K/V head"),
        CacheFormat("int8", 8, label="int8, elements alone"),
        _grouped("int8-g32", 8, 32),
        _grouped("int8-g64", 8, 64),
        _grouped("int8-g128", 8, 128),
        CacheFormat("int4", 4, label="int4, elements alone"),
        _grouped("int4-g32", 4, 32, 16),
        _grouped("int4-g64", 4, 64, 16),
        _grouped("int4-g128", 4, 128, 16),
        _block("q8_0", 8, 34),
        _block("q5_1", 5, 24, zero_bits=16),
        _block("q5_0", 5, 22),
        _block("q4_1", 4, 20, zero_bits=16),
        _block("q4_0", 4, 18),
        _block("iq4_nl", 4, 18),
    )
}


def cache_format(name: str) -> CacheFormat:
    """The format called `name`.

    Raises:
        ValueError: unknown name; the message lists what is accepted.
    """
    try:
        return FORMATS[name]
    except (KeyError, TypeError):
        raise ValueError(f"kv_dtype must be one of {', '.join(FORMATS)}; got {name!r}") from None


WEIGHT_BITS = {
    "fp32": 32.0,
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "int4": 4.0,
    "int4-g128": 4 + 16 / 128,
    "mxfp4": 4 + 8 / 32,
}
"""Bits per weight, in whole eighths. int4-g128 has a 16-bit scale for 128 weights, mxfp4 an 8-bit scale for 32 (OCP MX
1.0)."""


TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""The names that PyTorch and configurations give to the formats in which PyTorch computes."""
FORMAT_NAMES = {theirs: ours for ours, theirs in TORCH_NAMES.items()}
"""Our name for each of PyTorch's names."""


def weight_bytes(n_parameters: int, weight_dtype: str) -> int:
    """Bytes of `n_parameters` weights in one dtype, rounded up.

    Raises:
        ValueError: an unknown dtype, or a parameter count out of range.
    """
    check_choice("weight_dtype", weight_dtype, WEIGHT_BITS)
    check_size("n_parameters", n_parameters, maximum=2**50)
    eighths = int(8 * WEIGHT_BITS[weight_dtype])
    return -(-n_parameters * eighths // 64)
