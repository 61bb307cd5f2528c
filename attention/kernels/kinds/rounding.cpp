// Rounds rows of float32 to a cache's format, in place in the cache, number for number as stored.py does.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

#if defined(__aarch64__)
typedef __fp16 float16;  // GCC before 13 has _Float16 in C++ on x86 only
#else
typedef _Float16 float16;
#endif
constexpr int GROUP = 32;

// As in rounding.py; strides in bytes. The heads of all sequences are numbered one after the other.
struct Target {
    char *data, *scale, *zero;
    int64_t head, row, scale_head, scale_row;
};

template <class T> inline void put(char* at, T value) { std::memcpy(at, &value, sizeof value); }
inline float code(float x, float by, float low, float high) { return std::min(high, std::max(low, std::nearbyint(x / by))); }
inline float largest_size(const float* x, int64_t n) {
    float size = 0;
    for (int64_t i = 0; i < n; i++) size = std::max(size, std::fabs(x[i]));
    return size;
}

void int8_token(const float* x, int64_t dim, char* data, char* scale, char*) {
    const float by = std::max(largest_size(x, dim), 1e-12f) / 127;
    put(scale, by);
    for (int64_t i = 0; i < dim; i++) data[i] = (int8_t)code(x[i], by, -128, 127);
}
void q8_0(const float* x, int64_t dim, char* data, char*, char*) {
    for (int64_t g = 0; g < dim / GROUP; g++, x += GROUP, data += GROUP + 2) {
        const float16 kept = (float16)(largest_size(x, GROUP) / 127);
        const float by = std::max((float)kept, 1e-8f);
        put(data, kept);
        for (int i = 0; i < GROUP; i++) data[2 + i] = (int8_t)code(x[i], by, -128, 127);
    }
}
void q4_0(const float* x, int64_t dim, char* data, char*, char*) {
    for (int64_t g = 0; g < dim / GROUP; g++, x += GROUP, data += GROUP / 2 + 2) {
        float largest = 0;
        for (int i = 0; i < GROUP; i++)
            if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
        const float16 kept = (float16)(largest / -8);
        const float by = (float)kept == 0 ? 1.f : (float)kept;
        put(data, kept);
        uint8_t codes[GROUP];
        for (int i = 0; i < GROUP; i++) codes[i] = (uint8_t)(code(x[i], by, -8, 7) + 8);
        for (int i = 0; i < GROUP / 2; i++) data[2 + i] = (char)(codes[i] | codes[i + GROUP / 2] << 4);
    }
}
void int4_g32(const float* x, int64_t dim, char* data, char* scale, char* zero) {
    for (int64_t g = 0; g < dim / GROUP; g++, x += GROUP, data += GROUP / 2) {
        float low = x[0], high = x[0];
        for (int i = 1; i < GROUP; i++) low = std::min(low, x[i]), high = std::max(high, x[i]);
        const float16 step = (float16)((high - low) / 15), from = (float16)low;
        put(scale + 2 * g, step);
        put(zero + 2 * g, from);
        const float by = std::max((float)step, 1e-8f);
        uint8_t codes[GROUP];
        for (int i = 0; i < GROUP; i++) codes[i] = (uint8_t)code(x[i] - (float)from, by, 0, 15);
        for (int i = 0; i < GROUP; i += 2) data[i / 2] = (char)(codes[i] | codes[i + 1] << 4);
    }
}

}  // namespace

// x [heads, rows, dim]; kind: 0 int8-token, 1 q8_0, 2 q4_0, 3 int4-g32.
extern "C" void round_rows(const float* x, int64_t heads, int64_t rows, int64_t dim, int kind, const Target* to) {
    constexpr void (*ROUND[])(const float*, int64_t, char*, char*, char*) = {int8_token, q8_0, q4_0, int4_g32};
    for (int64_t h = 0; h < heads; h++)
        for (int64_t r = 0; r < rows; r++, x += dim) {
            const int64_t at = h * to->scale_head + r * to->scale_row;
            ROUND[kind](x, dim, to->data + h * to->head + r * to->row, to->scale + at, to->zero + at);
        }
}
