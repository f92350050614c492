/* Aligned memory, and scratch memory that is kept between calls.
 *
 * A fresh half megabyte costs more in page faults than the layer that needs it, so blocks go back
 * to a small pool and stay warm in the cache.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { ALIGNMENT = 64, POOL_SLOTS = 64 };
/* A larger block is worth its page faults, and not to be held for ever. */
static const size_t LARGEST_KEPT = (size_t)256 << 20;
static const size_t LARGEST_SIZE = (size_t)PTRDIFF_MAX - 2 * ALIGNMENT; /* sums stay exact */

typedef struct {
  size_t bytes;
  char rest[ALIGNMENT - sizeof(size_t)];
} Header;

static _Atomic(Header *) pool[POOL_SLOTS];

void *as_allocate(size_t bytes) {
  if (bytes > LARGEST_SIZE) return NULL;
  const size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  void *memory = aligned_alloc(ALIGNMENT, rounded ? rounded : ALIGNMENT);
  if (memory) memset(memory, 0, rounded);
  return memory;
}

void as_free(void *memory) { free(memory); }

void *as_scratch_take(size_t bytes) {
  for (int i = 0; i < POOL_SLOTS; i++) {
    Header *held = atomic_exchange_explicit(&pool[i], NULL, memory_order_acquire);
    if (!held) continue;
    if (held->bytes >= bytes) return held + 1;
    free(held); /* too small: its successor takes the place */
    break;
  }
  if (bytes > LARGEST_SIZE) return NULL;
  const size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  Header *fresh = aligned_alloc(ALIGNMENT, rounded + sizeof(Header));
  if (!fresh) return NULL;
  fresh->bytes = rounded;
  return fresh + 1;
}

void as_scratch_give(void *memory) {
  if (!memory) return;
  Header *held = (Header *)memory - 1;
  for (int i = 0; i < POOL_SLOTS && held->bytes <= LARGEST_KEPT; i++) {
    Header *empty = NULL;
    if (atomic_compare_exchange_strong_explicit(&pool[i], &empty, held, memory_order_release,
                                                memory_order_relaxed))
      return;
  }
  free(held);
}
