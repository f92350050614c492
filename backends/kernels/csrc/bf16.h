/* What the files of the bf16 layers share: fp32 in and out, both factors rounded to bf16 before
 * they are multiplied, sums in fp32. Two neighbouring features lie in one word, the first in its
 * low half, so that a word of weights meets a register of columns.
 *
 * vdpbf16ps takes denormal factors and sums for zero, whatever MXCSR says; every other product here
 * keeps them. Infinities and NaN are the same everywhere. */
#ifndef AUTOSPARSE_BF16_H
#define AUTOSPARSE_BF16_H

#include "internal.h"

enum { AS_BF16_ROWS = 4 /* output channels at once */, AS_BF16_VECTORS = 4 /* most of a tile */ };

/* One packed block of a weight against one tile; see families/broadcast.py for the same in fp32. */
typedef struct {
  const AsBroadcastWeight *weight;
  int64_t block;
  const float *bias; /* as many more as a group has channels */
  const int32_t *x;  /* words of this block, `width` columns each */
  float *y;          /* (channels, width): set from the bias at the first block, else added to */
  int64_t width;
} AsBf16Block;

/* Compiled once for each instruction set, and for AVX-512 with its products of bf16 once more. */
typedef struct AsBf16Steps {
  int lanes, vectors; /* columns of a register; registers of the widest tile */
  /* (columns, features) row-major -> words of two features x `width`, rest zero-filled */
  void (*tile)(const float *input, int64_t columns, int64_t features, int64_t width,
               int32_t *tile);
  void (*multiply)(const AsBf16Block *block);
} AsBf16Steps;

/* Those of the present instruction set. */
const AsBf16Steps *as_bf16_steps(void);

#endif
