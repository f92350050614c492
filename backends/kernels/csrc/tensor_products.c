/* What is computed of two tensors, or of one, without a weight: attention and residuals need it. */
#include <string.h>

#include "dense.h"

enum { BLOCK_ROWS = 48 /* a multiple of AS_DENSE_ROWS */, PANEL_FLOATS = 64 };

typedef struct {
  const AsProduct *product;
  AsDense dense;
  _Atomic int failed;
} Job;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* The right tensor of one matrix, (depth, columns) row-major, as panels. */
static void pack(const AsDense *dense, const float *right) {
  const int64_t full = (int64_t)dense->vectors * dense->lanes;
  for (int64_t p = 0; p < dense->panels; p++) {
    const int64_t width = as_dense_width(dense, p), columns = as_dense_columns(dense, p);
    float *panel = (float *)(void *)dense->values + p * full * dense->depth;
    for (int64_t k = 0; k < dense->depth; k++) {
      memcpy(panel + k * width, right + k * dense->columns + p * full,
             (size_t)columns * sizeof *panel);
      if (columns < width)
        memset(panel + k * width + columns, 0, (size_t)(width - columns) * sizeof *panel);
    }
  }
}

static int multiply(const AsProduct *product, const AsDense *dense, int64_t matrix) {
  static const float zeros[PANEL_FLOATS];
  const int64_t full = (int64_t)dense->vectors * dense->lanes;
  const float *left = product->left + matrix * product->rows * product->depth;
  float *output = product->output + matrix * product->rows * product->columns;
  /* rows that kernels can count the elements of; usually all of them */
  const int64_t longest = larger(product->depth, product->columns);
  const int64_t countable = INT32_MAX / longest / BLOCK_ROWS * BLOCK_ROWS;
  for (int64_t p = 0; p < dense->panels; p++) {
    const int64_t width = as_dense_width(dense, p), columns = as_dense_columns(dense, p);
    if (columns == width) {
      for (int64_t row = 0; row < product->rows; row += countable)
        if (!as_dense_panel(dense, p, left + row * product->depth, product->depth,
                            smaller(countable, product->rows - row), zeros,
                            output + row * product->columns + p * full, product->columns))
          return 0;
      continue;
    }
    float sums[BLOCK_ROWS * PANEL_FLOATS];
    for (int64_t row = 0; row < product->rows; row += BLOCK_ROWS) {
      const int64_t rows = smaller(BLOCK_ROWS, product->rows - row);
      if (!as_dense_panel(dense, p, left + row * product->depth, product->depth, rows, zeros,
                          sums, width))
        return 0;
      for (int64_t r = 0; r < rows; r++)
        memcpy(output + (row + r) * product->columns + p * full, sums + r * width,
               (size_t)columns * sizeof *sums);
    }
  }
  return 1;
}

static void one_matrix(void *data, size_t index) {
  Job *job = data;
  const AsProduct *product = job->product;
  AsDense dense = job->dense;
  dense.values = as_scratch_take((size_t)as_dense_elements(&dense) * sizeof(float));
  if (dense.values) {
    pack(&dense, product->right + (int64_t)index * product->depth * product->columns);
    if (!multiply(product, &dense, (int64_t)index)) job->failed = AS_REFUSED;
  } else {
    job->failed = AS_NO_MEMORY;
  }
  as_scratch_give(dense.values);
}

const char *as_multiply(const AsProduct *product, const AsParallel *parallel) {
  if (product->matrices <= 0 || product->rows <= 0 || product->columns <= 0) return NULL;
  if (product->depth <= 0) return "a matrix product needs at least one feature";
  if (product->depth > AS_DENSE_LONGEST || product->columns > AS_DENSE_LONGEST)
    return "a matrix product has at most 2^25 - 1 features and columns";
  Job job = {.product = product};
  if (!as_dense_prepare(&job.dense, 0, product->depth, product->columns))
    return "this library holds no dense kernel for this processor";
  parallel->run(parallel->context, one_matrix, (size_t)product->matrices, &job);
  return as_failure(job.failed);
}

typedef struct {
  const float *input;
  float *output;
  int64_t rows, columns, task_rows;
} Rows;

static void some_rows(void *data, size_t index) {
  const Rows *all = data;
  const int64_t first = (int64_t)index * all->task_rows, left = all->rows - first;
  as_current_set()->steps->softmax(all->input + first * all->columns,
                                   all->output + first * all->columns,
                                   left < all->task_rows ? left : all->task_rows, all->columns);
}

void as_softmax(const float *input, float *output, int64_t rows, int64_t columns,
                const AsParallel *parallel) {
  enum { TASK_VALUES = 16384 };
  if (rows <= 0 || columns <= 0) return;
  Rows all = {input, output, rows, columns, (TASK_VALUES - 1) / columns + 1};
  const int64_t tasks = (rows + all.task_rows - 1) / all.task_rows;
  parallel->run(parallel->context, some_rows, (size_t)tasks, &all);
}

enum { TASK_BYTES = 65536 /* fewer are not worth a thread */ };

typedef struct {
  const float *input;
  uint8_t *output;
  int64_t count;
  AsGrid grid;
} Rounding;

static int64_t end_of(int64_t task, int64_t count) {
  return (task + 1) * TASK_BYTES < count ? (task + 1) * TASK_BYTES : count;
}

static void quantize_some(void *data, size_t index) {
  const Rounding *all = data;
  const int64_t from = (int64_t)index * TASK_BYTES;
  as_current_set()->steps->quantize(all->input + from, end_of((int64_t)index, all->count) - from,
                                    1 / all->grid.step, all->grid.zero, all->output + from);
}

void as_quantize(const float *input, uint8_t *output, int64_t count, AsGrid grid,
                 const AsParallel *parallel) {
  Rounding all = {input, output, count, grid};
  parallel->run(parallel->context, quantize_some,
                (size_t)((count + TASK_BYTES - 1) / TASK_BYTES), &all);
}

static void add_some(void *data, size_t index) {
  const AsSum *sum = data;
  as_current_set()->steps->add(sum, (int64_t)index * TASK_BYTES,
                               end_of((int64_t)index, sum->count));
}

void as_add(const AsSum *sum, const AsParallel *parallel) {
  parallel->run(parallel->context, add_some,
                (size_t)((sum->count + TASK_BYTES - 1) / TASK_BYTES), (void *)sum);
}
