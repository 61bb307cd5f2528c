// Registers of float32 numbers, as wide as the processor's, and other code that the processor's kernels share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// Allocates memory that begins at a cache line, so that a register is never loaded from two lines.
template <class T> struct Lines {
    typedef T value_type;
    T* allocate(size_t n) { return (T*)::operator new(n * sizeof(T), std::align_val_t(64)); }
    void deallocate(T* at, size_t) { ::operator delete(at, std::align_val_t(64)); }
    bool operator==(const Lines&) const { return true; }
    bool operator!=(const Lines&) const { return false; }
};
template <class T> using Array = std::vector<T, Lines<T>>;

#if defined(__AVX512F__)
constexpr int LANES = 16;  // float32 numbers in a register
#else
constexpr int LANES = 8;
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

struct bfloat16 { uint16_t bits; };
#if defined(__aarch64__)
typedef __fp16 float16;  // GCC before 13 has _Float16 in C++ on x86 only
#else
typedef _Float16 float16;
#endif

template <class To, class From> inline To load(const From* from) {
    To to;
    std::memcpy(&to, from, sizeof to);
    return to;
}
inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }
inline Floats floats(const float* x) { return load<Floats>(x); }
inline Floats floats(const bfloat16* x) {  // a bfloat16 is the upper half of a float32
    return (Floats)(__builtin_convertvector(load<Halves>(x), Ints) << 16);
}
inline Floats floats(const float16* x) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(load<__m256i>(x));
#elif defined(__F16C__) && defined(__AVX2__)
    return (Floats)_mm256_cvtph_ps(load<__m128i>(x));
#else
    typedef float16 Packed __attribute__((vector_size(2 * LANES)));
    return __builtin_convertvector(load<Packed>(x), Floats);
#endif
}
// Keeps a loaded number in its register. Compilers often load it again for every use, which takes longer than the use.
inline Floats held(Floats x) {
#if defined(__AVX2__)
    asm("" : "+v"(x));
#endif
    return x;
}
inline bool any(Ints mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#else
    int all = 0;
    for (int i = 0; i < LANES; i++) all |= mask[i];
    return all;
#endif
}
inline float largest(Floats x) {
    float all = x[0];
    for (int i = 1; i < LANES; i++) all = std::max(all, x[i]);
    return all;
}
inline Floats maximum(Floats a, Floats b) { return a > b ? a : b; }

// 2^x for x <= 0: a power of two times a polynomial of the rest, which is between -1/2 and 1/2. The coefficients,
// highest power first, minimise the largest relative error: it is 8e-8 with six of them and 8e-5 with four.
template <int N> inline Floats power_of_two(Floats x, const float (&coefficients)[N]) {
    const Floats magic = Floats{} + 12582912.f;  // 1.5 * 2^23: adding it rounds to a whole number, in the lowest bits
    x = maximum(x, Floats{} - 126.f);
    const Floats whole = x + magic, rest = x - (whole - magic);
    Floats p = Floats{} + coefficients[0];
    for (int i = 1; i < N; i++) p = p * rest + coefficients[i];
    return (Floats)((Ints)p + ((Ints)whole << 23));
}

template <int N> using Size = std::integral_constant<int, N>;

// A register whose number i is number place(i) of a and b, counted on from a to b.
template <class Place, int... I> inline Floats picked(Floats a, Floats b, Place place, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, place(I)...);
#else
    return __builtin_shuffle(a, b, Ints{place(I)...});
#endif
}
template <class Place> inline Floats picked(Floats a, Floats b, Place place) {
    return picked(a, b, place, std::make_integer_sequence<int, LANES>());
}

// Writes the sum of each of LANES registers, in order, to x[0]. Rounds of adding neighbours replace one sum per
// register.
template <int W = LANES / 2> inline void add_across(Floats* x) {
    const auto kept = [](int i) { return i % (2 * W) < W ? i : i + LANES; };
    const auto crossed = [](int i) { return i % (2 * W) < W ? i + W : i - W + LANES; };
    for (int i = 0; i < W; i++) x[i] = picked(x[i], x[i + W], kept) + picked(x[i], x[i + W], crossed);
    if constexpr (W > 1) add_across<W / 2>(x);
}

// Calls `tile` for all rows: eight, four, two or one at a time.
template <class Tile> inline void in_tiles(int rows, const Tile& tile) {
    int r = 0;
    for (; r + 8 <= rows; r += 8) tile(r, Size<8>());
    for (; r + 4 <= rows; r += 4) tile(r, Size<4>());
    for (; r + 2 <= rows; r += 2) tile(r, Size<2>());
    for (; r < rows; r++) tile(r, Size<1>());
}

// Combines and finishes the parts of rows that several threads share. Parts are in order; a place below 0 is unused.
template <class State, class Finish> void join(std::vector<State>& parts, int64_t State::*place, const Finish& finish) {
    State* row = nullptr;
    for (State& part : parts) {
        if (part.*place < 0) continue;
        if (row && row->*place == part.*place) { row->add(part); continue; }
        if (row) finish(*row);
        row = &part;
    }
    if (row) finish(*row);
}

}  // namespace
