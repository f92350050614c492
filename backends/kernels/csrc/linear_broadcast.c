/* Matrix products by the broadcast family: a tile of rows is turned feature-major, multiplied
 * depth block by depth block, and turned back with bias, residual and activation. */
#include "internal.h"

enum { USUAL_VECTORS = 4, USUAL_ROWS = 2, USUAL_DEPTH = 256, LARGEST_OFFSET = 65535 };

typedef struct {
  AsBroadcastWeight weight;
  float *bias; /* a channel more for each row of a group, so that none is out of bounds */
  int64_t depth; /* features in a block */
  int width, vectors, rows;
  const AsSteps *steps;
  AsEpilogue epilogue;
  const AsKernel *kernels[8]; /* by vectors - 1; NULL where not compiled */
} Packed;

typedef struct {
  const AsLayer *layer;
  const AsCall *call;
  int failed;
} Job;

static void place(const void *context, int64_t run, int64_t *block, int64_t *offset) {
  const Packed *packed = context;
  *block = run / packed->depth;
  *offset = run % packed->depth * packed->width;
}

static const char *create(AsLayer *layer) {
  const AsLayerSpec *spec = &layer->spec;
  const AsInstructionSet *set = as_current_set();
  const int vectors = spec->plan.vectors ? spec->plan.vectors : USUAL_VECTORS;
  const AsKernel *kernel = as_nearest_kernel("broadcast_fp32_u16", vectors,
                                             spec->plan.rows ? spec->plan.rows : USUAL_ROWS);
  if (!kernel) return "this library holds no fp32 kernel for this processor";
  Packed *packed = as_allocate(sizeof *packed);
  if (!packed) return "out of memory";
  layer->packed = packed;
  packed->vectors = kernel->vectors;
  packed->rows = kernel->rows;
  packed->width = kernel->vectors * set->lanes;
  packed->steps = set->steps;
  packed->kernels[0] = kernel;
  packed->epilogue =
      (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  packed->depth = spec->plan.depth ? spec->plan.depth : USUAL_DEPTH;
  if (packed->depth * packed->width > LARGEST_OFFSET + 1)
    packed->depth = (LARGEST_OFFSET + 1) / packed->width;
  if (packed->depth > spec->depth) packed->depth = spec->depth;
  const AsBroadcastLayout layout = {
      .rows = packed->rows,
      .blocks = (spec->depth + packed->depth - 1) / packed->depth,
      .place = place,
      .context = packed,
  };
  packed->bias = as_allocate((size_t)(spec->outputs + packed->rows) * sizeof(float));
  if (!packed->bias) return "out of memory";
  for (int64_t n = 0; spec->bias && n < spec->outputs; n++) packed->bias[n] = spec->bias[n];
  return as_pack_broadcast(spec, &layout, &packed->weight);
}

static int multiply(const AsLayerSpec *spec, const Packed *packed, const float *x, float *y) {
  const AsBroadcastWeight *weight = &packed->weight;
  const int64_t y_floats = (spec->outputs + packed->rows) * packed->width;
  for (int64_t b = 0; b < weight->blocks; b++) {
    const int64_t begin = weight->block_begin[b];
    const int64_t pairs = weight->block_begin[b + 1] - begin + 1;
    const AsView views[] = {
        {AS_VIEW_I32, weight->counts + b * weight->groups, weight->groups},
        {AS_VIEW_I32, weight->channels + b * weight->groups * packed->rows,
         weight->groups * packed->rows},
        {AS_VIEW_U16, (const uint16_t *)weight->offsets + begin, pairs},
        {AS_VIEW_F32, (const float *)weight->values + begin, pairs},
        {AS_VIEW_F32, packed->bias, spec->outputs + packed->rows},
        {AS_VIEW_F32, x + b * packed->depth * packed->width, packed->depth * packed->width},
        {AS_VIEW_F32, y, y_floats},
        {AS_VIEW_INT, NULL, weight->groups},
        {AS_VIEW_INT, NULL, packed->width},
        {AS_VIEW_INT, NULL, b == 0},
    };
    if (as_call_kernel(packed->kernels[0], views, sizeof views / sizeof *views)) return 0;
  }
  return 1;
}

static void tile(void *data, size_t index) {
  Job *job = data;
  const AsLayerSpec *spec = &job->layer->spec;
  const Packed *packed = job->layer->packed;
  const int64_t first = (int64_t)index * packed->width;
  const int64_t left = job->call->rows - first;
  const int64_t columns = left < packed->width ? left : packed->width;
  const int64_t x_floats = spec->depth * packed->width;
  const int64_t y_floats = (spec->outputs + packed->rows) * packed->width;
  float *x = as_scratch_take((size_t)(x_floats + y_floats) * sizeof(float));
  if (!x) {
    job->failed = 1;
    return;
  }
  float *y = x + x_floats;
  const float *input = (const float *)job->call->input + first * spec->depth;
  packed->steps->tile_fp32(input, spec->depth, columns, spec->depth, packed->width, x);
  if (!multiply(spec, packed, x, y)) job->failed = 1;
  const int64_t out = first * spec->outputs;
  packed->steps->untile_fp32(y, packed->width, columns, spec->outputs, &packed->epilogue,
                             job->call->residual ? job->call->residual + out : NULL,
                             (float *)job->call->output + out, spec->outputs);
  as_scratch_give(x);
}

static const char *run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel) {
  const Packed *packed = layer->packed;
  Job job = {layer, call, 0};
  const int64_t tiles = (call->rows + packed->width - 1) / packed->width;
  if (tiles == 1)
    tile(&job, 0);
  else if (tiles > 1)
    parallel->run(parallel->context, tile, (size_t)tiles, &job);
  return job.failed ? "a sparse layer ran out of memory" : NULL;
}

static void destroy(AsLayer *layer) {
  Packed *packed = layer->packed;
  if (!packed) return;
  as_free_broadcast(&packed->weight);
  as_free(packed->bias);
  as_free(packed);
}

const AsOperator as_linear_broadcast = {create, run, destroy};
