// Attention over a packed layout on a CPU, and the small steps between a block's matrix products.
// forward/candor/forward/prefix.py says what a layout is: every segment attends causally to itself
// and to the segments that lead to it. This file is the C interface, the choice of instruction set
// and the threads; the arithmetic is in kernel.cpp and elementwise.h.
//
// Nothing of torch is used: arguments are raw pointers and strides. The calls come through ctypes,
// which releases the interpreter's lock meanwhile.

#include "kernel.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#define EXPORT __attribute__((visibility("default")))

namespace {

// One segment: its keys, its queries (rows of query and out; none for a cached segment), and the
// segments that lead to it, as a range of `before`.
struct Segment {
  int32_t first_key, num_keys, depth, first_query, num_queries, first_before, num_before;
};

// Memory that grows and never shrinks: a model thread uses the same bytes forward after forward.
class Buffer {
 public:
  ~Buffer() { std::free(bytes_); }
  char *at_least(int64_t size) {
    if (size > size_) {
      std::free(bytes_);
      bytes_ = static_cast<char *>(std::aligned_alloc(64, (size + 63) / 64 * 64));
      size_ = bytes_ ? size : 0;
      if (!bytes_) throw std::bad_alloc();
    }
    return bytes_;
  }

 private:
  char *bytes_ = nullptr;
  int64_t size_ = 0;
};

template <typename Task>
void run(int64_t num_tasks, int num_threads, const Task &task) {
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t number; (number = next++) < num_tasks;) task(number);
  };
  std::vector<std::thread> others;
  try {
    for (int thread = 1; thread < num_threads && thread < num_tasks; thread++)
      others.emplace_back(work);
  } catch (...) {  // the system gives no more threads: those that started do all the work
  }
  work();
  for (std::thread &other : others) other.join();
}

const Kernel *choose(int dtype) {
  __builtin_cpu_init();
#ifdef EMULATED  // the tests' build: no AVX-512 instruction is in it
  return dtype == BFLOAT16 ? &kernel_avx512bf16 : &kernel_avx512;
#else
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (dtype == BFLOAT16 && avx512 && __builtin_cpu_supports("avx512bf16"))
    return &kernel_avx512bf16;
  if (avx512) return &kernel_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kernel_avx2;
  return nullptr;
#endif
}

void compute(const Kernel &kernel, const Problem &problem, int num_heads, const Segment *segments,
             int64_t num_segments, const int32_t *before, int num_threads) {
  std::vector<int64_t> offsets(num_segments + 1, 0);
  for (int64_t s = 0; s < num_segments; s++)
    offsets[s + 1] = offsets[s] + kernel.packed_bytes(segments[s].num_keys, problem.head_dim);
  thread_local Buffer packed;
  char *const bytes = packed.at_least(2 * offsets[num_segments] * num_heads);
  const auto part = [&](int64_t segment, int64_t head) {
    char *keys = bytes + 2 * (head * offsets[num_segments] + offsets[segment]);
    char *values = keys + offsets[segment + 1] - offsets[segment];
    return Part{keys, values, segments[segment].depth, segments[segment].num_keys};
  };
  run(num_segments * num_heads, num_threads, [&](int64_t task) {
    const int64_t segment = task % num_segments, head = task / num_segments;
    kernel.pack(problem, head, segments[segment].first_key, part(segment, head));
  });
  run(num_segments * num_heads, num_threads, [&](int64_t task) {
    const int64_t number = task % num_segments, head = task / num_segments;
    const Segment &segment = segments[number];
    if (segment.num_queries == 0) return;
    thread_local std::vector<Part> parts;
    thread_local Buffer scratch;
    parts.clear();
    for (int32_t i = 0; i < segment.num_before; i++)
      parts.push_back(part(before[segment.first_before + i], head));
    parts.push_back(part(number, head));
    char *const room = scratch.at_least(kernel.scratch_bytes(
        segment.depth + segment.num_keys, int32_t(parts.size()), problem.head_dim));
    kernel.attend(problem, head, segment.first_query, segment.num_queries, parts.data(),
                  int32_t(parts.size()), room);
  });
}

// task(first, count) over `total`, one share per thread.
template <typename Task>
void share(int64_t total, int num_threads, const Task &task) {
  const int64_t part = (total + num_threads - 1) / num_threads;
  run(num_threads, num_threads, [&](int64_t number) {
    const int64_t first = number * part, last = std::min(total, first + part);
    if (first < last) task(first, last - first);
  });
}

}  // namespace

extern "C" {

// The instruction set that computes `dtype` on this CPU: "avx2", "avx512" or "avx512bf16"; null
// where none does.
EXPORT const char *candor_kernel(int dtype) {
  const Kernel *kernel = choose(dtype);
  return kernel ? kernel->name : nullptr;
}

// 0: done; 1: no kernel for this CPU; 2: no memory (or no thread).
EXPORT int candor_attention(const Problem *problem, int num_heads, const Segment *segments,
                            int64_t num_segments, const int32_t *before, int num_threads) {
  const Kernel *kernel = choose(problem->dtype);
  if (!kernel) return 1;
  try {
    compute(*kernel, *problem, num_heads, segments, num_segments, before, num_threads);
  } catch (...) {
    return 2;
  }
  return 0;
}

// elementwise.h says what these compute. Nothing is computed where `candor_kernel` is null.
EXPORT void candor_rms_norm(int dtype, const void *x, const void *weight, void *out, int64_t rows,
                            int64_t size, float eps, int num_threads) {
  const Kernel *kernel = choose(dtype);
  share(rows, num_threads, [&](int64_t first, int64_t count) {
    kernel->rms_norm(dtype, x, weight, out, first, count, size, eps);
  });
}

EXPORT void candor_rotate(int dtype, void *x, const void *cosines, const void *sines, int64_t rows,
                          int64_t heads, int64_t head_dim, int num_threads) {
  const Kernel *kernel = choose(dtype);
  share(rows, num_threads, [&](int64_t first, int64_t count) {
    kernel->rotate(dtype, x, cosines, sines, first, count, heads, head_dim);
  });
}

EXPORT void candor_silu_multiply(int dtype, void *gate, const void *up, int64_t total,
                                 int num_threads) {
  const Kernel *kernel = choose(dtype);
  share(total, num_threads, [&](int64_t first, int64_t count) {
    kernel->silu_multiply(dtype, gate, up, first, count);
  });
}
}
