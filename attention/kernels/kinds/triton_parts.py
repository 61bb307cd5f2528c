"""Functions of Triton's attention (``triton_attend.py``), the reduction of its parts, and an indexer's scores.

No ``from __future__ import annotations`` here: Triton reads the annotations.
"""

# Triton compiles this: its values have no Python types
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def columns_of(c, FORMAT: tl.constexpr, HIGH: tl.constexpr):
    """The element of a row that column `c` holds; of a packed pair, the low or the high one."""
    if FORMAT == 5:
        return c // 16 * 32 + c % 16 + HIGH * 16
    if FORMAT > 3:
        return 2 * c + HIGH
    return c


@triton.jit
def codes_of(base, rows, c, ok, stride, N_COLUMNS: tl.constexpr, FILLED: tl.constexpr, FORMAT: tl.constexpr):
    """The stored codes in columns `c` of `rows`; 0 beyond the row's end and where `ok` is false."""
    at = c
    if FORMAT == 4:
        at = c // 16 * 17 + 1 + c % 16  # int16 pairs, after the block's scale
    if FORMAT == 5:
        at = c // 16 * 18 + 2 + c % 16  # bytes, after the block's scale
    inside = ok[:, None]
    if not FILLED:
        inside = inside & (c < N_COLUMNS)[None, :]
    # fp8 is a floating-point type: its zero is 0.0
    return tl.load(base + rows[:, None] * stride + at[None, :], mask=inside, other=0.0 if FORMAT == 2 else 0)


@triton.jit
def group_scale(
    base, rows, c_first, ok, stride, N: tl.constexpr, C: tl.constexpr, STEP: tl.constexpr, N_COLUMNS: tl.constexpr
):
    """The scale of each column's group, float32 [N, C]. A group is 16 columns wide; scales are STEP elements apart."""
    g = c_first // 16 + tl.arange(0, C // 16)
    inside = ok[:, None] & (g < N_COLUMNS // 16)[None, :]
    scale = tl.load(base + rows[:, None] * stride + g[None, :] * STEP, mask=inside, other=0)
    wide = tl.broadcast_to(scale.to(tl.float32)[:, :, None], (N, C // 16, 16))
    return tl.reshape(wide, (N, C))


@triton.jit
def fp8_bits(x):
    """float32 of e4m3 bytes. Their bits, shifted to float16's places, mean a number 256 times as small; 0x7f is NaN."""
    x = x.to(tl.uint16, bitcast=False)
    bits = ((x & 0x80) << 8) | ((x & 0x7F) << 7)
    value = bits.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    return tl.where((x & 0x7F) == 0x7F, float("nan"), value)


@triton.jit
def widen(x, scale, zero, FORMAT: tl.constexpr, HIGH: tl.constexpr, DTYPE: tl.constexpr):
    """A chunk, or one half of it, in the dtype that is multiplied. The caller applies a scale of a whole row."""
    if FORMAT == 3:
        return fp8_bits(x).to(DTYPE)
    if FORMAT == 4:
        value = (x >> 8).to(tl.float32) if HIGH else (x << 8 >> 8).to(tl.float32)
        return (value * scale).to(DTYPE)
    if FORMAT == 5:
        value = (x >> 4).to(tl.float32) if HIGH else (x & 15).to(tl.float32)
        return ((value - 8.0) * scale).to(DTYPE)
    if FORMAT == 6:
        value = (x >> 4).to(tl.float32) if HIGH else (x & 15).to(tl.float32)
        return (value * scale + zero).to(DTYPE)
    if FORMAT == 1:
        return x.to(tl.float32).to(DTYPE)
    return x.to(DTYPE)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """acc + a · b. WIDE multiplies float32, because Triton's interpreter reads bfloat16 as whole numbers."""
    if WIDE:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def query_of(base, rows, c, ok, D: tl.constexpr, FORMAT: tl.constexpr, HIGH: tl.constexpr):
    """The columns of the queries that are multiplied with a chunk of the keys."""
    at = columns_of(c, FORMAT, HIGH)
    return tl.load(base + rows[:, None] * D + at[None, :], mask=ok[:, None] & (at < D)[None, :], other=0.0)


@triton.jit
def put(base, rows, c, ok, value, D: tl.constexpr, FORMAT: tl.constexpr, HIGH: tl.constexpr):
    """Store the columns of a result whose values are in format FORMAT."""
    at = columns_of(c, FORMAT, HIGH)
    tl.store(base + rows[:, None] * D + at[None, :], value, mask=ok[:, None] & (at < D)[None, :])


@triton.jit
def combine(parts, tops, sums, out, splits, DV: tl.constexpr, D: tl.constexpr, S: tl.constexpr):
    """Adds up the parts of a row, each weighted by its share of the softmax's sum: parts [rows, splits, DV]."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * D + tl.arange(0, D)
    highest = tl.full((S,), float("-inf"), tl.float32)
    for first in range(0, splits, S):
        s = first + tl.arange(0, S)
        highest = tl.maximum(highest, tl.load(tops + row * splits + s, mask=s < splits, other=float("-inf")))
    top = tl.max(highest, 0)
    safe = tl.where(top == float("-inf"), 0.0, top)
    acc = tl.zeros((D,), tl.float32)
    total = tl.zeros((S,), tl.float32)
    for first in range(0, splits, S):
        s = first + tl.arange(0, S)
        ok = s < splits
        weight = tl.exp2(tl.load(tops + row * splits + s, mask=ok, other=float("-inf")) - safe)
        total += weight * tl.load(sums + row * splits + s, mask=ok, other=0.0)
        part = tl.load(
            parts + (row * splits + s)[:, None] * DV + d[None, :], mask=ok[:, None] & (d < DV)[None, :], other=0.0
        )
        acc += tl.sum(part * weight[:, None], 0)
    tl.store(out + row * DV + d, acc / tl.sum(total, 0), mask=d < DV)


@triton.jit
def index(
    keys, queries, weights, scores, context, k_batch, k_row,
    Q_LEN: tl.constexpr, HEADS: tl.constexpr, DIM: tl.constexpr, H: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Scores of N positions for each new token of a sequence: Σ weight · ReLU(query · key). The keys are read once.

    keys [batch, context, DIM]; queries [batch, Q_LEN, HEADS, DIM], weights [batch, Q_LEN, HEADS], contiguous;
    scores [batch, Q_LEN, context], -inf where a token does not see the position.
    """
    b = tl.program_id(1).to(tl.int64)
    n = tl.program_id(0) * N + tl.arange(0, N)
    d = tl.arange(0, D)
    h = tl.arange(0, H)
    n_ok = n < context
    k = tl.load(
        keys + b * k_batch + n.to(tl.int64)[:, None] * k_row + d[None, :],
        mask=n_ok[:, None] & (d < DIM)[None, :], other=0.0,
    )  # fmt: skip
    for token in range(Q_LEN):
        own = b * Q_LEN + token
        q = tl.load(
            queries + own * HEADS * DIM + h[:, None] * DIM + d[None, :],
            mask=(h < HEADS)[:, None] & (d < DIM)[None, :], other=0.0,
        )  # fmt: skip
        weight = tl.load(weights + own * HEADS + h, mask=h < HEADS, other=0.0)
        products = dot(k, tl.trans(q), tl.zeros((N, H), tl.float32), PRECISION, WIDE)
        found = tl.sum(tl.where(products < 0, 0.0, products) * weight[None, :], 1)
        found = tl.where(n < context - Q_LEN + token + 1, found, float("-inf"))
        tl.store(scores + own * context + n, found, mask=n_ok)
