// A decode step over any kind of cache for a processor: each row is read once, in its format, for all its queries.
//
// attention/kernels/kinds/native.py compiles this file and calls it through C, so it needs no other headers.
//
// The flattened cache (sequence, K/V head, block of positions) is cut into one contiguous piece per thread, as in
// attention/kernels/native.cpp. Each piece has a running softmax (Milakov and Gimelshein 2018); the softmaxes of the
// pieces are combined at the end (flash-decoding, Dao et al. 2023). Scores are stored position by position, so that a
// register holds the scores of neighbouring rows of queries. Where the processor multiplies tiles of bfloat16 (AMX),
// tiles compute both products: keys and values meet up to 128 rows of queries, and the rest of the core has time for
// widening and for the softmax.

#include <algorithm>
#include <cfloat>
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include "../threads.h"
#include "native_buffers.h"

namespace {

template <bool TILED> void score(Buffers<TILED>& buffers, const typename Buffers<TILED>::O* keys, int64_t apart, float* scores) {
    const int64_t rows = buffers.rows, dk = buffers.dk;
    if constexpr (!TILED) {
        for (int p = 0; p < STEP; p += LANES)
            in_tiles(buffers.n, [&](int r, auto size) {
                for (int i = p; i < p + LANES; i += LANES / size)
                    score_tile<size>(&buffers.queries[r * dk], keys + i * apart, dk, apart, scores + i * rows + r, rows);
            });
    }
#ifdef TILES
    else {
        const int64_t tile = dk / 32 * 512, row = apart * 2;
        in_order();
        for (int64_t r = 0; r < rows; r += 32)
            if (r + 16 < rows)
                tile_product<2, 2, true>(keys, row, 64, 16 * row, &buffers.queries[r / 16 * tile], 1024, tile * 2, dk / 32, scores + r, rows);
            else
                tile_product<2, 1, true>(keys, row, 64, 16 * row, &buffers.queries[r / 16 * tile], 1024, 0, dk / 32, scores + r, rows);
        in_order();
    }
#endif
}

// Turns the scores of a block's `n` positions into weights, for LANES rows from `row` on. Positions from `n` up to a
// whole step get a weight too small to count. A score of NaN or +infinity makes the row's whole softmax NaN; a score of
// -infinity gets the weight 0.
template <bool TILED> void weigh(Buffers<TILED>& buffers, State& state, int64_t row, int n) {
    const int64_t rows = buffers.rows;
    const float scale = buffers.step.scale;
    float* scores = &buffers.scores[row];
    const float* factors = buffers.k_factor.empty() ? nullptr : buffers.k_factor.data();
    const Floats least = Floats{} - INFINITY;
    Floats tops = least, zeros{};  // infinity and NaN times 0 are NaN
    for (int p = 0; p < n; p++) {
        Floats x = floats(scores + p * rows);
        if (factors) store(scores + p * rows, x = factors[p] * 0.f == 0.f ? x * factors[p] : Floats{} + NAN);
        tops = maximum(tops, x);
        zeros += x * 0.f;
    }
    const int whole = up(n, STEP);
    const bool unusual = any(zeros != zeros);
    // with unusual scores the top may still be -infinity, and only a score of -infinity gets the weight 0 below
    for (int p = n; p < whole; p++) store(scores + p * rows, Floats{} - (unusual ? INFINITY : FLT_MAX));
    Floats top = floats(&state.top[row]), total{};
    if (unusual) {
        tops = least;
        for (int p = 0; p < n; p++) {
            const Floats x = floats(scores + p * rows);
            const Ints finite = x * 0.f == 0.f;
            tops = maximum(tops, finite ? x : least);
            total += finite | (x < 0.f) ? Floats{} : Floats{} + NAN;
        }
    }
    tops *= scale;
    if (any(tops > top)) {  // a larger top of earlier blocks stays
        for (int i = 0; i < LANES && row + i < buffers.n; i++)
            if (tops[i] > top[i]) state.rescale(row + i, tops[i]);
        top = maximum(tops, top);
        store(&state.top[row], top);
    }
    const auto weight = [&](int p) {
        const Floats x = floats(scores + p * rows);
        Floats w;
        if constexpr (TILED) w = power_of_two(x * scale - top, {5.51716668e-2f, 2.42611135e-1f, 6.93260987e-1f, 9.99928073e-1f});
        else w = power_of_two(x * scale - top, {1.32764717e-3f, 9.67554154e-3f, 5.55071328e-2f, 2.40221197e-1f, 6.93146967e-1f, 1.f});
        if (unusual) w = x * 0.f == 0.f ? w : Floats{};
        return w;
    };
    if constexpr (!TILED) {
        for (int p = 0; p < whole; p++) {
            const Floats w = weight(p);
            total += w;
            store(scores + p * rows, w);
        }
    }
#ifdef TILES
    else {
        const float* by = buffers.v_factor.empty() ? nullptr : buffers.v_factor.data();
        const Ints upper = Ints{} + (int)0xffff0000;
        for (int p = 0; p < whole; p += STEP) {
            __m512i pairs[16];
            for (int j = 0; j < 16; j++) {
                Floats a = weight(p + 2 * j), b = weight(p + 2 * j + 1);
                if (by) total += a + b, a *= by[p + 2 * j], b *= by[p + 2 * j + 1];
                const Ints x = (Ints)a + 0x8000, y = (Ints)b + 0x8000;  // weights are above 0: rounded to the nearest
                if (!by) total += (Floats)(x & upper) + (Floats)(y & upper);  // the rounded weights
                pairs[j] = (__m512i)((y & upper) | (x >> 16 & 0xffff));
            }
            transpose(pairs);
            auto* to = &buffers.weights[(row / 16 * (buffers.block / STEP) + p / STEP) * 512];
            for (int r = 0; r < 16; r++) _mm512_store_si512(to + r * 32, pairs[r]);
        }
    }
#endif
    store(&state.sum[row], floats(&state.sum[row]) + total);
}

template <int H, int C> void value_columns(const float* weights, int64_t rows, const float* v, int64_t apart, float* out, int64_t stride, int64_t columns) {
    for (; columns >= C * LANES; columns -= C * LANES, v += C * LANES, out += C * LANES)
        value_tile<H, C>(weights, rows, v, apart, out, stride);
    if constexpr (C > 1) value_columns<H, C / 2>(weights, rows, v, apart, out, stride, columns);
}

template <bool TILED> void attend_block(Buffers<TILED>& buffers, State& state, const Rows& k, const Rows& v, const int64_t* chosen, int64_t first, int n, int64_t from) {
    typedef typename Buffers<TILED>::O O;
    const Step& step = buffers.step;
    const int steps = up(n, STEP) / STEP;
    const int64_t rows = buffers.rows, next = first + buffers.block;
    const bool k_lies = buffers.as_it_lies(step.k, buffers.dk), v_lies = buffers.as_it_lies(step.v, buffers.dv);
    for (int i = 0; i < steps; i++) {
        const int p = i * STEP, m = std::min(STEP, n - p);
        if (!chosen) ahead(step.k, k, next + p, step.one_plane ? STEP / 2 : STEP, step.slots);
        const O* keys;
        if (k_lies && m == STEP) {
            keys = (const O*)(k.data + (first + p) * k.row), buffers.apart[i] = k.row / sizeof(O);
        } else {
            O* to = &buffers.keys[step.one_plane ? p * buffers.dk : 0];
            operands(step.k, k, chosen, first + p, m, step.k.dim, buffers.dk, to, buffers.k_factor.empty() ? nullptr : &buffers.k_factor[p]);
            keys = to, buffers.apart[i] = buffers.dk;
        }
        buffers.keys_at[i] = keys;
        score(buffers, keys, buffers.apart[i], &buffers.scores[p * rows]);
    }
    if (step.q_len > 1 || step.window || chosen) {  // scores of positions that a token does not see become -infinity
        const int64_t turn = (step.context - 1) / step.slots * step.slots;
        for (int p = 0; p < n; p++) {
            int64_t at = first + p + turn;
            if (at >= step.context) at -= step.slots;
            const bool all = chosen && chosen[first + p] < 0;
            if (!all && (chosen || (at <= step.context - step.q_len && (!step.window || at > step.context - 1 - step.window)))) continue;
            for (int64_t r = 0; r < buffers.n; r++) {
                const int64_t last = step.context - step.q_len + (from + r) % step.q_len;
                if (all || at > last || (step.window && at <= last - step.window)) buffers.scores[p * rows + r] = -INFINITY;
            }
        }
    }
    if (step.one_plane) buffers.v_factor = buffers.k_factor;
    const auto value_operands = [&](int i, int64_t& apart) -> const O* {
        const int p = i * STEP, m = std::min(STEP, n - p);
        if (!chosen) ahead(step.v, v, next + p + (step.one_plane ? STEP / 2 : 0), step.one_plane ? STEP / 2 : STEP, step.slots);
        if (step.one_plane) return apart = buffers.apart[i], buffers.keys_at[i];
        if (v_lies && m == STEP) return apart = v.row / sizeof(O), (const O*)(v.data + (first + p) * v.row);
        operands(step.v, v, chosen, first + p, m, step.value_dim, buffers.dv, buffers.value_rows.data(),
                 buffers.v_factor.empty() ? nullptr : &buffers.v_factor[p]);
        return apart = buffers.dv, buffers.value_rows.data();
    };
    int64_t apart;
    if constexpr (!TILED) {
        for (int64_t r = 0; r < rows; r += LANES) weigh(buffers, state, r, n);
        for (int i = 0; i < steps; i++) {
            const float* values = value_operands(i, apart);
            in_tiles(buffers.n, [&](int r, auto size) {
                constexpr int C = LANES / size < 8 ? LANES / size : 8;
                value_columns<size, C>(&buffers.scores[i * STEP * rows + r], rows, values, apart, &state.out[r * state.stride], state.stride, buffers.dv);
            });
        }
    }
#ifdef TILES
    else {
        for (int i = 0; i < steps; i++) {
            const bfloat16* values = value_operands(i, apart);
            for (int j = 0; j < STEP / 2; j++)
                pair_rows(values + 2 * j * apart, values + (2 * j + 1) * apart, buffers.dv, (char*)&buffers.values[i * STEP * buffers.dv] + j * 64, 1024);
        }
        for (int64_t r = 0; r < rows; r += LANES) weigh(buffers, state, r, n);
        if (buffers.n < 16) shape_tiles(buffers.n);
        in_order();
        const int64_t left = buffers.block / STEP * 1024, right = buffers.dv / 16 * 1024;
        for (int64_t r = 0; r < rows; r += 32)
            for (int64_t d = 0; d < buffers.dv; d += 32) {
                const auto* weights = &buffers.weights[r / 16 * left / 2];
                float* out = &state.out[r * state.stride + d];
                if (r + 16 < rows)
                    tile_product<2, 2, false>(weights, 64, 1024, left, &buffers.values[d * 32], right, 1024, steps, out, state.stride);
                else
                    tile_product<1, 2, false>(weights, 64, 1024, left, &buffers.values[d * 32], right, 1024, steps, out, state.stride);
            }
        in_order();
        if (buffers.n < 16) shape_tiles(16);
    }
#endif
}

// Queries as operands. A tile has 16 rows; each row's pairs of neighbouring numbers stand beside those of the next row.
template <bool TILED, class T> void prepare(Buffers<TILED>& buffers, const T* q) {
    const int64_t dim = buffers.step.k.dim;
    std::fill(buffers.queries.begin(), buffers.queries.end(), typename Buffers<TILED>::O{});
    for (int64_t r = 0; r < buffers.n; r++)
        for (int64_t d = 0; d < dim; d++) {
            if constexpr (!TILED) {
                if constexpr (std::is_same_v<T, bfloat16>) {
                    const uint32_t bits = (uint32_t)q[r * dim + d].bits << 16;
                    buffers.queries[r * buffers.dk + d] = load<float>(&bits);
                } else buffers.queries[r * buffers.dk + d] = (float)q[r * dim + d];
            } else if constexpr (std::is_same_v<T, bfloat16>) {
                buffers.queries[(r / 16 * (buffers.dk / 32) + d / 32) * 512 + d % 32 / 2 * 32 + r % 16 * 2 + d % 2] = q[r * dim + d];
            }
        }
}

template <bool TILED, class T> void attend(const Step& step) {
    const int64_t chunks = (step.rows + MOST_ROWS - 1) / MOST_ROWS, block = Buffers<TILED>(step).block;
    const int64_t blocks = (step.slots + block - 1) / block, units = step.sequences * step.kv_heads * chunks * blocks;
    const auto rows_of = [&](int64_t place) { return std::min<int64_t>(MOST_ROWS, step.rows - place % chunks * MOST_ROWS); };
    const auto finish = [&](const State& state) {
        T* out = (T*)step.out + (state.place / chunks * step.rows + state.place % chunks * MOST_ROWS) * step.value_dim;
        for (int64_t r = 0; r < rows_of(state.place); r++) {
            const float by = 1 / state.sum[r];
            for (int64_t d = 0; d < step.value_dim; d++)
                put(out + r * step.value_dim + d, state.out[r * state.stride + Buffers<TILED>::column(d)] * by);
        }
    };
    std::vector<State> shared(2 * step.threads);
    on_threads(step.threads, [&](int64_t t, int64_t n_threads) {
        const int64_t begin = units * t / n_threads, end = units * (t + 1) / n_threads;
        State whole;
        Buffers<TILED> buffers(step);
#ifdef TILES
        if (TILED) shape_tiles(16);
#endif
        for (int64_t unit = begin; unit < end;) {
            const int64_t place = unit / blocks, first = unit % blocks, last = std::min(blocks, first + end - unit);
            const int64_t pair = place / chunks, from = place % chunks * MOST_ROWS, sequence = pair / step.kv_heads;
            const Rows k(step.k, sequence / step.tokens, pair % step.kv_heads), v(step.v, sequence / step.tokens, pair % step.kv_heads);
            const bool alone = first == 0 && last == blocks;
            State& state = alone ? whole : shared[2 * t + (unit != begin)];
            buffers.n = rows_of(place), buffers.rows = up(buffers.n, LANES);
            state.start(place, buffers.rows, buffers.dv);
            prepare<TILED>(buffers, (const T*)step.q + (pair * step.rows + from) * step.k.dim);
            for (int64_t b = first; b < last; b++)
                attend_block(buffers, state, k, v, step.chosen ? step.chosen + sequence * step.slots : nullptr, b * block,
                             std::min(block, step.slots - b * block), from);
            if (alone) finish(state);
            unit += last - first;
        }
#ifdef TILES
        if (TILED) _tile_release();
#endif
    });
    join(shared, &State::place, finish);
}

// Whether the operating system lets this process use tiles: it must reserve memory for their state.
bool tiles() {
#ifdef TILES
    static const bool granted = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) == 0;
    return granted;
#else
    return false;
#endif
}

}  // namespace

extern "C" int attend_float32(const Step* step) { return attend<false, float>(*step), 0; }
extern "C" int attend_float16(const Step* step) { return attend<false, float16>(*step), 0; }
extern "C" int attend_bfloat16(const Step* step) {
#ifdef TILES
    if (tiles()) return attend<true, bfloat16>(*step), 1;
#endif
    return attend<false, bfloat16>(*step), 0;
}
