/* Weights as files hold them: non-zero runs, and gaps of one byte in place of positions. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static int is_zero(const char *values, size_t bytes) {
  int zero = 1;
  for (size_t b = 0; b < bytes; b++) zero &= !values[b];
  return zero;
}

const char *as_runs_decode(const AsStoredRuns *stored, AsRuns *made) {
  *made = (AsRuns){0};
  if (stored->stored < 0 || stored->stored > stored->all ||
      (!stored->gaps && stored->stored != stored->all))
    return "its runs do not fill its weight";
  const size_t bytes = stored->run_bytes;
  made->positions = malloc(((size_t)stored->stored + 1) * sizeof(int64_t));
  made->values = malloc((size_t)stored->stored * bytes + 1);
  if (!made->positions || !made->values) return "out of memory";
  int64_t position = -1;
  for (int64_t i = 0; i < stored->stored; i++) {
    const char *from = (const char *)stored->values + (size_t)i * bytes;
    const int gap = stored->gaps ? stored->gaps[i] : 1;
    position += gap;
    if (!gap || position >= stored->all) return "its positions are corrupted";
    if (stored->gaps && is_zero(from, bytes)) continue;
    made->positions[made->count] = position;
    memcpy((char *)made->values + (size_t)made->count++ * bytes, from, bytes);
  }
  return NULL;
}

void as_runs_release(AsRuns *runs) {
  free(runs->positions);
  free(runs->values);
  *runs = (AsRuns){0};
}
