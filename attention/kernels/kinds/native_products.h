// The two products of attention for some rows of queries and a block of positions: in registers of float32, or in tiles.
#pragma once

#include "native_rows.h"
#include <vector>
#include <new>

namespace {

constexpr int STEP = 32;  // positions that are widened together

// Memory that begins at a cache line, so that no register is loaded from two.
template <class T> struct Lines {
    typedef T value_type;
    T* allocate(size_t n) { return (T*)::operator new(n * sizeof(T), std::align_val_t(64)); }
    void deallocate(T* at, size_t) { ::operator delete(at, std::align_val_t(64)); }
    bool operator==(const Lines&) const { return true; }
    bool operator!=(const Lines&) const { return false; }
};
template <class T> using Array = std::vector<T, Lines<T>>;

// Rows are taken eight, four, two and one at a time.
template <class Tile> inline void in_tiles(int rows, const Tile& tile) {
    int r = 0;
    for (; r + 8 <= rows; r += 8) tile(r, Size<8>());
    for (; r + 4 <= rows; r += 4) tile(r, Size<4>());
    for (; r + 2 <= rows; r += 2) tile(r, Size<2>());
    for (; r < rows; r++) tile(r, Size<1>());
}

// scores[position][row] of H rows of queries with P keys; H * P == LANES, so that the tile's sums fill one register.
template <int H> inline void score_tile(const float* q, const float* k, int64_t dim, int64_t apart, float* scores, int64_t stride) {
    constexpr int P = LANES / H;
    Floats tile[LANES]{};
    for (int64_t d = 0; d < dim; d += LANES) {
        Floats keys[P];
        for (int p = 0; p < P; p++) keys[p] = held(floats(k + p * apart + d));
        for (int h = 0; h < H; h++) {
            const Floats query = held(floats(q + h * dim + d));
            for (int p = 0; p < P; p++) tile[p * H + h] += keys[p] * query;
        }
    }
    add_across(tile);
    for (int p = 0; p < P; p++) std::memcpy(scores + p * stride, (const float*)tile + p * H, H * sizeof(float));
}

// out[row] += weights[position][row] * values[position], for H rows and STEP positions.
template <int H, int C>
inline void value_tile(const float* weights, int64_t stride, const float* v, int64_t apart, float* out, int64_t out_stride) {
    Floats tile[H][C];
    for (int h = 0; h < H; h++)
        for (int c = 0; c < C; c++) tile[h][c] = floats(out + h * out_stride + c * LANES);
    for (int p = 0; p < STEP; p++) {
        Floats values[C];
        for (int c = 0; c < C; c++) values[c] = held(floats(v + p * apart + c * LANES));
        for (int h = 0; h < H; h++) {
            const Floats weight = held(Floats{} + weights[p * stride + h]);
            for (int c = 0; c < C; c++) tile[h][c] += values[c] * weight;
        }
    }
    for (int h = 0; h < H; h++)
        for (int c = 0; c < C; c++) store(out + h * out_stride + c * LANES, tile[h][c]);
}

#ifdef TILES
// What the compiler keeps in order around the tiles' own loads and stores, of which it does not know.
inline void in_order() { asm volatile("" ::: "memory"); }

// Rows of the tiles 0 to 3 (sums) and 4, 5 (left factor); all have 64 bytes a row, the right factor's 16 rows.
inline void shape_tiles(int rows) {
    alignas(64) uint8_t shape[64]{};
    shape[0] = 1;
    for (int i = 0; i < 8; i++) {
        shape[16 + 2 * i] = 64;
        shape[48 + i] = i < 6 ? rows : 16;
    }
    in_order();
    _tile_loadconfig(shape);
}

// sums[2 or 1 tiles][2 or 1 tiles] (+)= left * right over `steps` times 32 numbers; a tile is 16 x 16 float32. Left: rows of
// bfloat16. Right: tiles of 16 pairs of rows, a pair's numbers beside each other.
template <int M, int N, bool FRESH>
inline void tile_product(const void* left, int64_t left_row, int64_t left_step, int64_t left_tile, const void* right,
                         int64_t right_step, int64_t right_tile, int64_t steps, float* sums, int64_t stride) {
    const char *a = (const char*)left, *b = (const char*)right;
    const int64_t row = stride * 4;
    float *down = sums + 16 * stride;
    if (FRESH) {
        _tile_zero(0);
        if (N > 1) _tile_zero(1);
        if (M > 1) _tile_zero(2);
        if (M > 1 && N > 1) _tile_zero(3);
    } else {
        _tile_loadd(0, sums, row);
        if (N > 1) _tile_loadd(1, sums + 16, row);
        if (M > 1) _tile_loadd(2, down, row);
        if (M > 1 && N > 1) _tile_loadd(3, down + 16, row);
    }
    for (int64_t i = 0; i < steps; i++, a += left_step, b += right_step) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, left_row);
        _tile_dpbf16ps(0, 4, 6);
        if (M > 1) {
            _tile_loadd(5, a + left_tile, left_row);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (N > 1) {
            _tile_loadd(7, b + right_tile, 64);
            _tile_dpbf16ps(1, 4, 7);
            if (M > 1) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, row);
    if (N > 1) _tile_stored(1, sums + 16, row);
    if (M > 1) _tile_stored(2, down, row);
    if (M > 1 && N > 1) _tile_stored(3, down + 16, row);
}

// 16 registers of 16 numbers, columns for rows.
template <int W = 8> inline void transpose(Ints* x) {
    Ints upper{}, lower{};
    for (int i = 0; i < 16; i++) {
        upper[i] = i & W ? i - W + 16 : i;
        lower[i] = i & W ? i + 16 : i + W;
    }
    for (int i = 0; i < 16; i++)
        if (!(i & W)) {
            const Ints a = x[i], b = x[i + W];
            x[i] = __builtin_shuffle(a, b, upper);
            x[i + W] = __builtin_shuffle(a, b, lower);
        }
    if constexpr (W > 1) transpose<W / 2>(x);
}

// Two rows of `dim` (of 32s) numbers -> pairs of numbers beside each other, 16 of them each `apart` bytes.
inline void pair_rows(const bfloat16* a, const bfloat16* b, int64_t dim, char* to, int64_t apart) {
    alignas(64) uint16_t order[2][32];
    for (int i = 0; i < 32; i++)
        for (int part = 0; part < 2; part++) order[part][i] = i / 2 + 16 * part + i % 2 * 32;
    const __m512i low = _mm512_load_si512(order[0]), high = _mm512_load_si512(order[1]);
    for (int64_t d = 0; d < dim; d += 32, to += 2 * apart) {
        const __m512i x = load<__m512i>(a + d), y = load<__m512i>(b + d);
        _mm512_storeu_si512(to, _mm512_permutex2var_epi16(x, low, y));
        _mm512_storeu_si512(to + apart, _mm512_permutex2var_epi16(x, high, y));
    }
}
#endif

}  // namespace
