/* What `device.h` takes where there is no CUDA: threads that are fibers, on one processor.
 *
 * It is stricter than a device: shared memory holds NaN until it is written, copies happen only
 * when they are waited for, lanes that should act together must, and threads run in whatever
 * order is asked for, so that what a missing barrier leaves to chance goes wrong here. */
#ifndef AUTOSPARSE_EMULATION_H
#define AUTOSPARSE_EMULATION_H

#include <math.h>
#include <stdint.h>

#define AS_KERNEL(name, threads) void name(AsLinear p)
#define AS_DEVICE static inline
#define AS_SHARED(name) unsigned char *const name = as_emulated_shared()
#define AS_UNROLL
#define AS_ROLLED
#define AS_UNROLL_4

unsigned char *as_emulated_shared(void);
int as_thread(void);
int as_block_x(void);
int as_block_y(void);
void as_barrier(void);

uint32_t as_load4(const uint32_t *from);
void as_load16(uint32_t *to, const uint32_t *from);
void as_store16(void *shared, const uint32_t *from);
void as_copy16(void *shared, const void *from, int bytes);
void as_commit_copies(void);
void as_wait_copies(int pending);

void as_load_matrices(uint32_t *to, const void *row);
void as_mma_fp16(float *sum, const uint32_t *a, const uint32_t *b);
void as_mma_bf16(float *sum, const uint32_t *a, const uint32_t *b);
void as_mma_int8(int32_t *sum, const uint32_t *a, const uint32_t *b);
void as_mma_sparse_fp16(float *sum, const uint32_t *a, const uint32_t *b, uint32_t metadata,
                        int selector);
void as_mma_sparse_bf16(float *sum, const uint32_t *a, const uint32_t *b, uint32_t metadata,
                        int selector);
void as_mma_sparse_int8(int32_t *sum, const uint32_t *a, const uint32_t *b, uint32_t metadata,
                        int selector);

uint16_t as_to_fp16(float value);
float as_of_fp16(uint16_t bits);
uint16_t as_to_bf16(float value);
float as_of_bf16(uint16_t bits);
int32_t as_nearest(float value);

/* Of the emulation itself, not of the kernels. */
typedef enum {
  OP_BARRIER, OP_MATRICES, OP_FP16, OP_BF16, OP_INT8, OP_SPARSE_FP16, OP_SPARSE_BF16, OP_SPARSE_INT8
} Operation;

/* What a lane brings to an operation of its warp, and what it takes away. */
typedef struct {
  uint32_t a[4], b[4], metadata;
  int32_t selector;
  uint32_t sum[4]; /* bits of float or int32_t */
  const void *row;
} Lane;

/* Compute an operation for the 32 lanes of a warp; a sentence where PTX leaves it undefined. */
const char *as_tensor_core(Operation operation, Lane lanes[32]);

#endif
