/* What surrounds the kernels, compiled once for each instruction set (AS_SET names it): turning
 * rows into feature-major tiles and back, with residual and activation on the way. */
#include <math.h>
#include <string.h>

#include "internal.h"

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

#if defined(__AVX512F__)
#include <immintrin.h>
enum { SIDE = 16 };

static inline void transpose_square(const float *from, int64_t from_stride, float *to,
                                    int64_t to_stride) {
  __m512 r[16], t[16];
  for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(from + i * from_stride);
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
    r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
  for (int i = 0; i < 16; i++) _mm512_storeu_ps(to + i * to_stride, r[i]);
}
#else
enum { SIDE = 4 };

static inline void transpose_square(const float *from, int64_t from_stride, float *to,
                                    int64_t to_stride) {
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) to[j * to_stride + i] = from[i * from_stride + j];
}
#endif

static void transpose(const float *from, int64_t from_stride, int64_t rows, int64_t columns,
                      float *to, int64_t to_stride) {
  const int64_t whole_rows = rows / SIDE * SIDE, whole_columns = columns / SIDE * SIDE;
  for (int64_t j = 0; j < whole_columns; j += SIDE)
    for (int64_t i = 0; i < whole_rows; i += SIDE)
      transpose_square(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; j++)
      to[j * to_stride + i] = from[i * from_stride + j];
}

static void tile_fp32(const float *input, int64_t input_stride, int64_t columns,
                      int64_t features, int64_t width, float *tile) {
  transpose(input, input_stride, columns, features, tile, width);
  for (int64_t k = 0; columns < width && k < features; k++)
    memset(tile + k * width + columns, 0, (size_t)(width - columns) * sizeof *tile);
}

static void activate(const AsEpilogue *epilogue, float *values, int64_t count) {
  switch (epilogue->activation) {
    case AS_RELU:
      for (int64_t i = 0; i < count; i++) values[i] = values[i] < 0 ? 0 : values[i];
      break;
    case AS_CLIP:
      for (int64_t i = 0; i < count; i++) {
        const float low = values[i] < epilogue->low ? epilogue->low : values[i];
        values[i] = low > epilogue->high ? epilogue->high : low;
      }
      break;
    case AS_GELU:
      for (int64_t i = 0; i < count; i++)
        values[i] = 0.5f * values[i] * (1.0f + erff(values[i] * 0.70710678f));
      break;
    case AS_SILU:
      for (int64_t i = 0; i < count; i++) values[i] /= 1.0f + expf(-values[i]);
      break;
    default: break;
  }
}

static void untile_fp32(const float *tile, int64_t width, int64_t columns, int64_t features,
                        const AsEpilogue *epilogue, const float *residual, float *output,
                        int64_t output_stride) {
  transpose(tile, width, features, columns, output, output_stride);
  if (!residual && epilogue->activation == AS_NO_ACTIVATION) return;
  for (int64_t i = 0; i < columns; i++) {
    float *row = output + i * output_stride;
    for (int64_t j = 0; residual && j < features; j++) row[j] += residual[i * output_stride + j];
    activate(epilogue, row, features);
  }
}

const AsSteps JOINED(as_steps_, AS_SET) = {
    .tile_fp32 = tile_fp32,
    .untile_fp32 = untile_fp32,
};
