/* A layer from its description: checks everything, since descriptions come out of files. */
#include <stdlib.h>

#include "internal.h"

static const char *check_weight(const AsLayerSpec *spec) {
  const int64_t row_runs = spec->depth / spec->run;
  const int64_t most = spec->outputs * row_runs;
  if (spec->runs < 0 || spec->runs > most) return "more non-zeros than the weight has places";
  if (spec->runs && !spec->positions) return "the positions of the non-zeros are missing";
  int64_t before = -1;
  for (int64_t i = 0; i < spec->runs; i++) {
    if (spec->positions[i] <= before) return "positions of non-zeros must ascend";
    before = spec->positions[i];
  }
  if (before >= most) return "a non-zero lies outside the weight";
  return NULL;
}

/* A plan that no tile fulfils exactly asks for the nearest one, so that files outlive the processor
 * that they were tuned on; what is no plan at all is refused. */
static int possible(const AsPlan *plan) {
  return plan->family >= AS_ANY_FAMILY && plan->family <= AS_PERMUTE && plan->vectors >= 0 &&
         plan->vectors <= AS_MOST_OF_PLAN && plan->rows >= 0 && plan->rows <= AS_MOST_OF_PLAN &&
         plan->depth >= 0;
}

static int has_values(const AsLayerSpec *spec) {
  if (spec->input_type == AS_BF16) return spec->bf16_values != NULL;
  if (spec->input_type == AS_FP32) return spec->fp32_values != NULL;
  return spec->int8_values && spec->weight_steps;
}

static const char *check(const AsLayerSpec *spec) {
  if (spec->struct_bytes != (int32_t)sizeof *spec)
    return "the library and its caller are of different versions";
  if (spec->outputs <= 0 || spec->depth <= 0 || spec->outputs > (1 << 30) ||
      spec->depth > (1 << 30))
    return "a weight needs between 1 and 2^30 outputs and features";
  if (spec->run <= 0 || spec->depth % spec->run) return "runs of non-zeros must divide the depth";
  if (spec->input_type == AS_FP32 && spec->run != 1)
    return "fp32 weights come one by one";
  if (spec->input_type == AS_BF16 && spec->run != 2) return "bf16 weights come in pairs";
  if (spec->runs && !has_values(spec)) return "the values of the non-zeros are missing";
  if (!possible(&spec->plan)) return "its plan is one that no kernel has";
  return check_weight(spec);
}

static const AsOperator *operator_for(const AsLayerSpec *spec) {
  if (spec->operation == AS_LINEAR && spec->input_type == AS_FP32 &&
      spec->output_type == AS_FP32)
    return &as_linear_fp32;
  if (spec->operation == AS_LINEAR && spec->input_type == AS_UINT8) return &as_linear_int8;
  if (spec->operation == AS_LINEAR && spec->input_type == AS_BF16 &&
      spec->output_type == AS_FP32)
    return &as_linear_bf16;
  if (spec->operation == AS_CONVOLUTION &&
      spec->input_type != AS_BF16 &&
      (spec->input_type == AS_UINT8 || spec->output_type == AS_FP32))
    return &as_convolution;
  return NULL;
}

const char *as_layer_create(const AsLayerSpec *spec, AsLayer **layer) {
  *layer = NULL;
  const char *problem = check(spec);
  if (problem) return problem;
  AsLayer *made = calloc(1, sizeof *made);
  if (!made) return "out of memory";
  made->spec = *spec;
  made->operator_ = operator_for(spec);
  problem = made->operator_ ? made->operator_->create(made)
                            : "this library has no kernel for such a layer";
  if (!problem) problem = as_norm_create(spec, &made->norm);
  if (problem) {
    as_layer_destroy(made);
    return problem;
  }
  made->spec.positions = NULL;
  made->spec.norm_scale = made->spec.norm_shift = NULL;
  made->spec.fp32_values = made->spec.weight_steps = made->spec.bias = NULL;
  made->spec.int8_values = NULL;
  made->spec.bf16_values = NULL;
  *layer = made;
  return NULL;
}

const char *as_layer_run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel) {
  const char *problem = layer->operator_->run(layer, call, parallel);
  if (!problem && layer->norm.scale) as_norm_run(&layer->norm, call, parallel);
  return problem;
}

void as_layer_destroy(AsLayer *layer) {
  if (!layer) return;
  if (layer->operator_) layer->operator_->destroy(layer);
  as_norm_destroy(&layer->norm);
  free(layer);
}

void as_layer_output_size(const AsLayer *layer, int64_t height, int64_t width, int64_t size[2]) {
  const AsLayerSpec *spec = &layer->spec;
  const int64_t input[2] = {height, width};
  for (int i = 0; i < 2; i++) {
    const int64_t extent = spec->dilations[i] * (spec->kernel[i] - 1) + 1;
    const int64_t padded = input[i] + spec->pads[i] + spec->pads[i + 2];
    size[i] = padded < extent ? 0 : (padded - extent) / spec->strides[i] + 1;
  }
}
