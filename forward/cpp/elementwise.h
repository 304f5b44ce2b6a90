// The steps of a Llama-like block between its matrix products, each in one pass over memory, in
// float32 arithmetic. Part of kernel.cpp; `Source` is the type of every tensor.
#pragma once

#include "vectors.h"

namespace {

// out = x / sqrt(mean(x^2) + eps) * weight, row by row. In bfloat16 it is rounded once, at the end.
template <typename Source>
void rms_norm_as(const Source *x, const Source *weight, Source *out, int64_t rows, int64_t size,
                 float eps) {
  const int64_t whole = size / LANES * LANES;
  for (int64_t row = 0; row < rows; row++, x += size, out += size) {
    Floats squares{};
    for (int64_t i = 0; i < whole; i += LANES) squares += load_floats(x + i) * load_floats(x + i);
    float sum = sum_of(squares);
    for (int64_t i = whole; i < size; i++) sum += widen(x[i]) * widen(x[i]);
    const float inverse = 1 / __builtin_sqrtf(sum / float(size) + eps);
    for (int64_t i = 0; i < whole; i += LANES)
      store_floats(out + i, load_floats(x + i) * inverse * load_floats(weight + i));
    for (int64_t i = whole; i < size; i++) narrow(widen(x[i]) * inverse * widen(weight[i]), out[i]);
  }
}

// Rotary position embedding in place: pairs (i, i + head_dim / 2) of every head, turned by the
// row's angle, whose cosines and sines are given [rows, head_dim] (the second half repeats).
template <typename Source>
void rotate_as(Source *x, const Source *cosines, const Source *sines, int64_t rows, int64_t heads,
               int64_t head_dim) {
  const int64_t half = head_dim / 2, whole = half / LANES * LANES;
  for (int64_t row = 0; row < rows; row++, cosines += head_dim, sines += head_dim)
    for (int64_t head = 0; head < heads; head++, x += head_dim) {
      for (int64_t i = 0; i < whole; i += LANES) {
        const Floats a = load_floats(x + i), b = load_floats(x + half + i);
        const Floats c = load_floats(cosines + i), s = load_floats(sines + i);
        store_floats(x + i, a * c - b * s);
        store_floats(x + half + i, b * c + a * s);
      }
      for (int64_t i = whole; i < half; i++) {
        const float a = widen(x[i]), b = widen(x[half + i]);
        const float c = widen(cosines[i]), s = widen(sines[i]);
        narrow(a * c - b * s, x[i]);
        narrow(b * c + a * s, x[half + i]);
      }
    }
}

// gate = gate / (1 + exp(-gate)) * up, in place.
template <typename Source>
void silu_multiply_as(Source *gate, const Source *up, int64_t count) {
  const float to_log2 = -1.44269504089f;
  const int64_t whole = count / LANES * LANES;
  for (int64_t i = 0; i < whole; i += LANES) {
    const Floats x = load_floats(gate + i);
    store_floats(gate + i, x / (exp2(x * to_log2) + 1) * load_floats(up + i));
  }
  for (int64_t i = whole; i < count; i++) {
    const float x = widen(gate[i]);
    narrow(x / (exp2(Floats{} + x * to_log2)[0] + 1) * widen(up[i]), gate[i]);
  }
}

void rms_norm(int dtype, const void *x, const void *weight, void *out, int64_t first, int64_t rows,
              int64_t size, float eps) {
  if (dtype == FLOAT32)
    rms_norm_as((const float *)x + first * size, (const float *)weight,
                (float *)out + first * size, rows, size, eps);
  else
    rms_norm_as((const Bfloat16 *)x + first * size, (const Bfloat16 *)weight,
                (Bfloat16 *)out + first * size, rows, size, eps);
}

void rotate(int dtype, void *x, const void *cosines, const void *sines, int64_t first,
            int64_t rows, int64_t heads, int64_t dim) {
  if (dtype == FLOAT32)
    rotate_as((float *)x + first * heads * dim, (const float *)cosines + first * dim,
              (const float *)sines + first * dim, rows, heads, dim);
  else
    rotate_as((Bfloat16 *)x + first * heads * dim, (const Bfloat16 *)cosines + first * dim,
              (const Bfloat16 *)sines + first * dim, rows, heads, dim);
}

void silu_multiply(int dtype, void *gate, const void *up, int64_t first, int64_t count) {
  if (dtype == FLOAT32)
    silu_multiply_as((float *)gate + first, (const float *)up + first, count);
  else
    silu_multiply_as((Bfloat16 *)gate + first, (const Bfloat16 *)up + first, count);
}

}  // namespace
