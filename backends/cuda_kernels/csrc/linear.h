/* One linear layer on tensor cores: activations (rows, depth) times packed weights, and what
 * follows. What all tiles share; `linear_tile.h` is the kernel.
 *
 * Tokens are rows of the activations. The outputs are the rows of the tensor cores' first
 * operand, which is the one that may be sparse, and the tokens the columns of the second, so that
 * both matrices are read along the depth, as they lie in memory. */
#ifndef AUTOSPARSE_LINEAR_H
#define AUTOSPARSE_LINEAR_H

#include <stdint.h>

enum { AS_FP32 = 0, AS_FP16 = 1, AS_BF16 = 2, AS_UINT8 = 3 };
enum { AS_NONE = 0, AS_RELU = 1, AS_CLIP = 2, AS_GELU = 3, AS_SILU = 4 };

/* As `backends/cuda_kernels/layer.py` spells it. Pointers are to the device's memory. */
typedef struct {
  const void *input;        /* (rows, depth), of `input_type` */
  void *output;             /* (rows, outputs), of `output_type` */
  const uint32_t *values;   /* fragments of 16 outputs; see packing.py */
  const uint32_t *metadata; /* which two of every four weights are there; 2:4 only */
  const int32_t *starts;    /* (rows of blocks + 1): where in `kept` each begins; blocks only */
  const int32_t *kept;      /* steps of the depth whose blocks are there; blocks only */
  const float *bias;        /* (outputs), or null */
  const float *scales;      /* (outputs): a real number for one of the integer sums; int8 only */
  const int32_t *offsets;   /* (outputs): what the input's zero adds to them; int8 only */
  int64_t rows;
  int32_t outputs, depth;
  int32_t steps; /* of the depth, 64 bytes of activations each */
  int32_t input_type, output_type, activation;
  float low, high; /* of AS_CLIP */
  float input_step, output_step; /* of AS_UINT8: real = (integer - zero) * step */
  int32_t input_zero, output_zero;
} AsLinear;

#include "device.h"

#define AS_STEP_BYTES 64

/* Comparisons that let NaN pass, as ONNX Runtime's do. */
AS_DEVICE float as_at_least(float value, float low) { return value < low ? low : value; }
AS_DEVICE float as_at_most(float value, float high) { return value > high ? high : value; }

AS_DEVICE float as_activate(float value, int activation, float low, float high) {
  switch (activation) {
    case AS_RELU: return as_at_least(value, 0.0f);
    case AS_CLIP: return as_at_most(as_at_least(value, low), high);
    case AS_GELU: return 0.5f * value * (1.0f + erff(value * 0.70710678f));
    case AS_SILU: { /* below -87 the factor is zero; further out there is nothing to divide by */
      const float x = as_at_least(value, -87.0f);
      return x / (1.0f + expf(-x));
    }
    default: return value;
  }
}

/* Onto a grid of 0 .. 255; NaN becomes the grid's zero. */
AS_DEVICE uint8_t as_to_grid(float value, float step, int32_t zero) {
  const float scaled = as_at_most(as_at_least(value / step, -1024.0f), 1024.0f);
  const int32_t integer = as_nearest(scaled) + zero;
  return (uint8_t)(integer < 0 ? 0 : integer > 255 ? 255 : integer);
}

AS_DEVICE float as_read(const AsLinear *p, int64_t index) {
  switch (p->input_type) {
    case AS_FP32: return ((const float *)p->input)[index];
    case AS_FP16: return as_of_fp16(((const uint16_t *)p->input)[index]);
    case AS_BF16: return as_of_bf16(((const uint16_t *)p->input)[index]);
    default:
      return (float)(((const uint8_t *)p->input)[index] - p->input_zero) * p->input_step;
  }
}

/* The bits that the tensor cores are given for an activation; `element` is a constant. */
AS_DEVICE uint32_t as_element(const AsLinear *p, int64_t index, int element) {
  if (element == AS_UINT8) {
    if (p->input_type == AS_UINT8) return ((const uint8_t *)p->input)[index];
    return as_to_grid(as_read(p, index), p->input_step, p->input_zero);
  }
  if (p->input_type == element) return ((const uint16_t *)p->input)[index];
  return element == AS_FP16 ? as_to_fp16(as_read(p, index)) : as_to_bf16(as_read(p, index));
}

AS_DEVICE void as_write(const AsLinear *p, int64_t index, float value) {
  switch (p->output_type) {
    case AS_FP32: ((float *)p->output)[index] = value; break;
    case AS_FP16: ((uint16_t *)p->output)[index] = as_to_fp16(value); break;
    case AS_BF16: ((uint16_t *)p->output)[index] = as_to_bf16(value); break;
    default:
      ((uint8_t *)p->output)[index] = as_to_grid(value, p->output_step, p->output_zero);
  }
}

/* What follows the product, for one output of one token. */
AS_DEVICE void as_finish(const AsLinear *p, int64_t token, int output, float value) {
  if (p->bias) value += p->bias[output];
  value = as_activate(value, p->activation, p->low, p->high);
  as_write(p, token * p->outputs + output, value);
}

AS_DEVICE float as_real_fp32(const AsLinear *p, int output, float sum) {
  (void)p;
  (void)output;
  return sum;
}

AS_DEVICE float as_real_int32(const AsLinear *p, int output, int32_t sum) {
  return (float)(sum - p->offsets[output]) * p->scales[output];
}

#endif
