/* What the files of the int8 layers share. */
#ifndef AUTOSPARSE_INT8_H
#define AUTOSPARSE_INT8_H

#include "internal.h"

/* Arm multiplies bytes of one sign only. There, kernels of the broadcast family are given the
 * input minus AS_INPUT_SHIFT as int8, which the steps make by turning the sign bits of a word of
 * four, and sums start with what that takes from them. */
#if defined(__aarch64__)
#define AS_SIGN_BITS 0x80808080u
#else
#define AS_SIGN_BITS 0u
#endif
#define AS_INPUT_SHIFT ((int32_t)(AS_SIGN_BITS & 255))

/* From int32 sums to the output: activation(sum * scale + bias + residual), as fp32 or uint8. */
struct AsRequantize {
  float *scales; /* (channels,): input step times weight step */
  float *bias;   /* (channels,) */
  AsEpilogue epilogue;
  int to_uint8;
  float inverse_step; /* of a uint8 output */
  int zero;
};

/* Where a part of the output goes: channels `first_channel`... of `AsRequantize`'s, at `output`
 * and `residual`, which are (rows, ...) with `stride` elements from row to row. */
struct AsInt8Target {
  const AsRequantize *how;
  int64_t first_channel, channels;
  const float *residual; /* or NULL */
  void *output;          /* float or uint8_t */
  int64_t stride;
};

/* Scales, bias and the sums' start, (shift - zero) * sum of weights, of a checked description.
 * `start` has `more` zeros at its end. Returns a sentence where the description makes no sense. */
const char *as_requantize_create(const AsLayerSpec *spec, int64_t more, AsRequantize *made,
                                 int32_t **start);
void as_requantize_destroy(AsRequantize *how);

/* The same rows and channels of a call for both operators. */
AsInt8Target as_int8_target(const AsLayerSpec *spec, const AsCall *call, const AsRequantize *how,
                            int64_t row, int64_t first_channel, int64_t channels);

/* What both families are given when they run. `start` holds AS_INT8_MORE zeros beyond the last
 * channel, which they may read for channels that are not there. */
enum { AS_INT8_MORE = 128 };
typedef struct {
  const AsLayerSpec *spec;
  const AsRequantize *how;
  const int32_t *start;
  const AsCall *call;
  const AsParallel *parallel;
} AsInt8Run;

/* The two families, behind the operator in linear_int8.c. `create` may set `*made` and still
 * fail: then it is to be destroyed all the same. */
typedef struct AsInt8Broadcast AsInt8Broadcast;
const char *as_int8_broadcast_create(const AsLayerSpec *spec, const AsPlan *plan,
                                     AsInt8Broadcast **made);
const char *as_int8_broadcast_run(const AsInt8Broadcast *packed, const AsInt8Run *run);
void as_int8_broadcast_destroy(AsInt8Broadcast *packed);

typedef struct AsInt8Permute AsInt8Permute;
/* Whether the processor, the library and the sizes allow it. */
int as_int8_permute_possible(const AsLayerSpec *spec);
const char *as_int8_permute_create(const AsLayerSpec *spec, const AsPlan *plan,
                                   AsInt8Permute **made);
const char *as_int8_permute_run(const AsInt8Permute *packed, const AsInt8Run *run);
/* Sums of all rows of a run for the channels from `first` on, at most AS_INT8_PART of them, which
 * it is a multiple of: `sums` has room for as many of each row, `stride` is what a row of them
 * takes. Returns 0 where a kernel fails. */
enum { AS_INT8_PART = 64 };
typedef struct {
  int64_t first;            /* given */
  int32_t *sums;            /* given; (rows, stride) */
  int64_t channels, stride; /* told */
} AsInt8Part;
int as_int8_permute_sums(const AsInt8Permute *packed, const AsInt8Run *run, AsInt8Part *part);
void as_int8_permute_destroy(AsInt8Permute *packed);

/* Share of words of four weights that hold a non-zero, where no two single ones share a word. */
double as_int8_density(const AsLayerSpec *spec);
#define AS_INT8_FEW 0.15 /* of them, up to which other tiles are faster */

/* What each has to work through: words of four weights, and their places in lanes. */
int64_t as_int8_broadcast_words(const AsInt8Broadcast *packed);
int64_t as_int8_permute_words(const AsInt8Permute *packed);

#endif
