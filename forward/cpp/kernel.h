// The interface between the driver (attention.cpp) and the kernels (kernel.cpp, compiled once per
// instruction set). No templates and no standard library here: an inline function compiled for AVX-512 could
// otherwise be the copy that the linker keeps for all of them.
#pragma once

#include <cstdint>

enum Dtype : int { FLOAT32 = 0, BFLOAT16 = 1 };

// Distances between neighbours, in elements; the elements of one head are adjacent.
struct Strides {
  int64_t token, head;
};

// One layer's attention. All pointers are to elements of `dtype`.
struct Problem {
  Dtype dtype;
  const void *query, *key, *value;
  void *out;
  Strides query_strides, key_strides, value_strides, out_strides;
  const int32_t *positions;  // each query's place in its own sequence
  int32_t group;             // query heads that share one key/value head
  int32_t head_dim;          // even
  int32_t window;            // tokens that a token attends to, itself included; 0: all before it
  float scale;
};

// A segment's keys and values of one key/value head, rearranged; `depth` is its first position.
struct Part {
  void *keys, *values;
  int32_t depth, num_keys;
};

struct Kernel {
  const char *name;
  // Bytes of a part's keys or values, and of the scratch memory that `attend` needs.
  int64_t (*packed_bytes)(int32_t num_keys, int32_t head_dim);
  int64_t (*scratch_bytes)(int32_t num_keys, int32_t num_parts, int32_t head_dim);
  // Rearranges tokens [first_key, first_key + part.num_keys) of one key/value head.
  void (*pack)(const Problem &, int32_t head, int64_t first_key, const Part &part);
  // Queries [first, first + count) of one key/value head's group over `parts`, root to own segment.
  void (*attend)(const Problem &, int32_t head, int64_t first, int64_t count, const Part *parts,
                 int32_t num_parts, void *scratch);
  // The functions of elementwise.h on `rows` rows (or `count` elements) from `first` on.
  void (*rms_norm)(int dtype, const void *x, const void *weight, void *out, int64_t first,
                   int64_t rows, int64_t size, float eps);
  void (*rotate)(int dtype, void *x, const void *cosines, const void *sines, int64_t first,
                 int64_t rows, int64_t heads, int64_t head_dim);
  void (*silu_multiply)(int dtype, void *gate, const void *up, int64_t first, int64_t count);
};

extern "C" {
extern const Kernel kernel_avx2, kernel_avx512, kernel_avx512bf16;
}
