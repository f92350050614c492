/* A weight of the broadcast family in parts of its outputs: the sums of a part stay in the cache
 * until they are finished, and threads can share a tile's parts. What is packed are words of four
 * bytes, neighbours along the depth: four weights of int8, or two of bf16. */
#ifndef AUTOSPARSE_PARTED_WEIGHT_H
#define AUTOSPARSE_PARTED_WEIGHT_H

#include "internal.h"

enum { AS_PART_OUTPUTS = 256 };

typedef struct {
  AsBroadcastWeight weight;
  int64_t first, outputs; /* of the layer */
} AsWeightPart;

typedef struct {
  AsWeightPart *parts;
  int64_t part_count;
  int64_t words;       /* in a row of the weight */
  int64_t block_words; /* in a depth block, but for the last one */
  int64_t pairs;       /* of all parts */
} AsPartedWeight;

/* Runs [begin, end) of a weight as words of an own one that begins at output `first`: positions,
 * ascending, and the bytes of each. Both have room for every single weight of the runs. Returns
 * how many words there are. */
typedef int64_t (*AsWordsOf)(const AsLayerSpec *spec, int64_t begin, int64_t end, int64_t first,
                             int64_t row_words, int64_t *positions, int8_t *values);

typedef struct {
  int64_t words, block_words; /* as above; the latter a wish, which need not fit */
  int rows;                   /* output channels in a group */
  AsWordsOf words_of;
} AsPartLayout;

/* NULL, or a sentence; `made` is to be destroyed in either case. */
const char *as_part_weight(const AsLayerSpec *spec, const AsPartLayout *layout,
                           AsPartedWeight *made);
void as_free_parts(AsPartedWeight *parted);

#endif
