/* The kernels without any runtime around them: a packed layer, and one call that runs it.
 *
 * Plain C, no allocation while a layer runs except for scratch memory that is kept, no global
 * state but that scratch. A layer may run in many threads at once. Every function that can fail
 * returns NULL, or a sentence that lives as long as the library.
 */
#ifndef AUTOSPARSE_KERNELS_H
#define AUTOSPARSE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* The functions of this header, and of the runtime's own, are all that the library exports. */
#define AS_PUBLIC __attribute__((visibility("default")))

typedef struct AsLayer AsLayer;

typedef enum { AS_LINEAR = 0, AS_CONVOLUTION = 1 } AsOperation;
/* AS_BF16, of an input alone: fp32, of which both factors are rounded to bf16 before they meet. */
typedef enum { AS_FP32 = 0, AS_UINT8 = 1, AS_BF16 = 2 } AsType;
typedef enum {
  AS_NO_ACTIVATION = 0,
  AS_RELU = 1,
  AS_CLIP = 2, /* to activation_low .. activation_high */
  AS_GELU = 3, /* x/2 (1 + erf(x / sqrt 2)) */
  AS_SILU = 4  /* x / (1 + exp(-x)) */
} AsActivation;
typedef enum {
  AS_ANY_FAMILY = 0, /* what is usually fastest for these sizes */
  AS_BROADCAST = 1,
  AS_PERMUTE = 2
} AsFamily;

/* How a layer is computed; zeros ask for the usual choice. Tuned per shape, kept in the atlas. What
 * no compiled tile is like asks for the nearest one. */
enum { AS_MOST_OF_PLAN = 64 /* vectors and rows */ };
typedef struct {
  int32_t family;       /* AsFamily */
  int32_t vectors;      /* registers of columns in a tile */
  int32_t rows;         /* output channels (broadcast) or input rows (permute) at once */
  int32_t depth;        /* features in one pass over a tile: K-block */
} AsPlan;

/* A weight matrix (outputs, depth) in values and positions, and all that surrounds it.
 *
 * `depth` is K of a matrix product and kernel_height * kernel_width * (channels / groups) of a
 * convolution, in that order. Non-zeros come as runs of `run` consecutive weights along the depth
 * that lie inside one row; `positions` are the flat indices of the runs divided by `run`,
 * strictly ascending. `run` divides the depth.
 */
typedef struct {
  int32_t struct_bytes; /* sizeof(AsLayerSpec) of the caller */
  int32_t operation;    /* AsOperation */
  int64_t outputs;
  int64_t depth;
  int32_t run;          /* 1 for unstructured and N:M, 4 for blocks of 1x4, 2 for bf16 */
  int32_t group;        /* M of N:M where every group is full, else 0 */
  int64_t runs;
  const int64_t *positions;  /* (runs,) */
  const float *fp32_values;  /* (runs, run) where input is fp32 */
  const int8_t *int8_values; /* (runs, run) where input is uint8 */
  const uint16_t *bf16_values; /* (runs, run) where input is AS_BF16; run is 2 */
  const float *bias;         /* (outputs,) or NULL */

  int32_t input_type;  /* AsType */
  int32_t output_type; /* AsType */
  /* uint8 input x stands for (x - input_zero) * input_step, weights for w * weight_steps[n] */
  float input_step;
  int32_t input_zero;
  const float *weight_steps; /* (outputs,) */
  float output_step;         /* uint8 output: round(y / step) + zero, clamped to 0..255 */
  int32_t output_zero;

  int32_t activation; /* AsActivation */
  float activation_low, activation_high;
  /* (outputs,) both, or NULL: the rows of a matrix product's fp32 result, residual and all, become
   * norm_scale * (y - mean) / sqrt(variance + norm_epsilon) + norm_shift */
  const float *norm_scale, *norm_shift;
  float norm_epsilon;

  /* convolution only */
  int64_t channels, groups;
  int64_t kernel[2], strides[2], dilations[2];
  int64_t pads[4]; /* top, left, bottom, right */

  AsPlan plan;
} AsLayerSpec;

/* Runs `task(data, 0 .. count - 1)`, in any order and thread, and returns when all are done. */
typedef struct {
  void *context;
  void (*run)(void *context, void (*task)(void *data, size_t index), size_t count, void *data);
} AsParallel;

/* Input and output of one call. Row-major: (rows, depth) -> (rows, outputs) for a matrix product,
 * (batch, channels, height, width) -> (batch, outputs, height', width') for a convolution.
 * `residual`, where it is not NULL, has the type fp32 and the shape of the output and is added
 * before the activation or normalization. Buffers need no alignment beyond their element's. */
typedef struct {
  const void *input;
  const float *residual;
  void *output;
  int64_t rows;          /* of a matrix product; batch of a convolution */
  int64_t height, width; /* of a convolution's input */
} AsCall;

AS_PUBLIC const char *as_layer_create(const AsLayerSpec *spec, AsLayer **layer);
AS_PUBLIC const char *as_layer_run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel);
AS_PUBLIC void as_layer_destroy(AsLayer *layer);

/* Spatial size of a convolution's output. */
AS_PUBLIC void as_layer_output_size(const AsLayer *layer, int64_t height, int64_t width, int64_t size[2]);

/* Products of two fp32 tensors: `matrices` of (rows, depth) times as many (depth, columns). */
typedef struct {
  const float *left, *right;
  float *output;
  int64_t matrices, rows, depth, columns;
} AsProduct;
AS_PUBLIC const char *as_multiply(const AsProduct *product, const AsParallel *parallel);
/* uint8 x stands for (x - zero) * step. */
typedef struct {
  float step;
  int32_t zero;
} AsGrid;
AS_PUBLIC void as_quantize(const float *input, uint8_t *output, int64_t count, AsGrid grid,
                           const AsParallel *parallel);
/* The sum of two tensors, at least `low`, each on a grid of its own. */
typedef struct {
  const uint8_t *left, *right;
  uint8_t *output;
  int64_t count;
  AsGrid left_grid, right_grid, grid;
  float low; /* 0 for Relu, else minus infinity */
} AsSum;
AS_PUBLIC void as_add(const AsSum *sum, const AsParallel *parallel);
/* Of every row of fp32 numbers; `output` may be `input`. */
AS_PUBLIC void as_softmax(const float *input, float *output, int64_t rows, int64_t columns,
                          const AsParallel *parallel);

/* Name of the instruction set that layers use here, for example "avx512-vnni". */
AS_PUBLIC const char *as_instruction_set(void);
/* Whether this processor has one of those that the library is compiled for. */
AS_PUBLIC int as_has_instruction_set(const char *name);
/* Use a lesser instruction set from now on, for tests; a sentence where it is not there. */
AS_PUBLIC const char *as_force_instruction_set(const char *name);

#endif
