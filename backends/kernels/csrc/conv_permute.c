/* Convolutions of int8 by the lane-permute family, for weights that lie apart, N:M above all: there
 * nearly every word of four channels holds a non-zero, so that the broadcast family skips next to
 * nothing. The positions of a tile become rows of all channels of all taps, which are multiplied
 * like those of a matrix product; their sums are turned back, and all around stays as it is. */
#include "convolution.h"

enum { DEEPEST = 1 << 16 /* bytes of a row, of which a tile is kept */ };
/* A word of this family takes longer, and positions are turned before and after. */
static const double PERMUTE_COST = 1.3;

/* Words of four neighbouring channels that hold a non-zero; none reaches into the next output. */
static int64_t words_of(const AsLayerSpec *spec) {
  int64_t words = 0, before = -1;
  for (int64_t i = 0; i < spec->runs; i++) {
    const int64_t word = spec->positions[i] * spec->run / 4;
    words += word != before;
    before = word;
  }
  return words;
}

static int is_possible(const AsLayerSpec *spec) {
  return spec->input_type == AS_UINT8 && spec->groups == 1 && spec->depth <= DEEPEST &&
         spec->plan.family != AS_BROADCAST && as_int8_permute_possible(spec);
}

AsInt8Permute *as_conv_permute_create(const AsLayerSpec *spec) {
  static const AsPlan usual = {.family = AS_PERMUTE};
  const int asked = spec->plan.family == AS_PERMUTE;
  if (!is_possible(spec) || (!asked && spec->run > 1)) return NULL;
  AsInt8Permute *made;
  const char *problem = as_int8_permute_create(spec, asked ? &spec->plan : &usual, &made);
  if (!problem &&
      (asked || PERMUTE_COST * (double)as_int8_permute_words(made) < (double)words_of(spec)))
    return made;
  as_int8_permute_destroy(made);
  return NULL;
}

int as_conv_permute_run(const AsConvPacked *packed, const AsLayerSpec *spec,
                        const AsConvGeometry *g, const int32_t *planes, int64_t width,
                        int32_t *sums) {
  const AsConvWeight *weight = &packed->weight;
  const AsSteps *steps = packed->surroundings;
  const int64_t words = weight->channels, row = weight->taps * words;
  const int64_t between = g->plane * g->y.phases * g->x.phases;
  int32_t *rows = as_scratch_take((size_t)(width * (row + AS_INT8_PART)) * sizeof *rows);
  if (!rows) return AS_NO_MEMORY;
  for (int64_t tap = 0; tap < weight->taps; tap++) {
    const int64_t at = as_conv_tap_offset(g, tap / weight->taps_x, tap % weight->taps_x);
    steps->transpose(planes + at, between * 4, words, width, rows + tap * words, row * 4);
  }
  const AsCall call = {.input = rows, .rows = width};
  const AsInt8Run run = {spec, &packed->how, packed->start, &call, NULL};
  AsInt8Part part = {.sums = rows + width * row};
  int done = 1;
  for (; done && part.first < spec->outputs; part.first += AS_INT8_PART) {
    done = as_int8_permute_sums(packed->permute, &run, &part);
    steps->transpose(part.sums, part.stride * 4, width, part.channels, sums + part.first * width,
                     width * 4);
  }
  as_scratch_give(rows);
  return done ? 0 : AS_REFUSED;
}
