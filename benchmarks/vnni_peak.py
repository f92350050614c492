"""The most multiply-adds of bytes that one core does: the roof over every int8 kernel.

As `fma_peak`, with the instruction of AVX512_VNNI or AVX_VNNI. The program asks the processor which
of them it has, and runs neither where there is none. There is no such loop for Arm.
"""

from __future__ import annotations

from autosparse.errors import MeasurementError
from benchmarks.pinned_program import printed_by

HOW = "peak: best of 400 runs of a compiled loop of 12 independent vpdpbusd on one core"
_SOURCE = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
enum { STEPS = 200000, REPEATS = 400, SUMS = 12 };
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
/* Seconds of the fastest run. A step leaves its sum in a register, where it must have been. */
#define MEASURED(NAME, FEATURES, V, SET, STEP)                              \\
  __attribute__((target(FEATURES))) static double NAME(int seed) {          \\
    const V x = SET(seed), w = SET(3 * seed);                               \\
    V a0 = x, a1 = x, a2 = x, a3 = x, a4 = x, a5 = x, a6 = x, a7 = x;       \\
    V a8 = x, a9 = x, a10 = x, a11 = x;                                     \\
    double best = 1e9;                                                      \\
    for (int repeat = 0; repeat < REPEATS; ++repeat) {                      \\
      const double start = now();                                           \\
      for (long step = 0; step < STEPS; ++step) { EACH(STEP) }              \\
      const double taken = now() - start;                                   \\
      if (taken < best) best = taken;                                       \\
    }                                                                       \\
    return best;                                                            \\
  }
#define STEP_512(I) a##I = _mm512_dpbusd_epi32(a##I, x, w); __asm__ volatile("" : "+x"(a##I));
MEASURED(seconds_512, "avx512f,avx512vnni", __m512i, _mm512_set1_epi32, STEP_512)
/* Older compilers do not know the other encoding. */
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define STEP_256(I) a##I = _mm256_dpbusd_avx_epi32(a##I, x, w); __asm__ volatile("" : "+x"(a##I));
MEASURED(seconds_256, "avx2,avxvnni", __m256i, _mm256_set1_epi32, STEP_256)
#else
static double seconds_256(int seed) { return 1e9 + seed; }
#endif
/* Registers that the operating system keeps for a program. */
static unsigned kept(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return a;
}
static int has_512(void) {
  unsigned a, b, c, d;
  return (kept() & 0xe6) == 0xe6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 16 &&
         c & 1u << 11;
}
static int has_256(void) {
  unsigned a, b, c, d;
  return (kept() & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && a >= 1 &&
         __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1u << 4;
}
int main(int argc, char **argv) {
  (void)argv;
  const double operations = 8.0 * SUMS * STEPS;  /* of a lane: four products, four additions */
  double rate = 0;
  if (has_512()) rate = 16 * operations / seconds_512(argc);
  else if (has_256()) rate = 8 * operations / seconds_256(argc);
  printf("%.6e\\n", rate);
}
#else
int main(void) { puts("0"); }
#endif
"""
_LEAST = 1e8
"""Operations per second of no processor: what is less was not measured."""


def peak_operations_per_second() -> float:
    """Multiplications and additions of bytes per second.

    Raises:
        MeasurementError: the processor or the compiler has no such instruction, or there is no
            compiler.
    """
    rate = float(printed_by(_SOURCE, ["-O3"]))
    if rate < _LEAST:
        raise MeasurementError("this processor has no vpdpbusd, or the compiler does not know it")
    return rate
