/* The entry point that ONNX Runtime looks for in a library of custom operators. */
#include <stdatomic.h>

#include "ort_kernel.h"

static const char DOMAIN[] = "ai.autosparse";

const OrtSlot *as_ort;

/* Made once and kept for the life of the process: sessions refer to it as long as they live. */
static OrtCustomOpDomain *domain;
static atomic_flag busy = ATOMIC_FLAG_INIT;

static OrtStatus *make_domain(void) {
  OrtStatus *status = ORT_CREATE_DOMAIN(as_ort)(DOMAIN, &domain);
  size_t count;
  Variant *variants = as_ort_variants(&count);
  for (size_t i = 0; !status && i < count; i++) {
    variants[i].op.CreateKernelV2 = as_ort_create_kernel;
    variants[i].op.KernelComputeV2 = as_ort_compute;
    variants[i].op.KernelDestroy = as_ort_destroy_kernel;
    status = ORT_DOMAIN_ADD(as_ort)(domain, &variants[i].op);
  }
  return status;
}

AS_PUBLIC OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);
AS_PUBLIC OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  const OrtSlot *api = base->GetApi(ORT_API_VERSION);
  if (!api) {
    const OrtSlot *oldest = base->GetApi(OLDEST_ORT_API_VERSION);
    if (!oldest) return NULL; /* no way to say anything; the model runs densely */
    return ORT_CREATE_STATUS(oldest)(
        ORT_NOT_IMPLEMENTED,
        "the AutoSparse kernels need ONNX Runtime 1.17 or later; without them the model runs "
        "densely");
  }
  while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) continue;
  as_ort = api;
  OrtStatus *status = domain ? NULL : make_domain();
  atomic_flag_clear_explicit(&busy, memory_order_release);
  return status ? status : ORT_ADD_DOMAIN(as_ort)(options, domain);
}
