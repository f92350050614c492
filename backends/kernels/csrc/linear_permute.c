/* Matrix products of few rows by the permute family: output channels in the lanes of a register,
 * windows of the input that slide along the depth. families/permute.py explains it. */
#include <stdlib.h>
#include <string.h>

#include "linear_fp32.h"

enum {
  MOST_LANES = 16,
  MOST_ROWS = 8,
  MOST_PARTS = 16,
  PART_STEPS = 8192, /* of one row: below, a thread costs more to wake than it saves */
  ALIGNMENT = 64,
};

static const char OUT_OF_MEMORY[] = "out of memory while packing a sparse weight";

struct AsLinearPermute {
  int32_t *counts;   /* (slices,) steps, even */
  int64_t *begins;   /* (slices + 1,) first step */
  uint16_t *starts;  /* (steps,) first register of the window */
  uint8_t *picks;    /* (steps, lanes) */
  float *values;     /* (steps, lanes) */
  float *bias;       /* (slices, lanes) */
  int32_t *channels; /* (slices, lanes), -1 where there is none */
  int64_t slices, outputs, features;
  int64_t padded; /* features, and as many zeros that they are whole windows */
  int lanes;      /* of a register: output channels of a slice */
  int rows;       /* input rows at once */
  const AsSteps *steps;
  AsEpilogue epilogue;
  const AsKernel *kernels[MOST_ROWS + 1]; /* by rows */
};

typedef struct {
  const AsLinearPermute *packed;
  const AsCall *call;
  const float *x; /* rows of `padded` features */
  int64_t parts;
  _Atomic int failed;
} Job;

typedef struct {
  int64_t runs, channel, next, end; /* next, end: runs that are not placed yet */
} Row;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

int as_linear_permute_possible(const AsLayerSpec *spec) {
  return as_nearest_kernel("permute_fp32", 2, 1) &&
         spec->depth <= (int64_t)UINT16_MAX * as_current_set()->lanes &&
         spec->outputs <= INT32_MAX / (MOST_ROWS * MOST_LANES);
}

static int by_runs(const void *a, const void *b) {
  const Row *left = a, *right = b;
  if (left->runs != right->runs) return left->runs < right->runs ? -1 : 1;
  return left->channel < right->channel ? -1 : left->channel > right->channel;
}

/* Rows with few non-zeros first: those of a slice are then about equally long. */
static Row *sorted_rows(const AsLayerSpec *spec) {
  Row *rows = calloc((size_t)spec->outputs, sizeof *rows);
  if (!rows) return NULL;
  int64_t run = 0;
  for (int64_t n = 0; n < spec->outputs; n++) {
    const int64_t begin = run;
    while (run < spec->runs && spec->positions[run] < (n + 1) * spec->depth) run++;
    rows[n] = (Row){run - begin, n, begin, run};
  }
  qsort(rows, (size_t)spec->outputs, sizeof *rows, by_runs);
  return rows;
}

static int64_t feature_of(const AsLayerSpec *spec, const Row *row) {
  return spec->positions[row->next] - row->channel * spec->depth;
}

/* One slice: each step's window begins where the lane that is furthest behind goes on, and every
 * lane whose next non-zero lies inside takes part. Returns the number of steps, which are stored
 * from `step` on unless `packed->values` is missing: then they are only counted. */
static int64_t place_slice(const AsLayerSpec *spec, AsLinearPermute *packed, int window,
                           const Row *rows, int count, int64_t step) {
  const int64_t first = step, width = packed->lanes;
  Row lanes[MOST_LANES];
  memcpy(lanes, rows, (size_t)count * sizeof *lanes);
  for (;; step++) {
    int64_t behind = INT64_MAX;
    for (int l = 0; l < count; l++)
      if (lanes[l].next < lanes[l].end) behind = smaller(behind, feature_of(spec, &lanes[l]));
    if (behind == INT64_MAX) break;
    const int64_t start = smaller(behind / width, (packed->padded - window) / width);
    if (packed->values) packed->starts[step] = (uint16_t)start;
    for (int l = 0; l < count; l++) {
      if (lanes[l].next == lanes[l].end) continue;
      const int64_t inside = feature_of(spec, &lanes[l]) - start * width;
      if (inside >= window) continue;
      if (packed->values) {
        packed->picks[step * width + l] = (uint8_t)inside;
        packed->values[step * width + l] = spec->fp32_values[lanes[l].next];
      }
      lanes[l].next++;
    }
  }
  /* even: the kernel may take two steps at once; memory is zero where no step was stored */
  return step - first + (step - first) % 2;
}

static int lanes_used(const AsLinearPermute *packed, int64_t slice) {
  return (int)smaller(packed->lanes, packed->outputs - slice * packed->lanes);
}

static void place_channels(const AsLayerSpec *spec, AsLinearPermute *packed, const Row *rows) {
  for (int64_t i = 0; i < packed->slices * packed->lanes; i++) {
    const int64_t channel = i < packed->outputs ? rows[i].channel : -1;
    packed->channels[i] = (int32_t)channel;
    if (spec->bias && channel >= 0) packed->bias[i] = spec->bias[channel];
  }
}

static int place_all(const AsLayerSpec *spec, AsLinearPermute *packed, int window,
                     const Row *rows) {
  const int64_t lanes = packed->lanes, channels = packed->slices * lanes;
  packed->counts = as_allocate((size_t)packed->slices * sizeof *packed->counts);
  packed->begins = as_allocate((size_t)(packed->slices + 1) * sizeof *packed->begins);
  packed->bias = as_allocate((size_t)channels * sizeof *packed->bias);
  packed->channels = as_allocate((size_t)channels * sizeof *packed->channels);
  if (!packed->counts || !packed->begins || !packed->bias || !packed->channels) return 0;
  for (int64_t s = 0; s < packed->slices; s++) {
    const int64_t steps =
        place_slice(spec, packed, window, rows + s * lanes, lanes_used(packed, s), 0);
    packed->counts[s] = (int32_t)steps;
    packed->begins[s + 1] = packed->begins[s] + steps;
  }
  const int64_t steps = packed->begins[packed->slices];
  packed->starts = as_allocate((size_t)steps * sizeof *packed->starts);
  packed->picks = as_allocate((size_t)(steps * lanes));
  packed->values = as_allocate((size_t)(steps * lanes) * sizeof *packed->values);
  if (!packed->starts || !packed->picks || !packed->values) return 0;
  for (int64_t s = 0; s < packed->slices; s++)
    place_slice(spec, packed, window, rows + s * lanes, lanes_used(packed, s),
                packed->begins[s]);
  place_channels(spec, packed, rows);
  return 1;
}

static int find_kernels(AsLinearPermute *packed, int vectors) {
  for (int r = 1; r <= MOST_ROWS; r++) {
    packed->kernels[r] = as_find_kernel("permute_fp32", vectors, r);
    if (packed->kernels[r]) packed->rows = r;
  }
  return packed->kernels[1] != NULL;
}

const char *as_linear_permute_create(const AsLayerSpec *spec, const AsPlan *plan,
                                     AsLinearPermute **made) {
  AsLinearPermute *packed = as_allocate(sizeof *packed);
  *made = packed;
  if (!packed) return OUT_OF_MEMORY;
  const AsInstructionSet *set = as_current_set();
  const int vectors = as_nearest_kernel("permute_fp32", plan->vectors, 1)->vectors;
  packed->lanes = set->lanes;
  const int window = vectors * set->lanes;
  if (!find_kernels(packed, vectors)) return "this library holds no kernel for single rows";
  if (plan->rows > 0 && plan->rows < packed->rows) packed->rows = plan->rows;
  packed->steps = set->steps;
  packed->epilogue =
      (AsEpilogue){spec->activation_low, spec->activation_high, spec->activation};
  packed->features = spec->depth;
  packed->outputs = spec->outputs;
  packed->padded = larger((spec->depth + set->lanes - 1) / set->lanes * set->lanes, window);
  packed->slices = (spec->outputs + set->lanes - 1) / set->lanes;
  Row *rows = sorted_rows(spec);
  const int enough = rows && place_all(spec, packed, window, rows);
  free(rows);
  if (!enough) return OUT_OF_MEMORY;
  if (packed->begins[packed->slices] > INT32_MAX / packed->lanes)
    return "the weight has too many non-zeros";
  return NULL;
}

static int multiply(const AsLinearPermute *packed, int64_t first, int64_t slices,
                    const float *x, int rows, float *y) {
  const int64_t begin = packed->begins[first], steps = packed->begins[first + slices] - begin;
  const int64_t lanes = packed->lanes;
  const AsView views[] = {
      {AS_VIEW_I32, packed->counts + first, slices},
      {AS_VIEW_U16, packed->starts + begin, steps},
      {AS_VIEW_U8, packed->picks + begin * lanes, steps * lanes},
      {AS_VIEW_F32, packed->values + begin * lanes, steps * lanes},
      {AS_VIEW_F32, packed->bias + first * lanes, slices * lanes},
      {AS_VIEW_F32, x, rows * packed->padded},
      {AS_VIEW_F32, y, rows * slices * lanes},
      {AS_VIEW_INT, NULL, slices},
      {AS_VIEW_INT, NULL, packed->padded},
      {AS_VIEW_INT, NULL, slices * lanes},
  };
  return as_call_kernel(packed->kernels[rows], views, sizeof views / sizeof *views) == 0;
}

/* Residual and activation, then every channel to its place. */
static void finish_row(const Job *job, int64_t row, int64_t first, int64_t slices, float *y) {
  const AsLinearPermute *packed = job->packed;
  const int32_t *channels = packed->channels + first * packed->lanes;
  const int64_t count = smaller(slices * packed->lanes, packed->outputs - first * packed->lanes);
  const float *residual =
      job->call->residual ? job->call->residual + row * packed->outputs : NULL;
  float *output = (float *)job->call->output + row * packed->outputs;
  for (int64_t i = 0; residual && i < count; i++) y[i] += residual[channels[i]];
  packed->steps->activate_fp32(&packed->epilogue, y, count);
  for (int64_t i = 0; i < count; i++) output[channels[i]] = y[i];
}

static void part_of_slices(void *data, size_t index) {
  Job *job = data;
  const AsLinearPermute *packed = job->packed;
  const int64_t first = packed->slices * (int64_t)index / job->parts;
  const int64_t slices = packed->slices * ((int64_t)index + 1) / job->parts - first;
  const int64_t floats = packed->rows * slices * packed->lanes;
  float *y = as_scratch_take((size_t)floats * sizeof *y);
  if (!y) job->failed = AS_NO_MEMORY;
  for (int64_t row = 0; y && row < job->call->rows;) {
    int rows = (int)smaller(packed->rows, job->call->rows - row);
    while (!packed->kernels[rows]) rows--;
    if (!multiply(packed, first, slices, job->x + row * packed->padded, rows, y)) {
      job->failed = AS_REFUSED;
      break;
    }
    for (int r = 0; r < rows; r++)
      finish_row(job, row + r, first, slices, y + r * slices * packed->lanes);
    row += rows;
  }
  as_scratch_give(y);
}

/* The input where the kernel may read it: whole windows, and no load across two cache lines. */
static const float *readable_input(const AsLinearPermute *packed, const AsCall *call,
                                   float **scratch) {
  const float *input = call->input;
  *scratch = NULL;
  if (packed->padded == packed->features && (uintptr_t)input % ALIGNMENT == 0) return input;
  float *copy = as_scratch_take((size_t)(call->rows * packed->padded) * sizeof *copy);
  *scratch = copy;
  if (!copy) return NULL;
  const size_t used = (size_t)packed->features * sizeof *copy;
  for (int64_t row = 0; row < call->rows; row++) {
    float *to = copy + row * packed->padded;
    memcpy(to, input + row * packed->features, used);
    memset(to + packed->features, 0, (size_t)packed->padded * sizeof *copy - used);
  }
  return copy;
}

const char *as_linear_permute_run(const AsLinearPermute *packed, const AsCall *call,
                                  const AsParallel *parallel) {
  if (call->rows <= 0) return NULL;
  float *scratch;
  Job job = {packed, call, readable_input(packed, call, &scratch), 1, 0};
  if (!job.x) return as_failure(AS_NO_MEMORY);
  const double work = (double)packed->begins[packed->slices] * (double)call->rows;
  if (work >= 2.0 * PART_STEPS)
    job.parts = smaller(smaller((int64_t)(work / PART_STEPS), MOST_PARTS), packed->slices);
  if (job.parts == 1)
    part_of_slices(&job, 0);
  else
    parallel->run(parallel->context, part_of_slices, (size_t)job.parts, &job);
  as_scratch_give(scratch);
  return as_failure(job.failed);
}

void as_linear_permute_destroy(AsLinearPermute *packed) {
  if (!packed) return;
  as_free(packed->counts);
  as_free(packed->begins);
  as_free(packed->starts);
  as_free(packed->picks);
  as_free(packed->values);
  as_free(packed->bias);
  as_free(packed->channels);
  as_free(packed);
}
