/* What surrounds the int8 kernels of a convolution, compiled once for each instruction set (AS_SET
 * names it): images to padded planes of four channels in a word, and sums to the output. */
#include <math.h>
#include <string.h>

#include "activation.h"
#include "convolution.h"

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

enum { PART = 256 /* positions that are finished at once */ };

static inline void fill(uint32_t *to, int64_t count, uint32_t word) {
  for (int64_t i = 0; i < count; i++) to[i] = word;
}

/* A line where bytes `step` apart are taken. */
static inline void interleave_bytes(const uint8_t *from, const AsConvLines *lines, int64_t step,
                                    uint32_t *to) {
  const AsConvSpan *columns = &lines->columns;
  const int64_t apart = lines->input_plane;
  const uint32_t padding = lines->padding * 0x01010101u;
  fill(to, columns->begin, padding);
  for (int64_t i = columns->begin; i < columns->end; i++, from += step) {
    const uint8_t bytes[4] = {from[0], from[apart], from[2 * apart], from[3 * apart]};
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    to[i] = word ^ AS_SIGN_BITS;
  }
  fill(to + columns->end, lines->pitch - columns->end, padding);
}

#if defined(__AVX512F__)
#include <immintrin.h>

static inline __mmask16 lanes_until(int64_t end) {
  return end >= 16 ? 0xffff : end <= 0 ? 0 : (__mmask16)((1u << end) - 1);
}

/* A line where every byte, or every second one, is taken; `from` is the first of them. Lanes that
 * are masked out are not read. */
static inline void interleave_line(const uint8_t *from, const AsConvLines *lines, int64_t step,
                                   uint32_t *to) {
  const __m128i padding = _mm_set1_epi8((char)lines->padding);
  const AsConvSpan *columns = &lines->columns;
  for (int64_t i = 0; i < lines->pitch; i += 16) {
    const __mmask16 read =
        lanes_until(columns->end - i) & (__mmask16)~lanes_until(columns->begin - i);
    const uint8_t *at = from + (i - columns->begin) * step;
    __m128i c[4];
    for (int q = 0; q < 4; q++, at += lines->input_plane)
      if (step == 1) {
        c[q] = _mm_mask_loadu_epi8(padding, read, at);
      } else {
        const __m256i twice = _mm256_maskz_loadu_epi8(_pdep_u32(read, 0x55555555), at);
        c[q] = _mm_mask_blend_epi8(read, padding, _mm256_cvtepi16_epi8(twice));
      }
    const __m128i low01 = _mm_unpacklo_epi8(c[0], c[1]), high01 = _mm_unpackhi_epi8(c[0], c[1]);
    const __m128i low23 = _mm_unpacklo_epi8(c[2], c[3]), high23 = _mm_unpackhi_epi8(c[2], c[3]);
    __m512i words = _mm512_castsi128_si512(_mm_unpacklo_epi16(low01, low23));
    words = _mm512_inserti32x4(words, _mm_unpackhi_epi16(low01, low23), 1);
    words = _mm512_inserti32x4(words, _mm_unpacklo_epi16(high01, high23), 2);
    words = _mm512_inserti32x4(words, _mm_unpackhi_epi16(high01, high23), 3);
    if (lines->pitch - i >= 16)
      _mm512_storeu_si512(to + i, words);
    else
      _mm512_mask_storeu_epi32(to + i, lanes_until(lines->pitch - i), words);
  }
}

/* One piece of one channel where the activation is none, or bounds the result. Comparisons give
 * their second operand where the first is a NaN; converting makes zero of it in the end. */
static void finish_bounded(const int32_t *sums, const AsConvTarget *target, int64_t n,
                           const AsConvPiece *piece, __m512 low, __m512 high) {
  const AsRequantize *how = target->how;
  const __m512 scale = _mm512_set1_ps(how->scales[target->first_channel + n]);
  const __m512 bias = _mm512_set1_ps(how->bias[target->first_channel + n]);
  const __m512 inverse_step = _mm512_set1_ps(how->inverse_step);
  const __m512i zero = _mm512_set1_epi32(how->zero);
  const int64_t to = n * target->plane + piece->to;
  for (int64_t i = 0; i < piece->count; i += 16) {
    const __mmask16 mask = lanes_until(piece->count - i);
    const __m512i sum = _mm512_maskz_loadu_epi32(mask, sums + piece->from + i);
    __m512 v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, bias);
    if (target->residual)
      v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, target->residual + to + i));
    v = _mm512_min_ps(high, _mm512_max_ps(low, v));
    if (how->to_uint8) {
      const __m512 highest = _mm512_set1_ps((float)(255 - how->zero));
      v = _mm512_min_ps(highest, _mm512_mul_ps(v, inverse_step));
      __m512i grid = _mm512_add_epi32(_mm512_cvtps_epi32(v), zero);
      grid = _mm512_max_epi32(grid, _mm512_setzero_si512());
      const __m128i bytes = _mm512_cvtusepi32_epi8(grid);
      if (mask == 0xffff)
        _mm_storeu_si128((__m128i *)((uint8_t *)target->output + to + i), bytes);
      else
        _mm_mask_storeu_epi8((uint8_t *)target->output + to + i, mask, bytes);
    } else {
      _mm512_mask_storeu_ps((float *)target->output + to + i, mask, v);
    }
  }
}
#else
#define interleave_line interleave_bytes
#endif

/* One plane. */
static void interleave(const uint8_t *from, const AsConvLines *lines, uint32_t *line) {
  const AsConvSpan *rows = &lines->rows;
  const uint32_t padding = lines->padding * 0x01010101u;
  fill(line, rows->begin * lines->pitch, padding);
  line += rows->begin * lines->pitch;
  for (int64_t r = rows->begin; r < rows->end; r++) {
    if (lines->column_step == 1)
      interleave_line(from, lines, 1, line);
    else if (lines->column_step == 2)
      interleave_line(from, lines, 2, line);
    else
      interleave_bytes(from, lines, lines->column_step, line);
    line += lines->pitch;
    from += lines->row_step * lines->input_width;
  }
  fill(line, lines->plane - rows->end * lines->pitch, padding);
}

void JOINED(as_conv_gather_int8_, AS_SET)(const void *input, const AsConvLines *lines, void *to) {
  const uint8_t *from = (const uint8_t *)input + lines->rows.first * lines->input_width +
                        lines->columns.first;
  for (int64_t c = 0; c < lines->channels; c++)
    interleave(from + c * 4 * lines->input_plane, lines, (uint32_t *)to + c * lines->between);
}

/* Rounds half to even like ONNX: beside 1.5 * 2^23, floats are integers. NaN becomes zero. */
static void quantize(const float *values, int64_t count, const AsRequantize *how,
                     uint8_t *output) {
  const float low = (float)-how->zero, high = (float)(255 - how->zero);
  for (int64_t i = 0; i < count; i++) {
    float value = values[i] * how->inverse_step;
    value = value > low ? value : low;
    value = value < high ? value : high;
    value += 12582912.0f;
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    output[i] = (uint8_t)(bits + how->zero); /* the low byte of the constant is zero */
  }
}

static void finish_any(const int32_t *sums, const AsConvTarget *target, int64_t n,
                       const AsConvPiece *piece, const AsEpilogue *epilogue) {
  const AsRequantize *how = target->how;
  const float scale = how->scales[target->first_channel + n];
  const float bias = how->bias[target->first_channel + n];
  const int64_t to = n * target->plane + piece->to;
  float kept[PART];
  float *values = how->to_uint8 ? kept : (float *)target->output + to;
  for (int64_t i = 0; i < piece->count; i++)
    values[i] = (float)sums[piece->from + i] * scale + bias;
  for (int64_t i = 0; target->residual && i < piece->count; i++)
    values[i] += target->residual[to + i];
  activate(epilogue, values, piece->count);
  if (how->to_uint8) quantize(values, piece->count, how, (uint8_t *)target->output + to);
}

void JOINED(as_conv_finish_int8_, AS_SET)(const void *tile, const AsConvTarget *target,
                                          const AsEpilogue *epilogue) {
#if defined(__AVX512F__)
  const int clipped = epilogue->activation == AS_CLIP;
  const __m512 low = _mm512_set1_ps(clipped                             ? epilogue->low
                                    : epilogue->activation == AS_RELU ? 0.0f
                                                                      : -INFINITY);
  const __m512 high = _mm512_set1_ps(clipped ? epilogue->high : INFINITY);
#endif
  for (int64_t p = 0; p < target->piece_count; p++)
    for (int64_t n = 0; n < target->channels; n++) {
      const int32_t *sums = (const int32_t *)tile + n * target->width;
#if defined(__AVX512F__)
      if (epilogue->activation <= AS_CLIP) {
        finish_bounded(sums, target, n, &target->pieces[p], low, high);
        continue;
      }
#endif
      finish_any(sums, target, n, &target->pieces[p], epilogue);
    }
}
