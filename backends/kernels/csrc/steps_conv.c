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

enum { SHORT = 4 /* registers of a short line */ };

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

/* All planes of lines that `registers` hold, with the same masks; lanes that are masked out are not
 * read. Inlined for every number, so that nothing is left of the inner loops. */
static inline __attribute__((always_inline)) void copy_short(const float *from,
                                                             const AsConvLines *lines, float *to,
                                                             const int registers) {
  const AsConvSpan *rows = &lines->rows, *columns = &lines->columns;
  const int64_t from_stride = lines->row_step * lines->input_width, pitch = lines->pitch;
  const int64_t begin = rows->begin * pitch, end = rows->end * pitch;
  __mmask16 read[SHORT];
  for (int i = 0; i < registers; i++)
    read[i] = lanes_until(columns->end - i * 16) & (__mmask16)~lanes_until(columns->begin - i * 16);
  const __mmask16 write = lanes_until(pitch - (registers - 1) * 16);
  from -= columns->begin;
  for (int64_t c = 0; c < lines->channels; c++) {
    const float *line = from + c * lines->input_plane;
    float *plane = to + c * lines->between;
    clear(plane, begin);
    for (float *at = plane + begin; at < plane + end; at += pitch, line += from_stride) {
      for (int i = 0; i < registers - 1; i++)
        _mm512_storeu_ps(at + i * 16, _mm512_maskz_loadu_ps(read[i], line + i * 16));
      const int last = (registers - 1) * 16;
      _mm512_mask_storeu_ps(at + last, write,
                            _mm512_maskz_loadu_ps(read[registers - 1], line + last));
    }
    clear(plane + end, lines->plane - end);
  }
}

static void copy_lines(const float *from, const AsConvLines *lines, float *to) {
  const AsConvSpan *columns = &lines->columns;
  const int64_t from_stride = lines->row_step * lines->input_width;
  from -= columns->begin;
  for (int64_t r = lines->rows.begin; r < lines->rows.end; r++) {
    for (int64_t i = 0; i < lines->pitch; i += 16) {
      const __mmask16 read =
          lanes_until(columns->end - i) & (__mmask16)~lanes_until(columns->begin - i);
      _mm512_mask_storeu_ps(to + i, lanes_until(lines->pitch - i),
                            _mm512_maskz_loadu_ps(read, from + i));
    }
    to += lines->pitch;
    from += from_stride;
  }
}

/* The same of planes where every second float is taken. */
static void copy_even_planes(const float *from, const AsConvLines *lines, float *to) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const AsConvSpan *rows = &lines->rows, *columns = &lines->columns;
  const int64_t from_stride = lines->row_step * lines->input_width, pitch = lines->pitch;
  const int64_t first = rows->begin * pitch, after = rows->end * pitch;
  for (int64_t i = 0; i < pitch; i += 16) {
    /* the last float that is read is the last one that is taken */
    const int64_t begin = 2 * (columns->begin - i), end = 2 * (columns->end - i) - 1;
    const __mmask16 low = lanes_until(end) & ~lanes_until(begin);
    const __mmask16 high = lanes_until(end - 16) & ~lanes_until(begin - 16);
    const __mmask16 write = lanes_until(pitch - i);
    for (int64_t c = 0; c < lines->channels; c++) {
      const float *line = from + c * lines->input_plane - 2 * columns->begin + 2 * i;
      float *plane = to + c * lines->between;
      for (float *at = plane + first; at < plane + after; at += pitch, line += from_stride) {
        const __m512 a = _mm512_maskz_loadu_ps(low, line);
        const __m512 b = _mm512_maskz_loadu_ps(high, line + 16);
        _mm512_mask_storeu_ps(at + i, write, _mm512_permutex2var_ps(a, even, b));
      }
    }
  }
  for (int64_t c = 0; c < lines->channels; c++, to += lines->between) {
    clear(to, first);
    clear(to + after, lines->plane - after);
  }
}

/* What there is a faster way for than line by line: then 1. `from` is the first float taken. */
static int copy_planes(const float *from, const AsConvLines *lines, float *to) {
  if (lines->column_step == 2) return copy_even_planes(from, lines, to), 1;
  if (lines->column_step != 1) return 0;
  switch ((lines->pitch + 15) / 16) {
    case 1: return copy_short(from, lines, to, 1), 1;
    case 2: return copy_short(from, lines, to, 2), 1;
    case 3: return copy_short(from, lines, to, 3), 1;
    case 4: return copy_short(from, lines, to, 4), 1;
    default: return 0;
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

static int copy_planes(const float *from, const AsConvLines *lines, float *to) {
  return (void)from, (void)lines, (void)to, 0;
}

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

static void gather_fp32(const void *input, const AsConvLines *lines, void *to) {
  const AsConvSpan *rows = &lines->rows, *columns = &lines->columns;
  const float *from = (const float *)input + rows->first * lines->input_width + columns->first;
  const int whole = columns->end - columns->begin == lines->input_width &&
                    lines->pitch == lines->input_width && lines->row_step == 1 &&
                    lines->column_step == 1;
  const int64_t before = rows->begin * lines->pitch, after = rows->end * lines->pitch;
  float *plane = to;
  if (!whole && copy_planes(from, lines, plane)) return;
  for (int64_t c = 0; c < lines->channels; c++) {
    clear(plane, before);
    if (whole)
      copy(from, after - before, plane + before);
    else if (lines->column_step == 1)
      copy_lines(from, lines, plane + before);
    else
      copy_any_lines(from, lines, plane + before);
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
