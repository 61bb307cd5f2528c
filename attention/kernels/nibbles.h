// Blocks of four bits for matvec.cpp, and what all kinds of weights there share: the vectors, and the prefetching.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#include "registers.h"

namespace {

constexpr int AHEAD = 2048;   // how many bytes before their use a row's weights are prefetched
constexpr int BLOCK = 32;     // columns of a block of four bits
constexpr int GROUP = 16;     // blocks whose scales are widened together

typedef int8_t Bytes __attribute__((vector_size(LANES)));
typedef uint8_t Nibbles __attribute__((vector_size(LANES)));

// Widens LANES bytes to whole numbers of 32 bits. The code that compilers make of __builtin_convertvector from one byte
// to four is ten times slower.
inline Ints widened(const int8_t* x) {
#if defined(__AVX512F__)
    return (Ints)_mm512_cvtepi8_epi32(load<__m128i>(x));
#elif defined(__AVX2__)
    return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)x));
#else
    return __builtin_convertvector(load<Bytes>(x), Ints);
#endif
}
inline Ints widened(const uint8_t* x) {
#if defined(__AVX512F__)
    return (Ints)_mm512_cvtepu8_epi32(load<__m128i>(x));
#elif defined(__AVX2__)
    return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)x));
#else
    return __builtin_convertvector(load<Nibbles>(x), Ints);
#endif
}
inline Floats floats(const int8_t* x) { return __builtin_convertvector(widened(x), Floats); }
inline float sum(Floats x) {
    float all = 0;
    for (int i = 0; i < LANES; i++) all += x[i];
    return all;
}

// The vectors, padded with zeros to whole groups of blocks. Vectors of zeros make them 1, 2, 4 or 8 vectors.
struct Vectors {
    int64_t stride;              // elements from one vector to the next
    std::vector<float> x;
    std::vector<uint16_t> halves;  // the same as bfloat16
    // for blocks of four bits, per block: the factor of a minimum, the factor of a scale, and the unit of `words`
    std::vector<float> for_minimum, for_scale, unit;
    std::vector<int16_t> words;
    bool usual = true;  // false with an infinity, a NaN or a block of numbers too small to be rounded
};

// Prefetches while the byte `at` of a row is used: the row itself, AHEAD bytes further, or the beginning of the next
// row.
inline void ahead(const char* row, int64_t at, int64_t row_bytes, int64_t next) {
    const int64_t to = at + AHEAD;
    __builtin_prefetch(to < row_bytes ? row + to : row + next + to - row_bytes, 0, 2);
}

// Weights of four bits in blocks: with MINIMUM a weight is scale * q + minimum, else scale * (q - 8).
template <bool MINIMUM> struct Blocks {
    static constexpr int HEAD = MINIMUM ? 4 : 2, BYTES = HEAD + BLOCK / 2;
    static int64_t row_bytes(int64_t columns) { return columns / BLOCK * BYTES; }

    // Widens the scales (and minima) of a group of blocks of one row. Four are packed into a whole number first: by
    // itself the compiler inserts each into a vector, and that takes as long as all other work on a block.
    static void scales(const char* row, int n, float* scale, float* minimum) {
#if defined(__AVX512F__)
        if (n == GROUP) {
            const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            const __m512i both = _mm512_i32gather_epi32(_mm512_mullo_epi32(count, _mm512_set1_epi32(BYTES)), row, 1);
            _mm512_store_ps(scale, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(both)));
            if (MINIMUM) _mm512_store_ps(minimum, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16))));
            return;
        }
#endif
        alignas(32) uint64_t d[GROUP / 4]{}, m[GROUP / 4]{};
        for (int b = 0; b < n; b += 4)
            if (b + 4 <= n) {
                d[b / 4] = four(row + b * BYTES);
                if (MINIMUM) m[b / 4] = four(row + b * BYTES + 2);
            } else {
                for (int i = b; i < n; i++) {
                    std::memcpy((uint16_t*)d + i, row + i * BYTES, 2);
                    if (MINIMUM) std::memcpy((uint16_t*)m + i, row + i * BYTES + 2, 2);
                }
            }
        for (int i = 0; i < GROUP; i += LANES) {
            store(scale + i, floats((const float16*)d + i));
            if (MINIMUM) store(minimum + i, floats((const float16*)m + i));
        }
    }
    static inline uint64_t four(const char* at) {
        const auto one = [&](int b) { return (uint64_t)load<uint16_t>(at + b * BYTES); };
        return one(0) | one(1) << 16 | one(2) << 32 | one(3) << 48;
    }

    template <int R, int V> static void rows(const char* w, int64_t stride, int64_t columns, const Vectors& with, float (&out)[R][V]) {
        const int64_t blocks = columns / BLOCK, bytes = row_bytes(columns), per_vector = with.stride / BLOCK;
        Floats sums[R][V]{}, rest[R][V]{}, unusual[R]{};
        for (int64_t first = 0; first < blocks; first += GROUP) {
            const int n = std::min<int64_t>(GROUP, blocks - first);
            float scale[R][V][GROUP];
            for (int r = 0; r < R; r++) {
                alignas(64) float d[GROUP], m[GROUP];
                scales(w + r * stride + first * BYTES, n, d, m);
                for (int i = 0; i < GROUP; i += LANES) {
                    const Floats by = floats(d + i);
                    unusual[r] += by * 0.f;  // infinity and NaN times 0 are NaN
                    if (MINIMUM) unusual[r] += floats(m + i) * 0.f;
                    for (int v = 0; v < V; v++) {
                        const int64_t at = v * per_vector + first + i;
                        rest[r][v] += by * floats(&with.for_scale[at]);
                        if (MINIMUM) rest[r][v] += floats(m + i) * floats(&with.for_minimum[at]);
                        store(scale[r][v] + i, by * floats(&with.unit[at]));
                    }
                }
            }
            for (int b = 0; b < n; b++) {
                if (b % (64 / BYTES) == 0)
                    for (int r = 0; r < R; r++) ahead(w + r * stride, (first + b) * BYTES, bytes, R * stride);
                for (int r = 0; r < R; r++) add<V>(w + r * stride + (first + b) * BYTES + HEAD, (first + b) * BLOCK, with, scale[r], b, sums[r]);
            }
        }
        for (int r = 0; r < R; r++) {
            const bool usual = with.usual && !any(unusual[r] != unusual[r]);
            for (int v = 0; v < V; v++)
                out[r][v] = usual ? sum(sums[r][v] * parts() + rest[r][v]) : one_by_one(w + r * stride, columns, &with.x[v * with.stride]);
        }
    }

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    // Each quarter of the register picks one of a word's four numbers in its place, so the number is 1, 16, 256 or 4096
    // times as large. The uppermost number has a sign: its sign bit is inverted, which subtracts 8 from it.
    static constexpr bool WORDS = true;
    static Floats parts() {
        return (Floats)_mm512_set_ps(1 / 4096.f, 1 / 4096.f, 1 / 4096.f, 1 / 4096.f, 1 / 256.f, 1 / 256.f, 1 / 256.f, 1 / 256.f,
                                     1 / 16.f, 1 / 16.f, 1 / 16.f, 1 / 16.f, 1, 1, 1, 1);
    }
    template <int V>
    static inline void add(const char* bits, int64_t c, const Vectors& with, const float (&scale)[V][GROUP], int b, Floats (&sums)[V]) {
        const __m512i picked = _mm512_set_epi64(-0x0fff0fff0fff1000, -0x0fff0fff0fff1000, 0x0f000f000f000f00, 0x0f000f000f000f00,
                                                0x00f000f000f000f0, 0x00f000f000f000f0, 0x000f000f000f000f, 0x000f000f000f000f);
        const __m512i sign = _mm512_set_epi64(0x8000800080008000, 0x8000800080008000, 0, 0, 0, 0, 0, 0);
        const __m512i all = _mm512_broadcast_i32x4(load<__m128i>(bits));
        const __m512i q = _mm512_ternarylogic_epi32(all, picked, sign, 0x6a);  // (all & picked) ^ sign
        for (int v = 0; v < V; v++) {
            const __m512i x = _mm512_loadu_si512(&with.words[v * with.stride + c]);
            const Floats products = (Floats)_mm512_cvtepi32_ps(_mm512_dpwssd_epi32(_mm512_setzero_si512(), q, x));
            sums[v] += scale[v][b] * products;
        }
    }
#else
    static constexpr bool WORDS = false;
    static Floats parts() { return Floats{} + 1.f; }
    template <int V>
    static inline void add(const char* bits, int64_t c, const Vectors& with, const float (&scale)[V][GROUP], int b, Floats (&sums)[V]) {
        for (int i = 0; i < BLOCK / 2; i += LANES) {
            const Ints both = widened((const uint8_t*)bits + i);
            const Floats low = lower(both), high = lower(both >> 4);
            for (int v = 0; v < V; v++) {
                const float* x = &with.x[v * with.stride + c + i];
                sums[v] += scale[v][b] * (low * floats(x) + high * floats(x + BLOCK / 2));
            }
        }
    }
    // The lowest four bits as numbers.
    static inline Floats lower(Ints bits) {
#if defined(__AVX512F__)
        const __m512 numbers = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        return (Floats)_mm512_permutexvar_ps((__m512i)bits, numbers);
#else
        return __builtin_convertvector(bits & 15, Floats);
#endif
    }
#endif

    // Prepares the vectors' blocks: their sums, and where WORDS their rounded numbers.
    static void prepare(Vectors& with) {
        const size_t blocks = with.x.size() / BLOCK;
        with.for_minimum.resize(blocks), with.for_scale.resize(blocks), with.unit.assign(blocks, 1.f);
        if (WORDS) with.words.assign(with.x.size(), 0);
        for (size_t b = 0; b < blocks; b++) {
            const float* x = &with.x[b * BLOCK];
            float all = 0, largest = 0, unusual = 0;
            for (int c = 0; c < BLOCK; c++) all += x[c], largest = std::max(largest, std::fabs(x[c])), unusual += x[c] * 0.f;
            with.for_minimum[b] = all;
            if (unusual != unusual || (WORDS && largest != 0 && largest < 1e-30f)) with.usual = false;
            if (!WORDS || largest == 0 || !with.usual) {
                with.for_scale[b] = MINIMUM ? 0.f : -8 * all;
                continue;
            }
            const float unit = with.unit[b] = largest / 32767, per_unit = 1 / unit;
            int32_t whole[BLOCK], offset = 0, total = 0;
            // at most 32767.003, and adding 1.5 * 2^23 rounds to a whole number in the lowest bits
            for (int c = 0; c < BLOCK; c++) {
                const float moved = x[c] * per_unit + 12582912.f;
                whole[c] = load<int32_t>(&moved) - 0x4b400000;
            }
            for (int part = 0; part < 4; part++)
                for (int j = 0; j < 8; j++) {
                    const int word = whole[2 * j + part / 2 + part % 2 * 16];
                    with.words[b * BLOCK + part * 8 + j] = word;
                    total += word;
                    offset += word * (part < 3 ? MINIMUM ? 0 : -8 : MINIMUM ? 8 : 0);
                }
            with.for_scale[b] = unit * offset;
            // the sum of the rounded numbers: then the weight multiplies a rounding error, not q alone
            with.for_minimum[b] = unit * total;
        }
    }
    // The stored weights as float32, rounded once.
    static void widen(const char* row, int64_t columns, float* out) {
        for (int64_t b = 0; b < columns / BLOCK; b++, row += BYTES, out += BLOCK) {
            const float d = (float)load<float16>(row), m = MINIMUM ? (float)load<float16>(row + 2) : 0.f;
            for (int i = 0; i < BLOCK / 2; i += LANES) {
                const Ints both = widened((const uint8_t*)row + HEAD + i);
                for (int half = 0; half < 2; half++) {
                    const Floats q = __builtin_convertvector((both >> 4 * half) & 15, Floats);
                    store(out + i + half * BLOCK / 2, MINIMUM ? q * d + m : (q - 8.f) * d);
                }
            }
        }
    }
    // For a row or a vector with infinity or NaN: multiplies number by number.
    static float one_by_one(const char* row, int64_t columns, const float* x) {
        float all = 0;
        for (int64_t c = 0; c < columns; c++) {
            const char* block = row + c / BLOCK * BYTES;
            const int at = c % BLOCK, bits = (uint8_t)block[HEAD + at % 16] >> (at < 16 ? 0 : 4) & 15;
            const float d = (float)load<float16>(block);
            all += (MINIMUM ? d * bits + (float)load<float16>(block + 2) : d * (bits - 8)) * x[c];
        }
        return all;
    }
};

}  // namespace
