// The two products of attention for some rows of queries and a block of positions: in registers of float32, or in
// tiles.
#pragma once

#include "native_rows.h"
#include <vector>
#include <new>

namespace {

constexpr int STEP = 32;  // positions that are widened together

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
// Keeps the compiler from moving loads and stores across those of the tiles, which it does not know of.
inline void in_order() { asm volatile("" ::: "memory"); }

// Sets the rows of the tiles 0 to 3 (sums) and 4, 5 (left factor). Tiles 6, 7 (right factor) have 16 rows. A row has 64
// bytes.
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

// sums[M tiles][N tiles] += left * right over `steps` times 32 numbers; FRESH begins the sums at 0. A tile is 16 x 16
// float32. Left has rows of bfloat16. Right has tiles of 16 pairs of rows; the two numbers of a pair are neighbours.
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

// Transposes 16 registers of 16 numbers: neighbours change places, then pairs, then fours and eights.
inline void transpose(__m512i* x) {
    __m512i y[16];
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {  // x[i + j]: column j of every four, of rows i to i + 3
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        const __m512i a = _mm512_shuffle_i32x4(x[j], x[j + 4], 0x88), b = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(x[j], x[j + 4], 0xdd), d = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0xdd);
        y[j] = _mm512_shuffle_i32x4(a, b, 0x88);
        y[j + 8] = _mm512_shuffle_i32x4(a, b, 0xdd);
        y[j + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
        y[j + 12] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
    for (int i = 0; i < 16; i++) x[i] = y[i];
}

// The place of a column among the 32 that `pair_rows` has paired: groups of four columns go to two tiles in turn.
inline int64_t paired(int64_t d) { return d / 32 * 32 + d % 8 / 4 * 16 + d % 32 / 8 * 4 + d % 4; }

// Pairs two rows of `dim` numbers, a multiple of 32: the two numbers of a column become neighbours. Every `apart` bytes
// there are 16 pairs. `paired` gives their order: a processor combines registers cheaply only within their quarters.
inline void pair_rows(const bfloat16* a, const bfloat16* b, int64_t dim, char* to, int64_t apart) {
    for (int64_t d = 0; d < dim; d += 32, to += 2 * apart) {
        const __m512i x = load<__m512i>(a + d), y = load<__m512i>(b + d);
        _mm512_storeu_si512(to, _mm512_unpacklo_epi16(x, y));
        _mm512_storeu_si512(to + apart, _mm512_unpackhi_epi16(x, y));
    }
}
#endif

}  // namespace
