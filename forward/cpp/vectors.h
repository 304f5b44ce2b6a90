// Vectors of LANES floats in the compilers' own vector types: the same lines are AVX2 or AVX-512.
// Everything is in an unnamed namespace: each instruction set has its own copies.
#pragma once

#include <cstdint>

namespace {

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef uint16_t Bfloat16;

template <typename Vector, typename Element>
inline Vector load(const Element *from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <typename Vector, typename Element>
inline void store(Element *to, Vector vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

inline float widen(float value) { return value; }
inline float widen(Bfloat16 value) {
  uint32_t bits = uint32_t(value) << 16;
  float wide;
  __builtin_memcpy(&wide, &bits, 4);
  return wide;
}

inline Floats load_floats(const float *from) { return load<Floats>(from); }
inline Floats load_floats(const Bfloat16 *from) {
  return (Floats)(__builtin_convertvector(load<Halves>(from), Bits) << 16);
}

// Rounds to nearest even. A NaN stays a NaN: in numbers that were bfloat16 its low bits are 0.
inline void narrow(float value, float &to) { to = value; }
inline void narrow(float value, Bfloat16 &to) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  to = Bfloat16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline void store_floats(float *to, Floats floats) { store(to, floats); }
inline void store_floats(Bfloat16 *to, Floats floats) {
  const Bits bits = (Bits)floats;
  store(to, __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves));
}

inline float sum_of(Floats floats) {
  float sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += floats[lane];
  return sum;
}

// 2^x, relative error about 1e-7; exactly 0 below 2^-126, at most 2^127; NaN stays NaN.
inline Floats exp2(Floats x) {
  const Floats lowest = Floats{} - 127.f, highest = Floats{} + 127.f;
  x = x < lowest ? lowest : x;
  x = x > highest ? highest : x;
  const float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  const Floats whole = (x + magic) - magic, part = x - whole;
  Floats p = 1.535336188e-4f * part + 1.339887440e-3f;
  p = p * part + 9.618437357e-3f;
  p = p * part + 5.550332471e-2f;
  p = p * part + 2.402264791e-1f;
  p = p * part + 6.931472028e-1f;
  p = p * part + 1.f;
  return p * (Floats)((__builtin_convertvector(whole, Ints) + 127) << 23);
}

}  // namespace
