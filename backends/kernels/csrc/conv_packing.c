/* A convolution's weight: packed once, with places along the depth in place of offsets; these are
 * looked up for each image size, since they depend on how the planes lie. */
#include <stdlib.h>
#include <string.h>

#include "convolution.h"

/* Pairs from which on a layer is split, so that one small image still feeds several threads. */
enum { SHARE_RUNS = 24 * 1024, MOST_SHARES = 8 };

static const char OUT_OF_MEMORY[] = "out of memory while packing a sparse convolution";

typedef struct {
  int64_t channels, block_channels;
} Depth;

/* The offset that is packed is the run's place along the depth. */
static void place(const void *context, int64_t run, int64_t *block, int64_t *offset) {
  const Depth *depth = context;
  *block = run % depth->channels / depth->block_channels;
  *offset = run;
}

/* The same weight as if the convolution had one group, each output reading its group's channels
 * of all, and in runs of one float or of four bytes. */
typedef struct {
  AsLayerSpec spec;
  int64_t *positions;
  int8_t *words;
} Ungrouped;

static int ungroup(const AsLayerSpec *spec, int64_t channels, Ungrouped *made) {
  const int64_t per_run = spec->input_type == AS_FP32 ? 1 : 4 / spec->run;
  const int64_t group_channels = channels / spec->groups;
  const int64_t row_runs = spec->depth / spec->run, row = row_runs / per_run;
  const int64_t group_outputs = spec->outputs / spec->groups;
  const int64_t taps = row / group_channels;
  made->positions = malloc((size_t)(spec->runs + 1) * sizeof *made->positions);
  made->words = spec->input_type == AS_FP32 ? NULL : calloc((size_t)(spec->runs + 1), 4);
  if (!made->positions || (spec->input_type != AS_FP32 && !made->words)) return 0;
  int64_t count = 0;
  for (int64_t i = 0; i < spec->runs; i++) {
    const int64_t output = spec->positions[i] / row_runs;
    const int64_t run = spec->positions[i] % row_runs, at = run / per_run;
    const int64_t channel = output / group_outputs * group_channels + at % group_channels;
    const int64_t position = (output * taps + at / group_channels) * channels + channel;
    if (!count || made->positions[count - 1] != position) made->positions[count++] = position;
    if (made->words)
      memcpy(made->words + 4 * (count - 1) + run % per_run * spec->run,
             spec->int8_values + i * spec->run, (size_t)spec->run);
  }
  made->spec = *spec;
  made->spec.positions = made->positions;
  made->spec.int8_values = made->words;
  made->spec.runs = count;
  made->spec.run = made->words ? 4 : 1;
  made->spec.depth = taps * channels * made->spec.run;
  return 1;
}

static int64_t first_run_of(const AsLayerSpec *spec, int64_t output) {
  const int64_t position = output * (spec->depth / spec->run);
  int64_t low = 0, high = spec->runs;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (spec->positions[middle] < position)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Packs outputs [first, first + outputs) of an ungrouped layer as a layer of its own. */
static const char *pack_share(const AsLayerSpec *spec, const AsBroadcastLayout *layout,
                              AsConvShare *share) {
  const int64_t begin = first_run_of(spec, share->first);
  const int64_t end = first_run_of(spec, share->first + share->outputs);
  const int64_t before = share->first * (spec->depth / spec->run);
  int64_t *positions = malloc((size_t)(end - begin + 1) * sizeof *positions);
  if (!positions) return OUT_OF_MEMORY;
  for (int64_t i = begin; i < end; i++) positions[i - begin] = spec->positions[i] - before;
  AsLayerSpec part = *spec;
  part.outputs = share->outputs;
  part.runs = end - begin;
  part.positions = positions;
  if (spec->input_type == AS_FP32)
    part.fp32_values = spec->fp32_values + begin;
  else
    part.int8_values = spec->int8_values + begin * spec->run;
  const char *problem = as_pack_broadcast(&part, layout, &share->weight);
  free(positions);
  return problem;
}

static void describe(const AsLayerSpec *spec, int rows, AsConvWeight *packed) {
  packed->rows = rows;
  packed->channels = spec->channels / (spec->input_type == AS_FP32 ? 1 : 4);
  packed->taps_x = spec->kernel[1];
  packed->taps = spec->kernel[0] * spec->kernel[1];
}

const char *as_conv_pack_sizes(const AsLayerSpec *spec, AsConvWeight *packed) {
  describe(spec, 1, packed);
  packed->block_channels = packed->channels;
  packed->shares = as_allocate(sizeof *packed->shares);
  if (!packed->shares) return OUT_OF_MEMORY;
  packed->share_count = 1;
  packed->shares->outputs = spec->outputs;
  return NULL;
}

const char *as_conv_pack(const AsLayerSpec *spec, int64_t block_channels, int rows,
                         AsConvWeight *packed) {
  describe(spec, rows, packed);
  packed->block_channels = block_channels;
  const int64_t wanted = spec->runs / SHARE_RUNS + 1;
  int64_t count = wanted < MOST_SHARES ? wanted : MOST_SHARES;
  const int64_t groups = spec->outputs / rows; /* rows divides them */
  if (count > groups) count = groups;
  packed->shares = as_allocate((size_t)count * sizeof *packed->shares);
  Ungrouped whole = {.positions = NULL};
  const char *problem =
      packed->shares && ungroup(spec, packed->channels, &whole) ? NULL : OUT_OF_MEMORY;
  const Depth depth = {packed->channels, block_channels};
  const AsBroadcastLayout layout = {
      .rows = rows,
      .blocks = (packed->channels + block_channels - 1) / block_channels,
      .wide_offsets = 1,
      .place = place,
      .context = &depth,
  };
  for (int64_t s = 0; !problem && s < count; s++) {
    AsConvShare *share = &packed->shares[s];
    share->first = s * groups / count * rows;
    share->outputs = (s + 1) * groups / count * rows - share->first;
    share->begin = packed->pairs / rows;
    problem = pack_share(&whole.spec, &layout, share);
    packed->share_count = s + 1;
    packed->pairs += share->weight.pairs;
  }
  free(whole.positions);
  free(whole.words);
  return problem;
}

static AsConvSize *make_size(const AsLayerSpec *spec, const AsConvWeight *packed, int64_t height,
                             int64_t width, int64_t tile, const char **problem) {
  AsConvSize *size = as_allocate(sizeof *size);
  *problem = OUT_OF_MEMORY;
  if (!size) return NULL;
  AsConvGeometry *g = &size->geometry;
  if (!as_conv_geometry(spec, packed->channels, height, width, tile, g)) {
    *problem = "the image is too large for a sparse convolution";
    as_free(size);
    return NULL;
  }
  int32_t *table = malloc((size_t)(packed->taps * packed->channels) * sizeof *table);
  const int64_t steps = packed->pairs / packed->rows;
  size->offsets = as_allocate((size_t)(steps + 1) * sizeof *size->offsets);
  if (!table || !size->offsets) {
    free(table);
    as_free(size->offsets);
    as_free(size);
    return NULL;
  }
  const int64_t channel_elements = g->plane * g->y.phases * g->x.phases;
  for (int64_t tap = 0; tap < packed->taps; tap++) {
    const int64_t offset = as_conv_tap_offset(g, tap / packed->taps_x, tap % packed->taps_x);
    for (int64_t c = 0; c < packed->channels; c++)
      table[tap * packed->channels + c] = (int32_t)(c * channel_elements + offset);
  }
  for (int64_t s = 0; s < packed->share_count; s++) {
    const int32_t *places = packed->shares[s].weight.offsets;
    int32_t *offsets = size->offsets + packed->shares[s].begin;
    const int64_t of_share = packed->shares[s].weight.pairs / packed->rows;
    for (int64_t i = 0; i < of_share; i++) offsets[i] = table[places[i * packed->rows]];
  }
  free(table);
  return size;
}

static void free_size(AsConvSize *size) {
  if (!size) return;
  as_free(size->offsets);
  as_free(size);
}

AsConvSize *as_conv_size_take(const AsLayerSpec *spec, AsConvWeight *packed, int64_t height,
                              int64_t width, int64_t tile, const char **problem) {
  AsConvSize *made = NULL;
  for (int i = 0; i < AS_CONV_SIZES; i++) {
    AsConvSize *kept = atomic_load_explicit(&packed->sizes[i], memory_order_acquire);
    if (!kept) {
      if (!made) made = make_size(spec, packed, height, width, tile, problem);
      if (!made || atomic_compare_exchange_strong_explicit(
                       &packed->sizes[i], &kept, made, memory_order_acq_rel, memory_order_acquire))
        return made;
      /* another thread was faster: `kept` is what it stored */
    }
    if (kept->geometry.y.input == height && kept->geometry.x.input == width) {
      free_size(made);
      return kept;
    }
  }
  return made ? made : make_size(spec, packed, height, width, tile, problem);
}

void as_conv_size_give(AsConvWeight *packed, AsConvSize *size) {
  for (int i = 0; i < AS_CONV_SIZES; i++)
    if (atomic_load_explicit(&packed->sizes[i], memory_order_acquire) == size) return;
  free_size(size);
}

void as_conv_release(AsConvWeight *packed) {
  for (int i = 0; i < AS_CONV_SIZES; i++)
    free_size(atomic_load_explicit(&packed->sizes[i], memory_order_acquire));
  for (int64_t s = 0; s < packed->share_count; s++) as_free_broadcast(&packed->shares[s].weight);
  as_free(packed->shares);
}
