/* Weights in the order in which the broadcast family reads them. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const char OUT_OF_MEMORY[] = "out of memory while packing a sparse weight";

typedef struct {
  int64_t count, channel;
} Row;

static int by_count(const void *a, const void *b) {
  const Row *left = a, *right = b;
  if (left->count != right->count) return left->count < right->count ? -1 : 1;
  return left->channel < right->channel ? -1 : left->channel > right->channel;
}

/* What is kept for each block and output must stay in proportion to what the file holds: the
 * depth, and the length of a block, are mere numbers in it. */
int64_t as_most_blocks(const AsLayerSpec *spec) {
  enum { ANY_WEIGHT = 64, EACH_RUN = 4 };
  return ANY_WEIGHT + EACH_RUN * (spec->runs / spec->outputs);
}

/* Non-zeros of every (block, channel). */
static void count_runs(const AsLayerSpec *spec, const AsBroadcastLayout *layout, Row *rows) {
  const int64_t row_runs = spec->depth / spec->run;
  for (int64_t b = 0; b < layout->blocks; b++)
    for (int64_t n = 0; n < spec->outputs; n++)
      rows[b * spec->outputs + n] = (Row){0, n};
  for (int64_t i = 0; i < spec->runs; i++) {
    const int64_t channel = spec->positions[i] / row_runs;
    int64_t block, offset;
    layout->place(layout->context, spec->positions[i] % row_runs, &block, &offset);
    rows[block * spec->outputs + channel].count++;
  }
}

static int allocate(const AsLayerSpec *spec, const AsBroadcastLayout *layout, const Row *rows,
                    AsBroadcastWeight *packed) {
  const int r = layout->rows;
  packed->blocks = layout->blocks;
  packed->groups = (spec->outputs + r - 1) / r;
  packed->counts = as_allocate((size_t)(packed->blocks * packed->groups) * sizeof(int32_t));
  packed->channels = as_allocate((size_t)(packed->blocks * packed->groups * r) * sizeof(int32_t));
  packed->block_begin = as_allocate((size_t)(packed->blocks + 1) * sizeof(int64_t));
  if (!packed->counts || !packed->channels || !packed->block_begin) return 0;
  int64_t pairs = 0;
  for (int64_t b = 0; b < packed->blocks; b++) {
    packed->block_begin[b] = pairs;
    for (int64_t g = 0; g < packed->groups; g++) {
      /* sorted ascending: the last one of a group is its longest */
      const int64_t last = (g + 1) * r < spec->outputs ? (g + 1) * r : spec->outputs;
      const int64_t steps = rows[b * spec->outputs + last - 1].count;
      packed->counts[b * packed->groups + g] = (int32_t)steps;
      pairs += steps * r;
    }
  }
  packed->block_begin[packed->blocks] = pairs;
  packed->pairs = pairs;
  /* one pair more, so that an empty weight still has an address */
  packed->offsets = as_allocate((size_t)(pairs + 1) * (layout->wide_offsets ? 4 : 2));
  packed->values = as_allocate((size_t)(pairs + 1) * 4);
  return packed->offsets && packed->values;
}

static void store(const AsLayerSpec *spec, const AsBroadcastLayout *layout, int64_t run,
                  int64_t offset, int64_t at, AsBroadcastWeight *packed) {
  if (layout->wide_offsets)
    ((int32_t *)packed->offsets)[at] = (int32_t)offset;
  else
    ((uint16_t *)packed->offsets)[at] = (uint16_t)offset;
  if (spec->input_type == AS_FP32)
    ((float *)packed->values)[at] = spec->fp32_values[run];
  else
    memcpy((int32_t *)packed->values + at, spec->int8_values + 4 * run, 4);
}

/* The channels of every group, and where the first pair of each (block, channel) goes. */
static void place_channels(const AsLayerSpec *spec, const AsBroadcastLayout *layout,
                           const Row *rows, int64_t *next, AsBroadcastWeight *packed) {
  const int r = layout->rows;
  for (int64_t b = 0; b < packed->blocks; b++) {
    int64_t at = packed->block_begin[b];
    for (int64_t g = 0; g < packed->groups; g++) {
      for (int q = 0; q < r; q++) {
        const int64_t i = g * r + q;
        /* a group that is not full repeats into a channel that nobody reads */
        const int64_t channel =
            i < spec->outputs ? rows[b * spec->outputs + i].channel : spec->outputs + q;
        packed->channels[b * packed->groups * r + i] = (int32_t)channel;
        if (i < spec->outputs) next[b * spec->outputs + channel] = at + q;
      }
      at += (int64_t)r * packed->counts[b * packed->groups + g];
    }
  }
}

/* Once over the runs, whatever the number of blocks. */
static void fill(const AsLayerSpec *spec, const AsBroadcastLayout *layout, int64_t *next,
                 AsBroadcastWeight *packed) {
  const int64_t row_runs = spec->depth / spec->run;
  for (int64_t i = 0; i < spec->runs; i++) {
    int64_t block, offset;
    layout->place(layout->context, spec->positions[i] % row_runs, &block, &offset);
    int64_t *at = &next[block * spec->outputs + spec->positions[i] / row_runs];
    store(spec, layout, i, offset, *at, packed);
    *at += layout->rows;
  }
}

const char *as_pack_broadcast(const AsLayerSpec *spec, const AsBroadcastLayout *layout,
                              AsBroadcastWeight *packed) {
  memset(packed, 0, sizeof *packed);
  const size_t entries = (size_t)(layout->blocks * spec->outputs); /* see as_most_blocks */
  Row *rows = malloc(entries * sizeof *rows);
  int64_t *next = malloc(entries * sizeof *next);
  int enough = rows && next;
  if (enough) {
    count_runs(spec, layout, rows);
    for (int64_t b = 0; b < layout->blocks; b++)
      qsort(rows + b * spec->outputs, (size_t)spec->outputs, sizeof *rows, by_count);
    enough = allocate(spec, layout, rows, packed);
  }
  if (enough) {
    place_channels(spec, layout, rows, next, packed);
    fill(spec, layout, next, packed);
  }
  free(rows);
  free(next);
  if (enough) return NULL;
  as_free_broadcast(packed);
  return OUT_OF_MEMORY;
}

void as_free_broadcast(AsBroadcastWeight *packed) {
  as_free(packed->counts);
  as_free(packed->channels);
  as_free(packed->block_begin);
  as_free(packed->offsets);
  as_free(packed->values);
  memset(packed, 0, sizeof *packed);
}
