/* What surrounds the kernels of a convolution, compiled once for each instruction set (AS_SET
 * names it): images to padded planes, and tiles of flat positions to rows of the output. */
#include <math.h>
#include <string.h>

#include "activation.h"
#include "convolution.h"

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

#if defined(__AVX512F__)
#include <immintrin.h>

static inline __mmask16 lanes_until(int64_t end) {
  return end >= 16 ? 0xffff : end <= 0 ? 0 : (__mmask16)((1u << end) - 1);
}

static inline void clear(float *to, int64_t count) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) _mm512_storeu_ps(to + i, _mm512_setzero_ps());
  if (i < count) _mm512_mask_storeu_ps(to + i, lanes_until(count - i), _mm512_setzero_ps());
}

static inline void copy(const float *from, int64_t count, float *to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) _mm512_storeu_ps(to + i, _mm512_loadu_ps(from + i));
  if (i < count) {
    const __mmask16 mask = lanes_until(count - i);
    _mm512_mask_storeu_ps(to + i, mask, _mm512_maskz_loadu_ps(mask, from + i));
  }
}

enum { MASKS = 32 };

/* The same masks serve all lines, and lanes that are masked out are not read. Registers [begin,
 * begin + MASKS) of every line, so that lines of any length pass. */
static void copy_registers(const float *from, const AsConvLines *lines, int64_t begin,
                           float *to) {
  const AsConvSpan *columns = &lines->columns;
  const int64_t from_stride = lines->row_step * lines->input_width;
  __mmask16 masks[MASKS];
  int64_t whole = 0, width = lines->pitch - begin;
  if (width > MASKS * 16) width = MASKS * 16;
  for (int64_t i = 0; i * 16 < width; i++)
    masks[i] = lanes_until(columns->end - begin - i * 16) &
               (__mmask16)~lanes_until(columns->begin - begin - i * 16);
  whole = width / 16;
  const __mmask16 rest = lanes_until(width - whole * 16);
  const float *line = from - columns->begin + begin;
  to += begin;
  for (int64_t r = lines->rows.begin; r < lines->rows.end; r++) {
    for (int64_t i = 0; i < whole; i++)
      _mm512_storeu_ps(to + i * 16, _mm512_maskz_loadu_ps(masks[i], line + i * 16));
    if (rest)
      _mm512_mask_storeu_ps(to + whole * 16, rest,
                            _mm512_maskz_loadu_ps(masks[whole], line + whole * 16));
    to += lines->pitch;
    line += from_stride;
  }
}

static void copy_lines(const float *from, const AsConvLines *lines, float *to) {
  for (int64_t i = 0; i < lines->pitch; i += MASKS * 16) copy_registers(from, lines, i, to);
}

/* The same where every second float is taken. */
static void copy_even_lines(const float *from, const AsConvLines *lines, float *to) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const AsConvSpan *columns = &lines->columns;
  const int64_t count = lines->rows.end - lines->rows.begin;
  const int64_t from_stride = lines->row_step * lines->input_width;
  for (int64_t i = 0; i < lines->pitch; i += 16) {
    /* the last float that is read is the last one that is taken */
    const int64_t begin = 2 * (columns->begin - i), end = 2 * (columns->end - i) - 1;
    const __mmask16 low = lanes_until(end) & ~lanes_until(begin);
    const __mmask16 high = lanes_until(end - 16) & ~lanes_until(begin - 16);
    const __mmask16 write = lanes_until(lines->pitch - i);
    const float *line = from - 2 * columns->begin + 2 * i;
    for (int64_t r = 0; r < count; r++) {
      const __m512 a = _mm512_maskz_loadu_ps(low, line + r * from_stride);
      const __m512 b = _mm512_maskz_loadu_ps(high, line + r * from_stride + 16);
      _mm512_mask_storeu_ps(to + r * lines->pitch + i, write, _mm512_permutex2var_ps(a, even, b));
    }
  }
}

/* One piece of every channel. */
static void clamp(const float *from, const AsConvTarget *target, const AsConvPiece *piece,
                  float low, float high) {
  const __m512 lows = _mm512_set1_ps(low), highs = _mm512_set1_ps(high);
  const int64_t whole = piece->count / 16 * 16;
  const __mmask16 rest = lanes_until(piece->count - whole);
  float *to = (float *)target->output + piece->to;
  const float *residual = target->residual ? target->residual + piece->to : NULL;
  from += piece->from;
  for (int64_t n = 0; n < target->channels; n++) {
    /* where a NaN is compared, the second operand is what comes out */
    for (int64_t i = 0; i < whole; i += 16) {
      __m512 v = _mm512_loadu_ps(from + i);
      if (residual) v = _mm512_add_ps(v, _mm512_loadu_ps(residual + i));
      _mm512_storeu_ps(to + i, _mm512_min_ps(highs, _mm512_max_ps(lows, v)));
    }
    if (rest) {
      __m512 v = _mm512_maskz_loadu_ps(rest, from + whole);
      if (residual) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(rest, residual + whole));
      _mm512_mask_storeu_ps(to + whole, rest, _mm512_min_ps(highs, _mm512_max_ps(lows, v)));
    }
    from += target->width;
    to += target->plane;
    if (residual) residual += target->plane;
  }
}
#else
static inline void clear(float *to, int64_t count) { memset(to, 0, (size_t)count * sizeof *to); }

static inline void copy(const float *from, int64_t count, float *to) {
  memcpy(to, from, (size_t)count * sizeof *to);
}

static void copy_any_lines(const float *from, const AsConvLines *lines, float *to);

static void copy_lines(const float *from, const AsConvLines *lines, float *to) {
  const AsConvSpan *columns = &lines->columns;
  for (int64_t r = lines->rows.begin; r < lines->rows.end; r++) {
    for (int64_t i = 0; i < columns->begin; i++) to[i] = 0;
    copy(from, columns->end - columns->begin, to + columns->begin);
    for (int64_t i = columns->end; i < lines->pitch; i++) to[i] = 0;
    to += lines->pitch;
    from += lines->row_step * lines->input_width;
  }
}

static void copy_even_lines(const float *from, const AsConvLines *lines, float *to) {
  copy_any_lines(from, lines, to);
}

static void clamp(const float *from, const AsConvTarget *target, const AsConvPiece *piece,
                  float low, float high) {
  for (int64_t n = 0; n < target->channels; n++) {
    const float *sums = from + n * target->width + piece->from;
    const int64_t at = n * target->plane + piece->to;
    float *to = (float *)target->output + at;
    const float *residual = target->residual ? target->residual + at : NULL;
    for (int64_t i = 0; i < piece->count; i++) {
      const float v = residual ? sums[i] + residual[i] : sums[i];
      const float raised = v < low ? low : v;
      to[i] = raised > high ? high : raised;
    }
  }
}
#endif

static void copy_any_lines(const float *from, const AsConvLines *lines, float *to) {
  const AsConvSpan *columns = &lines->columns;
  for (int64_t r = lines->rows.begin; r < lines->rows.end; r++) {
    for (int64_t i = 0; i < columns->begin; i++) to[i] = 0;
    for (int64_t i = columns->begin; i < columns->end; i++)
      to[i] = from[(i - columns->begin) * lines->column_step];
    for (int64_t i = columns->end; i < lines->pitch; i++) to[i] = 0;
    to += lines->pitch;
    from += lines->row_step * lines->input_width;
  }
}

static void (*copier(const AsConvLines *lines))(const float *, const AsConvLines *, float *) {
  return lines->column_step == 1   ? copy_lines
         : lines->column_step == 2 ? copy_even_lines
                                   : copy_any_lines;
}

static void gather_fp32(const void *input, const AsConvLines *lines, void *to) {
  const AsConvSpan *rows = &lines->rows, *columns = &lines->columns;
  const float *from = (const float *)input + rows->first * lines->input_width + columns->first;
  const int whole = columns->end - columns->begin == lines->input_width &&
                    lines->pitch == lines->input_width && lines->row_step == 1 &&
                    lines->column_step == 1;
  void (*const copies)(const float *, const AsConvLines *, float *) = copier(lines);
  const int64_t before = rows->begin * lines->pitch, after = rows->end * lines->pitch;
  float *plane = to;
  for (int64_t c = 0; c < lines->channels; c++) {
    clear(plane, before);
    if (whole)
      copy(from, after - before, plane + before);
    else
      copies(from, lines, plane + before);
    clear(plane + after, lines->plane - after);
    plane += lines->between;
    from += lines->input_plane;
  }
}

static void finish_fp32(const void *tile, const AsConvTarget *target,
                        const AsEpilogue *epilogue) {
  const int activation = epilogue->activation;
  const int clipped = activation == AS_CLIP;
  const float low = clipped ? epilogue->low : activation == AS_RELU ? 0.0f : -INFINITY;
  const float high = clipped ? epilogue->high : INFINITY;
  for (int64_t i = 0; i < target->piece_count; i++) {
    const AsConvPiece *piece = &target->pieces[i];
    clamp(tile, target, piece, low, high);
    for (int64_t n = 0; activation > AS_CLIP && n < target->channels; n++)
      activate(epilogue, (float *)target->output + n * target->plane + piece->to, piece->count);
  }
}

void JOINED(as_conv_gather_int8_, AS_SET)(const void *, const AsConvLines *, void *);
void JOINED(as_conv_finish_int8_, AS_SET)(const void *, const AsConvTarget *, const AsEpilogue *);

const AsConvSteps JOINED(as_conv_steps_, AS_SET) = {
    .gather_fp32 = gather_fp32,
    .finish_fp32 = finish_fp32,
    .gather_int8 = JOINED(as_conv_gather_int8_, AS_SET),
    .finish_int8 = JOINED(as_conv_finish_int8_, AS_SET),
};
