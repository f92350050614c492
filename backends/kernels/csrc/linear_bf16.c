/* Matrix products of bf16: tiles of rows turned into words of two features, multiplied depth block
 * by depth block, and turned back with bias, residual and activation. A weight without zeros is
 * one of which every word is there. */
#include <string.h>

#include "bf16.h"
#include "parted_weight.h"

enum { FIRST_CACHE = 32 * 1024 /* bytes of it for a block of a tile */ };
static const int64_t SERIAL_WORK = 50000; /* words times registers that are not worth a thread */
static const char OUT_OF_MEMORY[] = "out of memory while packing a bf16 weight";

typedef struct {
  AsPartedWeight weight;
  float *bias; /* as many more as a group has channels */
  const AsBf16Steps *steps;
  const AsSteps *surroundings;
  AsEpilogue epilogue;
} Packed;

typedef struct {
  const AsLayer *layer;
  const AsCall *call;
  int64_t registers; /* of rows in a tile */
  _Atomic int failed;
} Job;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Runs of bf16 are words as they are. */
static int64_t words_of(const AsLayerSpec *spec, int64_t begin, int64_t end, int64_t first,
                        int64_t row_words, int64_t *positions, int8_t *values) {
  for (int64_t i = begin; i < end; i++)
    positions[i - begin] = spec->positions[i] - first * row_words;
  if (end > begin) memcpy(values, spec->bf16_values + 2 * begin, (size_t)(end - begin) * 4);
  return end - begin;
}

static const char *create(AsLayer *layer) {
  const AsLayerSpec *spec = &layer->spec;
  Packed *packed = layer->packed = as_allocate(sizeof *packed);
  if (!packed) return OUT_OF_MEMORY;
  packed->steps = as_bf16_steps();
  packed->surroundings = as_current_set()->steps;
  packed->epilogue =
      (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  packed->bias = as_allocate((size_t)(spec->outputs + AS_BF16_ROWS) * sizeof *packed->bias);
  if (!packed->bias) return OUT_OF_MEMORY;
  if (spec->bias) memcpy(packed->bias, spec->bias, (size_t)spec->outputs * sizeof *packed->bias);
  const int64_t width = (int64_t)packed->steps->lanes * packed->steps->vectors;
  const AsPartLayout layout = {
      .words = spec->depth / 2,
      .block_words = spec->plan.depth > 0 ? ((int64_t)spec->plan.depth + 1) / 2
                                          : FIRST_CACHE / (width * 4),
      .rows = AS_BF16_ROWS,
      .words_of = words_of,
  };
  return as_part_weight(spec, &layout, &packed->weight);
}

static void part_of_tile(const Job *job, const AsWeightPart *part, int64_t row, int64_t rows,
                         int64_t width, const int32_t *x, float *y) {
  const Packed *packed = job->layer->packed;
  AsBf16Block block = {
      .weight = &part->weight, .bias = packed->bias + part->first, .y = y, .width = width};
  for (; block.block < part->weight.blocks; block.block++) {
    block.x = x + block.block * packed->weight.block_words * width;
    packed->steps->multiply(&block);
  }
  const int64_t outputs = job->layer->spec.outputs, out = row * outputs + part->first;
  packed->surroundings->untile_fp32(y, width, rows, part->outputs, &packed->epilogue,
                                    job->call->residual ? job->call->residual + out : NULL,
                                    (float *)job->call->output + out, outputs);
}

/* One tile of rows, all outputs. */
static void tile(void *data, size_t index) {
  Job *job = data;
  const Packed *packed = job->layer->packed;
  const int64_t lanes = packed->steps->lanes, depth = job->layer->spec.depth;
  const int64_t row = (int64_t)index * job->registers * lanes;
  const int64_t rows = smaller(job->registers * lanes, job->call->rows - row);
  const int64_t width = (rows + lanes - 1) / lanes * lanes;
  const int64_t x_words = packed->weight.words * width;
  const int64_t y_floats = (packed->weight.parts[0].outputs + AS_BF16_ROWS) * width;
  int32_t *x = as_scratch_take((size_t)(x_words + y_floats) * sizeof *x);
  if (!x) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  packed->steps->tile((const float *)job->call->input + row * depth, rows, depth, width, x);
  for (int64_t i = 0; i < packed->weight.part_count; i++)
    part_of_tile(job, &packed->weight.parts[i], row, rows, width, x, (float *)(x + x_words));
  as_scratch_give(x);
}

static const char *run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel) {
  const Packed *packed = layer->packed;
  if (call->rows <= 0) return NULL;
  Job job = {.layer = layer, .call = call};
  const int64_t lanes = packed->steps->lanes;
  const int64_t registers = (call->rows + lanes - 1) / lanes;
  const int64_t tiles = (registers + packed->steps->vectors - 1) / packed->steps->vectors;
  job.registers = (registers + tiles - 1) / tiles; /* about even ones */
  const int64_t count = (registers + job.registers - 1) / job.registers;
  if (count == 1 || packed->weight.pairs * registers < SERIAL_WORK)
    for (int64_t i = 0; i < count; i++) tile(&job, (size_t)i);
  else
    parallel->run(parallel->context, tile, (size_t)count, &job);
  return as_failure(job.failed);
}

static void destroy(AsLayer *layer) {
  Packed *packed = layer->packed;
  if (!packed) return;
  as_free_parts(&packed->weight);
  as_free(packed->bias);
  as_free(packed);
}

const AsOperator as_linear_bf16 = {create, run, destroy};
