#include "ort_kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { MOST_DIMENSIONS = 8, LINEAR_DIMENSIONS = 2, CONVOLUTION_DIMENSIONS = 4, PLAN_NUMBERS = 4 };

typedef struct {
  AsLayer *layer;
  const Variant *variant;
  int64_t outputs, features; /* features: K, or all input channels of a convolution */
} Kernel;

typedef struct {
  const void *data;
  int64_t shape[MOST_DIMENSIONS];
  size_t rank;
  int64_t elements;
} Tensor;

static OrtStatus *failed(int code, const char *sentence) {
  return ORT_CREATE_STATUS(as_ort)(code, sentence);
}

static OrtStatus *refused(const Variant *variant, const char *sentence) {
  char text[256];
  snprintf(text, sizeof text, "%s: %s", variant->name, sentence);
  return failed(ORT_INVALID_ARGUMENT, text);
}

/* Of dimensions that need not belong to memory: one of them may be zero. False where there are
 * too many. */
static int count_elements(Tensor *tensor) {
  tensor->elements = 0;
  for (size_t i = 0; i < tensor->rank; i++)
    if (tensor->shape[i] == 0) return 1;
  tensor->elements = 1;
  for (size_t i = 0; i < tensor->rank; i++) {
    if (tensor->shape[i] < 0 || tensor->elements > INT64_MAX / tensor->shape[i]) return 0;
    tensor->elements *= tensor->shape[i];
  }
  return 1;
}

static OrtStatus *read_tensor(const OrtValue *value, Tensor *tensor) {
  OrtTensorInfo *info;
  if (!value) return failed(ORT_INVALID_ARGUMENT, "an input of a sparse layer is missing");
  OrtStatus *status = ORT_TENSOR_INFO(as_ort)(value, &info);
  if (status) return status;
  status = ORT_RANK(as_ort)(info, &tensor->rank);
  if (!status && tensor->rank > MOST_DIMENSIONS)
    status = failed(ORT_INVALID_ARGUMENT, "a tensor has more than 8 dimensions");
  if (!status) status = ORT_DIMENSIONS(as_ort)(info, tensor->shape, tensor->rank);
  ORT_RELEASE_TENSOR_INFO(as_ort)(info);
  if (status) return status;
  if (!count_elements(tensor))
    return failed(ORT_INVALID_ARGUMENT, "a tensor has more elements than can be counted");
  return ORT_TENSOR_DATA(as_ort)(value, (void **)&tensor->data);
}

/* Every input but the activations: constant, so that weights are packed once. */
typedef struct {
  Tensor tensors[ROLES];
  AsRuns runs;
} Constants;

static int is_constant(Role role) { return role != ROLE_INPUT && role != ROLE_RESIDUAL; }

static OrtStatus *read_constants(const Variant *variant, const OrtKernelInfo *info,
                                 Constants *constants) {
  for (size_t i = 0; i < variant->inputs; i++) {
    const Role role = variant->roles[i];
    if (!is_constant(role)) continue;
    int constant = 0;
    const OrtValue *value = NULL;
    OrtStatus *status = ORT_CONSTANT_INPUT(as_ort)(info, i, &constant, &value);
    if (status) return status;
    if (!constant || !value) return refused(variant, "its weight must be stored in the model");
    status = read_tensor(value, &constants->tensors[role]);
    if (status) return status;
  }
  return NULL;
}

static const char *decode_runs(const Variant *variant, AsLayerSpec *spec, Constants *constants) {
  const Tensor *gaps = &constants->tensors[ROLE_GAPS];
  const Tensor *values = &constants->tensors[ROLE_VALUES];
  const Tensor *shape = &constants->tensors[ROLE_RUNS_SHAPE];
  if (shape->elements != 2 || gaps->rank != 1 || values->rank != 2 ||
      values->shape[0] != gaps->shape[0])
    return "its values and gaps do not belong together";
  const int64_t all = ((const int64_t *)shape->data)[0], run = ((const int64_t *)shape->data)[1];
  if (run < 1 || run > 64 || values->shape[1] != run) return "its runs have a length of their own";
  if (spec->outputs < 1 || spec->depth < 1 || spec->depth % run ||
      all != spec->outputs * (spec->depth / run))
    return "its runs do not fill its weight";
  static const size_t bytes_of[] = {[AS_FP32] = 4, [AS_UINT8] = 1, [AS_BF16] = 2};
  const size_t bytes = (size_t)run * bytes_of[variant->input_type];
  const AsStoredRuns stored = {values->data, gaps->data, gaps->shape[0], all, bytes};
  const char *problem = as_runs_decode(&stored, &constants->runs);
  spec->run = (int32_t)run;
  spec->runs = constants->runs.count;
  spec->positions = constants->runs.positions;
  if (variant->input_type == AS_FP32)
    spec->fp32_values = constants->runs.values;
  else if (variant->input_type == AS_BF16)
    spec->bf16_values = constants->runs.values;
  else
    spec->int8_values = constants->runs.values;
  return problem;
}

/* `otherwise` for roles that the variant lacks; the others were checked: single_numbers. */
static float number(const Constants *constants, Role role, float otherwise) {
  const Tensor *tensor = &constants->tensors[role];
  return tensor->data ? *(const float *)tensor->data : otherwise;
}

static int zero_point(const Constants *constants, Role role) {
  const Tensor *tensor = &constants->tensors[role];
  return tensor->data ? *(const uint8_t *)tensor->data : 0;
}

static int single_numbers(const Variant *variant, const Constants *constants) {
  static const Role roles[] = {ROLE_INPUT_STEP,  ROLE_INPUT_ZERO, ROLE_LOW, ROLE_HIGH,
                               ROLE_OUTPUT_STEP, ROLE_OUTPUT_ZERO};
  for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
    if (variant->index[roles[i]] >= 0 && constants->tensors[roles[i]].elements != 1) return 0;
  return 1;
}

/* As a list, since the dense meaning of another shape is another one. */
static int one_for_each_output(const AsLayerSpec *spec, const Tensor *tensor) {
  return tensor->rank == 1 && tensor->elements == spec->outputs;
}

static const char *describe_weight(const Variant *variant, AsLayerSpec *spec,
                                   const Constants *constants) {
  const Tensor *shape = &constants->tensors[ROLE_WEIGHT_SHAPE];
  const int64_t *size = shape->data;
  const int64_t rank = variant->convolution ? CONVOLUTION_DIMENSIONS : LINEAR_DIMENSIONS;
  if (shape->elements != rank) return "its weight has the wrong number of dimensions";
  for (int64_t i = 0; i < rank; i++)
    if (size[i] < 1 || size[i] > (1 << 30)) return "its weight has an impossible size";
  spec->outputs = size[0];
  spec->depth = size[1];
  if (variant->convolution) {
    if (size[1] > 1024 || size[2] > 1024) return "its kernel is larger than 1024 x 1024";
    spec->kernel[0] = size[1], spec->kernel[1] = size[2];
    spec->depth = size[1] * size[2] * size[3];
    spec->channels = size[3]; /* of one group, until the attribute is read */
  }
  if (spec->depth > (1 << 30)) return "its weight has an impossible size";
  if (!one_for_each_output(spec, &constants->tensors[ROLE_BIAS]))
    return "its bias must have one number for each output";
  spec->bias = constants->tensors[ROLE_BIAS].data;
  return NULL;
}

static const char *describe_norm(const Variant *variant, const OrtKernelInfo *info,
                                 AsLayerSpec *spec, const Constants *constants) {
  if (!variant->norm) return NULL;
  const Tensor *scale = &constants->tensors[ROLE_NORM_SCALE];
  const Tensor *shift = &constants->tensors[ROLE_NORM_SHIFT];
  if (!one_for_each_output(spec, scale) || !one_for_each_output(spec, shift))
    return "its normalization must have one scale and one shift for each output";
  spec->norm_scale = scale->data;
  spec->norm_shift = shift->data;
  OrtStatus *status = ORT_FLOAT_ATTRIBUTE(as_ort)(info, "epsilon", &spec->norm_epsilon);
  if (!status) return NULL;
  ORT_RELEASE_STATUS(as_ort)(status);
  return "its normalization has no epsilon";
}

static const char *describe_grids(const Variant *variant, AsLayerSpec *spec,
                                  const Constants *constants) {
  if (!single_numbers(variant, constants))
    return "its steps, zeros and bounds must be one number each";
  spec->activation = variant->activation;
  spec->activation_low = number(constants, ROLE_LOW, 0);
  spec->activation_high = number(constants, ROLE_HIGH, 0);
  spec->input_type = variant->input_type;
  spec->output_type = variant->output_type;
  if (variant->input_type != AS_UINT8) return NULL;
  if (!one_for_each_output(spec, &constants->tensors[ROLE_WEIGHT_STEPS]))
    return "its weight must have one step for each output";
  spec->weight_steps = constants->tensors[ROLE_WEIGHT_STEPS].data;
  spec->input_step = number(constants, ROLE_INPUT_STEP, 0);
  spec->input_zero = zero_point(constants, ROLE_INPUT_ZERO);
  spec->output_step = number(constants, ROLE_OUTPUT_STEP, 1);
  spec->output_zero = zero_point(constants, ROLE_OUTPUT_ZERO);
  if (!(spec->input_step > 0) || !(spec->output_step > 0)) return "a step must be positive";
  return NULL;
}

/* Whether a question was answered; why it was not is of no interest. */
static int answered(OrtStatus *status) {
  if (status) ORT_RELEASE_STATUS(as_ort)(status);
  return !status;
}

static int read_integers(const OrtKernelInfo *info, const char *name, int64_t *into, size_t count) {
  size_t found = count;
  return answered(ORT_INTEGERS_ATTRIBUTE(as_ort)(info, name, NULL, &found)) && found == count &&
         answered(ORT_INTEGERS_ATTRIBUTE(as_ort)(info, name, into, &found));
}

static int read_integer(const OrtKernelInfo *info, const char *name, int64_t *into) {
  return answered(ORT_INTEGER_ATTRIBUTE(as_ort)(info, name, into));
}

/* Whether the node has an attribute of that name, of whatever kind: what is there and cannot be
 * read as what it should be is not what was left out. */
static int has_attribute(const OrtKernelInfo *info, const char *name) {
  size_t integers = 0, floats = 0, bytes = 0;
  int64_t integer;
  float number;
  return answered(ORT_INTEGERS_ATTRIBUTE(as_ort)(info, name, NULL, &integers)) ||
         answered(ORT_INTEGER_ATTRIBUTE(as_ort)(info, name, &integer)) ||
         answered(ORT_FLOATS_ATTRIBUTE(as_ort)(info, name, NULL, &floats)) ||
         answered(ORT_FLOAT_ATTRIBUTE(as_ort)(info, name, &number)) ||
         answered(ORT_STRING_ATTRIBUTE(as_ort)(info, name, NULL, &bytes));
}

/* What files may leave out. */
static const char *read_plan(const OrtKernelInfo *info, AsLayerSpec *spec) {
  int64_t plan[PLAN_NUMBERS] = {0}, group = 0;
  if (!read_integers(info, "plan", plan, PLAN_NUMBERS) && has_attribute(info, "plan"))
    return "its plan needs four numbers";
  for (int i = 0; i < PLAN_NUMBERS; i++)
    if (plan[i] < 0 || plan[i] > (1 << 20)) return "its plan is impossible";
  spec->plan = (AsPlan){(int32_t)plan[0], (int32_t)plan[1], (int32_t)plan[2], (int32_t)plan[3]};
  if (!read_integer(info, "nm_group", &group) && has_attribute(info, "nm_group"))
    return "its nm_group is no number";
  spec->group = group > 1 && group <= spec->depth ? (int32_t)group : 0;
  return NULL;
}

static const char *read_geometry(const OrtKernelInfo *info, AsLayerSpec *spec) {
  if (!read_integer(info, "group", &spec->groups)) return "its group must be one number";
  if (!read_integers(info, "strides", spec->strides, 2) ||
      !read_integers(info, "dilations", spec->dilations, 2) ||
      !read_integers(info, "pads", spec->pads, 4))
    return "strides, dilations and pads must be those of a two-dimensional convolution";
  for (int i = 0; i < 2; i++)
    if (spec->strides[i] < 1 || spec->strides[i] > 1024 || spec->dilations[i] < 1 ||
        spec->dilations[i] > 1024)
      return "its strides or dilations are impossible";
  for (int i = 0; i < 4; i++)
    if (spec->pads[i] < 0 || spec->pads[i] > 4096) return "its pads are impossible";
  if (spec->groups < 1 || spec->outputs % spec->groups) return "its groups do not divide it";
  spec->channels *= spec->groups;
  return NULL;
}

static const char *read_attributes(const Variant *variant, const OrtKernelInfo *info,
                                   AsLayerSpec *spec) {
  const char *problem = read_plan(info, spec);
  return problem || !variant->convolution ? problem : read_geometry(info, spec);
}

OrtStatus *as_ort_create_kernel(const OrtCustomOp *op, const void *api, const OrtKernelInfo *info,
                                void **made) {
  (void)api;
  const Variant *variant = (const Variant *)op;
  AsLayerSpec spec = {.struct_bytes = sizeof spec, .operation = variant->convolution};
  Constants constants;
  memset(&constants, 0, sizeof constants);
  OrtStatus *status = read_constants(variant, info, &constants);
  if (status) return status;
  Kernel *kernel = calloc(1, sizeof *kernel);
  const char *problem = kernel ? describe_weight(variant, &spec, &constants) : "out of memory";
  if (!problem) problem = describe_grids(variant, &spec, &constants);
  if (!problem) problem = describe_norm(variant, info, &spec, &constants);
  if (!problem) problem = read_attributes(variant, info, &spec);
  if (!problem) problem = decode_runs(variant, &spec, &constants);
  if (!problem) problem = as_layer_create(&spec, &kernel->layer);
  as_runs_release(&constants.runs);
  if (problem) {
    free(kernel);
    return refused(variant, problem);
  }
  kernel->variant = variant;
  kernel->outputs = spec.outputs;
  kernel->features = variant->convolution ? spec.channels : spec.depth;
  *made = kernel;
  return NULL;
}

void as_ort_destroy_kernel(void *kernel) {
  as_layer_destroy(((Kernel *)kernel)->layer);
  free(kernel);
}

typedef struct {
  const OrtKernelContext *context;
  OrtStatus *status;
} Pool;

/* The session's own threads. What failed once is not tried again, and its status is kept. */
static void run_in_pool(void *context, void (*task)(void *, size_t), size_t count, void *data) {
  Pool *pool = context;
  if (!pool->status) pool->status = ORT_PARALLEL_FOR(as_ort)(pool->context, task, count, 0, data);
}

static const char *output_shape(const Kernel *kernel, const Tensor *input, AsCall *call,
                                int64_t *shape) {
  memcpy(shape, input->shape, input->rank * sizeof *shape);
  if (!kernel->variant->convolution) {
    if (input->rank < 1 || input->shape[input->rank - 1] != kernel->features)
      return "its input has not as many features as its weight";
    shape[input->rank - 1] = kernel->outputs;
    call->rows = input->elements / kernel->features;
    return NULL;
  }
  if (input->rank != CONVOLUTION_DIMENSIONS || input->shape[1] != kernel->features)
    return "its input has not as many channels as its weight";
  call->rows = input->shape[0];
  call->height = input->shape[2];
  call->width = input->shape[3];
  shape[1] = kernel->outputs;
  as_layer_output_size(kernel->layer, call->height, call->width, shape + 2);
  return NULL;
}

static OrtStatus *read_residual(const Kernel *kernel, const OrtKernelContext *context,
                                const int64_t *shape, size_t rank, AsCall *call) {
  const int index = kernel->variant->index[ROLE_RESIDUAL];
  if (index < 0) return NULL;
  const OrtValue *value;
  Tensor residual;
  OrtStatus *status = ORT_INPUT(as_ort)(context, (size_t)index, &value);
  if (!status) status = read_tensor(value, &residual);
  if (status) return status;
  if (residual.rank != rank || memcmp(residual.shape, shape, rank * sizeof *shape))
    return refused(kernel->variant, "what is added has not the shape of its result");
  call->residual = residual.data;
  return NULL;
}

OrtStatus *as_ort_compute(void *made, OrtKernelContext *context) {
  const Kernel *kernel = made;
  const OrtValue *value;
  Tensor input;
  OrtStatus *status = ORT_INPUT(as_ort)(context, 0, &value);
  if (!status) status = read_tensor(value, &input);
  if (status) return status;
  AsCall call = {.input = input.data};
  int64_t shape[MOST_DIMENSIONS];
  const char *problem = output_shape(kernel, &input, &call, shape);
  if (problem) return refused(kernel->variant, problem);
  status = read_residual(kernel, context, shape, input.rank, &call);
  OrtValue *output;
  if (!status) status = ORT_OUTPUT(as_ort)(context, 0, shape, input.rank, &output);
  if (!status) status = ORT_TENSOR_DATA(as_ort)(output, &call.output);
  if (status) return status;
  Pool pool = {context, NULL};
  const AsParallel parallel = {&pool, run_in_pool};
  problem = as_layer_run(kernel->layer, &call, &parallel);
  if (pool.status) return pool.status;
  return problem ? refused(kernel->variant, problem) : NULL;
}
