/* Compiled kernels are called through the TVM FFI, of which they need three symbols only. */
#include <dlpack/dlpack.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

#include "internal.h"

enum { MOST_ARGUMENTS = 17 };

#ifndef AS_INSIDE_TVM /* where it is the runtime's own */
/* Raised when a kernel refuses its arguments, which is a fault of the caller, so of ours. The
 * caller reports it; the texts are of no use to a user. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  (void)kind;
  (void)parts;
  (void)count;
}
#endif

/* Kernels ask for a few hundred bytes at their start, last in first out: what they hold in
 * registers lies there by name. What TVM compiles for the rest of a model may ask for more. */
enum { WORKSPACE_BYTES = 16384, WORKSPACE_ALIGNMENT = 64 };
static _Thread_local _Alignas(64) char workspace[WORKSPACE_BYTES];
static _Thread_local size_t workspace_used;

static void *take_workspace(int device, int id, uint64_t bytes, int code, int bits) {
  (void)device, (void)id, (void)code, (void)bits;
  if (bytes > WORKSPACE_BYTES - WORKSPACE_ALIGNMENT - workspace_used)
    return as_scratch_take((size_t)bytes);
  char *taken = workspace + workspace_used;
  workspace_used += (bytes + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT;
  return taken;
}

static int give_workspace(int device, int id, void *taken) {
  (void)device, (void)id;
  if ((uintptr_t)taken - (uintptr_t)workspace >= WORKSPACE_BYTES)
    as_scratch_give(taken);
  else if ((size_t)((char *)taken - workspace) < workspace_used)
    workspace_used = (size_t)((char *)taken - workspace);
  return 0;
}

/* The pointers that every compiled object calls through; theirs are weak. */
typedef void *(*TakeWorkspace)(int, int, uint64_t, int, int);
typedef int (*GiveWorkspace)(int, int, void *);
extern TakeWorkspace __TVMBackendAllocWorkspace;
extern GiveWorkspace __TVMBackendFreeWorkspace;
TakeWorkspace __TVMBackendAllocWorkspace = take_workspace;
GiveWorkspace __TVMBackendFreeWorkspace = give_workspace;

static DLDataType type_of(const AsView *view) {
  switch (view->type) {
    case AS_VIEW_F32: return (DLDataType){kDLFloat, 32, 1};
    case AS_VIEW_I32: return (DLDataType){kDLInt, 32, 1};
    case AS_VIEW_U16: return (DLDataType){kDLUInt, 16, 1};
    case AS_VIEW_I8: return (DLDataType){kDLInt, 8, 1};
    default: return (DLDataType){kDLUInt, 8, 1};
  }
}

int as_call_kernel(const AsKernel *kernel, const AsView *views, int count) {
  DLTensor tensors[MOST_ARGUMENTS];
  TVMFFIAny arguments[MOST_ARGUMENTS], result;
  if (count > MOST_ARGUMENTS) return 1;
  memset(arguments, 0, sizeof arguments);
  memset(&result, 0, sizeof result);
  for (int i = 0; i < count; i++) {
    if (views[i].type == AS_VIEW_INT) {
      arguments[i].type_index = kTVMFFIInt;
      arguments[i].v_int64 = views[i].value;
      continue;
    }
    tensors[i] = (DLTensor){
        .data = (void *)views[i].data,
        .device = {kDLCPU, 0},
        .ndim = 1,
        .dtype = type_of(&views[i]),
        .shape = (int64_t *)&views[i].value,
    };
    arguments[i].type_index = kTVMFFIDLTensorPtr;
    arguments[i].v_ptr = &tensors[i];
  }
  return kernel->call(NULL, arguments, count, &result);
}

const char *as_failure(int failed) {
  if (!failed) return NULL;
  return failed == AS_NO_MEMORY
             ? "a layer ran out of memory"
             : "a compiled kernel refused what it was given, a fault of AutoSparse: report it";
}

const AsKernel *as_find_kernel(const char *family, int vectors, int rows) {
  const char *set = as_current_set()->name;
  for (size_t i = 0; i < as_kernel_count; i++) {
    const AsKernel *kernel = &as_kernels[i];
    if (kernel->vectors == vectors && kernel->rows == rows &&
        !strcmp(kernel->instruction_set, set) && !strcmp(kernel->family, family))
      return kernel;
  }
  return NULL;
}

const AsKernel *as_nearest_kernel(const char *family, int vectors, int rows) {
  const char *set = as_current_set()->name;
  const AsKernel *best = NULL;
  int best_distance = 0;
  for (size_t i = 0; i < as_kernel_count; i++) {
    const AsKernel *kernel = &as_kernels[i];
    if (strcmp(kernel->instruction_set, set) || strcmp(kernel->family, family)) continue;
    const int distance = 100 * abs(kernel->vectors - vectors) + abs(kernel->rows - rows);
    if (!best || distance < best_distance) best = kernel, best_distance = distance;
  }
  return best;
}
