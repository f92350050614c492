/* What surrounds the kernels, compiled once for each instruction set (AS_SET names it): turning
 * rows into feature-major tiles and back, with residual and activation on the way. */
#include <string.h>

#include "activation.h"
#include "internal.h"
#include "transpose.h"

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

enum { STRIP = 128, COLUMNS = TRANSPOSE_SIDE };

static void tile_fp32(const float *input, int64_t input_stride, int64_t columns,
                      int64_t features, int64_t width, float *tile) {
  transpose_words(input, input_stride * 4, columns, features, tile, width * 4);
  for (int64_t k = 0; columns < width && k < features; k++)
    memset(tile + k * width + columns, 0, (size_t)(width - columns) * sizeof *tile);
}

static void finish_row(const AsEpilogue *epilogue, const float *restrict residual, int64_t count,
                       float *restrict values) {
  if (residual)
    for (int64_t j = 0; j < count; j++) values[j] += residual[j];
  activate(epilogue, values, count);
}

/* In strips, so that rows of the output are written several cache lines at a time, and finished
 * while they are near. */
static void untile_fp32(const float *tile, int64_t width, int64_t columns, int64_t features,
                        const AsEpilogue *epilogue, const float *residual, float *output,
                        int64_t output_stride) {
  const int plain = !residual && epilogue->activation == AS_NO_ACTIVATION;
  for (int64_t k = 0; k < features; k += STRIP) {
    const int64_t count = features - k < STRIP ? features - k : STRIP;
    for (int64_t c = 0; c < columns; c += COLUMNS) {
      const int64_t high = columns - c < COLUMNS ? columns - c : COLUMNS;
      const int64_t at = c * output_stride + k;
      transpose_words(tile + k * width + c, width * 4, count, high, output + at,
                      output_stride * 4);
      for (int64_t i = 0; i < high && !plain; i++)
        finish_row(epilogue, residual ? residual + at + i * output_stride : NULL, count,
                   output + at + i * output_stride);
    }
  }
}

/* of steps_int8.c */
void JOINED(as_tile_words_, AS_SET)(const uint8_t *, int64_t, int64_t, int64_t, int64_t, int32_t *);
void JOINED(as_untile_int8_, AS_SET)(const int32_t *, int64_t, int64_t, const AsInt8Target *);
void JOINED(as_finish_int8_, AS_SET)(const int32_t *, int64_t, int64_t, const AsInt8Target *);
/* of steps_norm.c */
void JOINED(as_normalize_, AS_SET)(const AsNorm *, float *, int64_t);
void JOINED(as_softmax_, AS_SET)(const float *, float *, int64_t, int64_t);
/* of steps_int8.c again */
void JOINED(as_quantize_, AS_SET)(const float *, int64_t, float, int, uint8_t *);
void JOINED(as_add_, AS_SET)(const AsSum *, int64_t, int64_t);

const AsSteps JOINED(as_steps_, AS_SET) = {
    .tile_fp32 = tile_fp32,
    .untile_fp32 = untile_fp32,
    .transpose = transpose_words,
    .tile_words = JOINED(as_tile_words_, AS_SET),
    .untile_int8 = JOINED(as_untile_int8_, AS_SET),
    .finish_int8 = JOINED(as_finish_int8_, AS_SET),
    .activate_fp32 = activate,
    .normalize = JOINED(as_normalize_, AS_SET),
    .softmax = JOINED(as_softmax_, AS_SET),
    .quantize = JOINED(as_quantize_, AS_SET),
    .add = JOINED(as_add_, AS_SET),
};
