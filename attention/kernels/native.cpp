// Decode attention for a processor: one pass over the cache, every core at work whatever the number of K/V heads.
//
// Compiled by attention/kernels/native.py with -DHEAD_DIM=...; called through C, so that no headers but these are needed.
//
// The flattened cache (sequence, K/V head, block of positions) is cut into one contiguous piece per thread. A piece keeps
// a running softmax (Milakov and Gimelshein 2018) for each row of the cache it touches; rows that several threads share
// are put together afterwards from each one's maximum, sum and output (flash-decoding, Dao et al. 2023).
// A block's keys and values stay in the core's own cache while all query heads of the group use them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#include <omp.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr int D = HEAD_DIM;
constexpr int LANES = 16;
constexpr int STEPS = D / LANES;
constexpr int BLOCK = 64;  // positions: 32 KiB of float32 keys at head_dim 128
static_assert(D % LANES == 0, "head_dim must be divisible by 16");

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

struct bfloat16 { uint16_t bits; };
typedef _Float16 float16;

template <class To, class From> inline To load(const From* from) {
    To to;
    std::memcpy(&to, from, sizeof to);
    return to;
}
inline Floats floats(const float* x) { return load<Floats>(x); }
inline Floats floats(const bfloat16* x) {  // a bfloat16 is the upper half of a float32
    return (Floats)(__builtin_convertvector(load<Halves>(x), Ints) << 16);
}
inline Floats floats(const float16* x) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(load<__m256i>(x));
#else
    typedef float16 Packed __attribute__((vector_size(32)));
    return __builtin_convertvector(load<Packed>(x), Floats);
#endif
}

// Asks for memory that will be read about a block later, into the core's L2.
inline void prefetch(const void* from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)from + i, 0, 2);
}
inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }
inline Floats maximum(Floats a, Floats b) { return a > b ? a : b; }

// exp(x) for x <= 0, to about 2 units in the last place: 2^n times a polynomial of the rest (Cephes' coefficients).
inline Floats exponential(Floats x) {
    x = maximum(x, Floats{} - 87.3f);
    const Floats magic = Floats{} + 12582912.f;  // 1.5 * 2^23: adding it rounds to a whole number
    const Floats n = (x * 1.44269504088896341f + magic) - magic;
    const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    Floats p = Floats{} + 1.9875691500e-4f;
    for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + c;
    p = p * r * r + r + 1.f;
    return p * (Floats)((__builtin_convertvector(n, Ints) + 127) << 23);
}

template <int N> using Size = std::integral_constant<int, N>;
using First = std::true_type;
using Later = std::false_type;

// LANES vectors -> the sum of each, in order: rounds of adding neighbours instead of one sum across for each.
template <int W> inline void add_neighbours(Floats* x) {
    Ints first{}, second{};
    for (int i = 0; i < LANES; i++) {
        first[i] = i % (2 * W) < W ? i : i - W + LANES;
        second[i] = first[i] + W;
    }
    for (int i = 0; i < W; i++)
        x[i] = __builtin_shuffle(x[i], x[i + W], first) + __builtin_shuffle(x[i], x[i + W], second);
}
inline Floats sums(Floats* x) {
    add_neighbours<8>(x);
    add_neighbours<4>(x);
    add_neighbours<2>(x);
    add_neighbours<1>(x);
    return x[0];
}

// How the two products multiply: in float32, whatever the cache's type ...
template <class T> struct Product {
    typedef Floats Register;
    typedef float Operand;                 // what a query and a softmax weight are turned into
    static constexpr int WIDTH = LANES;    // elements of a key per register
    static constexpr int ROWS = 1;         // values taken at once
    static Register key(const T* x) { return floats(x); }
    static Register query(const float* x) { return load<Floats>(x); }
    static Register weight(const float* x) { return Floats{} + *x; }
    static Floats add(Floats sum, Register a, Register b) { return sum + a * b; }
    static void value(const T* x, Register* to) { *to = floats(x); }
    static void prepare(const T* from, float* to) { for (int d = 0; d < D; d += LANES) store(to + d, floats(from + d)); }
    static Floats prepare(Floats x, float* to) { store(to, x); return x; }
};

#if defined(__AVX512BF16__) && HEAD_DIM % 32 == 0
// ... or as pairs of bfloat16 added up in float32, where the processor has the instruction.
template <> struct Product<bfloat16> {
    typedef __m512bh Register;
    typedef bfloat16 Operand;
    static constexpr int WIDTH = 2 * LANES;
    static constexpr int ROWS = 2;
    static Register key(const bfloat16* x) { return load<Register>(x); }
    static Register query(const bfloat16* x) { return load<Register>(x); }
    static Register weight(const bfloat16* pair) { return (Register)_mm512_set1_epi32(load<int32_t>(pair)); }
    static Floats add(Floats sum, Register a, Register b) { return (Floats)_mm512_dpbf16_ps((__m512)sum, a, b); }
    static void value(const bfloat16* x, Register* to) {  // two rows of values, element beside element
        const __m512i first = _mm512_cvtepu16_epi32(load<__m256i>(x));
        const __m512i second = _mm512_cvtepu16_epi32(load<__m256i>(x + D));
        *to = (Register)_mm512_or_si512(first, _mm512_slli_epi32(second, 16));
    }
    static void prepare(const bfloat16* from, bfloat16* to) { std::memcpy(to, from, D * sizeof *to); }
    static Floats prepare(Floats x, bfloat16* to) {
        const Halves rounded = (Halves)_mm512_cvtneps_pbh((__m512)x);
        std::memcpy(to, &rounded, sizeof rounded);
        return floats(to);  // the sum must be that of the weights in use
    }
};
#endif

// scores[head][position] of H query heads with P keys; H * P == LANES, so that the tile's sums fill one register.
// FIRST: key after key as they lie in memory, with those a block ahead asked for; else in the order that loads each key and
// query only once, for keys that are in the core's cache by then.
template <class T, int H, bool FIRST>
inline void score_tile(const typename Product<T>::Operand* q, const T* k, float* scores) {
    constexpr int P = LANES / H;
    Floats tile[LANES]{};
    if constexpr (FIRST) {
        for (int p = 0; p < P; p++) {
            prefetch(k + (p + BLOCK) * D, D * sizeof(T));
            for (int d = 0; d < D; d += Product<T>::WIDTH) {
                const auto key = Product<T>::key(k + p * D + d);
                for (int h = 0; h < H; h++)
                    tile[h * P + p] = Product<T>::add(tile[h * P + p], key, Product<T>::query(q + h * D + d));
            }
        }
    } else {
        for (int d = 0; d < D; d += Product<T>::WIDTH) {
            typename Product<T>::Register keys[P];
            for (int p = 0; p < P; p++) keys[p] = Product<T>::key(k + p * D + d);
            for (int h = 0; h < H; h++) {
                const auto query = Product<T>::query(q + h * D + d);
                for (int p = 0; p < P; p++) tile[h * P + p] = Product<T>::add(tile[h * P + p], keys[p], query);
            }
        }
    }
    const Floats all = sums(tile);
    for (int h = 0; h < H; h++) std::memcpy(scores + h * BLOCK, (const float*)&all + h * P, P * sizeof(float));
}

// Registers of output per head that a tile of H heads keeps: as many as divide a head's and leave room for the values.
constexpr int columns(int heads) {
    int c = LANES / heads;
    while (STEPS % c) c--;
    return c;
}

// out[head] += weights[head] * values, for H heads.
template <class T, int H, bool FIRST>
inline void value_tile(const typename Product<T>::Operand* weights, const T* v, float* out) {
    constexpr int C = columns(H);
    for (int d = 0; d < D; d += C * LANES) {
        Floats tile[H][C];
        for (int h = 0; h < H; h++)
            for (int c = 0; c < C; c++) tile[h][c] = load<Floats>(out + h * D + d + c * LANES);
        for (int p = 0; p < BLOCK; p += Product<T>::ROWS) {
            if (FIRST && d == 0) prefetch(v + (p + BLOCK) * D, Product<T>::ROWS * D * sizeof(T));
            typename Product<T>::Register values[C];
            for (int c = 0; c < C; c++) Product<T>::value(v + p * D + d + c * LANES, values + c);
            for (int h = 0; h < H; h++) {
                const auto weight = Product<T>::weight(weights + h * BLOCK + p);
                for (int c = 0; c < C; c++) tile[h][c] = Product<T>::add(tile[h][c], values[c], weight);
            }
        }
        for (int h = 0; h < H; h++)
            for (int c = 0; c < C; c++) store(out + h * D + d + c * LANES, tile[h][c]);
    }
}

// The running softmax of a group's query heads over the part of a row that one thread has seen.
struct State {
    std::vector<float> top, sum, out;
    int64_t row = -1;
    explicit State(int heads) : top(heads), sum(heads), out(heads * D) {}
    void start(int64_t at) {
        row = at;
        std::fill(top.begin(), top.end(), -INFINITY);
        std::fill(sum.begin(), sum.end(), 0.f);
        std::fill(out.begin(), out.end(), 0.f);
    }
    void rescale(int head, float new_top) {
        const float by = std::exp(top[head] - new_top);
        top[head] = new_top;
        sum[head] *= by;
        for (int d = 0; d < D; d++) out[head * D + d] *= by;
    }
    void add(const State& other) {
        for (size_t h = 0; h < top.size(); h++) {
            if (other.top[h] > top[h]) rescale(h, other.top[h]);
            const float by = std::exp(other.top[h] - top[h]);
            sum[h] += by * other.sum[h];
            for (int d = 0; d < D; d++) out[h * D + d] += by * other.out[h * D + d];
        }
    }
};

inline void put(float* to, float x) { *to = x; }
inline void put(float16* to, float x) { *to = (float16)x; }
inline void put(bfloat16* to, float x) {  // to the nearest, ties to even
    const auto bits = load<uint32_t>(&x);
    to->bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// One head alone or two first, which fetch the block, then the others four, two and one at a time.
template <class Tile> inline void in_tiles(int heads, const Tile& tile) {
    int h = heads > 1 ? 2 : 1;
    if (h == 2) tile(0, Size<2>(), First());
    else tile(0, Size<1>(), First());
    for (; h + 4 <= heads; h += 4) tile(h, Size<4>(), Later());
    for (; h + 2 <= heads; h += 2) tile(h, Size<2>(), Later());
    for (; h < heads; h++) tile(h, Size<1>(), Later());
}

// One block of one K/V head: k, v [BLOCK, D], of which the first `n` positions count.
template <class T>
void attend_block(const typename Product<T>::Operand* q, const T* k, const T* v, int heads, int n, float scale, State& state,
                  float* scores, typename Product<T>::Operand* weights) {
    in_tiles(heads, [&](int h, auto size, auto first) {
        for (int p = 0; p < BLOCK; p += LANES / size)
            score_tile<T, size, first>(q + h * D, k + p * D, scores + h * BLOCK + p);
    });
    for (int h = 0; h < heads; h++) {
        float* row = scores + h * BLOCK;
        for (int p = n; p < BLOCK; p++) row[p] = -INFINITY;
        Floats tops = load<Floats>(row);
        for (int p = LANES; p < BLOCK; p += LANES) tops = maximum(tops, load<Floats>(row + p));
        float top = tops[0];
        for (int i = 1; i < LANES; i++) top = tops[i] > top ? tops[i] : top;
        if (top * scale > state.top[h]) state.rescale(h, top * scale);
        Floats total{};
        for (int p = 0; p < BLOCK; p += LANES)
            total += Product<T>::prepare(exponential(load<Floats>(row + p) * scale - state.top[h]), weights + h * BLOCK + p);
        for (int i = 0; i < LANES; i++) state.sum[h] += total[i];
    }
    in_tiles(heads, [&](int h, auto size, auto first) {
        value_tile<T, size, first>(weights + h * BLOCK, v, &state.out[h * D]);
    });
}

// q, out [rows, heads, D] with rows = batch * kv_heads; keys and values [context, D] of each row, whose first elements are
// strides[0] (keys) and strides[2] (values) apart from sequence to sequence, strides[1] and strides[3] from head to head.
template <class T>
void decode(const T* q, const T* k, const T* v, T* out, int64_t rows, int64_t kv_heads, int heads, int64_t context,
            const int64_t* strides, float scale, int threads) {
    typedef typename Product<T>::Operand Operand;
    const int64_t blocks = (context + BLOCK - 1) / BLOCK;
    const int64_t units = rows * blocks;
    std::vector<State> shared(2 * threads, State(0));
    const auto finish = [&](const State& state) {
        for (int h = 0; h < heads; h++)
            for (int d = 0; d < D; d++) put(out + (state.row * heads + h) * D + d, state.out[h * D + d] / state.sum[h]);
    };
#pragma omp parallel num_threads(threads)
    {
        const int t = omp_get_thread_num(), n_threads = omp_get_num_threads();
        const int64_t begin = units * t / n_threads, end = units * (t + 1) / n_threads;
        State state(heads);
        std::vector<Operand> queries(heads * D), weights(heads * BLOCK);
        std::vector<float> scores(heads * BLOCK);
        std::vector<T> rest(2 * BLOCK * D);  // the last block, filled up with zeros
        for (int64_t unit = begin; unit < end;) {
            const int64_t row = unit / blocks, first = unit % blocks;
            const int64_t last = std::min(blocks, first + end - unit);
            const T* keys = k + row / kv_heads * strides[0] + row % kv_heads * strides[1];
            const T* values = v + row / kv_heads * strides[2] + row % kv_heads * strides[3];
            state.start(row);
            for (int h = 0; h < heads; h++) Product<T>::prepare(q + (row * heads + h) * D, &queries[h * D]);
            for (int64_t block = first; block < last; block++) {
                const T *k_block = keys + block * BLOCK * D, *v_block = values + block * BLOCK * D;
                const int n = std::min<int64_t>(BLOCK, context - block * BLOCK);
                if (n < BLOCK) {
                    std::memcpy(rest.data(), k_block, n * D * sizeof(T));
                    std::memcpy(rest.data() + BLOCK * D, v_block, n * D * sizeof(T));
                    k_block = rest.data(), v_block = rest.data() + BLOCK * D;
                }
                attend_block<T>(queries.data(), k_block, v_block, heads, n, scale, state, scores.data(), weights.data());
            }
            if (first == 0 && last == blocks) finish(state);
            else shared[2 * t + (unit != begin)] = state;
            unit += last - first;
        }
    }
    State* whole = nullptr;
    for (State& part : shared) {
        if (part.row < 0) continue;
        if (whole && whole->row == part.row) { whole->add(part); continue; }
        if (whole) finish(*whole);
        whole = &part;
    }
    if (whole) finish(*whole);
}

}  // namespace

#define DECODE(name, T)                                                                                                     \
    extern "C" void name(const void* q, const void* k, const void* v, void* out, int64_t rows, int64_t kv_heads, int heads, \
                         int64_t context, const int64_t* strides, float scale, int threads) {                              \
        decode<T>((const T*)q, (const T*)k, (const T*)v, (T*)out, rows, kv_heads, heads, context, strides, scale, threads); \
    }
DECODE(decode_float32, float)
DECODE(decode_bfloat16, bfloat16)
DECODE(decode_float16, float16)
