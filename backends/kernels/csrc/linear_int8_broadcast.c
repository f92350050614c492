/* Matrix products of int8 by the broadcast family: a tile of rows is turned into words of four
 * features, multiplied depth block by depth block, and turned back while it is requantized. Threads
 * share a tile's parts where there are few tiles. */
#include "int8.h"
#include "parted_weight.h"

enum {
  MOST_VECTORS = 8,
  USUAL_VECTORS = 4,
  USUAL_ROWS = 4,
  MANY_TILES = 4, /* enough to keep threads busy without sharing a tile */
};
static const int64_t SERIAL_WORK = 50000; /* weights times registers that are not worth a thread */

struct AsInt8Broadcast {
  AsPartedWeight weight;
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

/* Runs of any length as words of four weights; words that hold only zeros are left out. */
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
  const AsPartLayout layout = {
      .words = (spec->depth + 3) / 4,
      .block_words = plan->depth > 0 ? ((int64_t)plan->depth + 3) / 4 : usual_words(spec),
      .rows = packed->rows,
      .words_of = words_of,
  };
  /* the sizes of a kernel's arguments, in 32 bits */
  if (layout.words > INT32_MAX / (MOST_VECTORS * packed->lanes))
    return "an int8 weight is too deep";
  return as_part_weight(spec, &layout, &packed->weight);
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

static int multiply(const Job *job, const Tile *tile, const AsWeightPart *part,
                    const int32_t *x, int32_t *y) {
  const AsInt8Broadcast *packed = job->packed;
  const AsPartedWeight *all = &packed->weight;
  const AsBroadcastWeight *weight = &part->weight;
  for (int64_t b = 0; b < weight->blocks; b++) {
    const int64_t begin = weight->block_begin[b];
    const int64_t pairs = weight->block_begin[b + 1] - begin + 1;
    const int64_t channels = weight->groups * packed->rows;
    const int64_t words = smaller(all->block_words, all->words - b * all->block_words);
    const AsView views[] = {
        {AS_VIEW_I32, weight->counts + b * weight->groups, weight->groups},
        {AS_VIEW_I32, weight->channels + b * channels, channels},
        {AS_VIEW_U16, (const uint16_t *)weight->offsets + begin, pairs},
        {AS_VIEW_I32, (const int32_t *)weight->values + begin, pairs},
        {AS_VIEW_I32, job->run->start + part->first, part->outputs + packed->rows},
        {AS_VIEW_I32, x + b * all->block_words * tile->width, words * tile->width},
        {AS_VIEW_I32, y, (part->outputs + packed->rows) * tile->width},
        {AS_VIEW_INT, NULL, weight->groups},
        {AS_VIEW_INT, NULL, tile->width},
        {AS_VIEW_INT, NULL, b == 0},
    };
    if (as_call_kernel(tile->kernel, views, sizeof views / sizeof *views)) return 0;
  }
  return 1;
}

static void part_of_tile(Job *job, const Tile *tile, const AsWeightPart *part,
                         const int32_t *x, int32_t *y) {
  if (!multiply(job, tile, part, x, y)) {
    job->failed = AS_REFUSED;
    return;
  }
  const AsInt8Target target = as_int8_target(job->run->spec, job->run->call, job->run->how,
                                             tile->first, part->first, part->outputs);
  job->packed->steps->untile_int8(y, tile->width, tile->columns, &target);
}

static int64_t sums_of(const AsInt8Broadcast *packed, int64_t width) {
  return (packed->weight.parts[0].outputs + packed->rows) * width;
}

static void whole_tile(void *data, size_t index) {
  Job *job = data;
  const AsInt8Broadcast *packed = job->packed;
  const Tile tile = tile_of(job, (int64_t)index);
  const int64_t words = packed->weight.words * tile.width;
  int32_t *x = as_scratch_take((size_t)(words + sums_of(packed, tile.width)) * sizeof *x);
  if (!x) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  turn(job, &tile, x);
  for (int64_t i = 0; i < packed->weight.part_count; i++)
    part_of_tile(job, &tile, &packed->weight.parts[i], x, x + words);
  as_scratch_give(x);
}

static void shared_tile(void *data, size_t index) {
  Job *job = data;
  const AsInt8Broadcast *packed = job->packed;
  const int64_t parts = packed->weight.part_count;
  const Tile tile = tile_of(job, (int64_t)index / parts);
  int32_t *y = as_scratch_take((size_t)sums_of(packed, tile.width) * sizeof *y);
  if (!y) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  const int32_t *x = job->turned + (int64_t)index / parts * job->turned_words;
  part_of_tile(job, &tile, &packed->weight.parts[(int64_t)index % parts], x, y);
  as_scratch_give(y);
}

static void share_tiles(Job *job, int64_t tiles) {
  const AsInt8Broadcast *packed = job->packed;
  job->turned_words = packed->weight.words * tile_of(job, 0).width;
  job->turned = as_scratch_take((size_t)(tiles * job->turned_words) * sizeof *job->turned);
  if (!job->turned) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  for (int64_t i = 0; i < tiles; i++) {
    const Tile tile = tile_of(job, i);
    turn(job, &tile, job->turned + i * job->turned_words);
  }
  const AsParallel *parallel = job->run->parallel;
  parallel->run(parallel->context, shared_tile, (size_t)(tiles * packed->weight.part_count), job);
  as_scratch_give(job->turned);
}

const char *as_int8_broadcast_run(const AsInt8Broadcast *packed, const AsInt8Run *run) {
  Job job = {.packed = packed, .run = run};
  if (run->call->rows <= 0) return NULL;
  const int64_t registers = (run->call->rows + packed->lanes - 1) / packed->lanes;
  const int64_t tiles = (registers + packed->vectors - 1) / packed->vectors;
  job.tile_registers = (registers + tiles - 1) / tiles;
  const int64_t even = (registers + job.tile_registers - 1) / job.tile_registers;
  if (packed->weight.pairs * registers < SERIAL_WORK ||
      (even == 1 && packed->weight.part_count == 1))
    for (int64_t i = 0; i < even; i++) whole_tile(&job, (size_t)i);
  else if (even >= MANY_TILES)
    run->parallel->run(run->parallel->context, whole_tile, (size_t)even, &job);
  else
    share_tiles(&job, even);
  return as_failure(job.failed);
}

void as_int8_broadcast_destroy(AsInt8Broadcast *packed) {
  if (!packed) return;
  as_free_parts(&packed->weight);
  as_free(packed);
}

int64_t as_int8_broadcast_words(const AsInt8Broadcast *packed) { return packed->weight.pairs; }
