/* Transposition of a matrix of 32-bit words, floats as well as four bytes each, for the
 * instruction set that the including file is compiled for. Addresses need no alignment. */
#ifndef AUTOSPARSE_TRANSPOSE_H
#define AUTOSPARSE_TRANSPOSE_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
enum { TRANSPOSE_SIDE = 16, TRANSPOSE_WORTH_IT = 4 /* rows in a square that is not full */ };

static inline void transpose_registers(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/* `rows` and `columns` are at most 16; only what they name is touched. Strides in bytes. */
static inline void transpose_square(const char *from, int64_t from_stride, int64_t rows,
                                    int64_t columns, char *to, int64_t to_stride) {
  const __mmask16 row_mask = (__mmask16)((1u << rows) - 1);
  const __mmask16 column_mask = (__mmask16)((1u << columns) - 1);
  __m512i r[16];
  for (int i = 0; i < 16; i++)
    r[i] = i < rows ? _mm512_maskz_loadu_epi32(column_mask, from + i * from_stride)
                    : _mm512_setzero_si512();
  transpose_registers(r);
  for (int i = 0; i < 16; i++)
    if (i < columns) _mm512_mask_storeu_epi32(to + i * to_stride, row_mask, r[i]);
}
#elif defined(__AVX2__)
#include <immintrin.h>
enum { TRANSPOSE_SIDE = 8, TRANSPOSE_WORTH_IT = 8 };

/* `rows` is 8; of `columns`, at most 8, only what they name is read. */
static inline void transpose_square(const char *from, int64_t from_stride, int64_t rows,
                                    int64_t columns, char *to, int64_t to_stride) {
  const __m256i order = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)columns), order);
  __m256 r[8], t[8];
  (void)rows;
  for (int i = 0; i < 8; i++) {
    const float *row = (const float *)(const void *)(from + i * from_stride);
    r[i] = columns == 8 ? _mm256_loadu_ps(row) : _mm256_maskload_ps(row, mask);
  }
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; i++) {
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  for (int i = 0; i < 8; i++)
    if (i < columns) _mm256_storeu_ps((float *)(void *)(to + i * to_stride), t[i]);
}
#else
enum { TRANSPOSE_SIDE = 4, TRANSPOSE_WORTH_IT = 4 };

/* Only full squares come here: TRANSPOSE_WORTH_IT. */
static inline void transpose_square(const char *from, int64_t from_stride, int64_t rows,
                                    int64_t columns, char *to, int64_t to_stride) {
  typedef int32_t Words __attribute__((vector_size(16)));
  Words r[4], t[4];
  (void)rows;
  for (int i = 0; i < 4; i++) {
    r[i] = (Words){0};
    memcpy(&r[i], from + i * from_stride, (size_t)columns * 4);
  }
  t[0] = (Words){r[0][0], r[1][0], r[0][1], r[1][1]};
  t[1] = (Words){r[0][2], r[1][2], r[0][3], r[1][3]};
  t[2] = (Words){r[2][0], r[3][0], r[2][1], r[3][1]};
  t[3] = (Words){r[2][2], r[3][2], r[2][3], r[3][3]};
  for (int i = 0; i < 2; i++) {
    r[2 * i] = (Words){t[i][0], t[i][1], t[i + 2][0], t[i + 2][1]};
    r[2 * i + 1] = (Words){t[i][2], t[i][3], t[i + 2][2], t[i + 2][3]};
  }
  for (int64_t i = 0; i < columns; i++) memcpy(to + i * to_stride, &r[i], sizeof *r);
}
#endif

/* (rows, columns) -> (columns, rows); strides in bytes. */
static inline void transpose_words(const void *from_, int64_t from_stride, int64_t rows,
                                   int64_t columns, void *to_, int64_t to_stride) {
  const char *from = from_;
  char *to = to_;
  enum { SIDE = TRANSPOSE_SIDE };
  int64_t done = 0;
  for (; rows - done >= TRANSPOSE_WORTH_IT; done += SIDE) {
    const int64_t high = rows - done < SIDE ? rows - done : SIDE;
    const char *row = from + done * from_stride;
    int64_t j = 0;
    for (; high == SIDE && j + SIDE <= columns; j += SIDE)
      transpose_square(row + 4 * j, from_stride, SIDE, SIDE, to + j * to_stride + 4 * done,
                       to_stride);
    for (; j < columns; j += SIDE)
      transpose_square(row + 4 * j, from_stride, high, columns - j < SIDE ? columns - j : SIDE,
                       to + j * to_stride + 4 * done, to_stride);
  }
  for (int64_t i = done; i < rows; i++)
    for (int64_t j = 0; j < columns; j++)
      memcpy(to + j * to_stride + 4 * i, from + i * from_stride + 4 * j, 4);
}

#endif
