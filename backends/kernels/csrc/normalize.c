/* Layer normalization behind a matrix product, while its rows are still in the cache. */
#include <math.h>
#include <string.h>

#include "internal.h"

enum { TASK_VALUES = 16384 /* fewer are not worth a thread */ };

typedef struct {
  const AsNorm *norm;
  float *values;
  int64_t rows, task_rows;
} Job;

static float *copy_of(const float *values, int64_t count) {
  float *copy = as_allocate((size_t)count * sizeof *copy);
  if (copy) memcpy(copy, values, (size_t)count * sizeof *copy);
  return copy;
}

const char *as_norm_create(const AsLayerSpec *spec, AsNorm *norm) {
  memset(norm, 0, sizeof *norm);
  if (!spec->norm_scale && !spec->norm_shift) return NULL;
  if (!spec->norm_scale || !spec->norm_shift)
    return "a normalization has a scale and a shift for each output";
  if (spec->operation != AS_LINEAR || spec->output_type != AS_FP32)
    return "only matrix products whose result is fp32 are normalized";
  if (spec->activation != AS_NO_ACTIVATION) return "a normalized result has no activation";
  if (!(spec->norm_epsilon >= 0) || !isfinite(spec->norm_epsilon))
    return "the epsilon of a normalization must be zero or a positive number";
  norm->outputs = spec->outputs;
  norm->epsilon = spec->norm_epsilon;
  norm->normalize = as_current_set()->steps->normalize;
  norm->scale = copy_of(spec->norm_scale, spec->outputs);
  norm->shift = copy_of(spec->norm_shift, spec->outputs);
  return norm->scale && norm->shift ? NULL : "out of memory";
}

void as_norm_destroy(AsNorm *norm) {
  as_free(norm->scale);
  as_free(norm->shift);
}

static void some_rows(void *data, size_t index) {
  const Job *job = data;
  const int64_t first = (int64_t)index * job->task_rows, left = job->rows - first;
  job->norm->normalize(job->norm, job->values + first * job->norm->outputs,
                       left < job->task_rows ? left : job->task_rows);
}

void as_norm_run(const AsNorm *norm, const AsCall *call, const AsParallel *parallel) {
  Job job = {norm, call->output, call->rows, (TASK_VALUES - 1) / norm->outputs + 1};
  const int64_t tasks = (call->rows + job.task_rows - 1) / job.task_rows;
  if (tasks > 1)
    parallel->run(parallel->context, some_rows, (size_t)tasks, &job);
  else if (tasks == 1)
    some_rows(&job, 0);
}
