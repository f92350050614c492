"""The most multiply-adds that one core does: the roof over every fp32 kernel.

A compiled loop of independent vector multiply-adds on registers, no memory; the best of many
short runs on the core that files are timed on. A processor that lowers its clock under wide vectors
lowers the roof as well.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.pinned_program import printed_by

HOW = "peak: best of 400 runs of a compiled loop of 12 independent vector multiply-adds on one core"
# 12 registers hide the latency of two units with four cycles each; every instruction set has them
_SOURCE = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
typedef float V __attribute__((vector_size(LANES * 4)));
#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
int main(int argc, char **argv) {
  (void)argv;
  const long steps = 200000;
  V zero = {0};
  V scale = zero + 0.999f + 1e-9f * argc, shift = zero + 1e-3f * argc;
#define DECLARE(I) V acc##I = zero + I;
  EACH(DECLARE)
  double best = 1e9;
  for (int repeat = 0; repeat < 400; ++repeat) {
    double start = now();
    for (long step = 0; step < steps; ++step) {
#define STEP(I) acc##I = acc##I * scale + shift; __asm__ volatile("" : "+x"(acc##I));
      EACH(STEP)
    }
    double taken = now() - start;
    if (taken < best) best = taken;
  }
  float sum = 0;
#define ADD(I) sum += acc##I[0];
  EACH(ADD)
  printf("%.6e\\n", 2.0 * LANES * 12 * steps / best);
  return sum == 1234.5f;  /* read, so that nothing is left out */
}
"""


def peak_operations_per_second() -> float:
    """Multiplications and additions in fp32 per second.

    Raises:
        MeasurementError: there is no compiler, or it refuses.
    """
    flags = ["-O3", "-march=native", "-ffp-contract=fast", f"-DLANES={_lanes()}"]
    return float(printed_by(_SOURCE, flags))


def _lanes() -> int:
    """fp32 numbers in the widest register."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text(encoding="utf-8") if flags.exists() else ""
    return 16 if "avx512f" in text else 8 if "avx2" in text else 4
