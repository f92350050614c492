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

/* Sixteen bytes as words, `step` apart; lanes that are masked out are not read. */
static inline __m512i words_of(const uint8_t *from, __mmask16 read, int step) {
  if (step == 1) return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(read, from));
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi8(_pdep_u32(read, 0x55555555), from));
}

/* One register of every line of all planes, where every byte, or every second one, is taken. */
static inline __attribute__((always_inline)) void interleave_register(
    const uint8_t *from, const AsConvLines *lines, int64_t i, const int step, uint32_t *to) {
  const AsConvSpan *rows = &lines->rows, *columns = &lines->columns;
  const int64_t from_stride = lines->row_step * lines->input_width, pitch = lines->pitch;
  const int64_t apart = lines->input_plane;
  const __mmask16 read =
      lanes_until(columns->end - i) & (__mmask16)~lanes_until(columns->begin - i);
  const __mmask16 write = lanes_until(pitch - i);
  const __m512i padding = _mm512_set1_epi8((char)lines->padding);
  from += (i - columns->begin) * step;
  for (int64_t c = 0; c < lines->channels; c++) {
    const uint8_t *line = from + c * 4 * apart;
    uint32_t *plane = to + c * lines->between + i, *end = plane + rows->end * pitch;
    for (uint32_t *at = plane + rows->begin * pitch; at < end; at += pitch, line += from_stride) {
      const __m512i low = _mm512_or_si512(
          words_of(line, read, step), _mm512_slli_epi32(words_of(line + apart, read, step), 8));
      const __m512i high = _mm512_or_si512(
          _mm512_slli_epi32(words_of(line + 2 * apart, read, step), 16),
          _mm512_slli_epi32(words_of(line + 3 * apart, read, step), 24));
      _mm512_mask_storeu_epi32(
          at, write, _mm512_mask_or_epi32(padding, read, low, high));
    }
  }
}

static int interleave_planes(const uint8_t *from, const AsConvLines *lines, uint32_t *to) {
  if (lines->column_step > 2) return 0;
  for (int64_t i = 0; i < lines->pitch; i += 16)
    if (lines->column_step == 1)
      interleave_register(from, lines, i, 1, to);
    else
      interleave_register(from, lines, i, 2, to);
  const uint32_t padding = lines->padding * 0x01010101u;
  const int64_t begin = lines->rows.begin * lines->pitch, end = lines->rows.end * lines->pitch;
  for (int64_t c = 0; c < lines->channels; c++, to += lines->between) {
    fill(to, begin, padding);
    fill(to + end, lines->plane - end, padding);
  }
  return 1;
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
static int interleave_planes(const uint8_t *from, const AsConvLines *lines, uint32_t *to) {
  return (void)from, (void)lines, (void)to, 0;
}
#endif

/* One plane. */
static void interleave(const uint8_t *from, const AsConvLines *lines, uint32_t *line) {
  const AsConvSpan *rows = &lines->rows;
  const uint32_t padding = lines->padding * 0x01010101u;
  fill(line, rows->begin * lines->pitch, padding);
  line += rows->begin * lines->pitch;
  for (int64_t r = rows->begin; r < rows->end; r++) {
    interleave_bytes(from, lines, lines->column_step, line);
    line += lines->pitch;
    from += lines->row_step * lines->input_width;
  }
  fill(line, lines->plane - rows->end * lines->pitch, padding);
}

void JOINED(as_conv_gather_int8_, AS_SET)(const void *input, const AsConvLines *lines, void *to) {
  const uint8_t *from = (const uint8_t *)input + lines->rows.first * lines->input_width +
                        lines->columns.first;
  if (interleave_planes(from, lines, to)) return;
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
