/* The part of ONNX Runtime's C interface that a library of custom operators needs.
 *
 * OrtApi is an append-only table of function pointers, so that a slot keeps its number for ever.
 * The numbers are those of the public C interface, version 17 (ONNX Runtime 1.17 and later).
 */
#ifndef AUTOSPARSE_ORT_API_H
#define AUTOSPARSE_ORT_API_H

#include <stddef.h>
#include <stdint.h>

enum { ORT_API_VERSION = 17, OLDEST_ORT_API_VERSION = 1 };
enum { ORT_INVALID_ARGUMENT = 2, ORT_NOT_IMPLEMENTED = 9 };
enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT64 = 7, ORT_BFLOAT16 = 16 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtTensorInfo OrtTensorInfo;
typedef struct OrtCustomOp OrtCustomOp;
typedef void (*OrtSlot)(void);
typedef struct {
  const OrtSlot *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *, const void *, const OrtKernelInfo *);
  const char *(*GetName)(const OrtCustomOp *);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *);
  int (*GetInputType)(const OrtCustomOp *, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp *);
  int (*GetOutputType)(const OrtCustomOp *, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *);
  void (*KernelCompute)(void *, OrtKernelContext *);
  void (*KernelDestroy)(void *);
  int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetInputMemoryType)(const OrtCustomOp *, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp *);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, const void *, const OrtKernelInfo *, void **);
  OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
  void *InferOutputShapeFn;
  int (*GetStartVersion)(const OrtCustomOp *);
  int (*GetEndVersion)(const OrtCustomOp *);
  void *in_place_and_alias_maps[4];
};

/* Slots, and the types of the functions in them. */
#define ORT_CALL(api, slot, type) ((type)(api)[slot])
#define ORT_CREATE_STATUS(api) ORT_CALL(api, 0, OrtStatus * (*)(int, const char *))
#define ORT_CREATE_DOMAIN(api) \
  ORT_CALL(api, 26, OrtStatus * (*)(const char *, OrtCustomOpDomain **))
#define ORT_DOMAIN_ADD(api) \
  ORT_CALL(api, 27, OrtStatus * (*)(OrtCustomOpDomain *, const OrtCustomOp *))
#define ORT_ADD_DOMAIN(api) \
  ORT_CALL(api, 28, OrtStatus * (*)(OrtSessionOptions *, OrtCustomOpDomain *))
#define ORT_TENSOR_DATA(api) ORT_CALL(api, 51, OrtStatus * (*)(const OrtValue *, void **))
#define ORT_RANK(api) ORT_CALL(api, 61, OrtStatus * (*)(const OrtTensorInfo *, size_t *))
#define ORT_DIMENSIONS(api) \
  ORT_CALL(api, 62, OrtStatus * (*)(const OrtTensorInfo *, int64_t *, size_t))
#define ORT_TENSOR_INFO(api) \
  ORT_CALL(api, 65, OrtStatus * (*)(const OrtValue *, OrtTensorInfo **))
#define ORT_FLOAT_ATTRIBUTE(api) \
  ORT_CALL(api, 85, OrtStatus * (*)(const OrtKernelInfo *, const char *, float *))
#define ORT_INTEGER_ATTRIBUTE(api) \
  ORT_CALL(api, 86, OrtStatus * (*)(const OrtKernelInfo *, const char *, int64_t *))
#define ORT_STRING_ATTRIBUTE(api) \
  ORT_CALL(api, 87, OrtStatus * (*)(const OrtKernelInfo *, const char *, char *, size_t *))
#define ORT_INPUT(api) \
  ORT_CALL(api, 90, OrtStatus * (*)(const OrtKernelContext *, size_t, const OrtValue **))
#define ORT_OUTPUT(api)                                                                       \
  ORT_CALL(api, 91,                                                                           \
           OrtStatus * (*)(OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **))
#define ORT_RELEASE_STATUS(api) ORT_CALL(api, 93, void (*)(OrtStatus *))
#define ORT_RELEASE_TENSOR_INFO(api) ORT_CALL(api, 99, void (*)(OrtTensorInfo *))
#define ORT_RELEASE_DOMAIN(api) ORT_CALL(api, 101, void (*)(OrtCustomOpDomain *))
#define ORT_FLOATS_ATTRIBUTE(api) \
  ORT_CALL(api, 162, OrtStatus * (*)(const OrtKernelInfo *, const char *, float *, size_t *))
#define ORT_INTEGERS_ATTRIBUTE(api) \
  ORT_CALL(api, 163, OrtStatus * (*)(const OrtKernelInfo *, const char *, int64_t *, size_t *))
#define ORT_CONSTANT_INPUT(api) \
  ORT_CALL(api, 249, OrtStatus * (*)(const OrtKernelInfo *, size_t, int *, const OrtValue **))
#define ORT_PARALLEL_FOR(api)                                                                 \
  ORT_CALL(api, 274,                                                                          \
           OrtStatus * (*)(const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, \
                           void *))

#endif
