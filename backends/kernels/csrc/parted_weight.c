/* Weights of words, packed part by part. */
#include <stdlib.h>

#include "parted_weight.h"

enum { MOST_WORDS = 65536 /* that an offset can count */ };

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void place(const void *context, int64_t run, int64_t *block, int64_t *offset) {
  const int64_t block_words = *(const int64_t *)context;
  *block = run / block_words;
  *offset = run % block_words;
}

/* Runs from `*run` on, which is moved past those of the part. */
static const char *pack_part(const AsLayerSpec *spec, const AsPartLayout *how,
                             const AsPartedWeight *parted, int64_t *run, AsWeightPart *part) {
  const int64_t row_runs = spec->depth / spec->run, begin = *run;
  while (*run < spec->runs && spec->positions[*run] / row_runs < part->first + part->outputs)
    ++*run;
  const int64_t most = (*run - begin) * spec->run;
  int64_t *positions = malloc((size_t)(most + 1) * sizeof *positions);
  int8_t *values = malloc((size_t)(most + 1) * 4);
  const char *problem = "out of memory while packing a weight";
  if (positions && values) {
    AsLayerSpec words = *spec;
    words.outputs = part->outputs;
    words.depth = 4 * parted->words; /* runs of four bytes, whatever these are */
    words.run = 4;
    words.runs = how->words_of(spec, begin, *run, part->first, parted->words, positions, values);
    words.positions = positions;
    words.int8_values = values;
    const AsBroadcastLayout layout = {
        .rows = how->rows,
        .blocks = (parted->words + parted->block_words - 1) / parted->block_words,
        .place = place,
        .context = &parted->block_words,
    };
    problem = as_pack_broadcast(&words, &layout, &part->weight);
  }
  free(positions);
  free(values);
  return problem;
}

const char *as_part_weight(const AsLayerSpec *spec, const AsPartLayout *layout,
                           AsPartedWeight *made) {
  *made = (AsPartedWeight){.words = layout->words, .block_words = layout->block_words};
  const int64_t most_blocks = as_most_blocks(spec);
  const int64_t shortest = (made->words + most_blocks - 1) / most_blocks;
  if (made->block_words < shortest) made->block_words = shortest;
  made->block_words = smaller(smaller(made->block_words, MOST_WORDS), made->words);
  if (made->block_words < shortest) return "the weight is too deep for its few non-zeros";
  made->part_count = (spec->outputs + AS_PART_OUTPUTS - 1) / AS_PART_OUTPUTS;
  made->parts = as_allocate((size_t)made->part_count * sizeof *made->parts);
  if (!made->parts) return "out of memory";
  int64_t run = 0;
  for (int64_t i = 0; i < made->part_count; i++) {
    AsWeightPart *part = &made->parts[i];
    part->first = i * AS_PART_OUTPUTS;
    part->outputs = smaller(AS_PART_OUTPUTS, spec->outputs - part->first);
    const char *problem = pack_part(spec, layout, made, &run, part);
    if (problem) return problem;
    made->pairs += part->weight.pairs;
  }
  return NULL;
}

void as_free_parts(AsPartedWeight *parted) {
  for (int64_t i = 0; parted->parts && i < parted->part_count; i++)
    as_free_broadcast(&parted->parts[i].weight);
  as_free(parted->parts);
}
