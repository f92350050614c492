/* Matrix products of bf16: tiles of rows turned into words of two features, multiplied depth block
 * by depth block, and turned back with bias, residual and activation. A weight without zeros is
 * one of which every word is there. */
#include <stdlib.h>

#include "bf16.h"

enum {
  FIRST_CACHE = 32 * 1024, /* bytes of it for a block of a tile */
  PART_OUTPUTS = 256,      /* whose sums stay in the cache until they are finished */
  MOST_WORDS = 65536,      /* that an offset can count */
};
static const int64_t SERIAL_WORK = 50000; /* words times registers that are not worth a thread */
static const char OUT_OF_MEMORY[] = "out of memory while packing a bf16 weight";

typedef struct {
  AsBroadcastWeight weight;
  float *bias;
  int64_t first, outputs;
} Part;

typedef struct {
  Part *parts;
  int64_t part_count, words, block_words, pairs;
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

static void place(const void *context, int64_t run, int64_t *block, int64_t *offset) {
  const int64_t block_words = *(const int64_t *)context;
  *block = run / block_words;
  *offset = run % block_words;
}

/* Outputs of a part as a weight of its own: runs from `*run` on, which is moved past them. */
static const char *pack_part(const AsLayerSpec *spec, const Packed *packed, int64_t *run,
                             Part *part) {
  const int64_t begin = *run, before = part->first * packed->words;
  const int64_t end = before + part->outputs * packed->words;
  while (*run < spec->runs && spec->positions[*run] < end) ++*run;
  part->bias = as_allocate((size_t)(part->outputs + AS_BF16_ROWS) * sizeof *part->bias);
  int64_t *positions = malloc((size_t)(*run - begin + 1) * sizeof *positions);
  const char *problem = OUT_OF_MEMORY;
  if (part->bias && positions) {
    for (int64_t n = 0; spec->bias && n < part->outputs; n++)
      part->bias[n] = spec->bias[part->first + n];
    for (int64_t i = begin; i < *run; i++) positions[i - begin] = spec->positions[i] - before;
    AsLayerSpec words = *spec;
    words.outputs = part->outputs;
    words.depth = packed->words; /* in runs of a word: what is packed is four bytes */
    words.run = 1;
    words.runs = *run - begin;
    words.positions = positions;
    words.int8_values = (const int8_t *)(spec->bf16_values + 2 * begin);
    const AsBroadcastLayout layout = {
        .rows = AS_BF16_ROWS,
        .blocks = (packed->words + packed->block_words - 1) / packed->block_words,
        .place = place,
        .context = &packed->block_words,
    };
    problem = as_pack_broadcast(&words, &layout, &part->weight);
  }
  free(positions);
  return problem;
}

static const char *create(AsLayer *layer) {
  const AsLayerSpec *spec = &layer->spec;
  Packed *packed = layer->packed = as_allocate(sizeof *packed);
  if (!packed) return OUT_OF_MEMORY;
  packed->steps = as_bf16_steps();
  packed->surroundings = as_current_set()->steps;
  packed->epilogue =
      (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  packed->words = spec->depth / 2;
  const int64_t width = (int64_t)packed->steps->lanes * packed->steps->vectors;
  const int64_t most_blocks = as_most_blocks(spec);
  const int64_t shortest = (packed->words + most_blocks - 1) / most_blocks;
  const int64_t wished = spec->plan.depth > 0 ? ((int64_t)spec->plan.depth + 1) / 2
                                              : FIRST_CACHE / (width * 4);
  packed->block_words = wished < shortest ? shortest : wished;
  packed->block_words = smaller(smaller(packed->block_words, MOST_WORDS), packed->words);
  if (packed->block_words < shortest) return "the weight is too deep for its few non-zeros";
  packed->part_count = (spec->outputs + PART_OUTPUTS - 1) / PART_OUTPUTS;
  packed->parts = as_allocate((size_t)packed->part_count * sizeof *packed->parts);
  if (!packed->parts) return OUT_OF_MEMORY;
  int64_t run = 0;
  for (int64_t i = 0; i < packed->part_count; i++) {
    Part *part = &packed->parts[i];
    part->first = i * PART_OUTPUTS;
    part->outputs = smaller(PART_OUTPUTS, spec->outputs - part->first);
    const char *problem = pack_part(spec, packed, &run, part);
    if (problem) return problem;
    packed->pairs += part->weight.pairs;
  }
  return NULL;
}

static void part_of_tile(const Job *job, const Part *part, int64_t row, int64_t rows,
                         int64_t width, const int32_t *x, float *y) {
  const Packed *packed = job->layer->packed;
  AsBf16Block block = {.weight = &part->weight, .bias = part->bias, .y = y, .width = width};
  for (; block.block < part->weight.blocks; block.block++) {
    block.x = x + block.block * packed->block_words * width;
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
  const int64_t x_words = packed->words * width;
  const int64_t y_floats =
      (smaller(PART_OUTPUTS, job->layer->spec.outputs) + AS_BF16_ROWS) * width;
  int32_t *x = as_scratch_take((size_t)(x_words + y_floats) * sizeof *x);
  if (!x) {
    job->failed = 1;
    return;
  }
  packed->steps->tile((const float *)job->call->input + row * depth, rows, depth, width, x);
  for (int64_t i = 0; i < packed->part_count; i++)
    part_of_tile(job, &packed->parts[i], row, rows, width, x, (float *)(x + x_words));
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
  if (count == 1 || packed->pairs * registers < SERIAL_WORK)
    for (int64_t i = 0; i < count; i++) tile(&job, (size_t)i);
  else
    parallel->run(parallel->context, tile, (size_t)count, &job);
  return job.failed ? "a bf16 layer ran out of memory" : NULL;
}

static void destroy(AsLayer *layer) {
  Packed *packed = layer->packed;
  if (!packed) return;
  for (int64_t i = 0; packed->parts && i < packed->part_count; i++) {
    as_free_broadcast(&packed->parts[i].weight);
    as_free(packed->parts[i].bias);
  }
  as_free(packed->parts);
  as_free(packed);
}

const AsOperator as_linear_bf16 = {create, run, destroy};
