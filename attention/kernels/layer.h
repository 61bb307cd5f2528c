// The two parts of a Llama-like decoder layer before and after its attention, for one decode step of a few sequences.
//
// matvec.cpp includes this file, which calls its products. Each part is one call from Python. Without it a layer needs
// about fifteen calls, and in a small model they take as long as reading the weights.
#pragma once

extern "C" struct Matrix {
    const void* weights;
    int64_t rows, columns, stride, kind;
};

namespace {

using Times = void (*)(const void*, const void*, const void*, void*, int64_t, int64_t, int64_t, int, int);

// y[vector] = m · x[vector]. The kinds are in the order of layer.py.
inline void times(const Matrix& m, const float* x, float* y, int vectors, int threads) {
    constexpr Times kinds[] = {float32_float32, bfloat16_float32, float16_float32, q4_0_float32, q4_1_float32, q8_0_float32};
    kinds[m.kind](m.weights, nullptr, x, y, m.rows, m.columns, m.stride, vectors, threads);
}

// x / sqrt(mean of squares + epsilon) * weights (Zhang and Sennrich 2019, arXiv:1910.07467)
inline void rms_norm(const float* x, const float* weights, float* out, int64_t n, float epsilon) {
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += (double)x[i] * x[i];
    const float by = 1 / std::sqrt((float)(squares / n) + epsilon);
    for (int64_t i = 0; i < n; i++) out[i] = x[i] * by * weights[i];
}

// Rotates the pairs (i, i + half) of a head by the position's angles (Su et al. 2021, arXiv:2104.09864).
inline void rotate(float* head, const float* cos, const float* sin, int half) {
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cos[i] - b * sin[i];
        head[i + half] = b * cos[i] + a * sin[i];
    }
}

}  // namespace

// x [vectors, hidden] -> q [vectors, heads * head_dim] and kv [vectors, 2 * kv_heads * head_dim], keys first. Queries
// and keys are rotated unless `cos` is null.
extern "C" void before_attention(const Matrix* of_q, const Matrix* of_kv, const float* norm, float epsilon, const float* x,
                                 const float* cos, const float* sin, int head_dim, int vectors, float* q, float* kv, int threads) {
    const int64_t hidden = of_q->columns;
    std::vector<float> h(vectors * hidden);
    for (int v = 0; v < vectors; v++) rms_norm(x + v * hidden, norm, &h[v * hidden], hidden, epsilon);
    times(*of_q, h.data(), q, vectors, threads);
    times(*of_kv, h.data(), kv, vectors, threads);
    if (!cos) return;
    for (int v = 0; v < vectors; v++) {
        for (int64_t at = 0; at < of_q->rows; at += head_dim) rotate(q + v * of_q->rows + at, cos, sin, head_dim / 2);
        for (int64_t at = 0; at < of_kv->rows / 2; at += head_dim) rotate(kv + v * of_kv->rows + at, cos, sin, head_dim / 2);
    }
}

// Adds to x [vectors, hidden], in place, the output product of heads [vectors, heads * head_dim], then the MLP's
// result. The MLP is down · (silu(gate · h) * (up · h)) (Shazeer 2020, arXiv:2002.05202); gate's rows come first.
extern "C" void after_attention(const Matrix* of_o, const Matrix* of_gate_up, const Matrix* of_down, const float* norm,
                                float epsilon, const float* heads, float* x, int vectors, int threads) {
    const int64_t hidden = of_o->rows, width = of_down->columns;
    std::vector<float> h(vectors * hidden), both(vectors * 2 * width), inner(vectors * width);
    times(*of_o, heads, h.data(), vectors, threads);
    for (int64_t i = 0; i < vectors * hidden; i++) x[i] += h[i];
    for (int v = 0; v < vectors; v++) rms_norm(x + v * hidden, norm, &h[v * hidden], hidden, epsilon);
    times(*of_gate_up, h.data(), both.data(), vectors, threads);
    for (int v = 0; v < vectors; v++) {
        const float *gate = &both[v * 2 * width], *up = gate + width;
        for (int64_t i = 0; i < width; i++) inner[v * width + i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    }
    times(*of_down, inner.data(), h.data(), vectors, threads);
    for (int64_t i = 0; i < vectors * hidden; i++) x[i] += h[i];
}
