/* Matrix products of int8 by the broadcast family: a tile of rows is turned into words of four
 * features, multiplied depth block by depth block, and turned back while it is requantized.
 *
 * The outputs are packed in parts, each a weight of its own: the sums of a part stay in the cache
 * until they are requantized, and threads share a tile's parts where there are few tiles. */
#include <stdlib.h>

#include "int8.h"

enum {
  MOST_VECTORS = 8,
  USUAL_VECTORS = 4,
  USUAL_ROWS = 4,
  MOST_WORDS = 65536, /* that an offset can count */
  PART_OUTPUTS = 256,
  MANY_TILES = 4, /* enough to keep threads busy without sharing a tile */
};
static const int64_t SERIAL_WORK = 50000; /* weights times registers that are not worth a thread */

typedef struct {
  AsBroadcastWeight weight;
  int64_t first, outputs;
} Part;

struct AsInt8Broadcast {
  Part *parts;
  int64_t part_count, words; /* words of four features in a row */
  int64_t block_words, pairs;
  int lanes, vectors, rows;
  const AsSteps *steps;
  const AsKernel *kernels[MOST_VECTORS + 1]; /* by vectors: the next one that is compiled */
};

typedef struct {
  const AsInt8Broadcast *packed;
  const AsInt8Run *run;
  int64_t tile_registers; /* of rows in a tile */
  int32_t *turned;        /* all tiles, where threads share them... */
  int64_t turned_words;   /* ...and the words of one */
  _Atomic int failed;
} Job;

typedef struct {
  int64_t first, columns, width;
  const AsKernel *kernel;
} Tile;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Of depth in a block. Many non-zeros want its tile of 4 registers inside the first cache, few of
 * them rather want to read and write their sums less often: on Zen 5, 256 words take 8 % longer
 * than 128 at a density of a quarter and 128 rows or more, and 1 to 3 % less at a tenth. */
static int64_t usual_words(const AsLayerSpec *spec) {
  return as_int8_density(spec) > AS_INT8_FEW ? 128 : 256;
}

double as_int8_density(const AsLayerSpec *spec) {
  const double run = spec->run < 4 ? 4 : spec->run;
  return (double)spec->runs * run / ((double)spec->outputs * (double)spec->depth);
}

static void place(const void *context, int64_t run, int64_t *block, int64_t *offset) {
  const int64_t block_words = *(const int64_t *)context;
  *block = run / block_words;
  *offset = run % block_words;
}

/* Runs of any length as words of four weights; words that hold only zeros are left out. Returns
 * how many. `positions` and `values` have room for every weight of the runs. */
static int64_t words_of(const AsLayerSpec *spec, int64_t begin, int64_t end, int64_t first,
                        int64_t row_words, int64_t *positions, int8_t *values) {
  const int64_t row_runs = spec->depth / spec->run;
  int64_t count = 0;
  for (int64_t i = begin; i < end; i++)
    for (int32_t j = 0; j < spec->run; j++) {
      const int8_t value = spec->int8_values[i * spec->run + j];
      const int64_t feature = spec->positions[i] % row_runs * spec->run + j;
      const int64_t row = spec->positions[i] / row_runs - first;
      const int64_t word = row * row_words + feature / 4;
      if (!value) continue;
      if (!count || positions[count - 1] != word) {
        positions[count] = word;
        for (int q = 0; q < 4; q++) values[4 * count + q] = 0;
        count++;
      }
      values[4 * (count - 1) + feature % 4] = value;
    }
  return count;
}

static const char *pack_part(const AsLayerSpec *spec, const AsInt8Broadcast *packed,
                             int64_t *run, Part *part) {
  const int64_t row_runs = spec->depth / spec->run, begin = *run;
  while (*run < spec->runs && spec->positions[*run] / row_runs < part->first + part->outputs)
    ++*run;
  const int64_t most = (*run - begin) * spec->run;
  int64_t *positions = malloc((size_t)(most + 1) * sizeof *positions);
  int8_t *values = malloc((size_t)(most + 1) * 4);
  const char *problem = "out of memory while packing a sparse weight";
  if (positions && values) {
    AsLayerSpec words = *spec;
    words.outputs = part->outputs;
    words.depth = 4 * packed->words;
    words.run = 4;
    words.runs = words_of(spec, begin, *run, part->first, packed->words, positions, values);
    words.positions = positions;
    words.int8_values = values;
    const AsBroadcastLayout layout = {
        .rows = packed->rows,
        .blocks = (packed->words + packed->block_words - 1) / packed->block_words,
        .place = place,
        .context = &packed->block_words,
    };
    problem = as_pack_broadcast(&words, &layout, &part->weight);
  }
  free(positions);
  free(values);
  return problem;
}

static int choose_kernels(const AsPlan *plan, AsInt8Broadcast *packed) {
  static const char family[] = "broadcast_int8";
  const AsKernel *kernel = as_nearest_kernel(family, plan->vectors ? plan->vectors : USUAL_VECTORS,
                                             plan->rows ? plan->rows : USUAL_ROWS);
  if (!kernel || kernel->vectors > MOST_VECTORS) return 0;
  packed->vectors = kernel->vectors;
  packed->rows = kernel->rows;
  for (int v = kernel->vectors; v > 0; v--) {
    const AsKernel *exact = as_find_kernel(family, v, packed->rows);
    packed->kernels[v] = exact ? exact : packed->kernels[v + 1];
  }
  return 1;
}

const char *as_int8_broadcast_create(const AsLayerSpec *spec, const AsPlan *plan,
                                     AsInt8Broadcast **made) {
  AsInt8Broadcast *packed = *made = as_allocate(sizeof *packed);
  if (!packed) return "out of memory";
  if (!choose_kernels(plan, packed)) return "this library holds no int8 kernel for this processor";
  packed->lanes = as_current_set()->lanes;
  packed->steps = as_current_set()->steps;
  packed->words = (spec->depth + 3) / 4;
  packed->block_words = plan->depth > 0 ? ((int64_t)plan->depth + 3) / 4 : usual_words(spec);
  const int64_t most_blocks = as_most_blocks(spec);
  const int64_t shortest = (packed->words + most_blocks - 1) / most_blocks;
  if (packed->block_words < shortest) packed->block_words = shortest;
  packed->block_words = smaller(smaller(packed->block_words, MOST_WORDS), packed->words);
  if (packed->block_words < shortest) return "the weight is too deep for its few non-zeros";
  /* the sizes of a kernel's arguments, in 32 bits */
  if (packed->words > INT32_MAX / (MOST_VECTORS * packed->lanes))
    return "an int8 weight is too deep";
  packed->part_count = (spec->outputs + PART_OUTPUTS - 1) / PART_OUTPUTS;
  packed->parts = as_allocate((size_t)packed->part_count * sizeof *packed->parts);
  if (!packed->parts) return "out of memory";
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

static Tile tile_of(const Job *job, int64_t index) {
  const int64_t rows = job->tile_registers * job->packed->lanes;
  Tile tile = {.first = index * rows};
  tile.columns = smaller(rows, job->run->call->rows - tile.first);
  tile.kernel = job->packed->kernels[(tile.columns + job->packed->lanes - 1) / job->packed->lanes];
  tile.width = (int64_t)tile.kernel->vectors * job->packed->lanes;
  return tile;
}

static void turn(const Job *job, const Tile *tile, int32_t *x) {
  const int64_t depth = job->run->spec->depth;
  job->packed->steps->tile_words((const uint8_t *)job->run->call->input + tile->first * depth,
                                 depth, tile->columns, depth, tile->width, x);
}

static int multiply(const Job *job, const Tile *tile, const Part *part, const int32_t *x,
                    int32_t *y) {
  const AsInt8Broadcast *packed = job->packed;
  const AsBroadcastWeight *weight = &part->weight;
  for (int64_t b = 0; b < weight->blocks; b++) {
    const int64_t begin = weight->block_begin[b];
    const int64_t pairs = weight->block_begin[b + 1] - begin + 1;
    const int64_t channels = weight->groups * packed->rows;
    const int64_t words = smaller(packed->block_words, packed->words - b * packed->block_words);
    const AsView views[] = {
        {AS_VIEW_I32, weight->counts + b * weight->groups, weight->groups},
        {AS_VIEW_I32, weight->channels + b * channels, channels},
        {AS_VIEW_U16, (const uint16_t *)weight->offsets + begin, pairs},
        {AS_VIEW_I32, (const int32_t *)weight->values + begin, pairs},
        {AS_VIEW_I32, job->run->start + part->first, part->outputs + packed->rows},
        {AS_VIEW_I32, x + b * packed->block_words * tile->width, words * tile->width},
        {AS_VIEW_I32, y, (part->outputs + packed->rows) * tile->width},
        {AS_VIEW_INT, NULL, weight->groups},
        {AS_VIEW_INT, NULL, tile->width},
        {AS_VIEW_INT, NULL, b == 0},
    };
    if (as_call_kernel(tile->kernel, views, sizeof views / sizeof *views)) return 0;
  }
  return 1;
}

static void part_of_tile(Job *job, const Tile *tile, const Part *part, const int32_t *x,
                         int32_t *y) {
  if (!multiply(job, tile, part, x, y)) {
    job->failed = 1;
    return;
  }
  const AsInt8Target target = as_int8_target(job->run->spec, job->run->call, job->run->how,
                                             tile->first, part->first, part->outputs);
  job->packed->steps->untile_int8(y, tile->width, tile->columns, &target);
}

static int64_t sums_of(const AsInt8Broadcast *packed, int64_t width) {
  return (smaller(packed->parts[0].outputs, PART_OUTPUTS) + packed->rows) * width;
}

static void whole_tile(void *data, size_t index) {
  Job *job = data;
  const AsInt8Broadcast *packed = job->packed;
  const Tile tile = tile_of(job, (int64_t)index);
  const int64_t words = packed->words * tile.width;
  int32_t *x = as_scratch_take((size_t)(words + sums_of(packed, tile.width)) * sizeof *x);
  if (!x) {
    job->failed = 1;
    return;
  }
  turn(job, &tile, x);
  for (int64_t i = 0; i < packed->part_count; i++)
    part_of_tile(job, &tile, &packed->parts[i], x, x + words);
  as_scratch_give(x);
}

static void shared_tile(void *data, size_t index) {
  Job *job = data;
  const AsInt8Broadcast *packed = job->packed;
  const Tile tile = tile_of(job, (int64_t)index / packed->part_count);
  int32_t *y = as_scratch_take((size_t)sums_of(packed, tile.width) * sizeof *y);
  if (!y) {
    job->failed = 1;
    return;
  }
  const int32_t *x = job->turned + (int64_t)index / packed->part_count * job->turned_words;
  part_of_tile(job, &tile, &packed->parts[(int64_t)index % packed->part_count], x, y);
  as_scratch_give(y);
}

static void share_tiles(Job *job, int64_t tiles) {
  const AsInt8Broadcast *packed = job->packed;
  job->turned_words = packed->words * tile_of(job, 0).width;
  job->turned = as_scratch_take((size_t)(tiles * job->turned_words) * sizeof *job->turned);
  if (!job->turned) {
    job->failed = 1;
    return;
  }
  for (int64_t i = 0; i < tiles; i++) {
    const Tile tile = tile_of(job, i);
    turn(job, &tile, job->turned + i * job->turned_words);
  }
  const AsParallel *parallel = job->run->parallel;
  parallel->run(parallel->context, shared_tile, (size_t)(tiles * packed->part_count), job);
  as_scratch_give(job->turned);
}

int as_int8_broadcast_run(const AsInt8Broadcast *packed, const AsInt8Run *run) {
  Job job = {.packed = packed, .run = run};
  if (run->call->rows <= 0) return 1;
  const int64_t registers = (run->call->rows + packed->lanes - 1) / packed->lanes;
  const int64_t tiles = (registers + packed->vectors - 1) / packed->vectors;
  job.tile_registers = (registers + tiles - 1) / tiles;
  const int64_t even = (registers + job.tile_registers - 1) / job.tile_registers;
  if (packed->pairs * registers < SERIAL_WORK || (even == 1 && packed->part_count == 1))
    for (int64_t i = 0; i < even; i++) whole_tile(&job, (size_t)i);
  else if (even >= MANY_TILES)
    run->parallel->run(run->parallel->context, whole_tile, (size_t)even, &job);
  else
    share_tiles(&job, even);
  return !job.failed;
}

void as_int8_broadcast_destroy(AsInt8Broadcast *packed) {
  if (!packed) return;
  for (int64_t i = 0; packed->parts && i < packed->part_count; i++)
    as_free_broadcast(&packed->parts[i].weight);
  as_free(packed->parts);
  as_free(packed);
}

int64_t as_int8_broadcast_words(const AsInt8Broadcast *packed) { return packed->pairs; }
