/* The parameters of an artifact: a file that is mapped, checked and packed when it is opened.
 *
 * Little-endian. A header, `layers` records, `tensors` records, then the numbers themselves, each
 * array on a multiple of 64 bytes. An offset counts from the begin of the file; 0 is no array.
 * What writes it is `parameter_file.py`.
 */
#ifndef AUTOSPARSE_PARAMETERS_H
#define AUTOSPARSE_PARAMETERS_H

#include <dlpack/dlpack.h>

#include "internal.h"

enum { PARAMETERS_VERSION = 2, CODE_CHARACTERS = 64, MOST_DIMENSIONS = 8 };

typedef struct {
  char magic[8]; /* "ASPARAMS" */
  uint32_t version, layers, tensors, reserved;
  uint64_t bytes;                    /* of the file */
  uint64_t sum, weighted_sum;        /* of all words of 8 bytes but these; modulo 2^64 */
  uint64_t description, description_bytes; /* JSON, for whoever runs the model */
  char code[CODE_CHARACTERS]; /* digest of what the libraries that the file belongs to compute */
} ParameterHeader;

typedef struct {
  int32_t operation, run, group, input_type, output_type, activation, input_zero, output_zero;
  float input_step, output_step, low, high, epsilon;
  int32_t plan[4], reserved;
  int64_t outputs, depth, stored_runs, channels, groups, kernel[2], strides[2], dilations[2],
      pads[4];
  int64_t values, gaps, bias, weight_steps, norm_scale, norm_shift; /* offsets */
} LayerRecord;

typedef struct {
  int32_t type_code, type_bits; /* of DLPack */
  int64_t rank, shape[MOST_DIMENSIONS], values;
} TensorRecord;

typedef struct {
  const char *map;
  size_t bytes;
  int threads;     /* that layers are computed with; 0 for all of the pool */
  void *pool_size; /* the runtime's function that tells how many it has, or NULL */
  int64_t layer_count, tensor_count;
  AsLayer **layers;
  DLTensor *tensors; /* they point into the map */
  int64_t (*shapes)[MOST_DIMENSIONS];
} Parameters;

/* NULL, or why the file cannot be used; release what was opened in either case. */
const char *as_parameters_open(const char *path, Parameters *parameters);
void as_parameters_release(Parameters *parameters);

/* The digest that the parameters of this library name, CODE_CHARACTERS of it, and behind it the set
 * of instructions that the graph's own code needs: generated with the library. */
extern const char as_artifact_identity[];

#endif
