// Decode attention for a processor: one pass over the cache. Every core works, whatever the number of K/V heads.
//
// attention/kernels/native.py compiles this file with -DHEAD_DIM=... and calls it through C, so it needs no other
// headers.
//
// The flattened cache (sequence, K/V head, block of positions) is cut into one contiguous piece per thread. A thread
// keeps a running softmax (Milakov and Gimelshein 2018) for each row of its piece. Where several threads share a row,
// their maxima, sums and outputs are combined at the end (flash-decoding, Dao et al. 2023). A block's keys and values
// stay in the core's own cache while all query heads of the group use them. Meanwhile the next block is prefetched, a
// few lines with each step of the arithmetic, so memory and multipliers work at the same time.

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>
#include "registers.h"
#include "threads.h"

namespace {

constexpr int D = HEAD_DIM;
constexpr int STEPS = D / LANES;
constexpr int BLOCK = 32;  // positions: 16 KiB of float32 keys at head_dim 128, which leave room for the next block
static_assert(D % 16 == 0, "head_dim must be divisible by 16");

// Prefetches the memory after a block while the block is multiplied, spread evenly over the steps of that work. A
// single head reads rows in memory's order. There the processor prefetches by itself, more at a time than we can ask
// for: every fourth line is enough to make it begin early.
struct Ahead {
    const char* at;
    const int apart, requests, steps;
    int due = 0;
    Ahead(const void* block, int64_t bytes, int heads, int steps)
        : at((const char*)block + bytes), apart(heads == 1 ? 4 * 64 : 64), requests(bytes / apart), steps(steps) {}
    inline void step() {
        for (due += requests; due >= steps; due -= steps, at += apart) __builtin_prefetch(at, 0, 2);
    }
};

// How the two products multiply: float32 ...
template <class Operand> struct Product;
template <> struct Product<float> {
    static constexpr int WIDTH = LANES;  // elements of a key in a register
    static constexpr int ROWS = 1;       // rows of values taken at once
    static Floats load(const float* x) { return floats(x); }
    static Floats spread(const float* x) { return Floats{} + *x; }
    template <int N> static void values(const float* v, Floats* to) {
        for (int c = 0; c < N; c++) to[c] = held(floats(v + c * LANES));
    }
    static Floats add(Floats sum, Floats a, Floats b) { return sum + a * b; }
    static Floats weights(Floats x, float* to) {
        const Floats w = power_of_two(x, {1.32764717e-3f, 9.67554154e-3f, 5.55071328e-2f, 2.40221197e-1f, 6.93146967e-1f, 1.f});
        store(to, w);
        return w;
    }
    // the block's numbers as operands
    template <class T> static const float* block(const T* from, float* buffers) {
        for (int i = 0; i < BLOCK * D; i += LANES) store(buffers + i, floats(from + i));
        return buffers;
    }
    static const float* block(const float* from, float*) { return from; }
};

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && HEAD_DIM % 32 == 0
// ... or pairs of bfloat16 added up in float32, where the processor has the instruction.
#define PAIRS 1
template <> struct Product<bfloat16> {
    static constexpr int WIDTH = 2 * LANES;
    static constexpr int ROWS = 2;
    static Floats load(const bfloat16* x) { return ::load<Floats>(x); }
    static Floats spread(const bfloat16* pair) { return (Floats)_mm512_set1_epi32(::load<int32_t>(pair)); }
    static Floats add(Floats sum, Floats a, Floats b) { return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b); }
    static Floats weights(Floats x, bfloat16* to) {
        const Floats w = power_of_two(x, {5.51716668e-2f, 2.42611135e-1f, 6.93260987e-1f, 9.99928073e-1f});
        const Halves rounded = (Halves)_mm512_cvtneps_pbh((__m512)w);
        std::memcpy(to, &rounded, sizeof rounded);
        return floats(to);  // the rounded weights, for their sum
    }
    static const bfloat16* block(const bfloat16* from, bfloat16*) { return from; }
    // the instruction adds up neighbours, so two rows of values are interleaved, element by element
    template <int N> static void values(const bfloat16* v, Floats* to) {
        alignas(64) uint16_t order[2][32];
        for (int i = 0; i < 32; i++)
            for (int half = 0; half < 2; half++) order[half][i] = i / 2 + 16 * half + i % 2 * 32;
        const __m512i low = _mm512_load_si512(order[0]), high = _mm512_load_si512(order[1]);
        for (int c = 0; c < N; c += 2) {
            const __m512i a = ::load<__m512i>(v + c * LANES), b = ::load<__m512i>(v + D + c * LANES);
            to[c] = held((Floats)_mm512_permutex2var_epi16(a, low, b));
            to[c + 1] = held((Floats)_mm512_permutex2var_epi16(a, high, b));
        }
    }
};
#endif

template <class T> struct OperandOf { typedef float Type; };
#ifdef PAIRS
template <> struct OperandOf<bfloat16> { typedef bfloat16 Type; };
#endif
template <class T> using Operand = typename OperandOf<T>::Type;

// scores[head][position] of H query heads with P keys; H * P == LANES, so that the tile's sums fill one register.
template <class O, int H> inline void score_tile(const O* q, const O* k, float* scores, Ahead& ahead) {
    using M = Product<O>;
    constexpr int P = LANES / H;
    Floats tile[LANES]{};
    if constexpr (H == 1) {  // key after key, as they lie in memory
        for (int p = 0; p < P; p++) {
            ahead.step();
            for (int d = 0; d < D; d += M::WIDTH) tile[p] = M::add(tile[p], M::load(k + p * D + d), M::load(q + d));
        }
    } else {  // each key and query is loaded once
        for (int d = 0; d < D; d += M::WIDTH) {
            ahead.step();
            Floats keys[P];
            for (int p = 0; p < P; p++) keys[p] = held(M::load(k + p * D + d));
            for (int h = 0; h < H; h++) {
                const Floats query = held(M::load(q + h * D + d));
                for (int p = 0; p < P; p++) tile[h * P + p] = M::add(tile[h * P + p], keys[p], query);
            }
        }
    }
    add_across(tile);
    for (int h = 0; h < H; h++) std::memcpy(scores + h * BLOCK, (const float*)tile + h * P, P * sizeof(float));
}
template <class O> constexpr int score_steps(int heads) {  // steps of the scores of `heads` heads with a block
    return heads == 1 ? BLOCK : BLOCK * heads / LANES * (D / Product<O>::WIDTH);
}

// Registers of output per head in a tile of `heads` heads: they divide a head's registers and leave room for the
// values.
template <class O> constexpr int columns(int heads) {
    int c = LANES / heads;
    while (STEPS % c || c % Product<O>::ROWS) c--;
    return c;
}

// out[head] += weights[head] * values, for H heads.
template <class O, int H> inline void value_tile(const O* weights, const O* v, float* out, Ahead& ahead) {
    using M = Product<O>;
    constexpr int C = columns<O>(H);
    for (int d = 0; d < D; d += C * LANES) {
        Floats tile[H][C];
        for (int h = 0; h < H; h++)
            for (int c = 0; c < C; c++) tile[h][c] = floats(out + h * D + d + c * LANES);
        for (int p = 0; p < BLOCK; p += M::ROWS) {
            ahead.step();
            Floats values[C];
            M::template values<C>(v + p * D + d, values);
            for (int h = 0; h < H; h++) {
                const Floats weight = held(M::spread(weights + h * BLOCK + p));
                for (int c = 0; c < C; c++) tile[h][c] = M::add(tile[h][c], values[c], weight);
            }
        }
        for (int h = 0; h < H; h++)
            for (int c = 0; c < C; c++) store(out + h * D + d + c * LANES, tile[h][c]);
    }
}
template <class O> constexpr int value_steps(int heads) {
    return STEPS / columns<O>(heads) * (BLOCK / Product<O>::ROWS);
}

// The running softmax of a group's query heads over the part of a row that one thread has seen. `sum` has LANES parts.
struct State {
    Array<float> top, sum, out;
    int64_t row = -1;
    void start(int64_t at, int heads) {
        row = at;
        top.assign(heads, -INFINITY);
        sum.assign(heads * LANES, 0.f);
        out.assign(heads * D, 0.f);
    }
    // A share too small for float32 stays above 0: an infinite value times it must stay infinite.
    static float share(float top, float new_top) {
        return top == -INFINITY ? 0.f : std::max(std::exp2(top - new_top), FLT_MIN);
    }
    void rescale(int head, float new_top) {
        const float by = share(top[head], new_top);
        top[head] = new_top;
        for (int i = 0; i < LANES; i++) sum[head * LANES + i] *= by;
        for (int d = 0; d < D; d++) out[head * D + d] *= by;
    }
    void add(const State& other) {
        for (size_t h = 0; h < top.size(); h++) {
            if (other.top[h] > top[h]) rescale(h, other.top[h]);
            // a part without any weight holds zeros, or NaN where it met one: both are added unchanged
            const float by = other.top[h] == -INFINITY ? 1.f : share(other.top[h], top[h]);
            for (int i = 0; i < LANES; i++) sum[h * LANES + i] += by * other.sum[h * LANES + i];
            for (int d = 0; d < D; d++) out[h * D + d] += by * other.out[h * D + d];
        }
    }
    float total(int head) const {
        float all = 0;
        for (int i = 0; i < LANES; i++) all += sum[head * LANES + i];
        return all;
    }
};

inline void put(float* to, float x) { *to = x; }
inline void put(float16* to, float x) { *to = (float16)x; }
inline void put(bfloat16* to, float x) {  // to the nearest, ties to even
    const auto bits = load<uint32_t>(&x);
    to->bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
template <class T> inline void prepare_query(const T* from, T* to) { std::memcpy(to, from, D * sizeof *to); }
template <class T> inline void prepare_query(const T* from, float* to) {
    for (int d = 0; d < D; d += LANES) store(to + d, floats(from + d));
}
inline void prepare_query(const float* from, float* to) { std::memcpy(to, from, D * sizeof *to); }

// A thread's buffers.
template <class T> struct Buffers {
    Array<Operand<T>> queries, weights, block;
    Array<float> scores;
    Array<T> rest;
    explicit Buffers(int heads) : queries(heads * D), weights(heads * BLOCK), scores(heads * BLOCK) {
        if (!std::is_same_v<T, Operand<T>>) block.resize(BLOCK * D);
    }
};

// The weights of one head's scores with a block's first `n` positions, where some scores are infinite or NaN: NaN or
// +infinity makes the head's whole softmax NaN; -infinity gets the weight 0.
template <class O> void weigh_unusual(float* row, int n, O* weights, int head, float scale, State& state) {
    float top = -INFINITY;
    bool weighs[BLOCK];
    for (int p = 0; p < BLOCK; p++) {
        weighs[p] = p < n && std::isfinite(row[p]);
        if (weighs[p]) top = std::max(top, row[p]);
        else if (p < n && !(row[p] < 0)) state.sum[head * LANES] = NAN;
    }
    if (top * scale > state.top[head]) state.rescale(head, top * scale);
    Floats total = floats(&state.sum[head * LANES]);
    for (int p = 0; p < BLOCK; p += LANES) Product<O>::weights(floats(row + p) * scale - state.top[head], weights + p);
    for (int p = 0; p < BLOCK; p++) if (!weighs[p]) weights[p] = O{};
    for (int p = 0; p < BLOCK; p += LANES) total += floats(weights + p);
    store(&state.sum[head * LANES], total);
}

// One block of one K/V head: k, v [BLOCK, D], of which the first `n` positions count.
template <class T> void attend_block(const T* k, const T* v, int heads, int n, float scale, State& state, Buffers<T>& buffers) {
    using O = Operand<T>;
    constexpr int64_t BYTES = BLOCK * D * sizeof(T);
    int steps = 0;
    in_tiles(heads, [&](int, auto size) { steps += score_steps<O>(size); });
    Ahead keys_ahead(k, BYTES, heads, steps);
    const O* keys = Product<O>::block(k, buffers.block.data());
    for (int p = 0; p < BLOCK; p += LANES)
        in_tiles(heads, [&](int h, auto size) {
            for (int i = 0; i < LANES; i += LANES / size)
                score_tile<O, size>(&buffers.queries[h * D], keys + (p + i) * D, &buffers.scores[h * BLOCK + p + i], keys_ahead);
        });
    for (int h = 0; h < heads; h++) {
        float* row = &buffers.scores[h * BLOCK];
        for (int p = n; p < BLOCK; p++) row[p] = -FLT_MAX;
        Floats tops = floats(row), zeros = tops * 0.f;  // infinity and NaN times 0 are NaN
        for (int p = LANES; p < BLOCK; p += LANES) {
            tops = maximum(tops, floats(row + p));
            zeros += floats(row + p) * 0.f;
        }
        const Ints unusual = zeros != zeros;
        // a larger top of earlier blocks stays
        if (any((tops * scale > Floats{} + state.top[h]) | unusual)) {
            if (any(unusual)) {
                weigh_unusual(row, n, &buffers.weights[h * BLOCK], h, scale, state);
                continue;
            }
            state.rescale(h, largest(tops) * scale);
        }
        Floats total = floats(&state.sum[h * LANES]);
        for (int p = 0; p < BLOCK; p += LANES)
            total += Product<O>::weights(floats(row + p) * scale - state.top[h], &buffers.weights[h * BLOCK + p]);
        store(&state.sum[h * LANES], total);
    }
    steps = 0;
    in_tiles(heads, [&](int, auto size) { steps += value_steps<O>(size); });
    Ahead values_ahead(v, BYTES, heads, steps);
    const O* values = Product<O>::block(v, buffers.block.data());
    in_tiles(heads, [&](int h, auto size) {
        value_tile<O, size>(&buffers.weights[h * BLOCK], values, &state.out[h * D], values_ahead);
    });
}

// Elements from one sequence to the next, and from one K/V head to the next.
struct Strides { int64_t sequence, head; };

// q, out [rows, heads, D] with rows = batch * kv_heads; keys and values [context, D] of each row.
template <class T>
void decode(const T* q, const T* k, const T* v, T* out, int64_t rows, int64_t kv_heads, int heads, int64_t context,
            Strides k_strides, Strides v_strides, float scale, int threads) {
    const int64_t blocks = (context + BLOCK - 1) / BLOCK;
    const int64_t units = rows * blocks;
    std::vector<State> shared(2 * threads);
    const auto finish = [&](const State& state) {
        for (int h = 0; h < heads; h++) {
            const float by = 1 / state.total(h);
            for (int d = 0; d < D; d++) put(out + (state.row * heads + h) * D + d, state.out[h * D + d] * by);
        }
    };
    on_threads(threads, [&](int64_t t, int64_t n_threads) {
        const int64_t begin = units * t / n_threads, end = units * (t + 1) / n_threads;
        State whole;
        Buffers<T> buffers(heads);
        for (int64_t unit = begin; unit < end;) {
            const int64_t row = unit / blocks, first = unit % blocks;
            const int64_t last = std::min(blocks, first + end - unit);
            const T* keys = k + row / kv_heads * k_strides.sequence + row % kv_heads * k_strides.head;
            const T* values = v + row / kv_heads * v_strides.sequence + row % kv_heads * v_strides.head;
            const bool alone = first == 0 && last == blocks;
            State& state = alone ? whole : shared[2 * t + (unit != begin)];
            state.start(row, heads);
            for (int h = 0; h < heads; h++) prepare_query(q + (row * heads + h) * D, &buffers.queries[h * D]);
            for (int64_t block = first; block < last; block++) {
                const T *k_block = keys + block * BLOCK * D, *v_block = values + block * BLOCK * D;
                const int n = std::min<int64_t>(BLOCK, context - block * BLOCK);
                if (n < BLOCK) {  // the last block, padded with zeros
                    buffers.rest.assign(2 * BLOCK * D, T{});
                    std::memcpy(buffers.rest.data(), k_block, n * D * sizeof(T));
                    std::memcpy(&buffers.rest[BLOCK * D], v_block, n * D * sizeof(T));
                    k_block = buffers.rest.data(), v_block = k_block + BLOCK * D;
                }
                attend_block(k_block, v_block, heads, n, scale, state, buffers);
            }
            if (alone) finish(state);
            unit += last - first;
        }
    });
    join(shared, &State::row, finish);
}

}  // namespace

// `scale` is multiplied by the binary logarithm of e, because the softmax uses powers of 2.
#define DECODE(name, T)                                                                                                     \
    extern "C" void name(const void* q, const void* k, const void* v, void* out, int64_t rows, int64_t kv_heads, int heads, \
                         int64_t context, int64_t k_sequence, int64_t k_head, int64_t v_sequence, int64_t v_head,           \
                         float scale, int threads) {                                                                        \
        decode<T>((const T*)q, (const T*)k, (const T*)v, (T*)out, rows, kv_heads, heads, context, {k_sequence, k_head},     \
                  {v_sequence, v_head}, scale * (float)M_LOG2E, threads);                                                   \
    }
DECODE(decode_float32, float)
DECODE(decode_bfloat16, bfloat16)
DECODE(decode_float16, float16)
