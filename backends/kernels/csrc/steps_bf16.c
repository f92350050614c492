/* Products of bf16, compiled once for each instruction set (AS_SET names it). Written in C rather
 * than TVMScript: TVM takes bf16 apart before it generates code, and knows no vdpbf16ps. Where the
 * processor has none either, a word is two fp32 numbers after a shift and a mask. */
#include <string.h>

#include "bf16.h"
#include "transpose.h"

#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)

#if defined(__AVX512F__)
enum { LANES = 16, VECTORS = 4 };
#elif defined(__AVX2__)
enum { LANES = 8, VECTORS = 2 }; /* of 16 registers */
#elif defined(__aarch64__)
enum { LANES = 4, VECTORS = 4 };
#else
enum { LANES = 4, VECTORS = 2 };
#endif
enum { CHUNK = 256 /* words that are turned at once */ };

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

static inline Words words_at(const int32_t *from) {
  Words words;
  memcpy(&words, from, sizeof words);
  return words;
}

static inline Floats floats_at(const float *from) {
  Floats floats;
  memcpy(&floats, from, sizeof floats);
  return floats;
}

static inline Floats dot(Floats sums, Words x, Words weights) {
#if defined(__AVX512BF16__)
  return (Floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)x, (__m512bh)weights);
#else
  const Floats low = (Floats)(x << 16) * (Floats)(weights << 16);
  const Floats high = (Floats)(x & 0xffff0000u) * (Floats)(weights & 0xffff0000u);
  return sums + low + high;
#endif
}

/* To the nearest, halves to even; a NaN stays one. */
static inline uint32_t rounded(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t up = bits + 0x7fffu + (bits >> 16 & 1);
  return (value == value ? up : bits | 0x400000u) >> 16;
}

static void tile(const float *input, int64_t columns, int64_t features, int64_t width,
                 int32_t *to) {
  int32_t kept[TRANSPOSE_SIDE * CHUNK];
  const int64_t words = (features + 1) / 2;
  for (int64_t c = 0; c < columns; c += TRANSPOSE_SIDE) {
    const int64_t rows = columns - c < TRANSPOSE_SIDE ? columns - c : TRANSPOSE_SIDE;
    for (int64_t w = 0; w < words; w += CHUNK) {
      const int64_t count = words - w < CHUNK ? words - w : CHUNK;
      for (int64_t r = 0; r < rows; r++) {
        const float *from = input + (c + r) * features + 2 * w;
        const int64_t pairs = (features - 2 * w) / 2 < count ? (features - 2 * w) / 2 : count;
        for (int64_t i = 0; i < pairs; i++)
          kept[r * CHUNK + i] =
              (int32_t)(rounded(from[2 * i]) | rounded(from[2 * i + 1]) << 16);
        if (pairs < count) kept[r * CHUNK + pairs] = (int32_t)rounded(from[2 * pairs]);
      }
      transpose_words(kept, CHUNK * 4, rows, count, to + w * width + c, width * 4);
    }
  }
  for (int64_t w = 0; columns < width && w < words; w++)
    memset(to + w * width + columns, 0, (size_t)(width - columns) * sizeof *to);
}

/* `vectors` is a constant wherever this is inlined, so that all sums are registers. */
static inline __attribute__((always_inline)) void multiply_by(const AsBf16Block *b,
                                                              const int vectors) {
  enum { ROWS = AS_BF16_ROWS };
  const AsBroadcastWeight *weight = b->weight;
  const int32_t *counts = weight->counts + b->block * weight->groups;
  const int32_t *channels = weight->channels + b->block * weight->groups * ROWS;
  const uint16_t *offsets = (const uint16_t *)weight->offsets + weight->block_begin[b->block];
  const int32_t *values = (const int32_t *)weight->values + weight->block_begin[b->block];
  for (int64_t g = 0; g < weight->groups; g++, channels += ROWS) {
    Floats sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < vectors; v++)
        sums[r][v] = b->block ? floats_at(b->y + channels[r] * b->width + v * LANES)
                              : (Floats){0} + b->bias[channels[r]];
    for (int32_t p = 0; p < counts[g]; p++, offsets += ROWS, values += ROWS)
      for (int r = 0; r < ROWS; r++) {
        const int32_t *x = b->x + offsets[r] * b->width;
        const Words weights = (Words){0} + (uint32_t)values[r];
        for (int v = 0; v < vectors; v++)
          sums[r][v] = dot(sums[r][v], words_at(x + v * LANES), weights);
      }
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < vectors; v++)
        memcpy(b->y + channels[r] * b->width + v * LANES, &sums[r][v], sizeof sums[r][v]);
  }
}

static void multiply(const AsBf16Block *block) {
  switch (block->width / LANES) {
    case 1: multiply_by(block, 1); break;
    case 2: multiply_by(block, 2); break;
#if defined(__AVX512F__) || defined(__aarch64__)
    case 3: multiply_by(block, 3); break;
    default: multiply_by(block, 4); break;
#else
    default: break;
#endif
  }
}

const AsBf16Steps JOINED(as_bf16_steps_, AS_SET) = {LANES, VECTORS, tile, multiply};
