// Weights times a few vectors for a processor: each weight is read once, in memory's order, at the memory's rate.
//
// attention/kernels/matvec.py compiles this file and calls it through C, so it needs no other headers.
//
// Every thread takes a range of rows, a few rows at a time. Each weight is widened to float32 in a register and
// multiplied there with all vectors. Sums are float32. Blocks of four bits are ggml's Q4_0 and Q4_1: 32 columns are a
// scale (and a minimum) in float16, then 16 bytes whose lower halves are the first 16 columns (ggml-common.h). Where
// the processor has the instruction, blocks multiply whole numbers: the vector's 32 numbers are rounded to 16 bits,
// scaled by the largest of them.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#include "registers.h"
#include "nibbles.h"
#include "threads.h"

namespace {

// Rows that are multiplied together: as many as the registers have room for sums.
constexpr int rows_of(int vectors) {
    const int room = LANES == 16 ? 16 : 8;
    return vectors * 4 <= room ? 4 : vectors * 2 <= room ? 2 : 1;
}

// Weights of one number each: float32, bfloat16, float16, int8.
template <class T> struct Dense {
    static int64_t row_bytes(int64_t columns) { return columns * sizeof(T); }
    template <int R, int V> static void rows(const char* w, int64_t stride, int64_t columns, const Vectors& with, float (&out)[R][V]) {
        constexpr int PER_LINE = 64 / sizeof(T), REGISTERS = PER_LINE / LANES;
        const int64_t bytes = row_bytes(columns);
        Floats sums[R][V]{};
        int64_t c = 0;
        for (; c + PER_LINE <= columns; c += PER_LINE) {
            for (int r = 0; r < R; r++) ahead(w + r * stride, c * sizeof(T), bytes, R * stride);
            for (int i = 0; i < REGISTERS; i++) step<R, V>(w, stride, c + i * LANES, with, sums);
        }
        for (; c + LANES <= columns; c += LANES) step<R, V>(w, stride, c, with, sums);
        if (c < columns) {  // the rest of each row, padded with zeros
            T rest[R][LANES]{};
            for (int r = 0; r < R; r++) std::memcpy(rest[r], w + r * stride + c * sizeof(T), (columns - c) * sizeof(T));
            const char* from = (const char*)rest - c * (int64_t)sizeof(T);
            step<R, V>(from, sizeof rest[0], c, with, sums);
        }
        for (int r = 0; r < R; r++)
            for (int v = 0; v < V; v++) out[r][v] = sum(sums[r][v]);
    }
    template <int R, int V> static inline void step(const char* w, int64_t stride, int64_t c, const Vectors& with, Floats (&sums)[R][V]) {
        Floats weights[R];
        for (int r = 0; r < R; r++) weights[r] = held(floats((const T*)(w + r * stride) + c));
        for (int v = 0; v < V; v++) {
            const Floats x = held(floats(&with.x[v * with.stride + c]));
            for (int r = 0; r < R; r++) sums[r][v] += weights[r] * x;
        }
    }
};

// ggml's Q8_0: a block of 32 columns is a scale in float16, then 32 int8 (ggml-common.h, block_q8_0).
struct Eights {
    static constexpr int BYTES = 2 + BLOCK;
    static int64_t row_bytes(int64_t columns) { return columns / BLOCK * BYTES; }
    // Widens the scales of a group of blocks together.
    static void scales(const char* row, int n, float* scale) {
        alignas(32) uint64_t d[GROUP / 4]{};
        const auto one = [&](int b) { return b < n ? (uint64_t)load<uint16_t>(row + b * BYTES) : 0; };
        for (int b = 0; b < n; b += 4) d[b / 4] = one(b) | one(b + 1) << 16 | one(b + 2) << 32 | one(b + 3) << 48;
        for (int i = 0; i < GROUP; i += LANES) store(scale + i, floats((const float16*)d + i));
    }
    template <int R, int V> static void rows(const char* w, int64_t stride, int64_t columns, const Vectors& with, float (&out)[R][V]) {
        const int64_t blocks = columns / BLOCK, bytes = row_bytes(columns);
        Floats sums[R][V]{};
        for (int64_t first = 0; first < blocks; first += GROUP) {
            const int n = std::min<int64_t>(GROUP, blocks - first);
            alignas(64) float scale[R][GROUP];
            for (int r = 0; r < R; r++) scales(w + r * stride + first * BYTES, n, scale[r]);
            for (int b = 0; b < n; b++) {
                const int64_t at = (first + b) * BYTES, c = (first + b) * BLOCK;
                for (int r = 0; r < R; r++) {
                    if (b % 2 == 0) ahead(w + r * stride, at, bytes, R * stride);
                    const int8_t* q = (const int8_t*)(w + r * stride + at + 2);
                    for (int i = 0; i < BLOCK; i += LANES) {
                        const Floats weights = held(floats(q + i) * scale[r][b]);
                        for (int v = 0; v < V; v++) sums[r][v] += weights * floats(&with.x[v * with.stride + c + i]);
                    }
                }
            }
        }
        for (int r = 0; r < R; r++)
            for (int v = 0; v < V; v++) out[r][v] = sum(sums[r][v]);
    }
    static void widen(const char* row, int64_t columns, float* out) {
        for (int64_t b = 0; b < columns / BLOCK; b++, row += BYTES, out += BLOCK) {
            const float d = (float)load<float16>(row);
            for (int i = 0; i < BLOCK; i += LANES) store(out + i, floats((const int8_t*)row + 2 + i) * d);
        }
    }
};

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
// Weights and vectors that are both bfloat16, where the processor multiplies pairs of them and adds up in float32.
#define PAIRS 1
struct Pairs {
    static int64_t row_bytes(int64_t columns) { return columns * 2; }
    template <int R, int V> static void rows(const char* w, int64_t stride, int64_t columns, const Vectors& with, float (&out)[R][V]) {
        const int64_t bytes = row_bytes(columns);
        __m512 sums[R][V];
        for (auto& row : sums)
            for (auto& one : row) one = _mm512_setzero_ps();
        int64_t c = 0;
        const auto step = [&](const char* from, int64_t apart) {
            __m512i weights[R];
            for (int r = 0; r < R; r++) weights[r] = _mm512_loadu_si512(from + r * apart + 2 * c);
            for (int v = 0; v < V; v++) {
                const __m512i x = _mm512_loadu_si512(&with.halves[v * with.stride + c]);
                for (int r = 0; r < R; r++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)weights[r], (__m512bh)x);
            }
        };
        for (; c + 32 <= columns; c += 32) {
            for (int r = 0; r < R; r++) ahead(w + r * stride, 2 * c, bytes, R * stride);
            step(w, stride);
        }
        if (c < columns) {
            uint16_t rest[R][32]{};
            for (int r = 0; r < R; r++) std::memcpy(rest[r], w + r * stride + 2 * c, 2 * (columns - c));
            step((const char*)rest - 2 * c, sizeof rest[0]);
        }
        for (int r = 0; r < R; r++)
            for (int v = 0; v < V; v++) out[r][v] = sum((Floats)sums[r][v]);
    }
};
#endif

inline void put(float* to, float x) { *to = x; }
inline void put(bfloat16* to, float x) {  // to the nearest, ties to even
    if (x != x) { to->bits = 0x7fc0; return; }
    const auto bits = load<uint32_t>(&x);
    to->bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline float widened(const float* x) { return *x; }
inline float widened(const bfloat16* x) {
    const uint32_t bits = (uint32_t)x->bits << 16;
    return load<float>(&bits);
}

struct Sizes { int64_t rows, columns, stride; int vectors, threads; };

// y[vector][row] = scales[row] * weights[row] · x[vector]; rows begin `stride` bytes apart.
template <class Kind, int V, class X>
void multiply(const char* w, const float* scales, const Vectors& with, X* y, const Sizes& s) {
    constexpr int R = rows_of(V);
    const auto some = [&](int64_t row, auto size) {
        constexpr int N = decltype(size)::value;
        float out[N][V];
        Kind::template rows<N, V>(w + row * s.stride, s.stride, s.columns, with, out);
        for (int r = 0; r < N; r++)
            for (int v = 0; v < s.vectors; v++) put(y + v * s.rows + row + r, out[r][v] * (scales ? scales[row + r] : 1.f));
    };
    on_threads(s.threads, [&](int64_t t, int64_t n) {
        const int64_t tiles = (s.rows + R - 1) / R;
        const int64_t end = std::min(s.rows, tiles * (t + 1) / n * R);
        int64_t row = tiles * t / n * R;
        for (; row + R <= end; row += R) some(row, Size<R>());
        for (; row < end; row++) some(row, Size<1>());
    });
}

template <class Kind, class X>
void in_registers(const void* w, const float* scales, const X* x, X* y, const Sizes& s) {
    const int vectors = s.vectors > 4 ? 8 : s.vectors > 2 ? 4 : s.vectors;
    Vectors with;
    with.stride = (s.columns + GROUP * BLOCK - 1) / (GROUP * BLOCK) * (GROUP * BLOCK);
#ifdef PAIRS
    if constexpr (std::is_same_v<Kind, Pairs>) {
        with.halves.assign(vectors * with.stride, 0);
        for (int v = 0; v < s.vectors; v++) std::memcpy(&with.halves[v * with.stride], x + v * s.columns, 2 * s.columns);
    } else
#endif
    {
        with.x.assign(vectors * with.stride, 0.f);
        for (int v = 0; v < s.vectors; v++)
            for (int64_t c = 0; c < s.columns; c++) with.x[v * with.stride + c] = widened(x + v * s.columns + c);
    }
    if constexpr (std::is_same_v<Kind, Blocks<false>> || std::is_same_v<Kind, Blocks<true>>) Kind::prepare(with);
    const char* weights = (const char*)w;
    switch (vectors) {
        case 1: return multiply<Kind, 1>(weights, scales, with, y, s);
        case 2: return multiply<Kind, 2>(weights, scales, with, y, s);
        case 4: return multiply<Kind, 4>(weights, scales, with, y, s);
        default: return multiply<Kind, 8>(weights, scales, with, y, s);
    }
}

}  // namespace

// x [vectors, columns] and y [vectors, rows] are contiguous.
#define MATVEC(name, Kind, X)                                                                                            \
    extern "C" void name(const void* w, const void* scales, const void* x, void* y, int64_t rows, int64_t columns,       \
                         int64_t stride, int vectors, int threads) {                                                     \
        in_registers<Kind, X>(w, (const float*)scales, (const X*)x, (X*)y, {rows, columns, stride, vectors, threads});   \
    }
MATVEC(float32_float32, Dense<float>, float)
MATVEC(bfloat16_float32, Dense<bfloat16>, float)
#ifdef PAIRS
MATVEC(bfloat16_bfloat16, Pairs, bfloat16)
#else
MATVEC(bfloat16_bfloat16, Dense<bfloat16>, bfloat16)
#endif
MATVEC(float16_float32, Dense<float16>, float)
MATVEC(int8_float32, Dense<int8_t>, float)
MATVEC(q4_0_float32, Blocks<false>, float)
MATVEC(q4_1_float32, Blocks<true>, float)
MATVEC(q8_0_float32, Eights, float)

// Widens blocks to float32 [rows, columns], for products with many vectors, which a matrix library computes.
#define WIDEN(name, Kind)                                                                                                \
    extern "C" void name(const void* w, float* out, int64_t rows, int64_t columns, int64_t stride, int threads) {        \
        on_threads(threads, [&](int64_t t, int64_t n) {                                                                  \
            for (int64_t row = rows * t / n; row < rows * (t + 1) / n; row++)                                            \
                Kind::widen((const char*)w + row * stride, columns, out + row * columns);                                \
        });                                                                                                              \
    }
WIDEN(q4_0_widen, Blocks<false>)
WIDEN(q4_1_widen, Blocks<true>)
WIDEN(q8_0_widen, Eights)
#include "layer.h"
