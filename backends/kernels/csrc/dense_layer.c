/* Dense layers: the weight as panels, and blocks of rows against them, finished in place. */
#include <stdlib.h>
#include <string.h>

#include "dense.h"

enum { BLOCK_ROWS = 48 /* a multiple of AS_DENSE_ROWS */, PANEL_FLOATS = 64 };
static const double SERIAL_WORK = 400000; /* products that are not worth a thread */

struct AsDenseLayer {
  AsDense dense;
  float *bias; /* of fp32, a panel longer than there are outputs */
  int64_t depth, outputs; /* of the layer */
  AsEpilogue epilogue;
  const AsSteps *steps;
};

typedef struct {
  const AsDenseLayer *layer;
  const AsCall *call;
  const AsRequantize *how;
  const int32_t *start;
  _Atomic int failed;
} Job;

int as_dense_possible(const AsLayerSpec *spec) {
  const int bytes = spec->input_type == AS_UINT8;
  return spec->runs * spec->run == spec->outputs * spec->depth && spec->plan.family == 0 &&
         spec->depth <= AS_DENSE_LONGEST && spec->outputs <= AS_DENSE_LONGEST &&
         (!bytes || spec->depth % 4 == 0);
}

static void pack(const AsLayerSpec *spec, AsDense *dense) {
  const int64_t full = (int64_t)dense->vectors * dense->lanes;
  const int32_t *weight = dense->int8 ? (const int32_t *)(const void *)spec->int8_values
                                      : (const int32_t *)(const void *)spec->fp32_values;
  for (int64_t p = 0; p < dense->panels; p++) {
    const int64_t width = as_dense_width(dense, p), columns = as_dense_columns(dense, p);
    int32_t *panel = dense->values + p * full * dense->depth;
    for (int64_t c = 0; c < columns; c++) {
      const int32_t *row = weight + (p * full + c) * dense->depth;
      for (int64_t k = 0; k < dense->depth; k++) panel[k * width + c] = row[k];
    }
  }
}

const char *as_dense_create(const AsLayerSpec *spec, AsDenseLayer **made) {
  AsDenseLayer *layer = *made = as_allocate(sizeof *layer);
  if (!layer) return "out of memory";
  const int int8 = spec->input_type == AS_UINT8;
  layer->depth = spec->depth;
  layer->outputs = spec->outputs;
  layer->steps = as_current_set()->steps;
  layer->epilogue = (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  if (!as_dense_prepare(&layer->dense, int8, int8 ? spec->depth / 4 : spec->depth, spec->outputs))
    return "this library holds no dense kernel for this processor";
  layer->dense.values = as_allocate((size_t)as_dense_elements(&layer->dense) * 4);
  if (!layer->dense.values) return "out of memory while packing a weight";
  if (!int8) {
    layer->bias = as_allocate((size_t)(spec->outputs + PANEL_FLOATS) * sizeof *layer->bias);
    if (!layer->bias) return "out of memory while packing a weight";
    if (spec->bias) memcpy(layer->bias, spec->bias, (size_t)spec->outputs * sizeof *layer->bias);
  }
  pack(spec, &layer->dense);
  return NULL;
}

static void finish_fp32(const Job *job, const float *sums, int64_t stride, int64_t first,
                        int64_t columns, int64_t row, int64_t rows) {
  const AsDenseLayer *layer = job->layer;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t at = (row + r) * layer->outputs + first;
    float *to = (float *)job->call->output + at;
    const float *from = sums + r * stride;
    if (from != to) memcpy(to, from, (size_t)columns * sizeof *to);
    if (job->call->residual)
      for (int64_t c = 0; c < columns; c++) to[c] += job->call->residual[at + c];
    layer->steps->activate_fp32(&layer->epilogue, to, columns);
  }
}

/* A block of rows against one panel. fp32 sums go to the output itself where they fit. */
static void block(void *data, size_t index) {
  Job *job = data;
  const AsDenseLayer *layer = job->layer;
  const AsDense *dense = &layer->dense;
  const int64_t panel = (int64_t)index % dense->panels;
  const int64_t row = (int64_t)index / dense->panels * BLOCK_ROWS;
  const int64_t left = job->call->rows - row, rows = left < BLOCK_ROWS ? left : BLOCK_ROWS;
  const int64_t first = panel * dense->vectors * dense->lanes;
  const int64_t width = as_dense_width(dense, panel), columns = as_dense_columns(dense, panel);
  const char *x = (const char *)job->call->input + row * dense->depth * 4;
  _Alignas(64) int32_t sums[BLOCK_ROWS * PANEL_FLOATS];
  if (dense->int8) {
    if (!as_dense_panel(dense, panel, x, dense->depth, rows, job->start + first, sums, width))
      job->failed = AS_REFUSED;
    const AsLayerSpec sizes = {.outputs = layer->outputs};
    const AsInt8Target target =
        as_int8_target(&sizes, job->call, job->how, row, first, columns);
    layer->steps->finish_int8(sums, width, rows, &target);
    return;
  }
  void *y = sums;
  int64_t stride = width;
  if (columns == width) {
    y = (float *)job->call->output + row * layer->outputs + first;
    stride = layer->outputs;
  }
  if (!as_dense_panel(dense, panel, x, dense->depth, rows, layer->bias + first, y, stride))
    job->failed = AS_REFUSED;
  finish_fp32(job, y, stride, first, columns, row, rows);
}

const char *as_dense_run(const AsDenseLayer *layer, const AsCall *call, const AsRequantize *how,
                         const int32_t *start, const AsParallel *parallel) {
  if (call->rows <= 0) return NULL;
  Job job = {layer, call, how, start, 0};
  const int64_t blocks = (call->rows + BLOCK_ROWS - 1) / BLOCK_ROWS * layer->dense.panels;
  const double work = (double)call->rows * (double)layer->outputs * (double)layer->depth;
  if (work < SERIAL_WORK)
    for (int64_t i = 0; i < blocks; i++) block(&job, (size_t)i);
  else
    parallel->run(parallel->context, block, (size_t)blocks, &job);
  return as_failure(job.failed);
}

void as_dense_destroy(AsDenseLayer *layer) {
  if (!layer) return;
  as_free(layer->dense.values);
  as_free(layer->bias);
  as_free(layer);
}
