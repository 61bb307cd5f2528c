// The two parts of a Llama-like decoder layer that lie before and after its attention, for a few sequences at a step.
//
// Included by matvec.cpp, whose products it calls: one call from Python in place of some fifteen, which take as long as
// a small model's weights take to be read.
#pragma once

extern "C" struct Matrix {
    const void* weights;
    int64_t rows, columns, stride, kind;
};

namespace {

using Times = void (*)(const void*, const void*, const void*, void*, int64_t, int64_t, int64_t, int, int);

// y[vector] = m · x[vector]; the order of kinds is that of matvec.py.
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

// Pairs (i, i + half) of a head turned by the position's angles (Su et al. 2021, arXiv:2104.09864).
inline void rotate(float* head, const float* cos, const float* sin, int half) {
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cos[i] - b * sin[i];
        head[i + half] = b * cos[i] + a * sin[i];
    }
}

}  // namespace

// x [vectors, hidden] -> q [vectors, heads * head_dim], kv [vectors, 2 * kv_heads * head_dim], keys first; q and keys turned
// unless `cos` is null.
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

// heads [vectors, heads * head_dim] and x [vectors, hidden] -> x + attention's result + MLP's, in place of x. The MLP is
// down · (silu(gate · h) * (up · h)) (Shazeer 2020, arXiv:2002.05202); gate's rows come first.
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
