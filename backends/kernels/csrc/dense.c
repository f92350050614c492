/* Panels of a matrix, and the kernels that multiply rows with them. */
#include "dense.h"

#include <string.h>

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

int as_dense_prepare(AsDense *dense, int int8, int64_t depth, int64_t columns) {
  const char *family = int8 ? "dense_int8" : "dense_fp32";
  memset(dense, 0, sizeof *dense);
  dense->int8 = int8;
  dense->lanes = as_current_set()->lanes;
  dense->depth = depth;
  dense->columns = columns;
  dense->vectors = AS_DENSE_VECTORS;
  /* 24 sums need the 32 registers of AVX-512 and NEON; others have 16 */
  dense->rows = AS_DENSE_ROWS;
#if defined(__x86_64__)
  if (dense->lanes < 16) dense->vectors = 2;
#endif
  dense->panels = (columns + dense->vectors * dense->lanes - 1) / (dense->vectors * dense->lanes);
  for (int v = 1; v <= AS_DENSE_VECTORS; v++)
    for (int r = 1; r <= AS_DENSE_ROWS; r++) {
      dense->kernels[v][r] = as_find_kernel(family, v, r);
      if (!dense->kernels[v][r]) return 0;
    }
  return 1;
}

int64_t as_dense_elements(const AsDense *dense) {
  return dense->panels * dense->vectors * dense->lanes * dense->depth;
}

int64_t as_dense_columns(const AsDense *dense, int64_t panel) {
  const int64_t full = (int64_t)dense->vectors * dense->lanes;
  return smaller(full, dense->columns - panel * full);
}

int64_t as_dense_width(const AsDense *dense, int64_t panel) {
  const int64_t columns = as_dense_columns(dense, panel);
  return (columns + dense->lanes - 1) / dense->lanes * dense->lanes;
}

static int call(const AsDense *dense, const AsKernel *kernel, const int32_t *values,
                int64_t width, const int32_t *x, int64_t x_stride, int64_t groups,
                const void *start, int32_t *y, int64_t y_stride) {
  const int number = dense->int8 ? AS_VIEW_I32 : AS_VIEW_F32;
  const int64_t rows = groups * kernel->rows;
  const AsView views[] = {
      {number, x, (rows - 1) * x_stride + dense->depth},
      {number, values, dense->depth * width},
      {number, start, width},
      {number, y, (rows - 1) * y_stride + width},
      {AS_VIEW_INT, NULL, groups},
      {AS_VIEW_INT, NULL, dense->depth},
      {AS_VIEW_INT, NULL, x_stride},
      {AS_VIEW_INT, NULL, y_stride},
      {AS_VIEW_INT, NULL, 1},
  };
  return !as_call_kernel(kernel, views, dense->int8 ? 8 : 9);
}

int as_dense_panel(const AsDense *dense, int64_t panel, const void *x, int64_t x_stride,
                   int64_t rows, const void *start, void *y, int64_t y_stride) {
  const int64_t width = as_dense_width(dense, panel);
  const int32_t *values =
      dense->values + panel * dense->vectors * dense->lanes * dense->depth;
  const int64_t groups = rows / dense->rows, rest = rows % dense->rows;
  const AsKernel *const *kernels = dense->kernels[width / dense->lanes];
  const int32_t *from = x;
  int32_t *to = y;
  if (groups && !call(dense, kernels[dense->rows], values, width, from, x_stride, groups, start,
                      to, y_stride))
    return 0;
  const int64_t done = groups * dense->rows;
  return !rest || call(dense, kernels[rest], values, width, from + done * x_stride, x_stride, 1,
                       start, to + done * y_stride, y_stride);
}
