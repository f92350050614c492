/* Activations, for the instruction set that the including file is compiled for.
 *
 * Written so that compilers turn the loops into vector code: no calls, no branches, comparisons
 * that let NaN pass as ONNX Runtime does. */
#ifndef AUTOSPARSE_ACTIVATION_H
#define AUTOSPARSE_ACTIVATION_H

#include <string.h>

#include "internal.h"

/* ISO C keeps compilers from fusing these on their own; without the instruction a call is slow. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MULTIPLY_ADD(a, b, c) __builtin_fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

static inline float at_least(float value, float low) { return value < low ? low : value; }
static inline float at_most(float value, float high) { return value > high ? high : value; }

/* 2 to the whole power that lies, as an integer, in the low bits of `shifted`. */
static inline float power_of_two(float shifted) {
  uint32_t bits;
  float power;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;
  memcpy(&power, &bits, sizeof power);
  return power;
}

static const float ROUNDING = 12582912.0f; /* 1.5 * 2^23: beside it, floats are integers */

/* 2^value within 1e-7 of itself; `value` lies between -126 and 127, or is NaN. */
static inline float exponential(float value) {
  const float shifted = value + ROUNDING;
  const float rest = value - (shifted - ROUNDING); /* -1/2 .. 1/2; a Taylor series is enough */
  float p = MULTIPLY_ADD(rest, 1.5403530e-4f, 1.3333558e-3f);
  p = MULTIPLY_ADD(rest, p, 9.6181291e-3f);
  p = MULTIPLY_ADD(rest, p, 5.5504109e-2f);
  p = MULTIPLY_ADD(rest, p, 2.4022651e-1f);
  p = MULTIPLY_ADD(rest, p, 6.9314718e-1f);
  return MULTIPLY_ADD(rest, p, 1.0f) * power_of_two(shifted);
}

/* x/2 (1 + erf(x / sqrt 2)) = max(x, 0) - |x| t, where t = erfc(|x| / sqrt 2) / 2 is the power of
 * two of a smooth function: a polynomial (minimax, weighted by |x| t) follows it so closely that
 * the result is within 3e-7. Beyond 6, |x| t is zero for all that matters. */
static inline float gelu(float value) {
  const float x = at_most(__builtin_fabsf(value), 6.0f);
  float p = MULTIPLY_ADD(x, 3.343455545e-05f, -7.718075337e-04f);
  p = MULTIPLY_ADD(x, p, 8.088060158e-03f);
  p = MULTIPLY_ADD(x, p, -5.342188871e-02f);
  p = MULTIPLY_ADD(x, p, -4.587647134e-01f);
  p = MULTIPLY_ADD(x, p, -1.151203440e+00f);
  p = MULTIPLY_ADD(x, p, -9.999929106e-01f);
  return at_least(value, 0.0f) - x * exponential(p);
}

/* Below -87, where the factor is zero, inputs further out must not make more of its last digit. */
static inline float silu(float value) {
  const float x = at_least(value, -87.0f);
  return x / (1.0f + exponential(at_most(x, 87.0f) * -1.44269504f));
}

static inline void activate(const AsEpilogue *epilogue, float *values, int64_t count) {
  const float low = epilogue->low, high = epilogue->high;
  switch (epilogue->activation) {
    case AS_RELU:
      for (int64_t i = 0; i < count; i++) values[i] = at_least(values[i], 0.0f);
      break;
    case AS_CLIP:
      for (int64_t i = 0; i < count; i++) values[i] = at_most(at_least(values[i], low), high);
      break;
    case AS_GELU:
      for (int64_t i = 0; i < count; i++) values[i] = gelu(values[i]);
      break;
    case AS_SILU:
      for (int64_t i = 0; i < count; i++) values[i] = silu(values[i]);
      break;
    default: break;
  }
}

#undef MULTIPLY_ADD
#endif
