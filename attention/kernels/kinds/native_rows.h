// Rows of a cache in their format, and their widening to operands: float32, or bfloat16 for the processor's tiles.
#pragma once

#include <cmath>
#include "../registers.h"

namespace {

enum Format { FLOAT32, BFLOAT16, FLOAT16, INT8_TOKEN, FP8_HEAD, Q8_0, Q4_0, INT4_G32 };  // as in native.py
constexpr int GROUP = 32;  // elements that share a scale in the last three formats

// Keys or values; strides in bytes. A scale belongs to a head (fp8), a position (int8) or a group of a position (int4).
struct Plane {
    const char *data, *scale, *zero;
    int64_t sequence, head, row, scale_sequence, scale_head, scale_row;
    int64_t format, dim, bytes;  // bytes of a row
};
// One head's rows.
struct Rows {
    const char *data, *scale, *zero;
    int64_t row, scale_row;
    Rows(const Plane& of, int64_t sequence, int64_t head)
        : data(of.data + sequence * of.sequence + head * of.head),
          scale(of.scale + sequence * of.scale_sequence + head * of.scale_head),
          zero(of.zero + sequence * of.scale_sequence + head * of.scale_head), row(of.row), scale_row(of.scale_row) {}
};

inline float half(const char* at) { return (float)load<float16>(at); }
typedef int8_t Bytes __attribute__((vector_size(LANES)));
// Widens LANES bytes to whole numbers of 32 bits. The code that compilers make of __builtin_convertvector from one byte
// to four is ten times slower.
inline Ints whole(const char* x, bool with_sign) {
#if defined(__AVX512F__)
    const __m128i all = load<__m128i>(x);
    return (Ints)(with_sign ? _mm512_cvtepi8_epi32(all) : _mm512_cvtepu8_epi32(all));
#elif defined(__AVX2__)
    const __m128i all = _mm_loadl_epi64((const __m128i*)x);
    return (Ints)(with_sign ? _mm256_cvtepi8_epi32(all) : _mm256_cvtepu8_epi32(all));
#else
    const Ints all = __builtin_convertvector(load<Bytes>(x), Ints);
    return with_sign ? all : all & 255;
#endif
}
inline Floats numbers(Ints x) { return __builtin_convertvector(x, Floats); }
inline Floats from_e4m3(Ints x) {
    const Ints size = x & 127, sign = (x & 128) << 24;
    Ints bits = (size << 20) + (120 << 23);  // the exponent's bias is 7 in e4m3 and 127 in float32
    bits = size < 8 ? (Ints)(numbers(size) * 0x1p-9f) : bits;
    bits = size == 127 ? Ints{} + 0x7fc00000 : bits;
    return (Floats)(bits | sign);
}

// LANES elements of a row from `d` on, without the scale that all its elements share.
template <int F> inline Floats codes(const char* row, int64_t d) {
    if constexpr (F == FLOAT32) return floats((const float*)row + d);
    else if constexpr (F == BFLOAT16) return floats((const bfloat16*)row + d);
    else if constexpr (F == FLOAT16) return floats((const float16*)row + d);
    else if constexpr (F == INT8_TOKEN) return numbers(whole(row + d, true));
    else return from_e4m3(whole(row + d, false));
}
// The row's last elements from `d` on, padded with zeros.
template <int F> inline Floats rest(const char* row, int64_t d, int64_t dim) {
    constexpr int SIZE = F == FLOAT32 ? 4 : F == BFLOAT16 || F == FLOAT16 ? 2 : 1;
    char room[LANES * 4]{};
    std::memcpy(room, row + d * SIZE, (dim - d) * SIZE);
    return codes<F>(room, 0);
}

// Widens a group's 32 elements and hands them to `put(element, numbers)`, one register of LANES at a time.
template <int F, class Put> inline void group(const char* row, const char* scale, const char* zero, int64_t g, const Put& put) {
    if constexpr (F == Q8_0) {
        const char* block = row + g * 34;
        const Floats by = Floats{} + half(block);
        for (int i = 0; i < GROUP; i += LANES) put(i, numbers(whole(block + 2 + i, true)) * by);
    } else if constexpr (F == Q4_0) {
        const char* block = row + g * 18;
        const Floats by = Floats{} + half(block);
        for (int i = 0; i < GROUP / 2; i += LANES) {
            const Ints both = whole(block + 2 + i, false);
            put(i, numbers((both & 15) - 8) * by);
            put(i + 16, numbers((both >> 4) - 8) * by);
        }
    } else {
        const Floats by = Floats{} + half(scale + 2 * g), from = Floats{} + half(zero + 2 * g);
        const auto first = [](int i) { return i / 2 + i % 2 * LANES; };
        const auto second = [](int i) { return LANES / 2 + i / 2 + i % 2 * LANES; };
        for (int i = 0; i < GROUP / 2; i += LANES) {
            const Ints both = whole(row + g * 16 + i, false);
            const Floats low = numbers(both & 15) * by + from, high = numbers(both >> 4) * by + from;
            put(2 * i, picked(low, high, first));
            put(2 * i + LANES, picked(low, high, second));
        }
    }
}

// One position's row -> `dim` numbers of float32, multiplied by their scale.
template <int F> inline void widen(const Rows& of, int64_t position, int64_t dim, float* to) {
    const char *row = of.data + position * of.row, *scale = of.scale + position * of.scale_row;
    if constexpr (F >= Q8_0) {
        for (int64_t g = 0; g < dim / GROUP; g++)
            group<F>(row, scale, of.zero + position * of.scale_row, g, [&](int i, Floats x) { store(to + g * GROUP + i, x); });
    } else {
        Floats by = Floats{} + 1.f;
        if constexpr (F == INT8_TOKEN || F == FP8_HEAD) by = Floats{} + load<float>(scale);
        int64_t d = 0;
        for (; d + LANES <= dim; d += LANES) store(to + d, codes<F>(row, d) * by);
        if (d < dim) {
            const Floats x = rest<F>(row, d, dim) * by;
            std::memcpy(to + d, &x, (dim - d) * sizeof(float));
        }
    }
}

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512VBMI__) && !defined(__clang__)
// (clang 18 ends with an error of its own on these tiles)
#define TILES 1
inline __m512i packed(Floats low, Floats high) { return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low); }

// One position's row -> `dim` numbers of bfloat16. A scale that all elements share is left out: it is multiplied in
// once, later, and without it whole numbers of eight bits are exact.
template <int F> inline void narrow(const Rows& of, int64_t position, int64_t dim, bfloat16* to) {
    const char *row = of.data + position * of.row, *scale = of.scale + position * of.scale_row;
    if constexpr (F == BFLOAT16) {
        std::memcpy(to, row, dim * 2);
    } else if constexpr (F == Q4_0 || F == INT4_G32) {
        // a table has the 16 numbers that a group can hold, each rounded once. It has them twice, so that the fifth bit
        // of an index does not matter
        const Floats count = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const char* zero = of.zero + position * of.scale_row;
        for (int64_t g = 0; g < dim / GROUP; g++) {
            const char* block = row + g * (F == Q4_0 ? 18 : 16);
            Floats table;
            __m512i index;
            if constexpr (F == Q4_0) {
                table = (count - 8.f) * half(block);
                const __m256i both = _mm256_cvtepu8_epi16(load<__m128i>(block + 2));
                index = _mm512_inserti64x4(_mm512_castsi256_si512(both), _mm256_srli_epi16(both, 4), 1);
            } else {
                table = count * half(scale + 2 * g) + half(zero + 2 * g);
                const __m512i both = (__m512i)whole(block, false);
                index = _mm512_or_si512(both, _mm512_slli_epi32(both, 12));
            }
            const __m512i twice = _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh((__m512)table));
            _mm512_storeu_si512(to + g * GROUP, _mm512_permutexvar_epi16(index, twice));
        }
    } else if constexpr (F == Q8_0) {
        for (int64_t g = 0; g < dim / GROUP; g++) {
            Floats both[2];
            group<F>(row, scale, nullptr, g, [&](int i, Floats x) { both[i / LANES] = x; });
            _mm512_storeu_si512(to + g * GROUP, packed(both[0], both[1]));
        }
    } else {
        int64_t d = 0;
        for (; d + GROUP <= dim; d += GROUP)
            _mm512_storeu_si512(to + d, packed(codes<F>(row, d), codes<F>(row, d + LANES)));
        for (; d < dim; d += LANES) {
            const __m512i x = packed(rest<F>(row, d, std::min(dim, d + LANES)), Floats{});
            std::memcpy(to + d, &x, std::min<int64_t>(LANES, dim - d) * 2);
        }
    }
}
#endif

}  // namespace
