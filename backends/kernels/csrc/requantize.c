/* Grids of an int8 layer: what its sums start with and how they become the output. */
#include <math.h>
#include <string.h>

#include "int8.h"

static const char *check_grids(const AsLayerSpec *spec) {
  if (!(spec->input_step > 0) || !isfinite(spec->input_step) || spec->input_zero < 0 ||
      spec->input_zero > 255)
    return "the grid of the uint8 input is not valid";
  if (!spec->weight_steps) return "the steps of the int8 weights are missing";
  for (int64_t n = 0; n < spec->outputs; n++)
    if (!isfinite(spec->weight_steps[n])) return "a step of the int8 weights is not finite";
  if (spec->output_type == AS_UINT8 &&
      (!(spec->output_step > 0) || !isfinite(spec->output_step) ||
       !isfinite(1 / spec->output_step) || spec->output_zero < 0 || spec->output_zero > 255))
    return "the grid of the uint8 output is not valid";
  return NULL;
}

/* Sums never leave int32, whatever the input: uint8 minus its zero is at most 255. */
static const char *fold_zero(const AsLayerSpec *spec, int32_t *start) {
  const int64_t row_runs = spec->depth / spec->run;
  int64_t run = 0;
  for (int64_t n = 0; n < spec->outputs; n++) {
    int64_t sum = 0, size = 0;
    for (; run < spec->runs && spec->positions[run] < (n + 1) * row_runs; run++)
      for (int32_t i = 0; i < spec->run; i++) {
        const int32_t weight = spec->int8_values[run * spec->run + i];
        sum += weight;
        size += weight < 0 ? -weight : weight;
      }
    if (size * 255 > INT32_MAX) return "a row of int8 weights is too long for sums of 32 bits";
    start[n] = (int32_t)((AS_INPUT_SHIFT - spec->input_zero) * sum);
  }
  return NULL;
}

const char *as_requantize_create(const AsLayerSpec *spec, int64_t more, AsRequantize *made,
                                 int32_t **start) {
  const char *problem = check_grids(spec);
  if (problem) return problem;
  memset(made, 0, sizeof *made);
  const size_t channels = (size_t)spec->outputs;
  *start = as_allocate((channels + (size_t)more) * sizeof **start);
  made->scales = as_allocate(channels * sizeof *made->scales);
  made->bias = as_allocate(channels * sizeof *made->bias);
  if (!*start || !made->scales || !made->bias) return "out of memory while packing a weight";
  for (int64_t n = 0; n < spec->outputs; n++) {
    made->scales[n] = spec->input_step * spec->weight_steps[n];
    made->bias[n] = spec->bias ? spec->bias[n] : 0;
  }
  made->epilogue = (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  made->to_uint8 = spec->output_type == AS_UINT8;
  made->inverse_step = made->to_uint8 ? 1 / spec->output_step : 0;
  made->zero = spec->output_zero;
  return fold_zero(spec, *start);
}

void as_requantize_destroy(AsRequantize *how) {
  as_free(how->scales);
  as_free(how->bias);
}

AsInt8Target as_int8_target(const AsLayerSpec *spec, const AsCall *call, const AsRequantize *how,
                            int64_t row, int64_t first_channel, int64_t channels) {
  const int64_t at = row * spec->outputs + first_channel;
  return (AsInt8Target){
      .how = how,
      .first_channel = first_channel,
      .channels = channels,
      .residual = call->residual ? call->residual + at : NULL,
      .output = how->to_uint8 ? (void *)((uint8_t *)call->output + at)
                              : (void *)((float *)call->output + at),
      .stride = spec->outputs,
  };
}
