/* What the files of the core share. */
#ifndef AUTOSPARSE_INTERNAL_H
#define AUTOSPARSE_INTERNAL_H

#include "autosparse_kernels.h"

/* Ordered: of those that a processor has, the last one is the best. */
typedef struct {
  const char *name; /* as in targets.py */
  int lanes;        /* floats in a register */
  const struct AsSteps *steps;
  const struct AsConvSteps *conv_steps; /* convolution.h */
  const struct AsBf16Steps *bf16_steps; /* bf16.h */
  int (*supported)(void);
} AsInstructionSet;

/* One compiled kernel. Generated: kernel_table.c. */
typedef struct {
  const char *instruction_set;
  const char *family; /* "linear_fp32", ...: as in tiles.py */
  int vectors, rows;
  int (*call)(void *, const void *arguments, int32_t count, void *result);
} AsKernel;

extern const AsKernel as_kernels[];
extern const size_t as_kernel_count;

/* Kernels of a family for the present instruction set: the exact tile, or NULL. */
const AsKernel *as_find_kernel(const char *family, int vectors, int rows);
/* The kernel whose tile is nearest to the wish, and may be larger: callers check what they have
 * room for. NULL where the family has none. */
const AsKernel *as_nearest_kernel(const char *family, int vectors, int rows);

const AsInstructionSet *as_current_set(void);

/* A view of memory as a one-dimensional tensor argument, or an integer, of a compiled kernel. */
typedef struct {
  enum { AS_VIEW_INT, AS_VIEW_F32, AS_VIEW_I32, AS_VIEW_U16, AS_VIEW_U8, AS_VIEW_I8 } type;
  const void *data;
  int64_t value; /* of an integer, or elements of a tensor */
} AsView;

/* 0, or non-zero where the kernel refused its arguments (a fault of ours). */
int as_call_kernel(const AsKernel *kernel, const AsView *views, int count);

/* Why a run failed, as its tasks leave it behind: of several reasons, one. */
enum { AS_NO_MEMORY = 1, AS_REFUSED = 2 /* by a kernel */ };
/* The sentence for it; NULL where nothing failed. */
const char *as_failure(int failed);

/* Scratch memory, 64-byte aligned, kept for the next one who asks. NULL when out of memory. */
void *as_scratch_take(size_t bytes);
void as_scratch_give(void *memory);

void *as_allocate(size_t bytes); /* 64-byte aligned, zeroed; release with as_free */
void as_free(void *memory);

/* What is done around the kernels, compiled once for each instruction set: steps.c. */
typedef struct {
  float low, high;
  int activation;
} AsEpilogue;

/* What normalizes the rows of a matrix product: normalize.c. */
typedef struct AsNorm AsNorm;
struct AsNorm {
  float *scale, *shift; /* (outputs,); NULL where nothing is normalized */
  float epsilon;
  int64_t outputs;
  void (*normalize)(const AsNorm *norm, float *values, int64_t rows); /* in place: AsSteps */
};

typedef struct AsRequantize AsRequantize; /* int8.h */
typedef struct AsInt8Target AsInt8Target;

typedef struct AsSteps {
  /* (columns, features) row-major with `input_stride` -> features x `width`, rest zero-filled */
  void (*tile_fp32)(const float *input, int64_t input_stride, int64_t columns, int64_t features,
                    int64_t width, float *tile);
  /* features x `width` -> (columns, features) row-major, residual added, activation applied */
  void (*untile_fp32)(const float *tile, int64_t width, int64_t columns, int64_t features,
                      const AsEpilogue *epilogue, const float *residual, float *output,
                      int64_t output_stride);
  /* (rows, columns) words -> (columns, rows); strides in bytes */
  void (*transpose)(const void *from, int64_t from_stride, int64_t rows, int64_t columns, void *to,
                    int64_t to_stride);
  /* the activation alone, in place */
  void (*activate_fp32)(const AsEpilogue *epilogue, float *values, int64_t count);
  /* (columns, bytes) row-major -> words of four x `width`, rest zero-filled; stride in bytes */
  void (*tile_words)(const uint8_t *input, int64_t input_stride, int64_t columns, int64_t bytes,
                     int64_t width, int32_t *tile);
  /* channels x `width` sums -> (columns, channels) of the target */
  void (*untile_int8)(const int32_t *tile, int64_t width, int64_t columns,
                      const AsInt8Target *target);
  /* (rows, channels) row-major sums -> the same of the target */
  void (*finish_int8)(const int32_t *sums, int64_t sums_stride, int64_t rows,
                      const AsInt8Target *target);
  /* (rows, outputs) in place */
  void (*normalize)(const AsNorm *norm, float *values, int64_t rows);
  /* (rows, columns) each */
  void (*softmax)(const float *input, float *output, int64_t rows, int64_t columns);
  void (*quantize)(const float *values, int64_t count, float inverse_step, int zero,
                   uint8_t *output);
  void (*add)(const AsSum *sum, int64_t from, int64_t to);
} AsSteps;

/* Operations. Each packs at creation and frees what it packed. */
typedef struct {
  const char *(*create)(AsLayer *layer);
  const char *(*run)(const AsLayer *layer, const AsCall *call, const AsParallel *parallel);
  void (*destroy)(AsLayer *layer);
} AsOperator;

struct AsLayer {
  AsLayerSpec spec; /* its pointers are only valid while the layer is created */
  const AsOperator *operator_;
  void *packed; /* the operator's own */
  AsNorm norm;
};

/* Checked and copied; nothing is normalized where the description has no scale. */
const char *as_norm_create(const AsLayerSpec *spec, AsNorm *norm);
void as_norm_run(const AsNorm *norm, const AsCall *call, const AsParallel *parallel);
void as_norm_destroy(AsNorm *norm);

extern const AsOperator as_linear_fp32;
extern const AsOperator as_linear_int8;
extern const AsOperator as_linear_bf16;
extern const AsOperator as_convolution;

/* The runs of a weight as files hold them: each run's gap from the position of the one before, in
 * one byte; runs of zeros only bridge what is longer. */
typedef struct {
  const void *values;
  const uint8_t *gaps; /* NULL where every run is stored */
  int64_t stored, all; /* runs in the file; runs that the weight has room for */
  size_t run_bytes;
} AsStoredRuns;

typedef struct {
  int64_t *positions; /* owned, as is... */
  void *values;       /* ...what the runs that hold a non-zero consist of */
  int64_t count;
} AsRuns;

/* NULL, or what is wrong with them; release what was made in either case: stored_runs.c */
const char *as_runs_decode(const AsStoredRuns *stored, AsRuns *made);
void as_runs_release(AsRuns *runs);

/* A weight packed for the broadcast family: packing.c */
typedef struct {
  int32_t *counts, *channels;
  void *offsets; /* uint16_t or int32_t */
  void *values;  /* float, or int32_t holding four int8_t */
  int64_t *block_begin; /* first stored pair of each depth block */
  int64_t groups, blocks, pairs;
} AsBroadcastWeight;

typedef struct {
  int rows;               /* output channels in a group */
  int64_t blocks;         /* depth blocks */
  int wide_offsets;       /* int32_t rather than uint16_t */
  /* run position in its row -> depth block, and offset inside the tile of that block */
  void (*place)(const void *context, int64_t run_in_row, int64_t *block, int64_t *offset);
  const void *context;
} AsBroadcastLayout;

/* Depth blocks that a layer may have at most, whatever its plan says. */
int64_t as_most_blocks(const AsLayerSpec *spec);
const char *as_pack_broadcast(const AsLayerSpec *spec, const AsBroadcastLayout *layout,
                              AsBroadcastWeight *packed);
void as_free_broadcast(AsBroadcastWeight *packed);

#endif
