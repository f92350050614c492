#include "ort_variants.h"

#include <stdio.h>
#include <string.h>

/* fp32; uint8 to fp32; uint8 to uint8; bf16, of matrix products alone */
enum { KINDS = 4, OF_CONVOLUTIONS = 3, ACTIVATIONS = 5, NORMS = 6 };
enum { VARIANTS = (KINDS + OF_CONVOLUTIONS) * ACTIVATIONS * 2 + NORMS };

static Variant variants[VARIANTS];

static const char *name_of(const OrtCustomOp *op) { return ((const Variant *)op)->name; }
static const char *cpu(const OrtCustomOp *op) { return (void)op, NULL; }

static int input_type(const OrtCustomOp *op, size_t index) {
  const Variant *variant = (const Variant *)op;
  const int integers = variant->input_type == AS_UINT8;
  switch (variant->roles[index]) {
    case ROLE_INPUT: return integers ? ORT_UINT8 : ORT_FLOAT;
    case ROLE_INPUT_ZERO:
    case ROLE_OUTPUT_ZERO:
    case ROLE_GAPS: return ORT_UINT8;
    case ROLE_VALUES:
      return integers ? ORT_INT8 : variant->input_type == AS_BF16 ? ORT_BFLOAT16 : ORT_FLOAT;
    case ROLE_RUNS_SHAPE:
    case ROLE_WEIGHT_SHAPE: return ORT_INT64;
    default: return ORT_FLOAT;
  }
}

static size_t input_count(const OrtCustomOp *op) { return ((const Variant *)op)->inputs; }
static int output_type(const OrtCustomOp *op, size_t index) {
  (void)index;
  return ((const Variant *)op)->output_type == AS_UINT8 ? ORT_UINT8 : ORT_FLOAT;
}
static size_t output_count(const OrtCustomOp *op) { return (void)op, 1; }
static int required(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, 0; }
static int one(const OrtCustomOp *op) { return (void)op, 1; }
static int any_later(const OrtCustomOp *op) { return (void)op, INT32_MAX; }

static int has_role(const Variant *variant, Role role) {
  switch (role) {
    case ROLE_INPUT_STEP:
    case ROLE_INPUT_ZERO:
    case ROLE_WEIGHT_STEPS: return variant->input_type == AS_UINT8;
    case ROLE_OUTPUT_STEP:
    case ROLE_OUTPUT_ZERO: return variant->output_type == AS_UINT8;
    case ROLE_LOW:
    case ROLE_HIGH: return variant->activation == AS_CLIP;
    case ROLE_NORM_SCALE:
    case ROLE_NORM_SHIFT: return variant->norm;
    case ROLE_RESIDUAL: return variant->residual;
    default: return 1;
  }
}

static void describe(Variant *variant) {
  static const char *const activations[] = {"", "Relu", "Clip", "Gelu", "Silu"};
  const int integers = variant->input_type == AS_UINT8;
  snprintf(variant->name, sizeof variant->name, "%sSparse%s%s%s%s%s",
           integers ? "Q" : variant->input_type == AS_BF16 ? "B" : "",
           variant->convolution ? "Conv" : "MatMul",
           integers && variant->output_type == AS_FP32 ? "ToFloat" : "",
           variant->residual ? "Add" : "", activations[variant->activation],
           variant->norm ? "Norm" : "");
  for (int role = 0; role < ROLES; role++) {
    variant->index[role] = -1;
    if (!has_role(variant, (Role)role)) continue;
    variant->index[role] = (int)variant->inputs;
    variant->roles[variant->inputs++] = (Role)role;
  }
  variant->op = (OrtCustomOp){
      .version = ORT_API_VERSION,
      .GetName = name_of,
      .GetExecutionProviderType = cpu,
      .GetInputType = input_type,
      .GetInputTypeCount = input_count,
      .GetOutputType = output_type,
      .GetOutputTypeCount = output_count,
      .GetInputCharacteristic = required,
      .GetOutputCharacteristic = required,
      .GetInputMemoryType = required,
      .GetVariadicInputMinArity = one,
      .GetVariadicInputHomogeneity = one,
      .GetVariadicOutputMinArity = one,
      .GetVariadicOutputHomogeneity = one,
      .GetStartVersion = one,
      .GetEndVersion = any_later,
  };
}

Variant *as_ort_variants(size_t *count) {
  *count = VARIANTS;
  if (variants[0].inputs) return variants;
  static const int input_types[KINDS] = {AS_FP32, AS_UINT8, AS_UINT8, AS_BF16};
  size_t next = 0;
  for (int convolution = 0; convolution < 2; convolution++)
    for (int kind = 0; kind < (convolution ? OF_CONVOLUTIONS : KINDS); kind++)
      for (int activation = 0; activation < ACTIVATIONS; activation++)
        for (int residual = 0; residual < 2; residual++) {
          Variant *variant = &variants[next++];
          variant->convolution = convolution;
          variant->input_type = input_types[kind];
          variant->output_type = kind == 2 ? AS_UINT8 : AS_FP32;
          variant->activation = activation;
          variant->residual = residual;
          describe(variant);
        }
  for (int type = AS_FP32; type <= AS_BF16; type++) /* each of them, to fp32 */
    for (int residual = 0; residual < 2; residual++) {
      Variant *variant = &variants[next++];
      variant->input_type = type;
      variant->output_type = AS_FP32;
      variant->residual = residual;
      variant->norm = 1;
      describe(variant);
    }
  return variants;
}
