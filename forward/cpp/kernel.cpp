// Attention of one segment and one key/value head (and elementwise.h), for one instruction set:
// forward/cpp/build.py gives -DKERNEL, -DLANES and -DPAIRS. Written with the compilers' vector
// types, so the same lines are AVX2 or AVX-512. The only intrinsic is the bfloat16 dot product; the
// tests' build spells its arithmetic out, for machines without the instruction.
//
// Both products of attention, scores = Q K^T and out = P V, are `multiply`: ROWS rows on the left,
// one panel of packed columns on the right, all sums in registers. Rows are (token, query head)
// pairs, so the query heads of a group share every load of a key or value. Keys are packed once per
// segment and read by every segment after it. The scores of a whole path (prefixes, then own) lie
// in one row, so there is one softmax over all of it and nothing to merge afterwards.
//
// A row's sums run over head dimension and keys in ascending order, whatever the tile or the batch:
// in float32 a token's result depends on its own sequence alone, not even on where it was cut.
// bfloat16 on AVX512-BF16 takes keys in pairs, so there it depends on the cuts, never on neighbours.

#include "kernel.h"

#include "elementwise.h"
#include "vectors.h"

#if PAIRS && defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr int ROWS = 6;
constexpr int COLUMNS = LANES == 8 ? 2 : 4;  // vectors: 6 x 2 of 16 registers, 6 x 4 of 32
constexpr int PANEL = COLUMNS * LANES;
constexpr float LOWEST = -__builtin_inff();

// A word is what one lane multiplies at a time: a float, or two neighbouring bfloat16.
#if PAIRS
typedef int32_t Word;
typedef Ints Words;
constexpr int STEP = 2;
#else
typedef float Word;
typedef Floats Words;
constexpr int STEP = 1;
#endif

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The word of elements a and b: a pair where words are pairs, else a alone.
template <typename Source>
inline Word word(const Source *a, const Source *b) {
#if PAIRS
  return int32_t(uint32_t(*a) | uint32_t(*b) << 16);
#else
  (void)b;
  return widen(*a);
#endif
}

inline Floats multiply_add(Floats sum, Word left, Words right) {
#if !PAIRS
  return sum + left * right;
#else
  Ints lefts = left - Ints{};
#ifdef __AVX512BF16__
  return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)lefts, (__m512bh)right);
#else
  sum += (Floats)(lefts & ~0xffff) * (Floats)(right & ~0xffff);
  return sum + (Floats)(lefts << 16) * (Floats)(right << 16);
#endif
#endif
}

#define UNROLLED _Pragma("GCC unroll 8")  // else sums leave their registers on the way out

// out [ROWS, N * LANES] (+)= left [ROWS, depth] x one panel [depth, N * LANES].
template <int N>
inline void multiply(const Word *left, int64_t left_stride, const Word *panel, int64_t depth,
                     float *out, int64_t out_stride, bool add) {
  Floats sums[ROWS][N];
  UNROLLED for (int row = 0; row < ROWS; row++)
    UNROLLED for (int n = 0; n < N; n++)
      sums[row][n] = add ? load<Floats>(out + row * out_stride + n * LANES) : Floats{};
  for (int64_t k = 0; k < depth; k++, panel += N * LANES) {
    Words right[N];
    UNROLLED for (int n = 0; n < N; n++) right[n] = load<Words>(panel + n * LANES);
    UNROLLED for (int row = 0; row < ROWS; row++)
      UNROLLED for (int n = 0; n < N; n++)
        sums[row][n] = multiply_add(sums[row][n], left[row * left_stride + k], right[n]);
  }
  UNROLLED for (int row = 0; row < ROWS; row++)
    UNROLLED for (int n = 0; n < N; n++) store(out + row * out_stride + n * LANES, sums[row][n]);
}

// The same for columns [first, last) of `width` that were packed, in panels `panel_depth` words
// deep; `first` begins a panel, and the panel with column `last - 1` is computed whole.
inline void multiply_panels(const Word *left, int64_t left_stride, const Word *panels,
                            int64_t panel_depth, int64_t depth, int64_t first, int64_t last,
                            int64_t width, float *out, int64_t out_stride, bool add) {
  for (int64_t column = first; column < last; column += PANEL) {
    const Word *panel = panels + column * panel_depth;
    switch (smaller(width - column, PANEL) / LANES) {
      case 1: multiply<1>(left, left_stride, panel, depth, out + column, out_stride, add); break;
      case 2: multiply<2>(left, left_stride, panel, depth, out + column, out_stride, add); break;
#if LANES == 16
      case 3: multiply<3>(left, left_stride, panel, depth, out + column, out_stride, add); break;
      case 4: multiply<4>(left, left_stride, panel, depth, out + column, out_stride, add); break;
#endif
    }
  }
}

int64_t packed_bytes(int32_t num_keys, int32_t head_dim) {
  int64_t keys = round_up(num_keys, LANES) * (head_dim / STEP);
  int64_t values = round_up(num_keys, STEP) / STEP * round_up(head_dim, LANES);
  return round_up(larger(keys, values) * int64_t(sizeof(Word)), 64);
}

// keys: per panel of keys [head_dim / STEP][width]; values: per panel of dimensions
// [keys / STEP][width]. The last panel of each is narrower; what is beyond the end is 0.
template <typename Source>
void pack_as(const Problem &problem, int32_t head, int64_t first_key, const Part &part) {
  const Source zeros[2] = {};
  const Strides ks = problem.key_strides, vs = problem.value_strides;
  const Source *key = (const Source *)problem.key + first_key * ks.token + head * ks.head;
  const Source *value = (const Source *)problem.value + first_key * vs.token + head * vs.head;
  const int64_t num = part.num_keys, dim = problem.head_dim, depth = dim / STEP;
  Word *to = (Word *)part.keys;
  for (int64_t start = 0; start < num; start += PANEL) {
    const int64_t width = smaller(round_up(num - start, LANES), PANEL);
    for (int64_t j = 0; j < width; j++) {
      const Source *from = key + (start + j) * ks.token;
      const bool real = start + j < num;
      for (int64_t d = 0; d < depth; d++)
        to[d * width + j] = real ? word(from + d * STEP, from + d * STEP + STEP - 1)
                                 : word(zeros, zeros);
    }
    to += width * depth;
  }
  to = (Word *)part.values;
  for (int64_t start = 0; start < dim; start += PANEL) {
    const int64_t width = smaller(round_up(dim - start, LANES), PANEL);
    const int64_t real = smaller(dim - start, width);
    for (int64_t j = 0; j < num; j += STEP, to += width) {
      const Source *from = value + j * vs.token + start;
      const bool paired = j + STEP <= num;
      for (int64_t d = 0; d < real; d++)
        to[d] = word(from + d, paired ? from + (STEP - 1) * vs.token + d : zeros);
      for (int64_t d = real; d < width; d++) to[d] = word(zeros, zeros);
    }
  }
}

void pack(const Problem &problem, int32_t head, int64_t first_key, const Part &part) {
#if !PAIRS
  if (problem.dtype == FLOAT32) return pack_as<float>(problem, head, first_key, part);
#endif
  pack_as<Bfloat16>(problem, head, first_key, part);
}

// Writes `floats` as words at the same place in a row, or half way to it where words are pairs.
inline void store_words(float *row, int64_t index, Floats floats) {
#if PAIRS
  store_floats((Bfloat16 *)row + index, floats);
#else
  store(row + index, floats);
#endif
}

// A row of scores -> the words of exp(scale * (score - max)); returns their sum.
// `length` is a multiple of LANES. In place: what is written lies before what is read next.
inline float softmax(float *row, int64_t length, float scale_log2) {
  Floats highest = load<Floats>(row);
  for (int64_t j = LANES; j < length; j += LANES) {
    Floats scores = load<Floats>(row + j);
    highest = scores > highest ? scores : highest;
  }
  float most = highest[0];
  for (int lane = 1; lane < LANES; lane++) most = highest[lane] > most ? highest[lane] : most;
  Floats sums{};
  for (int64_t j = 0; j < length; j += LANES) {
    Floats p = exp2((load<Floats>(row + j) - most) * scale_log2);
    sums += p;
    store_words(row, j, p);
  }
  return sum_of(sums);
}

inline void fill_lowest(float *row, int64_t from, int64_t to) {
  for (int64_t j = from; j < to; j++) row[j] = LOWEST;
}

int64_t row_length(int64_t num_keys, int64_t num_parts) {
  return round_up(num_keys + num_parts * (STEP - 1), LANES) + PANEL;
}

int64_t scratch_bytes(int32_t num_keys, int32_t num_parts, int32_t head_dim) {
  return ROWS * (row_length(num_keys, num_parts) + head_dim + round_up(head_dim, LANES)) * 4;
}

// ROWS rows of queries at a time; a row is one query head of one token.
template <typename Source>
void attend_as(const Problem &problem, int32_t head, int64_t first, int64_t count,
               const Part *parts, int32_t num_parts, void *scratch) {
  const int64_t dim = problem.head_dim, depth = dim / STEP, group = problem.group;
  const int64_t width = round_up(dim, LANES), window = problem.window;
  const Part &own = parts[num_parts - 1];
  const int64_t stride = row_length(own.depth + own.num_keys, num_parts);
  float *scores = (float *)scratch, *out = scores + ROWS * stride;
  Word *query = (Word *)(out + ROWS * width);
  const float scale_log2 = problem.scale * 1.44269504089f;
  const Strides qs = problem.query_strides, os = problem.out_strides;

  for (int64_t tile = 0; tile < count * group; tile += ROWS) {
    int64_t end[ROWS], begin[ROWS];  // each row sees positions [begin, end)
    const Source *from[ROWS];
    for (int row = 0; row < ROWS; row++) {  // rows beyond the end repeat the last
      const int64_t index = smaller(tile + row, count * group - 1);
      const int64_t token = first + index / group;
      from[row] = (const Source *)problem.query + token * qs.token +
                  (head * group + index % group) * qs.head;
      end[row] = problem.positions[token] + 1;
      begin[row] = window ? larger(0, end[row] - window) : 0;
      for (int64_t d = 0; d < depth; d++)
        query[row * depth + d] = word(from[row] + d * STEP, from[row] + d * STEP + STEP - 1);
    }
    const int64_t lowest = begin[0], highest = end[ROWS - 1];  // positions ascend

    int64_t at = 0;  // where the part's scores begin in a row
    for (int part = 0; part < num_parts; part++) {
      const Part &one = parts[part];
      const int64_t num = smaller(one.num_keys, highest - one.depth);
      const int64_t skip = smaller(larger(0, lowest - one.depth), num) / PANEL * PANEL;
      multiply_panels(query, depth, (const Word *)one.keys, depth, depth, skip, num,
                      round_up(one.num_keys, LANES), scores + at, stride, false);
      at += round_up(num, STEP);
    }
    const int64_t length = round_up(at, LANES);
    float sums[ROWS];
    for (int row = 0; row < ROWS; row++) {
      float *const line = scores + row * stride;
      int64_t start = 0;
      for (int part = 0; part < num_parts; part++) {
        const Part &one = parts[part];
        const int64_t num = smaller(one.num_keys, highest - one.depth);
        const int64_t next = start + round_up(num, STEP);
        if (begin[row] > one.depth)
          fill_lowest(line, start, start + smaller(num, begin[row] - one.depth));
        fill_lowest(line, start + smaller(num, end[row] - one.depth), next);
        start = next;
      }
      fill_lowest(line, at, length);
      sums[row] = softmax(line, length, scale_log2);
    }

    at = 0;
    for (int part = 0; part < num_parts; part++) {
      const Part &one = parts[part];
      const int64_t num = smaller(one.num_keys, highest - one.depth);
      multiply_panels((const Word *)scores + at / STEP, stride, (const Word *)one.values,
                      round_up(one.num_keys, STEP) / STEP, round_up(num, STEP) / STEP, 0, width,
                      width, out, width, part > 0);
      at += round_up(num, STEP);
    }
    for (int row = 0; row < smaller(ROWS, count * group - tile); row++) {
      const int64_t index = tile + row, token = first + index / group;
      Source *to = (Source *)problem.out + token * os.token +
                   (head * group + index % group) * os.head;
      const float inverse = 1 / sums[row];
      for (int64_t d = 0; d < dim; d++) narrow(out[row * width + d] * inverse, to[d]);
    }
  }
}

void attend(const Problem &problem, int32_t head, int64_t first, int64_t count, const Part *parts,
            int32_t num_parts, void *scratch) {
#if !PAIRS
  if (problem.dtype == FLOAT32)
    return attend_as<float>(problem, head, first, count, parts, num_parts, scratch);
#endif
  attend_as<Bfloat16>(problem, head, first, count, parts, num_parts, scratch);
}

}  // namespace

#define JOIN(a, b) a##b
#define NAMED(name) JOIN(kernel_, name)
#define TEXT(name) #name
#define NAME(name) TEXT(name)
extern "C" {
extern const Kernel NAMED(KERNEL) = {NAME(KERNEL), packed_bytes, scratch_bytes, pack,
                                     attend, rms_norm, rotate, silu_multiply};
}
