/* The entry point that ONNX Runtime looks for in a library of custom operators. */
#include <stdatomic.h>

#include "ort_kernel.h"

static const char DOMAIN[] = "ai.autosparse";

const OrtSlot *as_ort;

/* Made once and kept for the life of the process: sessions refer to it as long as they live. So it
 * belongs to the runtime that made it, and so do the functions that every kernel calls: where a
 * process has several runtimes, the first one that registers has the kernels. */
static const OrtApiBase *owner;
static OrtCustomOpDomain *domain;
static atomic_flag busy = ATOMIC_FLAG_INIT;

/* All operators, or a status and nothing that stays. */
static OrtStatus *make_domain(const OrtSlot *api, OrtCustomOpDomain **made) {
  OrtStatus *status = ORT_CREATE_DOMAIN(api)(DOMAIN, made);
  if (status) return status;
  size_t count;
  Variant *variants = as_ort_variants(&count);
  for (size_t i = 0; !status && i < count; i++) {
    variants[i].op.CreateKernelV2 = as_ort_create_kernel;
    variants[i].op.KernelComputeV2 = as_ort_compute;
    variants[i].op.KernelDestroy = as_ort_destroy_kernel;
    status = ORT_DOMAIN_ADD(api)(*made, &variants[i].op);
  }
  if (status) ORT_RELEASE_DOMAIN(api)(*made);
  return status;
}

static OrtStatus *take_possession(const OrtApiBase *base, const OrtSlot *api) {
  if (owner && owner != base)
    return ORT_CREATE_STATUS(api)(
        ORT_NOT_IMPLEMENTED,
        "another ONNX Runtime of this process has the AutoSparse kernels already; without them the "
        "model runs densely");
  if (owner) return NULL;
  OrtCustomOpDomain *made = NULL;
  OrtStatus *status = make_domain(api, &made);
  if (status) return status;
  as_ort = api;
  domain = made;
  owner = base;
  return NULL;
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
  OrtStatus *status = take_possession(base, api);
  atomic_flag_clear_explicit(&busy, memory_order_release);
  return status ? status : ORT_ADD_DOMAIN(api)(options, domain);
}
