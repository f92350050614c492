/* Matrix products by the broadcast family: a tile of rows is turned feature-major, multiplied
 * depth block by depth block, and turned back with bias, residual and activation.
 *
 * The outputs are packed in parts, each a weight of its own, so that threads can share a tile
 * where there are few of them. Offsets count registers, not floats: the kernel knows how wide its
 * tile is, and one packed weight serves tiles of every width. */
#include <stdlib.h>

#include "linear_fp32.h"

enum {
  MOST_VECTORS = 8,
  MOST_PARTS = 16,
  PART_RUNS = 24576,    /* below, a part costs more to start than it saves */
  PART_OUTPUTS = 32,
  LARGEST_OFFSET = 65535,
  MANY_TILES = 8,       /* enough to keep threads busy without sharing a tile */
  SHARED_BYTES = 1 << 20, /* turned rows that all threads can still find in their caches */
};
static const double SERIAL_WORK = 50000; /* pairs times registers that are not worth a thread */

typedef struct {
  AsBroadcastWeight weight;
  float *bias; /* a channel more for each row of a group, so that none is out of bounds */
  int64_t first, outputs;
} Part;

struct AsLinearBroadcast {
  Part parts[MOST_PARTS];
  int part_count;
  int64_t features; /* of the layer */
  int64_t outputs;
  int64_t depth; /* features in a block */
  int64_t pairs; /* of all parts */
  int lanes, vectors, rows;
  const AsSteps *steps;
  AsEpilogue epilogue;
  const AsKernel *kernels[MOST_VECTORS + 1]; /* by vectors: the next one that is compiled */
};

typedef struct {
  const AsLinearBroadcast *packed;
  const AsCall *call;
  int64_t tiles;
  float *turned; /* all tiles feature-major, where threads share them */
  _Atomic int failed;
} Job;

/* Rows of the input side by side. */
typedef struct {
  int64_t first, columns, width;
  const AsKernel *kernel;
} Tile;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void place(const void *context, int64_t run, int64_t *block, int64_t *offset) {
  const AsLinearBroadcast *packed = context;
  *block = run / packed->depth;
  *offset = run % packed->depth * packed->lanes;
}

static int find_kernels(AsLinearBroadcast *packed, const AsPlan *plan) {
  const AsKernel *kernel = as_nearest_kernel("linear_fp32", plan->vectors, plan->rows);
  if (!kernel || kernel->vectors > MOST_VECTORS) return 0;
  packed->vectors = kernel->vectors;
  packed->rows = kernel->rows;
  for (int v = kernel->vectors; v > 0; v--) {
    const AsKernel *exact = as_find_kernel("linear_fp32", v, kernel->rows);
    packed->kernels[v] = exact ? exact : packed->kernels[v + 1];
  }
  return 1;
}

/* One part of the outputs: runs from `*run` on, which is moved past them. */
static const char *pack_part(const AsLayerSpec *spec, const AsLinearBroadcast *packed,
                             int64_t *run, Part *part) {
  const int64_t begin = *run, shift = part->first * spec->depth;
  int64_t end = begin;
  while (end < spec->runs && spec->positions[end] < shift + part->outputs * spec->depth) end++;
  *run = end;
  part->bias = as_allocate((size_t)(part->outputs + packed->rows) * sizeof(float));
  int64_t *positions = malloc((size_t)(end - begin + 1) * sizeof *positions);
  if (!part->bias || !positions) {
    free(positions);
    return "out of memory while packing a sparse weight";
  }
  for (int64_t n = 0; spec->bias && n < part->outputs; n++)
    part->bias[n] = spec->bias[part->first + n];
  for (int64_t i = begin; i < end; i++) positions[i - begin] = spec->positions[i] - shift;
  AsLayerSpec piece = *spec;
  piece.outputs = part->outputs;
  piece.runs = end - begin;
  piece.positions = positions;
  piece.fp32_values = spec->fp32_values + begin;
  const AsBroadcastLayout layout = {
      .rows = packed->rows,
      .blocks = (spec->depth + packed->depth - 1) / packed->depth,
      .place = place,
      .context = packed,
  };
  const char *problem = as_pack_broadcast(&piece, &layout, &part->weight);
  free(positions);
  return problem;
}

static const char *pack_parts(const AsLayerSpec *spec, AsLinearBroadcast *packed) {
  int64_t count = smaller(spec->runs / PART_RUNS, spec->outputs / PART_OUTPUTS);
  count = count < 1 ? 1 : smaller(count, MOST_PARTS);
  int64_t run = 0;
  for (int64_t i = 0; i < count; i++) {
    Part *part = &packed->parts[i];
    /* whole groups, so that only the last part fills one up */
    part->first = spec->outputs * i / count / packed->rows * packed->rows;
    const int64_t end = i + 1 < count
                            ? spec->outputs * (i + 1) / count / packed->rows * packed->rows
                            : spec->outputs;
    part->outputs = end - part->first;
    packed->part_count = (int)i + 1;
    if ((part->outputs + packed->rows) * packed->vectors * packed->lanes > INT32_MAX)
      return "the weight has too many outputs";
    const char *problem = pack_part(spec, packed, &run, part);
    if (problem) return problem;
    packed->pairs += part->weight.pairs;
    for (int64_t b = 0; b < part->weight.blocks; b++)
      if (part->weight.block_begin[b + 1] - part->weight.block_begin[b] > INT32_MAX)
        return "the weight has too many non-zeros";
  }
  return NULL;
}

const char *as_linear_broadcast_create(const AsLayerSpec *spec, const AsPlan *plan,
                                       AsLinearBroadcast **made) {
  const AsInstructionSet *set = as_current_set();
  AsLinearBroadcast *packed = as_allocate(sizeof *packed);
  *made = packed;
  if (!packed) return "out of memory";
  if (!find_kernels(packed, plan)) return "this library holds no fp32 kernel for this processor";
  packed->features = spec->depth;
  packed->outputs = spec->outputs;
  packed->lanes = set->lanes;
  packed->steps = set->steps;
  packed->epilogue =
      (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  packed->depth = plan->depth > 0 ? plan->depth : spec->depth;
  const int64_t most_blocks = as_most_blocks(spec);
  const int64_t shortest = (spec->depth + most_blocks - 1) / most_blocks;
  if (packed->depth < shortest) packed->depth = shortest;
  packed->depth = smaller(packed->depth, (LARGEST_OFFSET + 1) / packed->lanes);
  packed->depth = smaller(packed->depth, spec->depth);
  if (packed->depth < shortest) return "the weight is too deep for its few non-zeros";
  return pack_parts(spec, packed);
}

/* Full tiles and, last, one of the registers that are left. Even ones would take longer in all. */
static Tile tile_at(const Job *job, int64_t index) {
  const AsLinearBroadcast *packed = job->packed;
  const int64_t first = index * packed->vectors * packed->lanes;
  const int64_t left = job->call->rows - first;
  const int64_t registers = smaller((left + packed->lanes - 1) / packed->lanes, packed->vectors);
  const AsKernel *kernel = packed->kernels[registers];
  return (Tile){
      .first = first,
      .columns = smaller(left, registers * packed->lanes),
      .width = (int64_t)kernel->vectors * packed->lanes,
      .kernel = kernel,
  };
}

static int multiply(const AsLinearBroadcast *packed, const Part *part, const Tile *tile,
                    const float *x, float *y) {
  const AsBroadcastWeight *weight = &part->weight;
  for (int64_t b = 0; b < weight->blocks; b++) {
    const int64_t begin = weight->block_begin[b];
    const int64_t pairs = weight->block_begin[b + 1] - begin;
    const int64_t features = smaller(packed->depth, packed->features - b * packed->depth);
    const AsView views[] = {
        {AS_VIEW_I32, weight->counts + b * weight->groups, weight->groups},
        {AS_VIEW_I32, weight->channels + b * weight->groups * packed->rows,
         weight->groups * packed->rows},
        {AS_VIEW_U16, (const uint16_t *)weight->offsets + begin, pairs},
        {AS_VIEW_F32, (const float *)weight->values + begin, pairs},
        {AS_VIEW_F32, part->bias, part->outputs + packed->rows},
        {AS_VIEW_F32, x + b * packed->depth * tile->width, features * tile->width},
        {AS_VIEW_F32, y, (part->outputs + packed->rows) * tile->width},
        {AS_VIEW_INT, NULL, weight->groups},
        {AS_VIEW_INT, NULL, tile->width},
        {AS_VIEW_INT, NULL, b == 0},
    };
    if (as_call_kernel(tile->kernel, views, sizeof views / sizeof *views)) return 0;
  }
  return 1;
}

/* One part of the outputs of one tile whose rows `x` holds feature-major. */
static int finish_part(const Job *job, const Part *part, const Tile *tile, const float *x,
                       float *y) {
  const AsLinearBroadcast *packed = job->packed;
  if (!multiply(packed, part, tile, x, y)) return 0;
  const int64_t out = tile->first * packed->outputs + part->first;
  packed->steps->untile_fp32(y, tile->width, tile->columns, part->outputs, &packed->epilogue,
                             job->call->residual ? job->call->residual + out : NULL,
                             (float *)job->call->output + out, packed->outputs);
  return 1;
}

static void turn(const Job *job, const Tile *tile, int64_t from, int64_t to, float *x) {
  const int64_t features = job->packed->features;
  const float *input = (const float *)job->call->input + tile->first * features;
  job->packed->steps->tile_fp32(input + from, features, tile->columns, to - from, tile->width,
                                x + from * tile->width);
}

static int64_t most_y_floats(const AsLinearBroadcast *packed, int64_t width) {
  int64_t most = 0;
  for (int i = 0; i < packed->part_count; i++)
    if (packed->parts[i].outputs > most) most = packed->parts[i].outputs;
  return (most + packed->rows) * width;
}

static void whole_tile(void *data, size_t index) {
  Job *job = data;
  const AsLinearBroadcast *packed = job->packed;
  const Tile tile = tile_at(job, (int64_t)index);
  const int64_t x_floats = packed->features * tile.width;
  float *x = as_scratch_take((size_t)(x_floats + most_y_floats(packed, tile.width)) * sizeof *x);
  if (!x) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  turn(job, &tile, 0, packed->features, x);
  int done = 1;
  for (int i = 0; done && i < packed->part_count; i++)
    done = finish_part(job, &packed->parts[i], &tile, x, x + x_floats);
  if (!done) job->failed = AS_REFUSED;
  as_scratch_give(x);
}

static float *shared_tile(const Job *job, int64_t index) {
  return job->turned + index * job->packed->features * job->packed->vectors * job->packed->lanes;
}

static void turn_piece(void *data, size_t index) {
  const Job *job = data;
  const AsLinearBroadcast *packed = job->packed;
  const int64_t pieces = packed->part_count, piece = (int64_t)index % pieces;
  const Tile tile = tile_at(job, (int64_t)index / pieces);
  turn(job, &tile, packed->features * piece / pieces, packed->features * (piece + 1) / pieces,
       shared_tile(job, (int64_t)index / pieces));
}

static void part_of_tile(void *data, size_t index) {
  Job *job = data;
  const AsLinearBroadcast *packed = job->packed;
  const Part *part = &packed->parts[(int64_t)index % packed->part_count];
  const Tile tile = tile_at(job, (int64_t)index / packed->part_count);
  float *y = as_scratch_take((size_t)((part->outputs + packed->rows) * tile.width) * sizeof *y);
  if (!y)
    job->failed = AS_NO_MEMORY;
  else if (!finish_part(job, part, &tile,
                        shared_tile(job, (int64_t)index / packed->part_count), y))
    job->failed = AS_REFUSED;
  as_scratch_give(y);
}

static void share_tiles(Job *job, const AsParallel *parallel) {
  const AsLinearBroadcast *packed = job->packed;
  const int64_t floats =
      job->tiles * packed->features * packed->vectors * packed->lanes;
  job->turned = as_scratch_take((size_t)floats * sizeof(float));
  if (!job->turned) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  const size_t tasks = (size_t)(job->tiles * packed->part_count);
  parallel->run(parallel->context, turn_piece, tasks, job);
  parallel->run(parallel->context, part_of_tile, tasks, job);
  as_scratch_give(job->turned);
}

const char *as_linear_broadcast_run(const AsLinearBroadcast *packed, const AsCall *call,
                                    const AsParallel *parallel) {
  if (call->rows <= 0) return NULL;
  const int64_t registers = (call->rows + packed->lanes - 1) / packed->lanes;
  Job job = {packed, call, (registers + packed->vectors - 1) / packed->vectors, NULL, 0};
  const int64_t shared = job.tiles * packed->vectors * packed->lanes * packed->features * 4;
  if ((double)packed->pairs * (double)registers < SERIAL_WORK ||
      (job.tiles == 1 && packed->part_count == 1))
    for (int64_t i = 0; i < job.tiles; i++) whole_tile(&job, (size_t)i);
  else if (job.tiles < MANY_TILES && packed->part_count > 1 && shared <= SHARED_BYTES)
    share_tiles(&job, parallel);
  else
    parallel->run(parallel->context, whole_tile, (size_t)job.tiles, &job);
  return as_failure(job.failed);
}

void as_linear_broadcast_destroy(AsLinearBroadcast *packed) {
  if (!packed) return;
  for (int i = 0; i < packed->part_count; i++) {
    as_free_broadcast(&packed->parts[i].weight);
    as_free(packed->parts[i].bias);
  }
  as_free(packed);
}
