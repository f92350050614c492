/* Every custom operator: one for each operation, type and epilogue, named after all of them.
 *
 *   [Q|B]Sparse(MatMul|Conv)[ToFloat][Add][Relu|Clip|Gelu|Silu|Norm]
 *
 * A model-local function of the same name holds the dense meaning, so that the file also runs
 * where this library is missing; a function cannot choose by attribute, hence the many names.
 */
#ifndef AUTOSPARSE_ORT_VARIANTS_H
#define AUTOSPARSE_ORT_VARIANTS_H

#include "autosparse_kernels.h"
#include "ort_api.h"

/* Inputs, in the order in which those that a variant has are given. */
typedef enum {
  ROLE_INPUT,
  ROLE_INPUT_STEP, /* uint8 only, as are the others with steps and zeros */
  ROLE_INPUT_ZERO,
  ROLE_VALUES,      /* (runs, run) */
  ROLE_GAPS,        /* (runs,) uint8: distance of each run's position from the one before */
  ROLE_RUNS_SHAPE,  /* (2,): all runs of the dense weight, and run */
  ROLE_WEIGHT_SHAPE, /* (outputs, K), or (outputs, kernel height, kernel width, channels) */
  ROLE_WEIGHT_STEPS, /* (outputs,) */
  ROLE_BIAS,         /* (outputs,) */
  ROLE_LOW,          /* of Clip */
  ROLE_HIGH,
  ROLE_OUTPUT_STEP,
  ROLE_OUTPUT_ZERO,
  ROLE_NORM_SCALE, /* (outputs,), as is the next */
  ROLE_NORM_SHIFT,
  ROLE_RESIDUAL,
  ROLES
} Role;

typedef struct {
  OrtCustomOp op; /* first, so that a pointer to it is one to the variant */
  char name[48];
  int convolution, input_type, output_type, activation, residual; /* AsType, AsActivation */
  int norm;               /* the rows of a matrix product's fp32 result are normalized */
  int index[ROLES]; /* of the role's input, or -1 */
  Role roles[ROLES];
  size_t inputs;
} Variant;

/* All of them, filled in once; `count` is set. */
Variant *as_ort_variants(size_t *count);

#endif
