/* What surrounds the int8 kernels, compiled once for each instruction set (AS_SET names it):
 * turning rows of bytes into tiles of words, and int32 sums into the output. */
#include <math.h>
#include <string.h>

#include "activation.h"
#include "int8.h"
#include "transpose.h"

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

enum { BLOCK = 64, STRIP = 256, COLUMNS = 16, APART = STRIP + 16 /* rows in other cache sets */ };
enum { WIDEST = 128 /* columns of a tile */ };

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* The last word of a row: bytes beyond the row are zero, as are the weights that meet them. */
static void tile_rest(const uint8_t *input, int64_t input_stride, int64_t columns, int64_t bytes,
                      int64_t width, int32_t *tile) {
  for (int64_t i = 0; i < columns; i++) {
    int32_t word = 0;
    memcpy(&word, input + i * input_stride + bytes / 4 * 4, (size_t)(bytes % 4));
    tile[bytes / 4 * width + i] = word;
  }
}

void JOINED(as_tile_words_, AS_SET)(const uint8_t *input, int64_t input_stride, int64_t columns,
                                    int64_t bytes, int64_t width, int32_t *tile) {
  const int64_t words = bytes / 4;
  transpose_words(input, input_stride, columns, words, tile, width * 4);
  if (bytes % 4) tile_rest(input, input_stride, columns, bytes, width, tile);
  for (int64_t k = 0; columns < width && k < (bytes + 3) / 4; k++)
    memset(tile + k * width + columns, 0, (size_t)(width - columns) * sizeof *tile);
  for (int64_t i = 0; AS_SIGN_BITS && i < (bytes + 3) / 4 * width; i++)
    tile[i] ^= (int32_t)AS_SIGN_BITS;
}

/* Rounds half to even like ONNX: beside 1.5 * 2^23, floats are integers. NaN becomes zero. */
static void quantize(const float *restrict values, int64_t count, float inverse_step, int zero,
                     uint8_t *restrict output) {
  const float rounding = 12582912.0f;
  const float low = (float)-zero, high = (float)(255 - zero);
  for (int64_t i = 0; i < count; i++) {
    float value = values[i] * inverse_step;
    value = value > low ? value : low;
    value = value < high ? value : high;
    value += rounding;
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    output[i] = (uint8_t)(bits + zero); /* the low byte of the rounding constant is zero */
  }
}

static void scale(const int32_t *restrict sums, int64_t count, const float *restrict scales,
                  const float *restrict bias, const float *restrict residual,
                  float *restrict values) {
  if (residual)
    for (int64_t i = 0; i < count; i++)
      values[i] = (float)sums[i] * scales[i] + bias[i] + residual[i];
  else
    for (int64_t i = 0; i < count; i++) values[i] = (float)sums[i] * scales[i] + bias[i];
}

#if defined(__AVX512F__)
/* What is left of the output's formula where the activation is none, or bounds the result. */
typedef struct {
  __m512 inverse_step, low, high; /* in steps of a uint8 output, which adds its own upper bound */
  __m512i zero;                   /* int16 */
} Bounds;

static Bounds bounds_of(const AsRequantize *how) {
  float low = -INFINITY, high = INFINITY;
  if (how->epilogue.activation == AS_RELU) low = 0;
  if (how->epilogue.activation == AS_CLIP) low = how->epilogue.low, high = how->epilogue.high;
  if (how->to_uint8) {
    const float highest = (float)(255 - how->zero);
    low *= how->inverse_step;
    high *= how->inverse_step;
    if (high > highest) high = highest;
  }
  return (Bounds){_mm512_set1_ps(how->inverse_step), _mm512_set1_ps(low), _mm512_set1_ps(high),
                  _mm512_set1_epi16((int16_t)how->zero)};
}

/* Converting makes NaN and what is far below into the lowest integer, hence zero in the end. */
static inline void store_bytes(const Bounds *bounds, const __m512 steps[4], __mmask64 mask,
                               uint8_t *output) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512i grid[4];
  for (int q = 0; q < 4; q++) grid[q] = _mm512_cvtps_epi32(steps[q]);
  const __m512i left = _mm512_packs_epi32(grid[0], grid[1]);
  const __m512i right = _mm512_packs_epi32(grid[2], grid[3]);
  const __m512i mixed = _mm512_packus_epi16(_mm512_adds_epi16(left, bounds->zero),
                                            _mm512_adds_epi16(right, bounds->zero));
  _mm512_mask_storeu_epi8(output, mask, _mm512_permutexvar_epi32(order, mixed));
}

/* Four channels of up to `width` columns as one word of a column: its bytes are channels. */
static void quantize_quad(const Bounds *bounds, const int32_t *sums, int64_t width,
                          const float *scales, const float *bias, int32_t *words) {
  const __m512i interleave = _mm512_broadcast_i32x4(
      _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  for (int64_t i = 0; i < width; i += 16) {
    __m512i grid[4];
    for (int q = 0; q < 4; q++) {
      const __m512i sum = _mm512_loadu_si512(sums + q * width + i);
      const __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(scales[q]),
                                           _mm512_set1_ps(bias[q]));
      const __m512 steps = _mm512_mul_ps(value, bounds->inverse_step);
      grid[q] = _mm512_cvtps_epi32(
          _mm512_min_ps(bounds->high, _mm512_max_ps(bounds->low, steps)));
    }
    const __m512i left = _mm512_adds_epi16(_mm512_packs_epi32(grid[0], grid[1]), bounds->zero);
    const __m512i right = _mm512_adds_epi16(_mm512_packs_epi32(grid[2], grid[3]), bounds->zero);
    _mm512_storeu_si512(words + i,
                        _mm512_shuffle_epi8(_mm512_packus_epi16(left, right), interleave));
  }
}

/* BLOCK channels of a tile become bytes before they are turned: a quarter of the work. */
static void untile_bytes(const Bounds *bounds, const int32_t *tile, int64_t width,
                         int64_t columns, int64_t first, const AsInt8Target *target) {
  _Alignas(64) int32_t words[BLOCK / 4 * WIDEST];
  const AsRequantize *how = target->how;
  for (int q = 0; q < BLOCK / 4; q++) {
    const int64_t channel = target->first_channel + first + 4 * q;
    quantize_quad(bounds, tile + (first + 4 * q) * width, width, how->scales + channel,
                  how->bias + channel, words + q * width);
  }
  transpose_words(words, width * 4, BLOCK / 4, columns, (uint8_t *)target->output + first,
                  target->stride);
}

/* How many channels of a tile were done that way. */
static int64_t untile_blocks(const int32_t *tile, int64_t width, int64_t columns,
                             const AsInt8Target *target) {
  const AsRequantize *how = target->how;
  int64_t done = 0;
  if (!how->to_uint8 || target->residual || how->epilogue.activation > AS_CLIP || width > WIDEST)
    return 0;
  const Bounds bounds = bounds_of(how);
  for (; done + BLOCK <= target->channels; done += BLOCK)
    untile_bytes(&bounds, tile, width, columns, done, target);
  return done;
}

/* Up to 16 columns of up to 16 channels, from `first` of the target's, as fp32 rows from `row` on.
 * They are turned in registers and finished before they are stored. */
static void untile_square(const Bounds *bounds, const int32_t *sums, int64_t width, int64_t row,
                          int64_t rows, int64_t first, int64_t count, const AsInt8Target *target) {
  const __mmask16 mask = (__mmask16)((1u << count) - 1);
  const int64_t channel = target->first_channel + first, at = row * target->stride + first;
  const __m512 scales = _mm512_maskz_loadu_ps(mask, target->how->scales + channel);
  const __m512 bias = _mm512_maskz_loadu_ps(mask, target->how->bias + channel);
  __m512i r[16];
  for (int q = 0; q < 16; q++)
    r[q] = q < count ? _mm512_loadu_si512(sums + q * width) : _mm512_setzero_si512();
  transpose_registers(r);
  for (int i = 0; i < 16; i++) {
    if (i == rows) break;
    __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(r[i]), scales, bias);
    if (target->residual)
      value = _mm512_add_ps(
          value, _mm512_maskz_loadu_ps(mask, target->residual + at + i * target->stride));
    value = _mm512_min_ps(bounds->high, _mm512_max_ps(bounds->low, value));
    _mm512_mask_storeu_ps((float *)target->output + at + i * target->stride, mask, value);
  }
}

/* The output of a tile in fp32, where the activation at most bounds it. */
static void untile_floats(const int32_t *tile, int64_t width, int64_t columns,
                          const AsInt8Target *target) {
  const Bounds bounds = bounds_of(target->how);
  for (int64_t i = 0; i < columns; i += COLUMNS)
    for (int64_t j = 0; j < target->channels; j += COLUMNS)
      untile_square(&bounds, tile + j * width + i, width, i, smaller(COLUMNS, columns - i), j,
                    smaller(COLUMNS, target->channels - j), target);
}

/* Up to BLOCK channels of some rows, from `first` of the target's. Comparisons let NaN pass. */
static void finish_block(const Bounds *bounds, const int32_t *sums, int64_t sums_stride,
                         int64_t row, int64_t rows, int64_t first, int64_t count,
                         const AsInt8Target *target) {
  const AsRequantize *how = target->how;
  const __mmask64 mask = count < BLOCK ? ((__mmask64)1 << count) - 1 : ~(__mmask64)0;
  __m512 scales[4], bias[4], values[4];
  for (int q = 0; q < 4; q++) {
    const int64_t channel = target->first_channel + first + 16 * q;
    const __mmask16 part = (__mmask16)(mask >> 16 * q);
    scales[q] = part ? _mm512_maskz_loadu_ps(part, how->scales + channel) : _mm512_setzero_ps();
    bias[q] = part ? _mm512_maskz_loadu_ps(part, how->bias + channel) : _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < rows; i++) {
    const int64_t at = (row + i) * target->stride + first;
    for (int q = 0; q < 4; q++) {
      const __mmask16 part = (__mmask16)(mask >> 16 * q);
      const __m512i sum = _mm512_maskz_loadu_epi32(part, sums + i * sums_stride + 16 * q);
      __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scales[q], bias[q]);
      if (target->residual)
        value = _mm512_add_ps(
            value, _mm512_maskz_loadu_ps(part, target->residual + at + 16 * q));
      if (how->to_uint8) value = _mm512_mul_ps(value, bounds->inverse_step);
      values[q] = _mm512_min_ps(bounds->high, _mm512_max_ps(bounds->low, value));
      if (!how->to_uint8)
        _mm512_mask_storeu_ps((float *)target->output + at + 16 * q, part, values[q]);
    }
    if (how->to_uint8) store_bytes(bounds, values, mask, (uint8_t *)target->output + at);
  }
}
#endif

/* One row, at most STRIP channels from `first` of the target's. */
static void finish_strip(const int32_t *sums, int64_t row, int64_t first, int64_t count,
                         const AsInt8Target *target) {
  const AsRequantize *how = target->how;
  const int64_t at = row * target->stride + first, channel = target->first_channel + first;
  float kept[STRIP];
  float *values = how->to_uint8 ? kept : (float *)target->output + at;
  scale(sums, count, how->scales + channel, how->bias + channel,
        target->residual ? target->residual + at : NULL, values);
  activate(&how->epilogue, values, count);
  if (how->to_uint8)
    quantize(values, count, how->inverse_step, how->zero, (uint8_t *)target->output + at);
}

/* Rows from `row` on, channels from `first` on. */
static void finish(const int32_t *sums, int64_t sums_stride, int64_t row, int64_t rows,
                   int64_t first, int64_t count, const AsInt8Target *target) {
#if defined(__AVX512F__)
  if (target->how->epilogue.activation <= AS_CLIP) {
    const Bounds bounds = bounds_of(target->how);
    for (int64_t j = 0; j < count; j += BLOCK)
      finish_block(&bounds, sums + j, sums_stride, row, rows, first + j, smaller(BLOCK, count - j),
                   target);
    return;
  }
#endif
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < count; j += STRIP)
      finish_strip(sums + i * sums_stride + j, row + i, first + j, smaller(STRIP, count - j),
                   target);
}

void JOINED(as_finish_int8_, AS_SET)(const int32_t *sums, int64_t sums_stride, int64_t rows,
                                     const AsInt8Target *target) {
  finish(sums, sums_stride, 0, rows, 0, target->channels, target);
}

void JOINED(as_untile_int8_, AS_SET)(const int32_t *tile, int64_t width, int64_t columns,
                                     const AsInt8Target *target) {
  _Alignas(64) int32_t turned[COLUMNS * APART];
  int64_t j = 0;
#if defined(__AVX512F__)
  if (!target->how->to_uint8 && target->how->epilogue.activation <= AS_CLIP) {
    untile_floats(tile, width, columns, target);
    return;
  }
  j = untile_blocks(tile, width, columns, target);
#endif
  for (; j < target->channels; j += STRIP) {
    const int64_t count = smaller(STRIP, target->channels - j);
    for (int64_t i = 0; i < columns; i += COLUMNS) {
      const int64_t rows = smaller(COLUMNS, columns - i);
      transpose_words(tile + j * width + i, width * 4, count, rows, turned, APART * 4);
      finish(turned, APART, i, rows, j, count, target);
    }
  }
}

void JOINED(as_quantize_, AS_SET)(const float *values, int64_t count, float inverse_step, int zero,
                                  uint8_t *output) {
  quantize(values, count, inverse_step, zero, output);
}

/* Elements [from, to). A strip of sums stays in the first cache until it is rounded. */
void JOINED(as_add_, AS_SET)(const AsSum *sum, int64_t from, int64_t to) {
  float values[STRIP];
  const float a = sum->left_grid.step, b = sum->right_grid.step;
  const float shift = -a * (float)sum->left_grid.zero - b * (float)sum->right_grid.zero;
  for (int64_t i = from; i < to; i += STRIP) {
    const int64_t count = smaller(STRIP, to - i);
    const uint8_t *restrict left = sum->left + i, *restrict right = sum->right + i;
    for (int64_t j = 0; j < count; j++)
      values[j] = at_least((float)left[j] * a + ((float)right[j] * b + shift), sum->low);
    quantize(values, count, 1 / sum->grid.step, sum->grid.zero, sum->output + i);
  }
}
