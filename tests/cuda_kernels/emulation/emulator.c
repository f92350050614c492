/* Blocks of threads as fibers: one after the other, in an order that is asked for. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "emulator.h"

enum { WARP = 32, MOST_THREADS = 512, STACK_BYTES = 64 << 10, MOST_COPIES = 256, FENCE = 4096 };
enum { ROUND_ROBIN, FIRST_FIRST, LAST_FIRST };

typedef struct {
  void *to;
  const void *from;
  int bytes, group;
} Copy;

/* Where threads wait for each other. */
typedef struct {
  int arrived;
  Operation operation;
  unsigned times; /* that all of them came */
} Meeting;

typedef struct {
  jmp_buf at;
  ucontext_t start;
  bool started, done;
  const Meeting *waits; /* null, or it goes on once that one's `times` is another */
  unsigned seen;
  Copy copies[MOST_COPIES];
  int copy_count, groups;
} Thread;

static Thread threads[MOST_THREADS], *self;
static char *stacks;
static Meeting warps[MOST_THREADS / WARP], block;
static Lane lanes[MOST_THREADS];
static jmp_buf scheduler;
static ucontext_t unused;
static unsigned char *shared;
static int block_x, block_y;
static AsLaunch launch;
static AsLinear parameters;
static void (*kernel)(AsLinear);
static char problem[200];

static int index_of(const Thread *thread) { return (int)(thread - threads); }

/* End the emulation from within a thread. */
static void fail(const char *what) {
  snprintf(problem, sizeof problem, "block (%d, %d), thread %d: %s", block_x, block_y,
           index_of(self), what);
  _longjmp(scheduler, 1);
}

static void inside_shared(const void *address, int bytes, int alignment) {
  const unsigned char *const at = address;
  if (at < shared || at + bytes > shared + launch.shared_bytes) fail("outside shared memory");
  if ((uintptr_t)at % (uintptr_t)alignment) fail("shared memory that is not aligned");
}

/* Meet `count` threads; the last one does the work of all. */
static void meet(Meeting *meeting, int count, Operation operation, Lane *of_all) {
  if (meeting->arrived && meeting->operation != operation) fail("lanes do different things");
  meeting->operation = operation;
  if (++meeting->arrived == count) {
    const char *const refused = of_all ? as_tensor_core(operation, of_all) : NULL;
    if (refused) fail(refused);
    meeting->arrived = 0;
    meeting->times++;
    return;
  }
  self->waits = meeting;
  self->seen = meeting->times;
  if (!_setjmp(self->at)) _longjmp(scheduler, 1);
}

static Lane *act(Operation operation, const uint32_t *a, const uint32_t *b, uint32_t metadata,
                 int selector, const void *sum, const void *row) {
  const bool sparse = operation >= OP_SPARSE_FP16;
  const int index = index_of(self), warp = index / WARP;
  Lane *const lane = &lanes[index];
  if (a) memcpy(lane->a, a, sizeof lane->a);
  if (b) memcpy(lane->b, b, sparse ? 16 : 8);
  if (sum) memcpy(lane->sum, sum, sizeof lane->sum);
  lane->metadata = metadata;
  lane->selector = selector;
  lane->row = row;
  meet(&warps[warp], WARP, operation, &lanes[warp * WARP]);
  return lane;
}

void as_load_matrices(uint32_t *to, const void *row) {
  inside_shared(row, 16, 16);
  memcpy(to, act(OP_MATRICES, NULL, NULL, 0, 0, NULL, row)->sum, 16);
}

#define DENSE(name, type, operation)                                   \
  void name(type *sum, const uint32_t *a, const uint32_t *b) {         \
    memcpy(sum, act(operation, a, b, 0, 0, sum, NULL)->sum, 16);       \
  }
DENSE(as_mma_fp16, float, OP_FP16)
DENSE(as_mma_bf16, float, OP_BF16)
DENSE(as_mma_int8, int32_t, OP_INT8)

#define SPARSE(name, type, operation)                                                          \
  void name(type *sum, const uint32_t *a, const uint32_t *b, uint32_t metadata, int selector) { \
    memcpy(sum, act(operation, a, b, metadata, selector, sum, NULL)->sum, 16);                 \
  }
SPARSE(as_mma_sparse_fp16, float, OP_SPARSE_FP16)
SPARSE(as_mma_sparse_bf16, float, OP_SPARSE_BF16)
SPARSE(as_mma_sparse_int8, int32_t, OP_SPARSE_INT8)

unsigned char *as_emulated_shared(void) { return shared; }
int as_thread(void) { return index_of(self); }
int as_block_x(void) { return block_x; }
int as_block_y(void) { return block_y; }
void as_barrier(void) { meet(&block, launch.threads, OP_BARRIER, NULL); }

uint32_t as_load4(const uint32_t *from) { return *from; }

void as_load16(uint32_t *to, const uint32_t *from) {
  if ((uintptr_t)from % 16) fail("a load of 16 bytes that is not aligned");
  memcpy(to, from, 16);
}

void as_store16(void *to, const uint32_t *from) {
  inside_shared(to, 16, 16);
  memcpy(to, from, 16);
}

/* What a copy leaves is there when it was waited for, and not before. */
void as_copy16(void *to, const void *from, int bytes) {
  inside_shared(to, 16, 16);
  if ((uintptr_t)from % 16) fail("a copy of 16 bytes that is not aligned");
  if (self->copy_count == MOST_COPIES) fail("too many copies at once");
  memset(to, 0xFF, 16);
  self->copies[self->copy_count++] = (Copy){to, from, bytes, self->groups};
}

void as_commit_copies(void) { self->groups++; }

void as_wait_copies(int pending) {
  int left = 0;
  for (int i = 0; i < self->copy_count; i++) {
    const Copy copy = self->copies[i];
    if (copy.group >= self->groups - pending) {
      self->copies[left++] = copy;
      continue;
    }
    memset(copy.to, 0, 16);
    memcpy(copy.to, copy.from, (size_t)copy.bytes);
  }
  self->copy_count = left;
}

static void body(void) {
  kernel(parameters);
  if (self->copy_count) fail("copies are under way at the end");
  self->done = true;
  _longjmp(scheduler, 1);
}

static void go_on(Thread *thread) {
  self = thread;
  thread->waits = NULL;
  if (_setjmp(scheduler)) return;
  if (thread->started) _longjmp(thread->at, 1);
  thread->started = true;
  setcontext(&thread->start);
}

static bool can_go_on(const Thread *thread) {
  return !thread->done && (!thread->waits || thread->waits->times != thread->seen);
}

/* The thread to go on with, or null where none can. */
static Thread *next(int last) {
  for (int i = 0; i < launch.threads; i++) {
    const int at = launch.order == FIRST_FIRST  ? i
                   : launch.order == LAST_FIRST ? launch.threads - 1 - i
                                                : (last + 1 + i) % launch.threads;
    if (can_go_on(&threads[at])) return &threads[at];
  }
  return NULL;
}

static void prepare(void) {
  memset(warps, 0, sizeof warps);
  memset(&block, 0, sizeof block);
  memset(shared, 0xFF, (size_t)launch.shared_bytes + FENCE);
  for (int i = 0; i < launch.threads; i++) {
    Thread *const thread = &threads[i];
    thread->started = thread->done = false;
    thread->waits = NULL;
    thread->copy_count = thread->groups = 0;
    getcontext(&thread->start);
    thread->start.uc_stack.ss_sp = stacks + (size_t)i * STACK_BYTES;
    thread->start.uc_stack.ss_size = STACK_BYTES;
    thread->start.uc_link = &unused;
    makecontext(&thread->start, body, 0);
  }
}

static void run_block(void) {
  prepare();
  for (Thread *thread = next(-1); thread && !problem[0]; thread = next(index_of(thread))) {
    go_on(thread);
  }
  for (int i = 0; i < launch.threads && !problem[0]; i++) {
    self = &threads[i];
    if (!self->done) {
      snprintf(problem, sizeof problem, "block (%d, %d), thread %d waits for ever", block_x,
               block_y, i);
    }
  }
  for (int i = 0; i < FENCE && !problem[0]; i++) {
    if (shared[launch.shared_bytes + i] != 0xFF) {
      snprintf(problem, sizeof problem, "block (%d, %d) wrote beyond its shared memory", block_x,
               block_y);
    }
  }
}

const char *as_emulate(void (*chosen)(AsLinear), const AsLinear *given, const AsLaunch *how) {
  kernel = chosen;
  parameters = *given;
  launch = *how;
  problem[0] = 0;
  shared = aligned_alloc(128, ((size_t)launch.shared_bytes + FENCE + 127) / 128 * 128);
  stacks = malloc((size_t)launch.threads * STACK_BYTES);
  if (!shared || !stacks || launch.threads > MOST_THREADS) return "no room for the emulation";
  for (block_y = 0; block_y < launch.grid_y && !problem[0]; block_y++) {
    for (block_x = 0; block_x < launch.grid_x && !problem[0]; block_x++) run_block();
  }
  free(stacks);
  free(shared);
  return problem;
}
