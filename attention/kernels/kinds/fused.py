"""One pass over each kind of cache on CUDA: launches the kernels of ``triton_attend.py`` and ``triton_parts.py``."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from math import ceil, log2
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attention.kernels.kinds.case import BLOCK, KindCase
from attention.kernels.kinds.stored import Cache, Plane

# the kernel tells formats apart by these numbers; formats above FP8_BITS hold packed pairs
FORMATS = {"dtype": 0, "int8-token": 1, "fp8-head": 2, "q8_0": 4, "q4_0": 5, "int4-g32": 6}
FP8_BITS = 3
"""The number of fp8 as plain bytes, for a device that cannot convert fp8 itself."""
LOG2_E = 1.4426950408889634
SHARED_BYTES = 232_448
"""Bytes of a multiprocessor's shared memory that programs may take (Hopper)."""
MOST_RESIDENT = 4
TRIED = 3
"""How often each of a shape's tiles is timed before one is taken."""
MOST_SPLITS = 256
MOST_PLACES = 65_535
"""Largest size of a grid's second dimension on CUDA."""


def unavailable(device: str) -> str | None:
    """Why the kernel can't run on that type of device, or None."""
    if not find_spec("triton"):
        return "needs Triton, and it is not installed"
    if device != "cuda" and not interpreted():
        return "a Triton kernel for CUDA"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels in place of a GPU. The variable must be set before Triton loads."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def unsuited(case: KindCase) -> str | None:
    """Why the kernel is not meant for the case, or None."""
    chunks = _chunks(case.head_dim // 2 if _pairs(case.k_format) else case.head_dim)
    value = case.value_dim // 2 if _pairs(case.k_format) else case.value_dim
    if case.kind in ("latent", "sparse") and value not in (chunks[0], sum(chunks)):
        return f"needs a value_dim that is the largest power of two in head_dim, got {case.value_dim}"
    return None


def _pairs(cache_format: str) -> bool:
    return FORMATS[cache_format] > FP8_BITS


def _chunks(columns: int) -> tuple[int, int]:
    """One or two powers of two, each at least 16, that hold `columns`; the second is 0 where one is enough."""
    first = max(16, 2 ** int(log2(columns)))
    rest = columns - first
    return first, 0 if rest <= 0 else max(16, 2 ** ceil(log2(rest)))


class Tile(NamedTuple):
    """Sizes of one program: m rows of queries, n positions, warps, and stages (tiles in flight at once)."""

    m: int
    n: int
    warps: int
    stages: int

    def resident(self, row_bytes: int, columns: int) -> int:
        """About how many programs fit a multiprocessor's shared memory at once.

        Args:
            row_bytes, columns: see :func:`tiles`.
        """
        held = self.n * row_bytes * max(1, self.stages - 1) + 2 * self.m * columns + 3072
        return max(1, min(MOST_RESIDENT, SHARED_BYTES // held))


def tiles(rows: int, row_bytes: int, columns: int, item_bytes: int = 2, pairs: bool = False) -> tuple[Tile, ...]:
    """The few tiles to try for a shape, the likeliest first. Each has about 16 to 64 KiB of keys and values in flight.

    Args:
        rows: query heads of a group times new tokens.
        row_bytes: bytes of a position's key and value, as stored.
        columns: elements of the widest row.
        item_bytes: bytes of an element that is multiplied. float32 fills shared memory soon; it gets one small tile.
        pairs: rows are packed pairs, which are widened in registers and need many of them.
    """
    m = 16 if rows <= 16 or item_bytes == 4 else 32 if rows <= 32 else 64
    if item_bytes == 4:
        return (Tile(m, 16 if columns > 256 else 32, 4, 2),)
    if columns > 256:
        # a result of 512 columns for 64 rows fills the registers of eight warps
        if m == 64:
            return Tile(m, 64, 8, 2), Tile(m, 32, 8, 3), Tile(m, 32, 8, 2)
        return Tile(m, 32, 8, 2), Tile(m, 64, 8, 2), Tile(m, 32, 4, 3)
    if pairs:
        return Tile(m, 64, 4, 2), Tile(m, 32, 4, 2), Tile(m, 128, 8, 2)
    if row_bytes <= 300:
        return Tile(m, 128, 4, 3), Tile(m, 64, 4, 3), Tile(m, 128, 8, 3)
    return Tile(m, 64, 4, 3), Tile(m, 128, 8, 3), Tile(m, 32, 4, 4)


def splits(places: int, slots: int, tile_n: int, room: int) -> int:
    """Into how many parts to split the context: as few as keep the device busy nine tenths of the time.

    Args:
        places: programs of each part.
        slots: positions that are attended to.
        tile_n: positions of a tile; a part has at least two tiles.
        room: programs that the device runs at once.
    """
    most = max(1, min(MOST_SPLITS, slots // (2 * tile_n)))
    best, found = 0.0, 1
    for n in range(1, most + 1):
        waves = ceil(places * n / room)
        busy = places * n / (waves * room)
        if busy > best + 1e-9:
            best, found = busy, n
        if busy >= 0.9 or places * n > 8 * room:
            break
    return found


@cache
def _processors(device: str) -> int:
    return torch.cuda.get_device_properties(0).multi_processor_count if device == "cuda" else 4


@cache
def _has_fp8(device: str) -> bool:
    """Whether the device itself converts e4m3 (compute capability 8.9 and later)."""
    return device == "cuda" and torch.cuda.get_device_capability() >= (8, 9)


class _KernelPlane(NamedTuple):
    """A plane as arguments of the kernel."""

    data: Tensor
    strides: tuple[int, ...]
    scale: Tensor
    scale_strides: tuple[int, ...]
    zero: Tensor
    code: int
    columns: int
    scale_step: int


def _kernel_plane(plane: Plane) -> _KernelPlane:
    data, scale, zero = plane.data, plane.scale, plane.zero
    if data.stride(-1) != 1:
        raise ValueError(f"a row's elements must lie side by side, got a stride of {data.stride(-1)}")
    code, columns, step = FORMATS[plane.format], plane.dim, 1
    if _pairs(plane.format):
        columns = plane.dim // 2
    if plane.format == "fp8-head" and not _has_fp8(data.device.type):
        data, code = data.view(torch.uint8), FP8_BITS
    if plane.format in ("q8_0", "q4_0"):
        # a block is 34 or 18 bytes, and its scale is the first float16 of them
        scale, step = data.view(torch.float16), 17 if plane.format == "q8_0" else 9
    if plane.format == "q8_0":
        data = data.view(torch.int16)
    if zero is not None and scale is not None and zero.stride() != scale.stride():
        raise ValueError(f"scale and zero must lie alike, got strides of {scale.stride()} and {zero.stride()}")
    scale_strides = (0, 0, 0) if scale is None or scale.ndim < 3 else scale.stride()[:3]
    absent = data
    return _KernelPlane(
        data, data.stride()[:3], absent if scale is None else scale, scale_strides, absent if zero is None else zero,
        code, columns, step,
    )  # fmt: skip


def attend(q: Tensor, cache: Cache, chosen: Tensor | None = None) -> Tensor:
    """One step: q [batch, n_heads, q_len, head_dim] -> [batch, n_heads, q_len, value_dim].

    Args:
        chosen: positions to attend to in a sparse cache, [batch, q_len, top_k], -1 for none; None attends to all.

    Raises:
        ValueError: a context of 0, batch · n_kv_heads (· q_len with `chosen`) above MOST_PLACES, a row whose elements
            are not side by side, or a dim that a format's groups do not divide.
        RuntimeError: Triton can run none of the tiles here.
    """
    from attention.kernels.kinds import triton_attend, triton_parts

    batch, n_heads, q_len, head_dim = q.shape
    slots, n_kv_heads = cache.k.positions, cache.n_kv_heads
    if not slots:
        raise ValueError("context must be at least 1, got 0")
    for plane in (cache.k, cache.v or cache.k):
        if _pairs(plane.format) and plane.dim % BLOCK:
            raise ValueError(f"dim must be divisible by {BLOCK} in {plane.format}, got {plane.dim}")
    k, v = _kernel_plane(cache.k), _kernel_plane(cache.v or cache.k)
    if chosen is not None:
        # each new token has picked its own positions, so the kernel takes it as a sequence of its own
        q, slots = q.transpose(1, 2), chosen.shape[-1]
        chosen = chosen.to(torch.int32).contiguous()
    q = q.contiguous()
    places = batch * n_kv_heads * (1 if chosen is None else q_len)
    if places > MOST_PLACES:
        raise ValueError(f"batch times n_kv_heads must be at most {MOST_PLACES:,}, got {places:,}")
    rows = n_heads // n_kv_heads * (q_len if chosen is None else 1)
    k_chunks = _chunks(k.columns)
    v_columns = cache.value_dim // 2 if v.code > FP8_BITS else cache.value_dim
    v_chunks = _chunks(v_columns)
    widest = max(cache.k.dim, cache.value_dim)
    row_bytes = _row_bytes(cache.k) + (0 if cache.v is None else _row_bytes(cache.v))
    device = q.device.type
    out = torch.empty(places, rows, cache.value_dim, dtype=q.dtype, device=q.device)

    def launch(size: Tile) -> None:
        blocks_m = ceil(rows / size.m)
        room = _processors(device) * size.resident(row_bytes, widest)
        parts = splits(places * blocks_m, slots, size.n, room)
        per_split = ceil(ceil(slots / size.n) / parts) * size.n
        parts = ceil(slots / per_split)
        partial, tops = out, out
        if parts > 1:
            partial = torch.empty(places * rows, parts, cache.value_dim, dtype=torch.float32, device=q.device)
            tops = torch.empty(2, places * rows, parts, dtype=torch.float32, device=q.device)
        kernel: Any = triton_attend.attend
        kernel[blocks_m, places, parts](
            q, k.data, v.data, k.scale, k.zero, v.scale, v.zero, q if chosen is None else chosen,
            partial, tops[0], tops[-1],
            cache.context, slots, per_split, cache.window,
            *k.strides, *v.strides, *k.scale_strides, *v.scale_strides,
            cache.scale * LOG2_E,
            N_KV_HEADS=n_kv_heads, ROWS=rows, Q_LEN=q_len, DK=head_dim, DV=cache.value_dim,
            K_FORMAT=k.code, V_FORMAT=v.code, KS_STEP=k.scale_step, VS_STEP=v.scale_step,
            KC=k.columns, K1=k_chunks[0], K2=k_chunks[1], VC=v_columns, V1=v_chunks[0], V2=v_chunks[1],
            ONE_PLANE=cache.v is None, MASKED=q_len > 1, WINDOW=bool(cache.window),
            GATHER=chosen is not None, DIRECT=parts == 1, M=size.m, N=size.n,
            PRECISION="ieee" if q.dtype == torch.float32 else "tf32", WIDE=interpreted(),
            num_warps=size.warps, num_stages=size.stages,
        )  # fmt: skip
        if parts > 1:
            columns = min(128, 2 ** ceil(log2(cache.value_dim)))
            combine: Any = triton_parts.combine
            combine[places * rows, ceil(cache.value_dim / columns)](
                partial, tops[0], tops[1], out, parts, DV=cache.value_dim, D=columns, S=16, num_warps=4
            )

    shape = (
        *(device, q.dtype, n_kv_heads, rows, q_len, head_dim, cache.value_dim, k.code, v.code, cache.v is None),
        *(bool(cache.window), chosen is None, places.bit_length(), slots.bit_length()),
    )
    launch(tile_of(shape, tiles(rows, row_bytes, widest, q.element_size(), max(k.code, v.code) > FP8_BITS), launch))
    if chosen is not None:
        return out.view(batch, q_len, n_heads, -1).transpose(1, 2)
    return out.view(batch, n_heads, q_len, -1)


_taken: dict[tuple, Tile] = {}


def tile_of(shape: tuple, known: tuple[Tile, ...], launch: Callable[[Tile], None]) -> Tile:
    """The fastest tile of a shape on this device. The shape's first step finds it: each tile is compiled and timed.

    Raises:
        RuntimeError: no tile can run here; the message is the first one's.
    """
    if shape not in _taken and (shape[0] != "cuda" or len(known) == 1 or torch.cuda.is_current_stream_capturing()):
        return known[0]
    if shape not in _taken:
        times, failed = {}, []
        for size in known:
            try:
                launch(size)
                times[size] = min(_device_time(partial(launch, size)) for _ in range(TRIED))
            except Exception as error:  # Triton's own errors have no common class
                failed.append(error)
        if not times:
            raise RuntimeError(f"Triton: {str(failed[0]).strip().splitlines()[0][:200]}") from failed[0]
        _taken[shape] = min(times, key=times.__getitem__)
    return _taken[shape]


def _device_time(run: Callable[[], None]) -> float:
    """Milliseconds between two events on the device. A sleep keeps the device busy while the host launches."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(1_000_000)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end))


def _row_bytes(plane: Plane) -> int:
    return plane.data.shape[-1] * plane.data.element_size()


def pick(cache: Cache) -> Tensor:
    """Positions that the indexer picks for each new token, [batch, q_len, min(top_k, context)]; -1 where the token sees
    fewer."""
    from attention.kernels.kinds import triton_parts

    keys, queries, weights = cache.index_k, cache.index_q, cache.index_weights
    assert keys is not None
    assert queries is not None
    assert weights is not None
    batch, q_len, heads, dim = queries.shape
    scores = torch.empty(batch, q_len, cache.context, dtype=torch.float32, device=keys.device)
    n = 128
    kernel: Any = triton_parts.index
    kernel[ceil(cache.context / n), batch](
        keys, queries.contiguous(), weights.contiguous(), scores, cache.context, *keys.stride()[:2],
        Q_LEN=q_len, HEADS=heads, DIM=dim, H=max(16, 2 ** ceil(log2(heads))), D=max(16, 2 ** ceil(log2(dim))), N=n,
        PRECISION="ieee" if queries.dtype == torch.float32 else "tf32", WIDE=interpreted(), num_warps=4,
    )  # fmt: skip
    best = scores.topk(min(cache.top_k, cache.context), sorted=False)
    # every token sees at least top_k positions: then no score among the best is -inf
    if cache.top_k <= cache.context - q_len + 1:
        return best.indices
    return torch.where(best.values.isneginf(), -1, best.indices)


def attend_sparse(q: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
    """Score all positions with the indexer's keys, then attend to the best.

    Returns:
        The result, as in :func:`attend`, and the positions, as in :func:`pick`.
    """
    chosen = pick(cache)
    return attend(q, cache, chosen), chosen
