/* Products of the dense family: a matrix in panels of output channels, and rows against it. */
#ifndef AUTOSPARSE_DENSE_H
#define AUTOSPARSE_DENSE_H

#include "int8.h"

enum { AS_DENSE_ROWS = 6, AS_DENSE_VECTORS = 4 };
/* Kernels count elements in 32 bits: a panel of so many features, at most 64 columns wide, and 48
 * rows of so many elements are as far as that goes. */
enum { AS_DENSE_LONGEST = INT32_MAX / 64 };

/* (depth, columns) as panels of up to AS_DENSE_VECTORS registers of columns, feature by feature.
 * An element is a float, or four bytes of four neighbouring features. */
typedef struct {
  int int8;
  int lanes, vectors; /* of a full panel */
  int rows;           /* at once, of a full panel */
  int64_t depth, columns; /* depth in elements */
  int64_t panels;
  int32_t *values;
  const AsKernel *kernels[AS_DENSE_VECTORS + 1][AS_DENSE_ROWS + 1]; /* by vectors and rows */
} AsDense;

/* Elements that `values` has room for: all panels full. Kernels must be found first. */
int64_t as_dense_elements(const AsDense *dense);
/* False where the library holds no kernels for this processor. */
int as_dense_prepare(AsDense *dense, int int8, int64_t depth, int64_t columns);

/* `rows` rows of `x` against the panel that begins at `first` column: sums into `y`. `start` are
 * the sums' beginnings from that column on, with as many behind the last one as a panel is wide;
 * `y` has rows of at least a panel's width. Returns 0 where a kernel fails. */
int as_dense_panel(const AsDense *dense, int64_t panel, const void *x, int64_t x_stride,
                   int64_t rows, const void *start, void *y, int64_t y_stride);
/* Columns of a panel, and the registers that they take. */
int64_t as_dense_columns(const AsDense *dense, int64_t panel);
int64_t as_dense_width(const AsDense *dense, int64_t panel);

/* Layers without zeros to skip, behind the operators in linear_fp32.c and linear_int8.c. `create`
 * may set `*made` and still fail. */
typedef struct AsDenseLayer AsDenseLayer;
int as_dense_possible(const AsLayerSpec *spec);
const char *as_dense_create(const AsLayerSpec *spec, AsDenseLayer **made);
const char *as_dense_run(const AsDenseLayer *layer, const AsCall *call, const AsRequantize *how,
                         const int32_t *start, const AsParallel *parallel);
void as_dense_destroy(AsDenseLayer *layer);

#endif
