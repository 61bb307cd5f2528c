// A decode step over any kind of cache for a processor: each row is read once, as it lies, for all queries that need it.
//
// Compiled by attention/kernels/kinds/native.py; called through C, so that no headers but these are needed.
//
// The flattened cache (sequence, K/V head, block of positions) is cut into one contiguous piece per thread, as in
// attention/kernels/native.cpp; a running softmax (Milakov and Gimelshein 2018) of each piece is put together with those
// of others (flash-decoding, Dao et al. 2023). Scores lie position by position, so that a register holds those of
// neighbouring rows of queries. Where the processor multiplies tiles of bfloat16 (AMX), both products are made of these:
// keys and values meet up to 128 rows of queries at a rate that leaves the rest of the core to widening and the softmax.

#include <algorithm>
#include <cfloat>
#include <type_traits>
#include <omp.h>
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include "native_products.h"

namespace {

constexpr int MOST_ROWS = 128;  // of queries at once: their output of 512 columns fills an eighth of a core's own cache

// One step, as native.py fills it in. Row r of a sequence's K/V head is head r / q_len of its group, new token r % q_len.
struct Step {
    const char* q;          // [sequences, kv_heads, rows, k.dim]
    char* out;              // [sequences, kv_heads, rows, value_dim]
    Plane k, v;             // v as k where one plane is both
    const int64_t* chosen;  // positions to attend to, [sequences, slots], -1 for none; or null: all slots
    int64_t sequences, kv_heads, rows, q_len, slots, context, window, value_dim, one_plane, threads;
    int64_t tokens;         // sequences that read the same cache: new tokens that have chosen for themselves
    double scale;           // times the binary logarithm of e: the softmax is taken to the base of 2
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
        place = at, stride = columns + 16;  // rows of one tile must not fall on the same lines of the cache
        top.assign(rows, -INFINITY), sum.assign(rows, 0.f), out.assign(rows * stride, 0.f);
    }
    // A share too small for float32 stays above 0, so that an infinite value it weighs stays infinite.
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
            // a part in which nothing weighs holds zeros, or the NaN of what it met: both are added as they are
            const float by = other.top[r] == -INFINITY ? 1.f : share(other.top[r], top[r]);
            sum[r] += by * other.sum[r];
            for (int64_t d = 0; d < stride; d++) out[r * stride + d] += by * other.out[r * stride + d];
        }
    }
};

// What a thread works in. TILED: operands are bfloat16, in tiles; else float32.
template <bool TILED> struct Room {
    typedef std::conditional_t<TILED, bfloat16, float> O;
    static constexpr int UNIT = TILED ? 32 : LANES;
    const Step& step;
    const int64_t most, dk, dv;  // rows at most, and columns, filled up
    const int block;             // positions; longer where sums of many rows are to be fetched and stored seldom
    int64_t n = 0, rows = 0;     // of the queries at hand, filled up to whole registers
    Array<O> queries, keys, values, value_rows, weights;
    Array<float> scores, k_factor, v_factor;
    std::vector<const O*> keys_at;
    std::vector<int64_t> apart;

    explicit Room(const Step& s)
        : step(s), most(up(std::min<int64_t>(s.rows, MOST_ROWS), 16)), dk(up(s.k.dim, UNIT)), dv(up(s.value_dim, UNIT)),
          block(most > 32 ? 256 : 128), queries(most * dk), keys((s.one_plane ? block : STEP) * dk), value_rows(STEP * dv),
          scores(block * most), keys_at(block / STEP), apart(block / STEP) {
        if (TILED) values.resize(block * dv), weights.resize(block * most);
        if (TILED && (s.k.format == INT8_TOKEN || s.k.format == FP8_HEAD)) k_factor.resize(block);
        if (TILED && (s.v.format == INT8_TOKEN || s.v.format == FP8_HEAD)) v_factor.resize(block);
    }
    static int64_t column(int64_t d) {  // where a value's element stands in the sums
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

// `n` rows -> operands of `columns`, STEP rows of them, filled up with zeros; the scales left out of them.
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

// Asks for the memory of some rows, while others are worked on.
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

template <bool TILED> void score(Room<TILED>& room, const typename Room<TILED>::O* keys, int64_t apart, float* scores) {
    const int64_t rows = room.rows, dk = room.dk;
    if constexpr (!TILED) {
        for (int p = 0; p < STEP; p += LANES)
            in_tiles(room.n, [&](int r, auto size) {
                for (int i = p; i < p + LANES; i += LANES / size)
                    score_tile<size>(&room.queries[r * dk], keys + i * apart, dk, apart, scores + i * rows + r, rows);
            });
    }
#ifdef TILES
    else {
        const int64_t tile = dk / 32 * 512, row = apart * 2;
        in_order();
        for (int64_t r = 0; r < rows; r += 32)
            if (r + 16 < rows)
                tile_product<2, 2, true>(keys, row, 64, 16 * row, &room.queries[r / 16 * tile], 1024, tile * 2, dk / 32, scores + r, rows);
            else
                tile_product<2, 1, true>(keys, row, 64, 16 * row, &room.queries[r / 16 * tile], 1024, 0, dk / 32, scores + r, rows);
        in_order();
    }
#endif
}

// Scores -> weights of LANES rows from `row` on with a block's `n` positions; the rest, up to whole steps, weigh nothing
// that could be seen. A score of NaN or +infinity makes the whole softmax NaN, one of -infinity weighs nothing at all.
template <bool TILED> void weigh(Room<TILED>& room, State& state, int64_t row, int n) {
    const int64_t rows = room.rows;
    const float scale = room.step.scale;
    float* scores = &room.scores[row];
    const float* factors = room.k_factor.empty() ? nullptr : room.k_factor.data();
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
    // where nothing has been seen yet, only what is left out below weighs nothing
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
    if (any(tops > top)) {  // a top that has been larger so far serves as well
        for (int i = 0; i < LANES && row + i < room.n; i++)
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
        const float* by = room.v_factor.empty() ? nullptr : room.v_factor.data();
        const Ints upper = Ints{} + (int)0xffff0000;
        for (int p = 0; p < whole; p += STEP) {
            __m512i pairs[16];
            for (int j = 0; j < 16; j++) {
                Floats a = weight(p + 2 * j), b = weight(p + 2 * j + 1);
                if (by) total += a + b, a *= by[p + 2 * j], b *= by[p + 2 * j + 1];
                const Ints x = (Ints)a + 0x8000, y = (Ints)b + 0x8000;  // weights are above 0: rounded to the nearest
                if (!by) total += (Floats)(x & upper) + (Floats)(y & upper);  // the sum must be that of the weights in use
                pairs[j] = (__m512i)((y & upper) | (x >> 16 & 0xffff));
            }
            transpose(pairs);
            auto* to = &room.weights[(row / 16 * (room.block / STEP) + p / STEP) * 512];
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

template <bool TILED> void attend_block(Room<TILED>& room, State& state, const Rows& k, const Rows& v, const int64_t* chosen, int64_t first, int n, int64_t from) {
    typedef typename Room<TILED>::O O;
    const Step& step = room.step;
    const int steps = up(n, STEP) / STEP;
    const int64_t rows = room.rows, next = first + room.block;
    const bool k_lies = room.as_it_lies(step.k, room.dk), v_lies = room.as_it_lies(step.v, room.dv);
    for (int i = 0; i < steps; i++) {
        const int p = i * STEP, m = std::min(STEP, n - p);
        if (!chosen) ahead(step.k, k, next + p, step.one_plane ? STEP / 2 : STEP, step.slots);
        const O* keys;
        if (k_lies && m == STEP) {
            keys = (const O*)(k.data + (first + p) * k.row), room.apart[i] = k.row / sizeof(O);
        } else {
            O* to = &room.keys[step.one_plane ? p * room.dk : 0];
            operands(step.k, k, chosen, first + p, m, step.k.dim, room.dk, to, room.k_factor.empty() ? nullptr : &room.k_factor[p]);
            keys = to, room.apart[i] = room.dk;
        }
        room.keys_at[i] = keys;
        score(room, keys, room.apart[i], &room.scores[p * rows]);
    }
    if (step.q_len > 1 || step.window || chosen) {  // what a token does not see
        const int64_t turn = (step.context - 1) / step.slots * step.slots;
        for (int p = 0; p < n; p++) {
            int64_t at = first + p + turn;
            if (at >= step.context) at -= step.slots;
            const bool all = chosen && chosen[first + p] < 0;
            if (!all && (chosen || (at <= step.context - step.q_len && (!step.window || at > step.context - 1 - step.window)))) continue;
            for (int64_t r = 0; r < room.n; r++) {
                const int64_t last = step.context - step.q_len + (from + r) % step.q_len;
                if (all || at > last || (step.window && at <= last - step.window)) room.scores[p * rows + r] = -INFINITY;
            }
        }
    }
    if (step.one_plane) room.v_factor = room.k_factor;
    const auto value_operands = [&](int i, int64_t& apart) -> const O* {
        const int p = i * STEP, m = std::min(STEP, n - p);
        if (!chosen) ahead(step.v, v, next + p + (step.one_plane ? STEP / 2 : 0), step.one_plane ? STEP / 2 : STEP, step.slots);
        if (step.one_plane) return apart = room.apart[i], room.keys_at[i];
        if (v_lies && m == STEP) return apart = v.row / sizeof(O), (const O*)(v.data + (first + p) * v.row);
        operands(step.v, v, chosen, first + p, m, step.value_dim, room.dv, room.value_rows.data(),
                 room.v_factor.empty() ? nullptr : &room.v_factor[p]);
        return apart = room.dv, room.value_rows.data();
    };
    int64_t apart;
    if constexpr (!TILED) {
        for (int64_t r = 0; r < rows; r += LANES) weigh(room, state, r, n);
        for (int i = 0; i < steps; i++) {
            const float* values = value_operands(i, apart);
            in_tiles(room.n, [&](int r, auto size) {
                constexpr int C = LANES / size < 8 ? LANES / size : 8;
                value_columns<size, C>(&room.scores[i * STEP * rows + r], rows, values, apart, &state.out[r * state.stride], state.stride, room.dv);
            });
        }
    }
#ifdef TILES
    else {
        for (int i = 0; i < steps; i++) {
            const bfloat16* values = value_operands(i, apart);
            for (int j = 0; j < STEP / 2; j++)
                pair_rows(values + 2 * j * apart, values + (2 * j + 1) * apart, room.dv, (char*)&room.values[i * STEP * room.dv] + j * 64, 1024);
        }
        for (int64_t r = 0; r < rows; r += LANES) weigh(room, state, r, n);
        if (room.n < 16) shape_tiles(room.n);
        in_order();
        const int64_t left = room.block / STEP * 1024, right = room.dv / 16 * 1024;
        for (int64_t r = 0; r < rows; r += 32)
            for (int64_t d = 0; d < room.dv; d += 32) {
                const auto* weights = &room.weights[r / 16 * left / 2];
                float* out = &state.out[r * state.stride + d];
                if (r + 16 < rows)
                    tile_product<2, 2, false>(weights, 64, 1024, left, &room.values[d * 32], right, 1024, steps, out, state.stride);
                else
                    tile_product<1, 2, false>(weights, 64, 1024, left, &room.values[d * 32], right, 1024, steps, out, state.stride);
            }
        in_order();
        if (room.n < 16) shape_tiles(16);
    }
#endif
}

// Queries as operands; in tiles of 16 rows, two neighbouring numbers of each beside those of the next row.
template <bool TILED, class T> void prepare(Room<TILED>& room, const T* q) {
    const int64_t dim = room.step.k.dim;
    std::fill(room.queries.begin(), room.queries.end(), typename Room<TILED>::O{});
    for (int64_t r = 0; r < room.n; r++)
        for (int64_t d = 0; d < dim; d++) {
            if constexpr (!TILED) {
                if constexpr (std::is_same_v<T, bfloat16>) {
                    const uint32_t bits = (uint32_t)q[r * dim + d].bits << 16;
                    room.queries[r * room.dk + d] = load<float>(&bits);
                } else room.queries[r * room.dk + d] = (float)q[r * dim + d];
            } else if constexpr (std::is_same_v<T, bfloat16>) {
                room.queries[(r / 16 * (room.dk / 32) + d / 32) * 512 + d % 32 / 2 * 32 + r % 16 * 2 + d % 2] = q[r * dim + d];
            }
        }
}

template <bool TILED, class T> void attend(const Step& step) {
    const int64_t chunks = (step.rows + MOST_ROWS - 1) / MOST_ROWS, block = Room<TILED>(step).block;
    const int64_t blocks = (step.slots + block - 1) / block, units = step.sequences * step.kv_heads * chunks * blocks;
    const auto rows_of = [&](int64_t place) { return std::min<int64_t>(MOST_ROWS, step.rows - place % chunks * MOST_ROWS); };
    const auto finish = [&](const State& state) {
        T* out = (T*)step.out + (state.place / chunks * step.rows + state.place % chunks * MOST_ROWS) * step.value_dim;
        for (int64_t r = 0; r < rows_of(state.place); r++) {
            const float by = 1 / state.sum[r];
            for (int64_t d = 0; d < step.value_dim; d++)
                put(out + r * step.value_dim + d, state.out[r * state.stride + Room<TILED>::column(d)] * by);
        }
    };
    std::vector<State> shared(2 * step.threads);
#pragma omp parallel num_threads(step.threads)
    {
        const int64_t t = omp_get_thread_num(), n_threads = omp_get_num_threads();
        const int64_t begin = units * t / n_threads, end = units * (t + 1) / n_threads;
        State whole;
        Room<TILED> room(step);
#ifdef TILES
        if (TILED) shape_tiles(16);
#endif
        for (int64_t unit = begin; unit < end;) {
            const int64_t place = unit / blocks, first = unit % blocks, last = std::min(blocks, first + end - unit);
            const int64_t pair = place / chunks, from = place % chunks * MOST_ROWS, sequence = pair / step.kv_heads;
            const Rows k(step.k, sequence / step.tokens, pair % step.kv_heads), v(step.v, sequence / step.tokens, pair % step.kv_heads);
            const bool alone = first == 0 && last == blocks;
            State& state = alone ? whole : shared[2 * t + (unit != begin)];
            room.n = rows_of(place), room.rows = up(room.n, LANES);
            state.start(place, room.rows, room.dv);
            prepare<TILED>(room, (const T*)step.q + (pair * step.rows + from) * step.k.dim);
            for (int64_t b = first; b < last; b++)
                attend_block(room, state, k, v, step.chosen ? step.chosen + sequence * step.slots : nullptr, b * block,
                             std::min(block, step.slots - b * block), from);
            if (alone) finish(state);
            unit += last - first;
        }
#ifdef TILES
        if (TILED) _tile_release();
#endif
    }
    State* row = nullptr;
    for (State& part : shared) {
        if (part.place < 0) continue;
        if (row && row->place == part.place) { row->add(part); continue; }
        if (row) finish(*row);
        row = &part;
    }
    if (row) finish(*row);
}

// Whether the system lets this process use tiles, whose state it must make room for.
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
