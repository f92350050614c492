/* What the files of the convolution share.
 *
 * A convolution is the broadcast kernel on flat positions: every input channel lies in memory as
 * one or several padded planes, so that all output positions of a weight's input are one run of
 * memory that starts at the weight's own offset. An element is a float, or four bytes of four
 * neighbouring channels.
 */
#ifndef AUTOSPARSE_CONVOLUTION_H
#define AUTOSPARSE_CONVOLUTION_H

#include <stdatomic.h>

#include "int8.h"

enum { AS_CONV_TAPS = 64 /* along one axis */, AS_CONV_SIZES = 16 /* kept for one layer */,
       AS_CONV_VECTORS = 16 /* registers in a tile */, AS_CONV_BOUNDS = 3 };

/* One axis of the image. Its taps read from `phases` planes; element i of phase f is element
 * start[f] + i * step of the input, or padding where the input has none. */
typedef struct {
  int64_t input, output, step;
  int64_t farthest; /* largest offset of a tap inside its phase */
  int32_t phases;
  int32_t tap_phase[AS_CONV_TAPS];
  int64_t tap_offset[AS_CONV_TAPS];
  int64_t start[AS_CONV_TAPS];
} AsConvAxis;

/* Elements [begin, end) of a line come from the input, the first of them from `first`. */
typedef struct {
  int64_t begin, end, first;
} AsConvSpan;

/* Of `length` elements of a phase from element `from` on. */
AsConvSpan as_conv_span(const AsConvAxis *axis, int32_t phase, int64_t from, int64_t length);

/* Where everything lies for one image size. A strip is a number of output rows that are computed
 * from planes of their own; position p of a strip is row p / pitch, column p % pitch. */
typedef struct {
  AsConvAxis y, x;
  int in_place;                  /* the input's planes serve as they are */
  int64_t pitch, lines, plane;   /* elements in a line, lines in a plane, elements between planes */
  int64_t strip_rows, strips;
  int64_t elements;              /* of all planes of a strip, with what tiles read beyond */
} AsConvGeometry;

/* Geometry of a strip whose tiles read at most `tile` elements at once, from `channels` channels
 * of elements. False where such an image is too large. */
int as_conv_geometry(const AsLayerSpec *spec, int64_t channels, int64_t height, int64_t width,
                     int64_t tile, AsConvGeometry *geometry);
/* Offset of a tap of channel 0. */
int64_t as_conv_tap_offset(const AsConvGeometry *geometry, int64_t tap_y, int64_t tap_x);

/* Lines of one plane of a strip, for every channel: which of them, and what of each, comes from
 * the input. */
typedef struct {
  AsConvSpan rows, columns;
  int64_t lines, row_step, column_step;
  int64_t pitch, plane; /* elements of a line; of a plane, whose rest is padding */
  int64_t channels, between; /* elements from the plane of a channel to that of the next one */
  int64_t input_width, input_plane;
  uint8_t padding; /* each byte of an element outside the image, as kernels are given it */
} AsConvLines;

/* `count` positions of a tile from `from` on go to `to` elements from the begin of a plane. */
typedef struct {
  int32_t from, count;
  int64_t to;
} AsConvPiece;

/* Where the results of a tile go: channel n to output + n * plane. */
typedef struct {
  const AsConvPiece *pieces;
  int64_t piece_count, channels, plane;
  int64_t width; /* positions between channels of the tile */
  const float *residual;
  void *output;            /* float, or uint8_t */
  const AsRequantize *how; /* of int8: its channels from `first_channel` on */
  int64_t first_channel;
} AsConvTarget;

/* Compiled once for each instruction set: steps_conv.c, steps_conv_int8.c. */
typedef struct AsConvSteps {
  /* `input` is the first of an element's channels; for int8, there are three more */
  void (*gather_fp32)(const void *input, const AsConvLines *lines, void *to);
  void (*gather_int8)(const void *input, const AsConvLines *lines, void *to);
  void (*finish_fp32)(const void *tile, const AsConvTarget *target, const AsEpilogue *epilogue);
  void (*finish_int8)(const void *tile, const AsConvTarget *target, const AsEpilogue *epilogue);
} AsConvSteps;

/* The weight in shares of consecutive output channels, and its offsets for every image size. The
 * groups of a sparse one are single channels: several at once would read different planes, and
 * gain nothing. Those of a dense one read the same planes, so they share their offsets. */
typedef struct {
  AsBroadcastWeight weight; /* its offsets are places along the depth, see as_conv_offsets */
  int64_t first, outputs;
  int64_t begin; /* of its steps among those of all shares */
} AsConvShare;

typedef struct {
  AsConvGeometry geometry;
  int32_t *offsets; /* of all shares, one after another */
} AsConvSize;

typedef struct {
  AsConvShare *shares;
  int64_t share_count, pairs;
  int rows; /* output channels in a group */
  int64_t channels, block_channels, taps_x, taps; /* channels of elements */
  _Atomic(AsConvSize *) sizes[AS_CONV_SIZES];
} AsConvWeight;

const char *as_conv_pack(const AsLayerSpec *spec, int64_t block_channels, int rows,
                         AsConvWeight *packed);
/* The same of a weight that is packed elsewhere: its sizes alone, and one share of all outputs. */
const char *as_conv_pack_sizes(const AsLayerSpec *spec, AsConvWeight *packed);
void as_conv_release(AsConvWeight *packed);
/* Geometry and offsets for an image size: kept ones, or new ones. NULL when out of memory; give
 * back what was got with as_conv_size_give. `problem` is set where the result is NULL. */
AsConvSize *as_conv_size_take(const AsLayerSpec *spec, AsConvWeight *packed, int64_t height,
                              int64_t width, int64_t tile, const char **problem);
void as_conv_size_give(AsConvWeight *packed, AsConvSize *size);

/* A layer ready to run. */
typedef struct {
  AsConvWeight weight;
  const AsKernel *kernels[AS_CONV_VECTORS + 1]; /* by vectors; the next larger where none is */
  int lanes, vectors, rows;
  int int8;
  void *start;      /* of the sums: bias, or int32 with the input's zero folded in */
  AsRequantize how; /* of int8 */
  const AsConvSteps *steps;
  AsInt8Permute *permute; /* the weight, in place of the shares'; or NULL */
  const AsSteps *surroundings;
  int64_t products; /* of a weight with a register, for every register of positions */
  AsEpilogue epilogue;
  int finishes; /* whether kernels can: the activation bounds what it is given, or does nothing */
  float bounds[AS_CONV_BOUNDS]; /* then, as the kernels want them */
  float *scales, *shifts;       /* of uint8 output then, in its steps */
} AsConvPacked;

/* A weight that this family has less to do for, or that asks for it; else NULL. */
AsInt8Permute *as_conv_permute_create(const AsLayerSpec *spec);
/* One tile of all outputs: `planes` from its first position on -> sums (outputs, width). Returns 0,
 * or why it failed. */
int as_conv_permute_run(const AsConvPacked *packed, const AsLayerSpec *spec,
                        const AsConvGeometry *g, const int32_t *planes, int64_t width,
                        int32_t *sums);

const char *as_conv_run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel);

#endif
