"""Triton's pass over any kind of cache, split over the context (flash-decoding, Dao et al. 2023).

The query heads of a group and the new tokens are the rows of one tile, so each key and value is read once for all of
them. Quantised rows are widened in registers. A row's elements are one or two chunks, each a power of two: 576 = 512 +
64, 192 = 128 + 64, 80 = 64 + 16. In a row of packed pairs (q8_0, q4_0, int4) each chunk has a low and a high half; the
halves are multiplied apart, so that they need not be interleaved.

No ``from __future__ import annotations`` here: Triton reads the annotations.
"""

# Triton compiles this: its values have no Python types
# mypy: ignore-errors

import triton
import triton.language as tl

from attention.kernels.kinds.triton_parts import codes_of, dot, group_scale, put, query_of, widen


@triton.jit
def attend(
    q, k, v, k_scale, k_zero, v_scale, v_zero, chosen, out, tops, sums,
    context, slots, per_split, window,
    k_batch, k_head, k_row, v_batch, v_head, v_row,
    ks_batch, ks_head, ks_row, vs_batch, vs_head, vs_row,
    scale,
    N_KV_HEADS: tl.constexpr, ROWS: tl.constexpr, Q_LEN: tl.constexpr,
    DK: tl.constexpr, DV: tl.constexpr,
    K_FORMAT: tl.constexpr, V_FORMAT: tl.constexpr, KS_STEP: tl.constexpr, VS_STEP: tl.constexpr,
    KC: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, VC: tl.constexpr, V1: tl.constexpr, V2: tl.constexpr,
    ONE_PLANE: tl.constexpr, MASKED: tl.constexpr, WINDOW: tl.constexpr, GATHER: tl.constexpr,
    DIRECT: tl.constexpr, M: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One tile of rows over one part of the context, of one sequence and K/V head.

    q [sequences, N_KV_HEADS, ROWS, DK], contiguous; a row is (query head of the group, new token). With GATHER, a
    "sequence" is one of the Q_LEN new tokens, and its positions are read from chosen [sequences, slots].
    KC, VC: columns of a row of K and of V (elements, or packed pairs). K1 + K2, V1 + V2: the chunks that hold them.
    out: with DIRECT the result; else float32 parts [sequences · heads · rows, splits, DV], not divided by their sums.
    """
    K_PAIRS: tl.constexpr = K_FORMAT > 3
    V_PAIRS: tl.constexpr = V_FORMAT > 3
    DTYPE: tl.constexpr = q.dtype.element_ty
    place = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    sequence = place // N_KV_HEADS
    kv_head = place % N_KV_HEADS
    holder = sequence
    if GATHER:
        holder = sequence // Q_LEN
    m = tl.program_id(0) * M + tl.arange(0, M)
    m_ok = m < ROWS
    q_rows = place * ROWS + m
    k += holder * k_batch + kv_head * k_head
    v += holder * v_batch + kv_head * v_head
    k_row_scale = 1.0
    v_row_scale = 1.0
    if K_FORMAT == 1 or K_FORMAT > 3:
        k_scale += holder * ks_batch + kv_head * ks_head
    if K_FORMAT == 6:
        k_zero += holder * ks_batch + kv_head * ks_head
    if K_FORMAT == 2 or K_FORMAT == 3:
        k_row_scale = tl.load(k_scale + kv_head)
    if V_FORMAT == 1 or V_FORMAT > 3:
        v_scale += holder * vs_batch + kv_head * vs_head
    if V_FORMAT == 6:
        v_zero += holder * vs_batch + kv_head * vs_head
    if V_FORMAT == 2 or V_FORMAT == 3:
        v_row_scale = tl.load(v_scale + kv_head)

    c1 = tl.arange(0, K1)
    q1 = query_of(q, q_rows, c1, m_ok, DK, K_FORMAT, 0)
    if K_PAIRS:
        q1h = query_of(q, q_rows, c1, m_ok, DK, K_FORMAT, 1)
    if K2 > 0:
        c2 = K1 + tl.arange(0, K2)
        q2 = query_of(q, q_rows, c2, m_ok, DK, K_FORMAT, 0)
        if K_PAIRS:
            q2h = query_of(q, q_rows, c2, m_ok, DK, K_FORMAT, 1)

    top = tl.full((M,), float("-inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    acc1 = tl.zeros((M, V1), tl.float32)
    if V_PAIRS:
        acc1h = tl.zeros((M, V1), tl.float32)
    if V2 > 0:
        acc2 = tl.zeros((M, V2), tl.float32)
        if V_PAIRS:
            acc2h = tl.zeros((M, V2), tl.float32)
    e1 = tl.arange(0, V1)

    # the newest position that each row sees
    if GATHER:
        last = (context - Q_LEN + sequence % Q_LEN).to(tl.int32) + tl.zeros((M,), tl.int32)
    else:
        last = context - Q_LEN + m % Q_LEN
    begin = split * per_split
    end = tl.minimum(begin + per_split, slots)
    for start in range(begin, end, N):
        n = start + tl.arange(0, N)
        n_ok = n < end
        if GATHER:
            position = tl.load(chosen + sequence * slots + n, mask=n_ok, other=-1)
            n_ok = position >= 0
            rows = tl.where(n_ok, position, 0).to(tl.int64)
            shift = place * 0
        else:
            # every tile has the same offsets; the base moves
            rows = tl.arange(0, N)
            shift = place * 0 + start
            position = n
            if WINDOW:
                position = context - 1 - (context - 1 - n) % slots
        k_now = k + shift * k_row
        v_now = v + shift * v_row
        ks_now = k_scale + shift * ks_row
        vs_now = v_scale + shift * vs_row

        # keys
        x = codes_of(k_now, rows, c1, n_ok, k_row, KC, K1 <= KC, K_FORMAT)
        s1 = 1.0
        z1 = 0.0
        if K_PAIRS:
            s1 = group_scale(ks_now, rows, 0, n_ok, ks_row, N, K1, KS_STEP, KC)
            if K_FORMAT == 6:
                z1 = group_scale(k_zero + shift * ks_row, rows, 0, n_ok, ks_row, N, K1, KS_STEP, KC)
        k1 = widen(x, s1, z1, K_FORMAT, 0, DTYPE)
        scores = dot(q1, tl.trans(k1), tl.zeros((M, N), tl.float32), PRECISION, WIDE)
        if K_PAIRS:
            k1h = widen(x, s1, z1, K_FORMAT, 1, DTYPE)
            scores = dot(q1h, tl.trans(k1h), scores, PRECISION, WIDE)
        if K2 > 0:
            y = codes_of(k_now, rows, c2, n_ok, k_row, KC, K1 + K2 <= KC, K_FORMAT)
            s2 = 1.0
            z2 = 0.0
            if K_PAIRS:
                s2 = group_scale(ks_now, rows, K1, n_ok, ks_row, N, K2, KS_STEP, KC)
                if K_FORMAT == 6:
                    z2 = group_scale(k_zero + shift * ks_row, rows, K1, n_ok, ks_row, N, K2, KS_STEP, KC)
            k2 = widen(y, s2, z2, K_FORMAT, 0, DTYPE)
            scores = dot(q2, tl.trans(k2), scores, PRECISION, WIDE)
            if K_PAIRS:
                k2h = widen(y, s2, z2, K_FORMAT, 1, DTYPE)
                scores = dot(q2h, tl.trans(k2h), scores, PRECISION, WIDE)
        scores *= scale * k_row_scale
        if K_FORMAT == 1:
            k_token = tl.load(ks_now + rows * ks_row, mask=n_ok, other=0.0)
            scores *= k_token[None, :]
        visible = n_ok[None, :]
        if MASKED:
            visible = visible & (position[None, :] <= last[:, None])
        if WINDOW:
            visible = visible & (position[None, :] > last[:, None] - window)
        scores = tl.where(visible, scores, float("-inf"))

        # the softmax so far; -inf minus -inf would be NaN where nothing was seen yet
        higher = tl.maximum(top, tl.max(scores, 1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores - safe[:, None])
        shrink = tl.exp2(top - safe)
        total = total * shrink + tl.sum(weights, 1)
        top = higher

        # values
        acc1 *= shrink[:, None]
        if V_PAIRS:
            acc1h *= shrink[:, None]
        if V2 > 0:
            acc2 *= shrink[:, None]
            if V_PAIRS:
                acc2h *= shrink[:, None]
        v_token = 1.0
        if V_FORMAT == 1:
            v_token = k_token if ONE_PLANE else tl.load(vs_now + rows * vs_row, mask=n_ok, other=0.0)
            if tl.float16 != DTYPE:
                # float16 would lose a weight times a small scale: there the values are scaled instead
                weights *= v_token[None, :]
        p = weights.to(DTYPE)
        if ONE_PLANE:
            v1 = k1
            if V_FORMAT == 1 and tl.float16 == DTYPE:
                v1 = (v1.to(tl.float32) * v_token[:, None]).to(DTYPE)
            acc1 = dot(p, v1, acc1, PRECISION, WIDE)
            if V_PAIRS:
                acc1h = dot(p, k1h, acc1h, PRECISION, WIDE)
            if V2 > 0:
                v2 = k2
                if V_FORMAT == 1 and tl.float16 == DTYPE:
                    v2 = (v2.to(tl.float32) * v_token[:, None]).to(DTYPE)
                acc2 = dot(p, v2, acc2, PRECISION, WIDE)
                if V_PAIRS:
                    acc2h = dot(p, k2h, acc2h, PRECISION, WIDE)
        else:
            x = codes_of(v_now, rows, e1, n_ok, v_row, VC, V1 <= VC, V_FORMAT)
            s1 = 1.0
            z1 = 0.0
            if V_PAIRS:
                s1 = group_scale(vs_now, rows, 0, n_ok, vs_row, N, V1, VS_STEP, VC)
                if V_FORMAT == 6:
                    z1 = group_scale(v_zero + shift * vs_row, rows, 0, n_ok, vs_row, N, V1, VS_STEP, VC)
            v1 = widen(x, s1, z1, V_FORMAT, 0, DTYPE)
            if V_FORMAT == 1 and tl.float16 == DTYPE:
                v1 = (v1.to(tl.float32) * v_token[:, None]).to(DTYPE)
            acc1 = dot(p, v1, acc1, PRECISION, WIDE)
            if V_PAIRS:
                acc1h = dot(p, widen(x, s1, z1, V_FORMAT, 1, DTYPE), acc1h, PRECISION, WIDE)
            if V2 > 0:
                e2 = V1 + tl.arange(0, V2)
                y = codes_of(v_now, rows, e2, n_ok, v_row, VC, V1 + V2 <= VC, V_FORMAT)
                s2 = 1.0
                z2 = 0.0
                if V_PAIRS:
                    s2 = group_scale(vs_now, rows, V1, n_ok, vs_row, N, V2, VS_STEP, VC)
                    if V_FORMAT == 6:
                        z2 = group_scale(v_zero + shift * vs_row, rows, V1, n_ok, vs_row, N, V2, VS_STEP, VC)
                v2 = widen(y, s2, z2, V_FORMAT, 0, DTYPE)
                if V_FORMAT == 1 and tl.float16 == DTYPE:
                    v2 = (v2.to(tl.float32) * v_token[:, None]).to(DTYPE)
                acc2 = dot(p, v2, acc2, PRECISION, WIDE)
                if V_PAIRS:
                    acc2h = dot(p, widen(y, s2, z2, V_FORMAT, 1, DTYPE), acc2h, PRECISION, WIDE)

    if DIRECT:
        factor = v_row_scale / total
        o_rows = q_rows
    else:
        factor = v_row_scale + tl.zeros((M,), tl.float32)
        o_rows = q_rows * tl.num_programs(2) + split
        tl.store(tops + o_rows, top, mask=m_ok)
        tl.store(sums + o_rows, total, mask=m_ok)
    put(out, o_rows, e1, m_ok, acc1 * factor[:, None], DV, V_FORMAT, 0)
    if V_PAIRS:
        put(out, o_rows, e1, m_ok, acc1h * factor[:, None], DV, V_FORMAT, 1)
    if V2 > 0:
        e3 = V1 + tl.arange(0, V2)
        put(out, o_rows, e3, m_ok, acc2 * factor[:, None], DV, V_FORMAT, 0)
        if V_PAIRS:
            put(out, o_rows, e3, m_ok, acc2h * factor[:, None], DV, V_FORMAT, 1)
