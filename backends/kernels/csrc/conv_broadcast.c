/* Convolutions: what a layer is packed into, for the broadcast family unless conv_permute.c takes
 * it. */
#include <math.h>
#include <string.h>

#include "convolution.h"

enum { USUAL_VECTORS = 8, WINDOW_VECTORS = 12, PERMUTED_VECTORS = 4 };
enum { DENSE_ROWS = 4, DENSE_VECTORS = 6 /* their sums leave room for what is loaded */ };
enum { FIRST_CACHE = 32 * 1024 /* bytes of it for a block of input */, FEW_RUNS = 12 };

static const char OUT_OF_MEMORY[] = "out of memory while packing a sparse convolution";

/* Whether groups of output channels read the same planes at the same places. */
static int is_dense(const AsLayerSpec *spec) {
  return spec->groups == 1 && spec->outputs % DENSE_ROWS == 0 && !spec->plan.vectors &&
         spec->runs * spec->run == spec->outputs * spec->depth;
}

static int find_kernels(const AsLayerSpec *spec, AsConvPacked *packed) {
  const AsPlan *plan = &spec->plan;
  const char *family = packed->int8 ? "conv_int8" : "conv_fp32";
  packed->rows = is_dense(spec) ? DENSE_ROWS : 1;
  /* where there are registers to hold their sums, windows pay for larger tiles, whose taps share
   * lines of the cache */
  const int window = spec->kernel[0] * spec->kernel[1] > 1;
  int wanted =
      packed->lanes == 16 && !packed->int8 && window ? WINDOW_VECTORS : USUAL_VECTORS;
  if (packed->rows > 1) wanted = packed->lanes == 16 ? DENSE_VECTORS : DENSE_VECTORS / 2;
  if (plan->vectors) wanted = plan->vectors;
  if (packed->permute) wanted = PERMUTED_VECTORS; /* its plan means other registers */
  if (wanted > AS_CONV_VECTORS) wanted = AS_CONV_VECTORS;
  const AsKernel *best = as_nearest_kernel(family, wanted, packed->rows);
  if (!best || best->rows != packed->rows || best->vectors > AS_CONV_VECTORS) return 0;
  packed->vectors = best->vectors;
  for (int v = best->vectors; v > 0; v--) {
    const AsKernel *kernel = as_find_kernel(family, v, packed->rows);
    packed->kernels[v] = kernel ? kernel : packed->kernels[v + 1];
  }
  return 1;
}

/* Channels of a depth block: a tile of them fits the first cache, unless too few weights of an
 * output would be left to pay for reading and writing its sums again. */
static int64_t choose_block(const AsLayerSpec *spec, int64_t channels, int64_t width) {
  if (spec->plan.depth > 0) {
    const int64_t per_element = spec->channels / channels;
    const int64_t wanted = (spec->plan.depth + per_element - 1) / per_element;
    return wanted < channels ? wanted : channels;
  }
  const int64_t reach = (spec->kernel[0] - 1) * spec->dilations[0] * 16 + spec->kernel[1];
  const int64_t fits = FIRST_CACHE / 4 / (width + reach);
  const int64_t blocks = fits ? (channels + fits - 1) / fits : channels;
  const int64_t runs = spec->runs / spec->outputs / FEW_RUNS;
  const int64_t count = blocks < runs ? blocks : runs ? runs : 1;
  return (channels + count - 1) / count;
}

static const char *check(const AsLayerSpec *spec) {
  if (spec->outputs > (1 << 22) || spec->runs > (1 << 30))
    return "a convolution's weight needs at most 2^22 outputs and 2^30 non-zeros";
  if (spec->channels <= 0 || spec->channels > (1 << 24) || spec->groups <= 0 ||
      spec->channels % spec->groups || spec->outputs % spec->groups)
    return "groups must divide the channels, at most 2^24, and outputs of a convolution";
  if (spec->input_type == AS_UINT8 && spec->channels / spec->groups % 4)
    return "an int8 convolution needs a multiple of four channels in each group";
  if (spec->channels / spec->groups % spec->run)
    return "runs of non-zeros must divide the channels of a group";
  if (spec->input_type == AS_UINT8 && 4 % spec->run)
    return "an int8 convolution takes runs of one, two or four weights";
  for (int i = 0; i < 2; i++) {
    if (spec->kernel[i] <= 0 || spec->kernel[i] > AS_CONV_TAPS)
      return "a convolution's window needs between 1 and 64 places along an axis";
    if (spec->strides[i] <= 0 || spec->dilations[i] <= 0 || spec->strides[i] > (1 << 20) ||
        spec->dilations[i] > (1 << 20))
      return "strides and dilations of a convolution must be between 1 and 2^20";
  }
  for (int i = 0; i < 4; i++)
    if (spec->pads[i] < 0 || spec->pads[i] > (1 << 20))
      return "pads of a convolution must be between 0 and 2^20";
  if (spec->depth != spec->kernel[0] * spec->kernel[1] * (spec->channels / spec->groups))
    return "a convolution's depth must be its window times the channels of a group";
  /* as many planes may be laid out, however small the image */
  if (spec->kernel[0] * spec->kernel[1] * spec->channels > (1 << 24))
    return "a convolution's window times its channels must be at most 2^24";
  return NULL;
}

static const char *create_sums(const AsLayerSpec *spec, AsConvPacked *packed) {
  if (packed->int8) {
    int32_t *start = NULL;
    const char *problem = as_requantize_create(spec, AS_INT8_MORE, &packed->how, &start);
    packed->start = start;
    return problem;
  }
  float *start = as_allocate((size_t)spec->outputs * sizeof *start);
  if (!start) return OUT_OF_MEMORY;
  packed->start = start;
  if (spec->bias) memcpy(start, spec->bias, (size_t)spec->outputs * sizeof *start);
  return NULL;
}

/* What kernels that finish are given: bounds, and the grid of uint8 output in its own steps. */
static const char *create_bounds(const AsLayerSpec *spec, AsConvPacked *packed) {
  const int clips = spec->activation == AS_CLIP;
  float low = clips ? spec->activation_low : spec->activation == AS_RELU ? 0 : -INFINITY;
  float high = clips ? spec->activation_high : INFINITY;
  packed->finishes = spec->activation <= AS_CLIP && (!packed->int8 || packed->how.to_uint8);
  if (packed->finishes && packed->int8) {
    const float inverse = packed->how.inverse_step;
    packed->scales = as_allocate((size_t)spec->outputs * sizeof *packed->scales);
    packed->shifts = as_allocate((size_t)spec->outputs * sizeof *packed->shifts);
    if (!packed->scales || !packed->shifts) return OUT_OF_MEMORY;
    for (int64_t n = 0; n < spec->outputs; n++) {
      packed->scales[n] = packed->how.scales[n] * inverse;
      packed->shifts[n] = packed->how.bias[n] * inverse;
    }
    low *= inverse;
    high = fminf(high * inverse, (float)(255 - packed->how.zero));
  }
  packed->bounds[0] = low;
  packed->bounds[1] = high;
  packed->bounds[2] = (float)-packed->how.zero;
  return NULL;
}

static const char *create(AsLayer *layer) {
  const AsLayerSpec *spec = &layer->spec;
  const AsInstructionSet *set = as_current_set();
  const char *problem = check(spec);
  if (problem) return problem;
  AsConvPacked *packed = as_allocate(sizeof *packed);
  if (!packed) return OUT_OF_MEMORY;
  layer->packed = packed;
  packed->int8 = spec->input_type == AS_UINT8;
  packed->lanes = set->lanes;
  packed->steps = set->conv_steps;
  packed->surroundings = set->steps;
  packed->permute = as_conv_permute_create(spec);
  packed->epilogue =
      (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  if (!find_kernels(spec, packed)) return "this library holds no convolution for this processor";
  problem = create_sums(spec, packed);
  if (!problem) problem = create_bounds(spec, packed);
  if (problem) return problem;
  if (packed->permute) {
    packed->products = as_int8_permute_words(packed->permute);
    return as_conv_pack_sizes(spec, &packed->weight);
  }
  const int64_t width = (int64_t)packed->vectors * packed->lanes;
  const int64_t channels = spec->channels / (packed->int8 ? 4 : 1);
  const int64_t most_blocks = as_most_blocks(spec);
  const int64_t shortest = (channels + most_blocks - 1) / most_blocks;
  const int64_t block = choose_block(spec, channels, width);
  problem = as_conv_pack(spec, block < shortest ? shortest : block, packed->rows,
                         &packed->weight);
  packed->products = packed->weight.pairs;
  return problem;
}

static void destroy(AsLayer *layer) {
  AsConvPacked *packed = layer->packed;
  if (!packed) return;
  as_conv_release(&packed->weight);
  as_int8_permute_destroy(packed->permute);
  as_requantize_destroy(&packed->how);
  as_free(packed->start);
  as_free(packed->scales);
  as_free(packed->shifts);
  as_free(packed);
}

const AsOperator as_convolution = {create, as_conv_run, destroy};
