/* Layer normalization and softmax of rows, compiled once for each instruction set (AS_SET names it). */
#include <math.h>

#include "activation.h"
#include "internal.h"
#include "transpose.h"

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

enum { LANES = TRANSPOSE_SIDE, AT_ONCE = 4 /* sums side by side: additions take a while */ };
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));

static inline Vector at(const float *values) { return *(const Vector *)(const void *)values; }

static inline float across(const Vector sums[AT_ONCE]) {
  const Vector one = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float sum = 0;
  for (int l = 0; l < LANES; l++) sum += one[l];
  return sum;
}

static float mean_of(const float *values, int64_t count) {
  Vector sums[AT_ONCE] = {{0}};
  float rest = 0;
  int64_t i = 0;
  for (; i + AT_ONCE * LANES <= count; i += AT_ONCE * LANES)
    for (int q = 0; q < AT_ONCE; q++) sums[q] += at(values + i + q * LANES);
  for (; i + LANES <= count; i += LANES) sums[0] += at(values + i);
  for (; i < count; i++) rest += values[i];
  return (across(sums) + rest) / (float)count;
}

/* Of what is left when the mean is taken off, so that a large mean costs no digits. */
static float variance_of(const float *values, int64_t count, float mean) {
  Vector sums[AT_ONCE] = {{0}};
  float rest = 0;
  int64_t i = 0;
  for (; i + AT_ONCE * LANES <= count; i += AT_ONCE * LANES)
    for (int q = 0; q < AT_ONCE; q++) {
      const Vector off = at(values + i + q * LANES) - mean;
      sums[q] += off * off;
    }
  for (; i + LANES <= count; i += LANES) {
    const Vector off = at(values + i) - mean;
    sums[0] += off * off;
  }
  for (; i < count; i++) rest += (values[i] - mean) * (values[i] - mean);
  return (across(sums) + rest) / (float)count;
}

/* (rows, count) in place: scale * (value - mean) / sqrt(variance + epsilon) + shift. */
void JOINED(as_normalize_, AS_SET)(const AsNorm *norm, float *values, int64_t rows) {
  const int64_t count = norm->outputs;
  const float *restrict scale = norm->scale, *restrict shift = norm->shift;
  for (int64_t r = 0; r < rows; r++) {
    float *restrict row = values + r * count;
    const float mean = mean_of(row, count);
    const float factor = 1 / sqrtf(variance_of(row, count, mean) + norm->epsilon);
    for (int64_t i = 0; i < count; i++) row[i] = (row[i] - mean) * factor * scale[i] + shift[i];
  }
}

/* NaN wherever there is one: it compares as neither, and the sum of the exponentials has it. */
static float largest_of(const float *values, int64_t count) {
  float most = values[0];
  int64_t i = 0;
  if (count >= LANES) {
    Vector lanes = at(values);
    for (i = LANES; i + LANES <= count; i += LANES) {
      const Vector next = at(values + i);
      for (int l = 0; l < LANES; l++) lanes[l] = next[l] > lanes[l] ? next[l] : lanes[l];
    }
    for (int l = 0; l < LANES; l++) most = lanes[l] > most ? lanes[l] : most;
  }
  for (; i < count; i++) most = values[i] > most ? values[i] : most;
  return most;
}

/* (rows, columns) of `output`: exp(value - largest of the row) / their sum. */
void JOINED(as_softmax_, AS_SET)(const float *input, float *output, int64_t rows,
                                 int64_t columns) {
  const float log2_e = 1.44269504f;
  for (int64_t r = 0; r < rows; r++) {
    const float *from = input + r * columns;
    float *to = output + r * columns;
    const float most = largest_of(from, columns);
    for (int64_t i = 0; i < columns; i++)
      to[i] = exponential(at_least((from[i] - most) * log2_e, -126.0f));
    const float inverse = 1 / (mean_of(to, columns) * (float)columns);
    for (int64_t i = 0; i < columns; i++) to[i] *= inverse;
  }
}
