// The data of a thread of native.cpp: the step, the softmax so far, and the operands that it makes from stored rows.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <type_traits>
#include <vector>
#include "native_products.h"

namespace {

constexpr int MOST_ROWS = 128;  // rows of queries at once: with 512 columns their output fills an eighth of a core's L2

// One step, as native.py fills it in. Row r of a sequence's K/V head is head r / q_len of its group, new token r %
// q_len.
struct Step {
    const char* q;          // [sequences, kv_heads, rows, k.dim]
    char* out;              // [sequences, kv_heads, rows, value_dim]
    Plane k, v;             // v is k where one plane holds both
    const int64_t* chosen;  // positions to attend to, [sequences, slots], -1 for none; or null: all slots
    int64_t sequences, kv_heads, rows, q_len, slots, context, window, value_dim, one_plane, threads;
    int64_t tokens;         // sequences that read the same cache: with `chosen`, each new token is a sequence
    double scale;           // of scores, times the binary logarithm of e: the softmax uses powers of 2
};

inline int64_t up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
inline void put(float* to, float x) { *to = x; }
inline void put(float16* to, float x) { *to = (float16)x; }
inline void put(bfloat16* to, float x) {  // to the nearest, ties to even
    const auto bits = load<uint32_t>(&x);
    to->bits = x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// The running softmax of some rows of queries over the part of the cache that one thread has seen.
struct State {
    Array<float> top, sum, out;
    int64_t place = -1, stride = 0;
    void start(int64_t at, int64_t rows, int64_t columns) {
        place = at, stride = columns + 16;  // + 16: rows of one tile must not share a set of the processor's cache
        top.assign(rows, -INFINITY), sum.assign(rows, 0.f), out.assign(rows * stride, 0.f);
    }
    // A share too small for float32 stays above 0: an infinite value times it must stay infinite.
    static float share(float top, float new_top) {
        return top == -INFINITY ? 0.f : std::max(std::exp2(top - new_top), FLT_MIN);
    }
    void rescale(int64_t row, float new_top) {
        const float by = share(top[row], new_top);
        top[row] = new_top, sum[row] *= by;
        for (int64_t d = 0; d < stride; d += LANES) store(&out[row * stride + d], floats(&out[row * stride + d]) * by);
    }
    void add(const State& other) {
        for (size_t r = 0; r < top.size(); r++) {
            if (other.top[r] > top[r]) rescale(r, other.top[r]);
            // a part without any weight holds zeros, or NaN where it met one: both are added unchanged
            const float by = other.top[r] == -INFINITY ? 1.f : share(other.top[r], top[r]);
            sum[r] += by * other.sum[r];
            for (int64_t d = 0; d < stride; d++) out[r * stride + d] += by * other.out[r * stride + d];
        }
    }
};

// A thread's buffers. TILED: operands are bfloat16 in tiles; else they are float32.
template <bool TILED> struct Buffers {
    typedef std::conditional_t<TILED, bfloat16, float> O;
    static constexpr int UNIT = TILED ? 32 : LANES;
    const Step& step;
    const int64_t most, dk, dv;  // most rows of queries; columns of a key and of a value, padded to whole UNITs
    const int block;             // positions; longer for many rows, so that their sums are loaded and stored less often
    int64_t n = 0, rows = 0;     // the current rows of queries, and the same padded to whole registers
    Array<O> queries, keys, values, value_rows, weights;
    Array<float> scores, k_factor, v_factor;
    std::vector<const O*> keys_at;
    std::vector<int64_t> apart;

    explicit Buffers(const Step& s)
        : step(s), most(up(std::min<int64_t>(s.rows, MOST_ROWS), 16)), dk(up(s.k.dim, UNIT)), dv(up(s.value_dim, UNIT)),
          block(most > 32 ? 256 : 128), queries(most * dk), keys((s.one_plane ? block : STEP) * dk), value_rows(STEP * dv),
          scores(block * most), keys_at(block / STEP), apart(block / STEP) {
        if (TILED) values.resize(block * dv), weights.resize(block * most);
        if (TILED && (s.k.format == INT8_TOKEN || s.k.format == FP8_HEAD)) k_factor.resize(block);
        if (TILED && (s.v.format == INT8_TOKEN || s.v.format == FP8_HEAD)) v_factor.resize(block);
    }
    static int64_t column(int64_t d) {  // the place of a value's element `d` in the sums
#ifdef TILES
        if (TILED) return paired(d);
#endif
        return d;
    }
    static constexpr int OWN = TILED ? BFLOAT16 : FLOAT32;
    bool as_it_lies(const Plane& plane, int64_t columns) const {
        return plane.format == OWN && !step.chosen && plane.dim % UNIT == 0 && plane.row % sizeof(O) == 0;
    }
};

// Makes STEP rows of operands with `columns` columns from `n` stored rows; the rest is zeros. Where `factor` is given,
// operands leave out the scales, which are written to `factor`.
template <int F, class O>
void widen_rows(const Rows& of, const int64_t* chosen, int64_t first, int n, int64_t dim, int64_t columns, O* to, float* factor) {
    for (int p = 0; p < n; p++) {
        const int64_t position = chosen ? std::max<int64_t>(chosen[first + p], 0) : first + p;
        if constexpr (std::is_same_v<O, float>) widen<F>(of, position, dim, to + p * columns);
#ifdef TILES
        else narrow<F>(of, position, dim, to + p * columns);
#endif
        if (factor) {
            const float by = load<float>(of.scale + position * of.scale_row);
            factor[p] = by != by ? NAN : by;
        }
        for (int64_t d = dim; d < columns; d++) to[p * columns + d] = O{};
    }
    std::fill(to + n * columns, to + STEP * columns, O{});
    if (factor) std::fill(factor + n, factor + STEP, 0.f);
}
template <class O>
void operands(const Plane& plane, const Rows& of, const int64_t* chosen, int64_t first, int n, int64_t dim, int64_t columns,
              O* to, float* factor) {
    static constexpr decltype(&widen_rows<0, O>) by_format[] = {
        widen_rows<0, O>, widen_rows<1, O>, widen_rows<2, O>, widen_rows<3, O>,
        widen_rows<4, O>, widen_rows<5, O>, widen_rows<6, O>, widen_rows<7, O>};
    by_format[plane.format](of, chosen, first, n, dim, columns, to, factor);
}

// Prefetches the memory of `n` rows from `first` on, while other rows are multiplied.
inline void ahead(const Plane& plane, const Rows& of, int64_t first, int64_t n, int64_t slots) {
    n = std::min(n, slots - first);
    if (n <= 0) return;
    const char* at = of.data + first * of.row;
    const bool dense = plane.bytes == of.row;
    for (int64_t p = 0; p < (dense ? 1 : n); p++, at += of.row)
        for (int64_t b = 0; b < (dense ? n : 1) * plane.bytes; b += 64) __builtin_prefetch(at + b, 0, 2);
    if (plane.format == INT4_G32)
        for (int64_t b = 0; b < n * of.scale_row; b += 64) {
            __builtin_prefetch(of.scale + first * of.scale_row + b, 0, 2);
            __builtin_prefetch(of.zero + first * of.scale_row + b, 0, 2);
        }
}

}  // namespace
