/* Matrix products of int8 by the lane-permute family: rows stay as they are, a lane is an output
 * channel.
 *
 * A step looks at sixteen consecutive features, anywhere, and takes up to four non-zeros of each
 * channel. Each step begins at the first feature that some channel of its group still needs, so
 * that N:M, where all go on at the same pace, fills every step, and other weights waste few. */
#include <stdlib.h>

#include "int8.h"

enum {
  MOST_ROWS = 8,
  USUAL_ROWS = 4,
  USUAL_VECTORS = 4,
  LANES = 16,
  FEATURES = 16, /* that a step looks at */
  BYTES = 64,
  TASK_CHANNELS = AS_INT8_PART, /* whose sums are kept at once */
  TASK_ROWS = 144,
  DEEPEST = 1 << 22, /* positions of a task's features fit into 31 bits */
};
/* A group of which only one channel has non-zeros is mostly empty. */
static const int64_t BYTES_PER_WEIGHT = 64, ANY_BYTES = 64 << 20;
static const int64_t SERIAL_WORK = 100000; /* steps times rows that are not worth a thread */
static const char FAMILY[] = "permute_int8";
static const char OUT_OF_MEMORY[] = "out of memory while packing a sparse weight";

struct AsInt8Permute {
  int vectors, rows;
  int64_t groups, steps;
  int32_t *counts;   /* (groups,): steps */
  int64_t *begins;   /* (groups,): first step */
  int32_t *features; /* (steps,): first feature */
  uint8_t *selections;
  int8_t *weights;
  const AsSteps *surroundings;
  const AsKernel *kernels[MOST_ROWS + 1]; /* by rows */
};

/* Where each channel of a group goes on: its next weight, as index of values, and its last. */
typedef struct {
  int64_t next, end;
} Cursor;

typedef struct {
  const AsInt8Permute *packed;
  const AsInt8Run *run;
  int64_t task_rows, task_groups, row_tasks;
  _Atomic int failed;
} Job;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

int as_int8_permute_possible(const AsLayerSpec *spec) {
  return spec->depth >= FEATURES && spec->depth <= DEEPEST && as_nearest_kernel(FAMILY, 1, 1);
}

static int64_t feature_of(const AsLayerSpec *spec, int64_t value) {
  const int64_t row_runs = spec->depth / spec->run;
  return spec->positions[value / spec->run] % row_runs * spec->run + value % spec->run;
}

static void skip_zeros(const AsLayerSpec *spec, Cursor *cursor) {
  while (cursor->next < cursor->end && !spec->int8_values[cursor->next]) cursor->next++;
}

/* Steps of a group whose cursors stand at its channels; stored where `packed` has room for them. */
static int64_t walk(const AsLayerSpec *spec, int channels, Cursor *cursors,
                    const AsInt8Permute *packed, int64_t step) {
  int64_t steps = 0;
  for (;; steps++) {
    int64_t first = INT64_MAX;
    for (int c = 0; c < channels; c++) {
      skip_zeros(spec, &cursors[c]);
      if (cursors[c].next < cursors[c].end)
        first = smaller(first, feature_of(spec, cursors[c].next));
    }
    if (first == INT64_MAX) return steps;
    first = smaller(first, spec->depth - FEATURES);
    if (packed) packed->features[step + steps] = (int32_t)first;
    for (int c = 0; c < channels; c++) {
      const int64_t at = ((step + steps) * channels + c) * 4;
      for (int taken = 0; taken < 4; taken++) {
        skip_zeros(spec, &cursors[c]);
        if (cursors[c].next == cursors[c].end) break;
        const int64_t feature = feature_of(spec, cursors[c].next);
        if (feature >= first + FEATURES) break;
        if (packed) {
          packed->selections[at + taken] = (uint8_t)(feature - first);
          packed->weights[at + taken] = spec->int8_values[cursors[c].next];
        }
        cursors[c].next++;
      }
    }
  }
}

/* First value of every channel, and one more. */
static void find_channels(const AsLayerSpec *spec, int64_t *begins) {
  const int64_t row_runs = spec->depth / spec->run;
  int64_t run = 0;
  for (int64_t n = 0; n <= spec->outputs; n++) {
    while (run < spec->runs && spec->positions[run] / row_runs < n) run++;
    begins[n] = run * spec->run;
  }
}

static void walk_groups(const AsLayerSpec *spec, const int64_t *channel_begins, int store,
                        AsInt8Permute *packed) {
  const int channels = LANES * packed->vectors;
  Cursor cursors[TASK_CHANNELS];
  packed->steps = 0;
  for (int64_t g = 0; g < packed->groups; g++) {
    for (int c = 0; c < channels; c++) {
      const int64_t n = smaller(g * channels + c, spec->outputs);
      cursors[c] = (Cursor){channel_begins[n], channel_begins[smaller(n + 1, spec->outputs)]};
    }
    packed->begins[g] = packed->steps;
    packed->counts[g] =
        (int32_t)walk(spec, channels, cursors, store ? packed : NULL, packed->steps);
    packed->steps += packed->counts[g];
  }
}

/* Memory for the steps that were counted, in proportion to the weights that a file holds. */
static const char *reserve_steps(const AsLayerSpec *spec, size_t channels, AsInt8Permute *packed) {
  const int64_t weights = spec->runs * spec->run;
  if (packed->steps * (int64_t)channels * 8 > ANY_BYTES + BYTES_PER_WEIGHT * weights)
    return "the weight would be mostly empty in the permute family";
  /* one step more, so that an empty weight still has an address */
  const size_t steps = (size_t)packed->steps + 1;
  packed->features = as_allocate(steps * sizeof *packed->features);
  packed->selections = as_allocate(steps * channels * 4);
  packed->weights = as_allocate(steps * channels * 4);
  return packed->features && packed->selections && packed->weights ? NULL : OUT_OF_MEMORY;
}

static const char *pack(const AsLayerSpec *spec, AsInt8Permute *packed) {
  const size_t channels = (size_t)(LANES * packed->vectors);
  packed->groups = (spec->outputs + (int64_t)channels - 1) / (int64_t)channels;
  packed->counts = as_allocate((size_t)packed->groups * sizeof *packed->counts);
  packed->begins = as_allocate((size_t)packed->groups * sizeof *packed->begins);
  int64_t *channel_begins = malloc((size_t)(spec->outputs + 1) * sizeof *channel_begins);
  const char *problem = OUT_OF_MEMORY;
  if (packed->counts && packed->begins && channel_begins) {
    find_channels(spec, channel_begins);
    walk_groups(spec, channel_begins, 0, packed);
    problem = reserve_steps(spec, channels, packed);
    if (!problem) walk_groups(spec, channel_begins, 1, packed);
  }
  free(channel_begins);
  return problem;
}

const char *as_int8_permute_create(const AsLayerSpec *spec, const AsPlan *plan,
                                   AsInt8Permute **made) {
  AsInt8Permute *packed = *made = as_allocate(sizeof *packed);
  if (!packed) return "out of memory";
  const AsKernel *kernel = as_nearest_kernel(FAMILY, plan->vectors ? plan->vectors : USUAL_VECTORS,
                                             plan->rows ? plan->rows : USUAL_ROWS);
  if (!kernel || kernel->rows > MOST_ROWS || kernel->vectors * LANES > TASK_CHANNELS)
    return "this library holds no int8 kernel of the permute family for this processor";
  packed->vectors = kernel->vectors;
  packed->rows = kernel->rows;
  packed->surroundings = as_current_set()->steps;
  for (int rows = 1; rows <= packed->rows; rows++) {
    packed->kernels[rows] = as_find_kernel(FAMILY, packed->vectors, rows);
    if (!packed->kernels[rows]) return "this library lacks an int8 kernel";
  }
  return pack(spec, packed);
}

/* `rows` rows from `row` on, `rows` a multiple of the kernel's. */
static int multiply(const Job *job, const AsKernel *kernel, int64_t row, int64_t rows,
                    int64_t group, int64_t groups, int32_t *y) {
  const AsInt8Permute *packed = job->packed;
  const int64_t depth = job->run->spec->depth, channels = LANES * packed->vectors;
  const int64_t begin = packed->begins[group], last = group + groups - 1;
  const int64_t steps = packed->begins[last] + packed->counts[last] - begin;
  const int64_t bytes = steps * packed->vectors * BYTES;
  const AsView views[] = {
      {AS_VIEW_I32, packed->counts + group, groups},
      {AS_VIEW_I32, packed->features + begin, steps},
      {AS_VIEW_U8, packed->selections + begin * packed->vectors * BYTES, bytes},
      {AS_VIEW_I8, packed->weights + begin * packed->vectors * BYTES, bytes},
      {AS_VIEW_I32, job->run->start + group * channels, groups * channels},
      {AS_VIEW_U8, (const uint8_t *)job->run->call->input + row * depth, rows * depth},
      {AS_VIEW_I32, y, rows * groups * channels},
      {AS_VIEW_INT, NULL, groups},
      {AS_VIEW_INT, NULL, rows / kernel->rows},
      {AS_VIEW_INT, NULL, depth},
      {AS_VIEW_INT, NULL, groups * channels},
  };
  return !as_call_kernel(kernel, views, sizeof views / sizeof *views);
}

static int64_t groups_of_part(const AsInt8Permute *packed) {
  return TASK_CHANNELS / (LANES * packed->vectors);
}

/* Any number of rows from `row` on: most of them by the largest kernel, the rest by their own. */
static int multiply_rows(const Job *job, int64_t row, int64_t rows, int64_t group, int64_t groups,
                         int32_t *y) {
  const AsInt8Permute *packed = job->packed;
  const int64_t stride = groups * LANES * packed->vectors;
  const int64_t whole = rows / packed->rows * packed->rows, rest = rows - whole;
  if (whole && !multiply(job, packed->kernels[packed->rows], row, whole, group, groups, y))
    return 0;
  return !rest || multiply(job, packed->kernels[rest], row + whole, rest, group, groups,
                           y + whole * stride);
}

static void task(void *data, size_t index) {
  Job *job = data;
  const AsInt8Permute *packed = job->packed;
  const int64_t row = (int64_t)index % job->row_tasks * job->task_rows;
  const int64_t rows = smaller(job->task_rows, job->run->call->rows - row);
  const int64_t group = (int64_t)index / job->row_tasks * job->task_groups;
  const int64_t groups = smaller(job->task_groups, packed->groups - group);
  const int64_t channels = LANES * packed->vectors, stride = groups * channels;
  int32_t *y = as_scratch_take((size_t)(rows * stride) * sizeof *y);
  if (y && multiply_rows(job, row, rows, group, groups, y)) {
    const int64_t first = group * channels;
    const AsInt8Target target =
        as_int8_target(job->run->spec, job->run->call, job->run->how, row, first,
                       smaller(stride, job->run->spec->outputs - first));
    packed->surroundings->finish_int8(y, stride, rows, &target);
  } else {
    job->failed = y ? AS_REFUSED : AS_NO_MEMORY;
  }
  as_scratch_give(y);
}

int as_int8_permute_sums(const AsInt8Permute *packed, const AsInt8Run *run, AsInt8Part *part) {
  const int64_t groups = groups_of_part(packed), channels = LANES * packed->vectors;
  const int64_t group = part->first / channels;
  const Job job = {.packed = packed, .run = run};
  const int64_t count = smaller(groups, packed->groups - group);
  part->stride = count * channels;
  part->channels = smaller(part->stride, run->spec->outputs - part->first);
  return multiply_rows(&job, 0, run->call->rows, group, count, part->sums);
}

const char *as_int8_permute_run(const AsInt8Permute *packed, const AsInt8Run *run) {
  Job job = {.packed = packed, .run = run};
  const int64_t rows = run->call->rows;
  if (rows <= 0) return NULL;
  job.row_tasks = (rows + TASK_ROWS - 1) / TASK_ROWS;
  job.task_rows = (rows + job.row_tasks - 1) / job.row_tasks;
  job.row_tasks = (rows + job.task_rows - 1) / job.task_rows;
  job.task_groups = groups_of_part(packed);
  const int64_t group_tasks = (packed->groups + job.task_groups - 1) / job.task_groups;
  const size_t tasks = (size_t)(job.row_tasks * group_tasks);
  if (packed->steps * packed->vectors * rows < SERIAL_WORK)
    for (size_t i = 0; i < tasks; i++) task(&job, i);
  else
    run->parallel->run(run->parallel->context, task, tasks, &job);
  return as_failure(job.failed);
}

void as_int8_permute_destroy(AsInt8Permute *packed) {
  if (!packed) return;
  as_free(packed->counts);
  as_free(packed->begins);
  as_free(packed->features);
  as_free(packed->selections);
  as_free(packed->weights);
  as_free(packed);
}

int64_t as_int8_permute_words(const AsInt8Permute *packed) {
  return packed->steps * packed->vectors * LANES;
}
