/* What the kernels ask of a thread, its warp, its block and the tensor cores.
 *
 * On a device this is CUDA and PTX. Any other compiler takes `emulation.h` in its place, which the
 * tests have: fibers for threads, and the tensor cores written out from the tables of the PTX ISA.
 * The kernels themselves are C that both kinds of compiler read. */
#ifndef AUTOSPARSE_DEVICE_H
#define AUTOSPARSE_DEVICE_H

#include <stdint.h>

#ifndef __CUDACC__
#include "emulation.h"
#else

#define AS_KERNEL(name, threads) \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ AsLinear p)
#define AS_DEVICE static __device__ __forceinline__
#define AS_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define AS_UNROLL _Pragma("unroll")
#define AS_ROLLED _Pragma("unroll 1")
#define AS_UNROLL_4 _Pragma("unroll 4")

AS_DEVICE int as_thread(void) { return (int)threadIdx.x; }
AS_DEVICE int as_block_x(void) { return (int)blockIdx.x; }
AS_DEVICE int as_block_y(void) { return (int)blockIdx.y; }
AS_DEVICE void as_barrier(void) { __syncthreads(); }

AS_DEVICE uint32_t as_load4(const uint32_t *from) { return __ldg(from); }

AS_DEVICE void as_load16(uint32_t *to, const uint32_t *from) {
  const uint4 loaded = __ldg((const uint4 *)from);
  to[0] = loaded.x;
  to[1] = loaded.y;
  to[2] = loaded.z;
  to[3] = loaded.w;
}

AS_DEVICE void as_store16(void *shared, const uint32_t *from) {
  *(uint4 *)shared = make_uint4(from[0], from[1], from[2], from[3]);
}

/* 16 bytes to shared memory, of which `bytes` (0 or 16) are read and the others zero. */
AS_DEVICE void as_copy16(void *shared, const void *from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   (uint32_t)__cvta_generic_to_shared(shared)),
               "l"(from), "r"(bytes)
               : "memory");
}

AS_DEVICE void as_commit_copies(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }

/* Wait until no more than `pending` (a constant) of this thread's latest groups are under way. */
#define as_wait_copies(pending) asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory")

/* ldmatrix: four matrices of 8 rows of 16 bytes; lane 8i + j gives the address of row j of
 * matrix i, and gets 4 bytes of row (lane / 4) of each. */
AS_DEVICE void as_load_matrices(uint32_t *to, const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((uint32_t)__cvta_generic_to_shared(row))
               : "memory");
}

AS_DEVICE uint16_t as_to_fp16(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

AS_DEVICE float as_of_fp16(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

AS_DEVICE uint16_t as_to_bf16(float value) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

AS_DEVICE float as_of_bf16(uint16_t bits) { return __uint_as_float((uint32_t)bits << 16); }

/* The nearest integer, ties to even; 0 of NaN, and the last one of what is too large. */
AS_DEVICE int32_t as_nearest(float value) { return __float2int_rn(value); }

/* mma: 16 outputs x 8 tokens over 16 (fp16, bf16) or 32 (int8) features. */
#define AS_DENSE(name, sum_type, constraint, shape_and_types)                                  \
  AS_DEVICE void name(sum_type *sum, const uint32_t *a, const uint32_t *b) {                   \
    asm volatile("mma.sync.aligned." shape_and_types                                           \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"            \
                 : "+" constraint(sum[0]), "+" constraint(sum[1]), "+" constraint(sum[2]),     \
                   "+" constraint(sum[3])                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));          \
  }
AS_DENSE(as_mma_fp16, float, "f", "m16n8k16.row.col.f32.f16.f16.f32")
AS_DENSE(as_mma_bf16, float, "f", "m16n8k16.row.col.f32.bf16.bf16.f32")
AS_DENSE(as_mma_int8, int32_t, "r", "m16n8k32.row.col.s32.s8.u8.s32")

/* mma.sp: the same over twice as many features, of which half of the weights are there. The
 * selector, which two lanes of each four give the metadata, must be written into the text. */
#define AS_SPARSE_TEXT(constraint, shape_and_types, selector)                                  \
  asm volatile("mma.sp::ordered_metadata.sync.aligned." shape_and_types                        \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3},"    \
               " %12, " selector ";"                                                           \
               : "+" constraint(sum[0]), "+" constraint(sum[1]), "+" constraint(sum[2]),       \
                 "+" constraint(sum[3])                                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]),  \
                 "r"(b[3]), "r"(metadata))
#define AS_SPARSE_PAIR(name, shape_and_types)                                                  \
  AS_DEVICE void name(float *sum, const uint32_t *a, const uint32_t *b, uint32_t metadata,     \
                      int selector) {                                                          \
    if (selector) AS_SPARSE_TEXT("f", shape_and_types, "0x1");                                 \
    else AS_SPARSE_TEXT("f", shape_and_types, "0x0");                                          \
  }
AS_SPARSE_PAIR(as_mma_sparse_fp16, "m16n8k32.row.col.f32.f16.f16.f32")
AS_SPARSE_PAIR(as_mma_sparse_bf16, "m16n8k32.row.col.f32.bf16.bf16.f32")

/* Here all lanes give metadata, and there is one selector. */
AS_DEVICE void as_mma_sparse_int8(int32_t *sum, const uint32_t *a, const uint32_t *b,
                                  uint32_t metadata, int) {
  AS_SPARSE_TEXT("r", "m16n8k64.row.col.s32.s8.u8.s32", "0x0");
}

#endif
#endif
