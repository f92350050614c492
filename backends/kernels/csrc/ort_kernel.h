/* One node of a model: reads its weight when the session is created, runs it ever after. */
#ifndef AUTOSPARSE_ORT_KERNEL_H
#define AUTOSPARSE_ORT_KERNEL_H

#include "ort_variants.h"

extern const OrtSlot *as_ort; /* the one runtime's functions; set by RegisterCustomOps */

OrtStatus *as_ort_create_kernel(const OrtCustomOp *op, const void *api, const OrtKernelInfo *info,
                                void **kernel);
OrtStatus *as_ort_compute(void *kernel, OrtKernelContext *context);
void as_ort_destroy_kernel(void *kernel);

#endif
