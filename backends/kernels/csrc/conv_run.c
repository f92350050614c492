/* Running a convolution. A unit is a strip of an image: its input channels are laid out as padded
 * planes, then tiles of flat positions are computed, and written as ONNX wants them: by the kernel
 * itself, or row by row where the planes have positions that are none of the output. */
#include <string.h>

#include "convolution.h"

enum { SLABS = 8 /* parts in which channels are laid out */, ENOUGH_UNITS = 4 };
enum { WORTH_THREADS = 64 * 1024 /* products of a weight with a register */ };

typedef struct {
  const AsLayer *layer;
  const AsCall *call;
  const AsConvSize *size;
  int32_t *planes; /* of all units, where they are laid out first */
  int64_t tiles;
  atomic_int failed;
} Job;

/* Lays out channels [begin, end) of a unit. */
static void lay_out(const Job *job, int64_t unit, int64_t begin, int64_t end,
                    int32_t *planes) {
  const AsLayerSpec *spec = &job->layer->spec;
  const AsConvPacked *packed = job->layer->packed;
  const AsConvGeometry *g = &job->size->geometry;
  const int64_t row = unit % g->strips * g->strip_rows, phases = g->y.phases * g->x.phases;
  const int64_t input_plane = g->y.input * g->x.input;
  const int64_t channel_bytes = input_plane * 4; /* of one float, or of four bytes */
  const char *image = (const char *)job->call->input +
                      unit / g->strips * packed->weight.channels * channel_bytes;
  AsConvLines lines = {
      .lines = g->lines, .row_step = g->y.step, .column_step = g->x.step, .pitch = g->pitch,
      .plane = g->plane, .input_width = g->x.input, .input_plane = input_plane,
      .channels = end - begin, .between = phases * g->plane,
      .padding = packed->int8 ? (uint8_t)(spec->input_zero ^ AS_INPUT_SHIFT) : 0,
  };
  void (*gather)(const void *, const AsConvLines *, void *) =
      packed->int8 ? packed->steps->gather_int8 : packed->steps->gather_fp32;
  int32_t *plane = planes + begin * phases * g->plane;
  for (int32_t fy = 0; fy < g->y.phases; fy++) {
    lines.rows = as_conv_span(&g->y, fy, row, g->lines);
    for (int32_t fx = 0; fx < g->x.phases; fx++, plane += g->plane) {
      lines.columns = as_conv_span(&g->x, fx, 0, g->pitch);
      gather(image + begin * channel_bytes, &lines, plane);
    }
  }
  if (end < packed->weight.channels) return;
  const int64_t written = end * phases * g->plane;
  memset(planes + written, lines.padding, (size_t)(g->elements - written) * sizeof *planes);
}

/* Where the results of a tile go: sums, or the output itself, which is then finished. */
typedef struct {
  int32_t *sums;
  const float *residual; /* or NULL */
  void *output;          /* or NULL; float, or uint8_t */
  int64_t plane;         /* elements between channels of the output */
} Results;

/* Calls a kernel for one depth block. */
static int multiply_block(const AsConvPacked *packed, const AsConvShare *share, int64_t b,
                          const AsKernel *kernel, const int32_t *offsets, const AsView *input,
                          const Results *to) {
  const int number = packed->int8 ? AS_VIEW_I32 : AS_VIEW_F32;
  const AsBroadcastWeight *weight = &share->weight;
  const int64_t width = (int64_t)kernel->vectors * packed->lanes;
  const int64_t begin = weight->block_begin[b], rows = packed->rows;
  const int64_t steps = (weight->block_begin[b + 1] - begin) / rows;
  const int64_t written = to->output ? (share->outputs - 1) * to->plane + width : 0;
  const AsView counts = {AS_VIEW_I32, weight->counts + b * weight->groups, weight->groups};
  const AsView channels = {AS_VIEW_I32, weight->channels + b * weight->groups * rows,
                           weight->groups * rows};
  const AsView places = {AS_VIEW_I32, offsets + share->begin + begin / rows, steps + 1};
  const AsView values = {number, (const int32_t *)weight->values + begin, steps * rows + 1};
  const AsView start = {number, (const int32_t *)packed->start + share->first, share->outputs};
  const AsView sums = {number, to->sums, share->outputs * width};
  const AsView bounds = {AS_VIEW_F32, packed->bounds, AS_CONV_BOUNDS};
  const AsView groups = {AS_VIEW_INT, NULL, weight->groups};
  const AsView stride = {AS_VIEW_INT, NULL, width}, plane = {AS_VIEW_INT, NULL, to->plane};
  const AsView first = {AS_VIEW_INT, NULL, b == 0};
  const AsView last = {AS_VIEW_INT, NULL, to->output && b == weight->blocks - 1};
  if (packed->int8) {
    const int64_t scaled = to->output ? share->outputs : 0;
    const AsView scales = {AS_VIEW_F32, scaled ? packed->scales + share->first : NULL, scaled};
    const AsView shifts = {AS_VIEW_F32, scaled ? packed->shifts + share->first : NULL, scaled};
    const AsView output = {AS_VIEW_U8, to->output, written};
    const AsView zero = {AS_VIEW_INT, NULL, packed->how.zero};
    const AsView views[] = {counts, channels, places, values, start,  *input, sums, scales, shifts,
                            bounds, output,   groups, stride, plane, first,  last, zero};
    return !as_call_kernel(kernel, views, sizeof views / sizeof *views);
  }
  const AsView residual = {AS_VIEW_F32, to->residual ? to->residual : to->output, written};
  const AsView output = {AS_VIEW_F32, to->output, written};
  const AsView adds = {AS_VIEW_INT, NULL, to->residual != NULL};
  const AsView views[] = {counts, channels, places, values, start, *input, sums, residual,
                          output, bounds,   groups, stride, plane, first,  last, adds};
  return !as_call_kernel(kernel, views, sizeof views / sizeof *views);
}

static int multiply(const AsConvPacked *packed, const AsConvShare *share, const AsKernel *kernel,
                    const int32_t *offsets, const AsView *input, const Results *to) {
  for (int64_t b = 0; b < share->weight.blocks; b++)
    if (!multiply_block(packed, share, b, kernel, offsets, input, to)) return 0;
  return 1;
}

/* Positions [from, end) of a strip, of a tile that begins at `first`, as pieces of output rows. */
static int64_t cut(const AsConvGeometry *g, int64_t first, int64_t from, int64_t end,
                   AsConvPiece *pieces) {
  int64_t count = 0;
  for (int64_t row = from / g->pitch; row * g->pitch < end; row++) {
    int64_t left = row * g->pitch, right = left + g->x.output;
    if (left < from) left = from;
    if (right > end) right = end;
    if (left >= right) continue;
    const int64_t to = row * g->x.output + left - row * g->pitch;
    AsConvPiece *last = pieces + (count ? count - 1 : 0);
    if (count && last->to + last->count == to && last->from + last->count == left - first)
      last->count += (int32_t)(right - left);
    else
      pieces[count++] = (AsConvPiece){(int32_t)(left - first), (int32_t)(right - left), to};
  }
  return count;
}

static int64_t positions_of(const AsConvGeometry *g, int64_t strip) {
  const int64_t left = g->y.output - strip * g->strip_rows;
  return ((left < g->strip_rows ? left : g->strip_rows) - 1) * g->pitch + g->x.output;
}

/* Whether kernels write a tile's results to their place themselves: where positions of the planes
 * are those of the output, in order, and 32 bits, which kernels count with, can count the elements
 * from a share's first channel to the end of its last one. */
static int writes_itself(const AsConvPacked *packed, const AsConvShare *share,
                         const AsConvGeometry *g, int64_t width) {
  return packed->finishes && !packed->permute && g->pitch == g->x.output &&
         g->y.output * g->x.output <= (INT32_MAX - width) / share->outputs;
}

/* One tile of one share; `sums` holds a tile of every output of the share. */
static void compute(Job *job, int64_t unit, const AsConvShare *share, int64_t tile,
                    const int32_t *planes, int32_t *sums) {
  const AsLayerSpec *spec = &job->layer->spec;
  const AsConvPacked *packed = job->layer->packed;
  const AsConvGeometry *g = &job->size->geometry;
  const int64_t strip = unit % g->strips, positions = positions_of(g, strip);
  const int64_t registers = (positions + packed->lanes - 1) / packed->lanes;
  const int64_t from = tile * registers / job->tiles * packed->lanes;
  int64_t end = (tile + 1) * registers / job->tiles * packed->lanes;
  if (from == end) return;
  const AsKernel *kernel = packed->kernels[(end - from) / packed->lanes];
  if (end > positions) end = positions;
  const int64_t width = (int64_t)kernel->vectors * packed->lanes;
  /* the input itself ends with its last position: such a tile begins earlier */
  const int64_t first = g->in_place && from + width > positions ? positions - width : from;
  const int64_t elements =
      g->in_place ? packed->weight.channels * positions : g->elements;
  const int64_t plane = g->y.output * g->x.output;
  const int64_t out = (unit / g->strips * spec->outputs + share->first) * plane +
                      strip * g->strip_rows * g->x.output;
  const float *residual = job->call->residual ? job->call->residual + out : NULL;
  const int64_t bytes = spec->output_type == AS_UINT8 ? 1 : 4;
  char *output = (char *)job->call->output + out * bytes;
  const AsView input = {packed->int8 ? AS_VIEW_I32 : AS_VIEW_F32, planes + first,
                        elements - first};
  Results results = {.sums = sums};
  if (writes_itself(packed, share, g, width) && end - from == width &&
      !(packed->int8 && residual)) {
    results.output = output + first * bytes;
    results.residual = residual ? residual + first : NULL;
    results.plane = plane;
  }
  int failed = 0;
  if (packed->permute)
    failed = as_conv_permute_run(packed, spec, g, planes + first, width, sums);
  else if (!multiply(packed, share, kernel, job->size->offsets, &input, &results))
    failed = AS_REFUSED;
  if (failed) job->failed = failed;
  if (results.output) return;
  AsConvPiece pieces[AS_CONV_VECTORS * 16 + 1];
  const AsConvTarget target = {
      .pieces = pieces,
      .piece_count = cut(g, first, from, end, pieces),
      .channels = share->outputs,
      .plane = plane,
      .width = width,
      .residual = residual,
      .output = output,
      .how = &packed->how,
      .first_channel = share->first,
  };
  (packed->int8 ? packed->steps->finish_int8 : packed->steps->finish_fp32)(sums, &target,
                                                                           &packed->epilogue);
}

static int64_t sums_elements(const AsConvPacked *packed) {
  int64_t outputs = 0;
  for (int64_t s = 0; s < packed->weight.share_count; s++)
    if (packed->weight.shares[s].outputs > outputs) outputs = packed->weight.shares[s].outputs;
  return outputs * packed->vectors * packed->lanes;
}

static const int32_t *planes_in_place(const Job *job, int64_t unit) {
  const AsConvGeometry *g = &job->size->geometry;
  return (const int32_t *)job->call->input +
         unit * job->layer->spec.channels * g->y.input * g->x.input;
}

/* A whole unit in one thread. */
static void whole_unit(void *data, size_t index) {
  Job *job = data;
  const AsConvPacked *packed = job->layer->packed;
  const AsConvWeight *weight = &packed->weight;
  const AsConvGeometry *g = &job->size->geometry;
  const int64_t unit = (int64_t)index, sums = sums_elements(packed);
  int32_t *scratch = as_scratch_take((size_t)(sums + g->elements) * sizeof(int32_t));
  if (!scratch) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  const int32_t *planes = g->in_place ? planes_in_place(job, unit) : scratch + sums;
  if (!g->in_place) lay_out(job, unit, 0, weight->channels, scratch + sums);
  for (int64_t s = 0; s < weight->share_count; s++)
    for (int64_t t = 0; t < job->tiles; t++)
      compute(job, unit, &weight->shares[s], t, planes, scratch);
  as_scratch_give(scratch);
}

/* Some channels of a unit. */
static void slab(void *data, size_t index) {
  Job *job = data;
  const AsConvPacked *packed = job->layer->packed;
  const int64_t unit = (int64_t)index / SLABS, part = (int64_t)index % SLABS;
  const int64_t channels = packed->weight.channels;
  lay_out(job, unit, part * channels / SLABS, (part + 1) * channels / SLABS,
          job->planes + unit * job->size->geometry.elements);
}

/* One tile of one share of a unit whose planes are laid out. */
static void single_tile(void *data, size_t index) {
  Job *job = data;
  const AsConvPacked *packed = job->layer->packed;
  const AsConvGeometry *g = &job->size->geometry;
  const int64_t tile = (int64_t)index % job->tiles, rest = (int64_t)index / job->tiles;
  const int64_t unit = rest / packed->weight.share_count;
  int32_t *sums = as_scratch_take((size_t)sums_elements(packed) * sizeof(int32_t));
  if (!sums) {
    job->failed = AS_NO_MEMORY;
    return;
  }
  compute(job, unit, &packed->weight.shares[rest % packed->weight.share_count], tile,
          g->in_place ? planes_in_place(job, unit) : job->planes + unit * g->elements, sums);
  as_scratch_give(sums);
}

/* Many units are computed by a thread each; of few, the planes are laid out first, so that threads
 * can share a unit. */
static void run_units(Job *job, const AsParallel *parallel, int64_t units) {
  const AsConvPacked *packed = job->layer->packed;
  const AsConvGeometry *g = &job->size->geometry;
  const int64_t registers = positions_of(g, 0) / packed->lanes + 1;
  const int64_t work = units * (packed->products * registers + g->elements / packed->lanes);
  const int64_t tiles = packed->weight.share_count * job->tiles;
  if (work < WORTH_THREADS || units * tiles == 1) {
    for (int64_t unit = 0; unit < units; unit++) whole_unit(job, (size_t)unit);
    return;
  }
  if (units >= ENOUGH_UNITS) {
    parallel->run(parallel->context, whole_unit, (size_t)units, job);
    return;
  }
  if (!g->in_place) {
    job->planes = as_scratch_take((size_t)(units * g->elements) * sizeof *job->planes);
    if (!job->planes) {
      job->failed = AS_NO_MEMORY;
      return;
    }
    parallel->run(parallel->context, slab, (size_t)(units * SLABS), job);
  }
  parallel->run(parallel->context, single_tile, (size_t)(units * tiles), job);
  as_scratch_give(job->planes);
}

const char *as_conv_run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel) {
  AsConvPacked *packed = layer->packed;
  int64_t output[2];
  as_layer_output_size(layer, call->height, call->width, output);
  if (call->rows <= 0 || !output[0] || !output[1]) return NULL;
  const char *problem = NULL;
  const int64_t width = (int64_t)packed->vectors * packed->lanes;
  AsConvSize *size = as_conv_size_take(&layer->spec, &packed->weight, call->height, call->width,
                                       width, &problem);
  if (!size) return problem;
  Job job = {.layer = layer, .call = call, .size = size};
  job.tiles = (positions_of(&size->geometry, 0) + width - 1) / width;
  run_units(&job, parallel, call->rows * size->geometry.strips);
  as_conv_size_give(&packed->weight, size);
  return as_failure(job.failed);
}

