/* How the planes of a convolution lie in memory for one image size. */
#include <string.h>

#include "convolution.h"

enum { LINE = 16 /* elements of a cache line */ };
enum {
  STRIP_ELEMENTS = 224 * 1024,  /* that the second cache holds beside a weight */
  SHIFTED_ELEMENTS = 64 * 1024, /* up to which a plane for each tap is cheaper */
  ALIGNED_ELEMENTS = 224 * 1024, /* the same where that makes all loads aligned */
  ALIGNED_STRIDED = 1024 * 1024,
  MANY_USES = 20,               /* of an element, that pay for a copy at an aligned place */
};
static const int64_t LARGEST = 1 << 30;
/* Planes of nothing but padding must not take memory that the input is far from taking. */
static const double ANY_ELEMENTS = 1 << 24, FOR_EACH_OF_INPUT = 64;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t rounded(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/* Taps that are a multiple of the stride apart read the same plane at different offsets. */
static void share_phases(AsConvAxis *axis, int64_t taps, int64_t dilation, int64_t pad) {
  for (int64_t k = 0; k < taps; k++) {
    const int64_t start = k * dilation % axis->step - pad;
    int32_t phase = 0;
    while (phase < axis->phases && axis->start[phase] != start) phase++;
    if (phase == axis->phases) axis->start[axis->phases++] = start;
    axis->tap_phase[k] = phase;
    axis->tap_offset[k] = k * dilation / axis->step;
    axis->farthest = most(axis->farthest, axis->tap_offset[k]);
  }
}

/* Every tap has a plane of its own, already shifted: no position is wasted. */
static void own_phases(AsConvAxis *axis, int64_t taps, int64_t dilation, int64_t pad) {
  for (int64_t k = 0; k < taps; k++) {
    axis->start[k] = k * dilation - pad;
    axis->tap_phase[k] = (int32_t)k;
  }
  axis->phases = (int32_t)taps;
}

AsConvSpan as_conv_span(const AsConvAxis *axis, int32_t phase, int64_t from, int64_t length) {
  const int64_t start = axis->start[phase] + from * axis->step;
  AsConvSpan span = {0, 0, start};
  if (start < 0) {
    span.begin = least((-start + axis->step - 1) / axis->step, length);
    span.first = start + span.begin * axis->step;
  }
  if (start < axis->input) span.end = least((axis->input - 1 - start) / axis->step + 1, length);
  span.end = most(span.end, span.begin);
  return span;
}

/* The padding at the end of a line serves as that at the begin of the next one. */
static int64_t shared_padding(const AsConvAxis *axis) {
  const int64_t length = axis->output + axis->farthest;
  int64_t shared = axis->farthest;
  for (int32_t f = 0; f < axis->phases; f++) {
    const AsConvSpan span = as_conv_span(axis, f, 0, length);
    shared = least(shared, least(span.begin, length - span.end));
  }
  return shared;
}

static void measure_axes(const AsLayerSpec *spec, const int64_t size[2], AsConvGeometry *g) {
  AsConvAxis *axes[2] = {&g->y, &g->x};
  for (int i = 0; i < 2; i++) {
    const int64_t extent = spec->dilations[i] * (spec->kernel[i] - 1) + 1;
    const int64_t padded = size[i] + spec->pads[i] + spec->pads[i + 2];
    axes[i]->input = size[i];
    axes[i]->step = spec->strides[i];
    axes[i]->output = padded < extent ? 0 : (padded - extent) / spec->strides[i] + 1;
  }
  share_phases(&g->y, spec->kernel[0], spec->dilations[0], spec->pads[0]);
}

/* Rows of a strip: all, or as many as keep its planes within the second cache. */
static int64_t choose_strip(const AsConvGeometry *g, int64_t line_elements) {
  const int64_t all = g->y.output;
  if (line_elements * (all + g->y.farthest) <= STRIP_ELEMENTS) return all;
  const int64_t most_rows = STRIP_ELEMENTS / line_elements - g->y.farthest;
  const int64_t rows = most(most_rows, most(1, 2 * g->y.farthest));
  const int64_t strips = (all + least(rows, all) - 1) / least(rows, all);
  return (all + strips - 1) / strips;
}

/* Whether the input's planes serve as they are: a whole tile must fit in one. Registers that lie
 * across two cache lines take twice as long to load, which a copy avoids. */
static int in_place(const AsLayerSpec *spec, int64_t channels, const AsConvGeometry *g,
                    int64_t tile) {
  for (int i = 0; i < 2; i++)
    if (spec->kernel[i] != 1 || spec->strides[i] != 1 || spec->pads[i] || spec->pads[i + 2])
      return 0;
  const int64_t plane = g->y.output * g->x.output;
  if (spec->input_type != AS_FP32 || plane < tile) return 0;
  if (plane % LINE && spec->runs / channels >= MANY_USES) return 0;
  return g->y.output <= LARGEST / g->x.output / channels;
}

/* Lines that begin where cache lines do, where that costs at most a seventh more positions: then
 * planes for each tap make every load aligned, and are worth their memory up to a larger size; most
 * of all where taps a stride apart would have two thirds of these planes anyway. */
static int align_lines(const AsConvGeometry *g, int64_t stride, int64_t line, int64_t lines) {
  const int64_t wide = rounded(g->x.output, LINE);
  const int64_t most_elements = stride > 1 ? ALIGNED_STRIDED : ALIGNED_ELEMENTS;
  return (wide - g->x.output) * 7 <= g->x.output && line <= most_elements &&
         line * lines <= most_elements;
}

/* Positions as they follow each other in memory. Tiles start at multiples of a register, so where
 * every tap has its own plane that is as wide as the output, most loads are aligned and no
 * position is lost; but planes for each tap must be filled and found in the cache. */
static void choose_pitch(const AsLayerSpec *spec, int64_t channels, AsConvGeometry *g) {
  const int64_t taps = spec->kernel[1];
  const int64_t lines = least(g->y.output + g->y.farthest, LARGEST);
  const int64_t line = channels * g->y.phases * taps * g->x.output; /* of all planes */
  const int aligned = taps > 1 && align_lines(g, spec->strides[1], line, lines);
  if (taps == 1 || aligned || (line <= SHIFTED_ELEMENTS && line * lines <= SHIFTED_ELEMENTS)) {
    own_phases(&g->x, taps, spec->dilations[1], spec->pads[1]);
    g->pitch = aligned ? rounded(g->x.output, LINE) : g->x.output;
  } else {
    share_phases(&g->x, taps, spec->dilations[1], spec->pads[1]);
    g->pitch = g->x.output + g->x.farthest - shared_padding(&g->x);
  }
}

int as_conv_geometry(const AsLayerSpec *spec, int64_t channels, int64_t height, int64_t width,
                     int64_t tile, AsConvGeometry *g) {
  memset(g, 0, sizeof *g);
  if (height > LARGEST || width > LARGEST) return 0;
  measure_axes(spec, (const int64_t[2]){height, width}, g);
  if (g->y.output > LARGEST || g->x.output > LARGEST / channels / g->y.phases / spec->kernel[1])
    return 0;
  if (in_place(spec, channels, g, tile)) {
    own_phases(&g->x, 1, 1, 0);
    g->in_place = 1;
    g->strips = 1;
    g->strip_rows = g->lines = g->y.output;
    g->pitch = g->x.output;
    g->plane = g->lines * g->pitch;
    return 1;
  }
  choose_pitch(spec, channels, g);
  const int64_t planes = channels * g->y.phases * g->x.phases;
  if (planes > LARGEST / g->pitch) return 0;
  g->strip_rows = choose_strip(g, planes * g->pitch);
  g->strips = (g->y.output + g->strip_rows - 1) / g->strip_rows;
  g->lines = g->strip_rows + g->y.farthest;
  if (g->lines > LARGEST / g->pitch) return 0;
  g->plane = g->lines * g->pitch;
  if (spec->kernel[0] * spec->kernel[1] == 1) g->plane = rounded(g->plane, LINE);
  if (g->plane % (8 * LINE) == 0) g->plane += LINE; /* not all in the same sets of the cache */
  if (planes > LARGEST / g->plane) return 0;
  /* the last tile reads as far as its last tap goes, whatever positions it holds */
  g->elements = planes * g->plane + g->x.farthest + 2 * tile;
  const double input = (double)channels * (double)height * (double)width;
  return g->elements <= LARGEST &&
         (double)g->elements <= ANY_ELEMENTS + FOR_EACH_OF_INPUT * input;
}

int64_t as_conv_tap_offset(const AsConvGeometry *g, int64_t tap_y, int64_t tap_x) {
  const int64_t phase = g->y.tap_phase[tap_y] * g->x.phases + g->x.tap_phase[tap_x];
  return phase * g->plane + g->y.tap_offset[tap_y] * g->pitch + g->x.tap_offset[tap_x];
}
