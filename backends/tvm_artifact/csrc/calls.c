/* The functions that the compiled graph calls, and the one that opens its parameters.
 *
 * `autosparse_load(path, threads)` returns the parameters as a function object, which is how the FFI
 * lets a library own something: it lives as long as anybody holds it, and the graph hands it to
 * every function of ours. Those of layers take (parameters, number, input, [residual,] output). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

#include "parameters.h"

#define EXPORTED(name) AS_PUBLIC int __tvm_ffi_##name

enum { MOST_ARGUMENTS = 16, MOST_THREADS = 1024 };
enum { LINEAR_RANK = 1 /* at least */, CONVOLUTION_RANK = 4 };

static int refuse(const char *sentence) {
  TVMFFIErrorSetRaisedFromCStr("ValueError", sentence);
  return -1;
}

/* TVM's own threads. */
typedef struct {
  void (*task)(void *, size_t);
  void *data;
  size_t count;
} Work;

typedef struct { /* as the runtime lays it out */
  void *sync;
  int32_t tasks;
} ParallelGroup;

/* The function that tells how many there are. */
static const char POOL_SIZE[] = "runtime.NumThreads";

typedef int (*ParallelLaunch)(int (*)(int, ParallelGroup *, void *), void *, int);
/* Filled in by whoever loads the library. */
AS_PUBLIC ParallelLaunch __TVMBackendParallelLaunch;

static int share(int task, ParallelGroup *group, void *given) {
  const Work *work = given;
  for (size_t i = (size_t)task; i < work->count; i += (size_t)group->tasks)
    work->task(work->data, i);
  return 0;
}

enum { WHOLE_POOL = 0 };

/* As many tasks as threads are wanted, and no more than the pool has, which refuses to launch them
 * otherwise: it is smaller than the machine where somebody said so. */
static int tasks_for(const Parameters *parameters) {
  TVMFFIAny threads = {.type_index = kTVMFFINone};
  if (parameters->threads <= 1) return parameters->threads; /* 0 asks for all it has */
  if (!parameters->pool_size || TVMFFIFunctionCall(parameters->pool_size, NULL, 0, &threads) ||
      threads.type_index != kTVMFFIInt)
    return WHOLE_POOL;
  return threads.v_int64 < parameters->threads ? (int)threads.v_int64 : parameters->threads;
}

static void run_in_pool(void *context, void (*task)(void *, size_t), size_t count, void *data) {
  Work work = {task, data, count};
  const int threads = count > 1 ? tasks_for(context) : 1; /* 1 leaves the pool alone */
  if (threads != 1 && __TVMBackendParallelLaunch &&
      !__TVMBackendParallelLaunch(share, &work, threads))
    return;
  for (size_t i = 0; i < count; i++) task(data, i);
}

static AsParallel threads_of(const Parameters *parameters) {
  return (AsParallel){(void *)parameters, run_in_pool};
}

static const DLTensor *tensor_of(const TVMFFIAny *argument) {
  if (argument->type_index == kTVMFFIDLTensorPtr) return argument->v_ptr;
  if (argument->type_index != kTVMFFITensor) return NULL;
  return (const DLTensor *)((const char *)argument->v_obj + sizeof(TVMFFIObject));
}

static void *data_of(const DLTensor *tensor) { return (char *)tensor->data + tensor->byte_offset; }

static int64_t elements_of(const DLTensor *tensor) {
  int64_t elements = 1;
  for (int32_t i = 0; i < tensor->ndim; i++) elements *= tensor->shape[i];
  return elements;
}

/* Sizes of a call; a sentence where the input is not what the layer takes. */
static const char *describe(const AsLayer *layer, const DLTensor *input, const DLTensor *output,
                            AsCall *call) {
  const AsLayerSpec *spec = &layer->spec;
  int64_t wanted;
  if (spec->operation == AS_LINEAR) {
    if (input->ndim < LINEAR_RANK || input->shape[input->ndim - 1] != spec->depth)
      return "a layer's input has not as many features as its weight";
    call->rows = elements_of(input) / spec->depth;
    wanted = call->rows * spec->outputs;
  } else {
    if (input->ndim != CONVOLUTION_RANK || input->shape[1] != spec->channels)
      return "a layer's input has not as many channels as its weight";
    int64_t size[2];
    call->rows = input->shape[0];
    call->height = input->shape[2];
    call->width = input->shape[3];
    as_layer_output_size(layer, call->height, call->width, size);
    wanted = call->rows * spec->outputs * size[0] * size[1];
  }
  const int bits = spec->input_type == AS_UINT8 ? 8 : 32;
  if (input->dtype.bits != bits) return "a layer's input is not of its type";
  return elements_of(output) == wanted ? NULL : "a layer's output has not its size";
}

static int run_layer(const Parameters *parameters, int64_t index, const TVMFFIAny *arguments,
                     int32_t count) {
  const AsLayer *layer = parameters->layers[index];
  const DLTensor *input = tensor_of(arguments), *output = tensor_of(arguments + count - 1);
  const DLTensor *residual = count > 2 ? tensor_of(arguments + 1) : NULL;
  if (!input || !output || (count > 2 && !residual)) return refuse("a layer takes tensors");
  AsCall call = {.input = data_of(input), .output = data_of(output)};
  const char *problem = describe(layer, input, output, &call);
  if (!problem && residual) {
    if (elements_of(residual) != elements_of(output)) problem = "a residual has not its size";
    call.residual = data_of(residual);
  }
  const AsParallel parallel = threads_of(parameters);
  if (!problem) problem = as_layer_run(layer, &call, &parallel);
  return problem ? refuse(problem) : 0;
}

static int is_fp32(const DLTensor *tensor) {
  return tensor && tensor->dtype.code == kDLFloat && tensor->dtype.bits == 32;
}

/* (left, right, output): the last two axes are matrices, and the others count them. */
static int run_product(const Parameters *parameters, const TVMFFIAny *arguments, int32_t count) {
  const DLTensor *tensors[3];
  for (int i = 0; i < 3; i++) {
    tensors[i] = count == 3 ? tensor_of(arguments + i) : NULL;
    if (!is_fp32(tensors[i]) || tensors[i]->ndim < 2) return refuse("a product takes matrices");
  }
  const DLTensor *left = tensors[0], *right = tensors[1], *output = tensors[2];
  AsProduct product = {
      .left = data_of(left), .right = data_of(right), .output = data_of(output),
      .rows = left->shape[left->ndim - 2], .depth = left->shape[left->ndim - 1],
      .columns = right->shape[right->ndim - 1], .matrices = 1,
  };
  for (int32_t i = 0; i < left->ndim - 2; i++) product.matrices *= left->shape[i];
  if (elements_of(right) != product.matrices * product.depth * product.columns ||
      elements_of(output) != product.matrices * product.rows * product.columns)
    return refuse("the sizes of a product do not belong together");
  const AsParallel parallel = threads_of(parameters);
  const char *problem = as_multiply(&product, &parallel);
  return problem ? refuse(problem) : 0;
}

/* (input, output): over the last axis. */
static int run_softmax(const Parameters *parameters, const TVMFFIAny *arguments, int32_t count) {
  const DLTensor *input = count == 2 ? tensor_of(arguments) : NULL;
  const DLTensor *output = count == 2 ? tensor_of(arguments + 1) : NULL;
  if (!is_fp32(input) || !is_fp32(output) || input->ndim < 1 ||
      elements_of(input) != elements_of(output))
    return refuse("a softmax takes tensors of one size");
  const int64_t columns = input->shape[input->ndim - 1];
  const int64_t rows = columns ? elements_of(input) / columns : 0;
  const AsParallel parallel = threads_of(parameters);
  as_softmax(data_of(input), data_of(output), rows, columns, &parallel);
  return 0;
}

static int is_uint8(const DLTensor *tensor) {
  return tensor && tensor->dtype.code == kDLUInt && tensor->dtype.bits == 8;
}

/* False where a number is missing. */
static int read_numbers(const TVMFFIAny *arguments, double *numbers, int count) {
  for (int i = 0; i < count; i++) {
    if (arguments[i].type_index != kTVMFFIFloat) return 0;
    numbers[i] = arguments[i].v_float64;
  }
  return 1;
}

static AsGrid grid_of(const double *numbers) {
  return (AsGrid){(float)numbers[0], (int32_t)numbers[1]};
}

/* (input, step, zero, output) */
static int run_quantize(const Parameters *parameters, const TVMFFIAny *arguments, int32_t count) {
  const DLTensor *input = count == 4 ? tensor_of(arguments) : NULL;
  const DLTensor *output = count == 4 ? tensor_of(arguments + 3) : NULL;
  double numbers[2];
  if (!is_fp32(input) || !is_uint8(output) || !read_numbers(arguments + 1, numbers, 2) ||
      elements_of(input) != elements_of(output))
    return refuse("a tensor is rounded to one of its size");
  const AsParallel parallel = threads_of(parameters);
  as_quantize(data_of(input), data_of(output), elements_of(input), grid_of(numbers), &parallel);
  return 0;
}

/* (left, right, steps and zeros of left, right and output, least value, output) */
static int run_sum(const Parameters *parameters, const TVMFFIAny *arguments, int32_t count) {
  enum { NUMBERS = 7, ARGUMENTS = NUMBERS + 3 };
  const DLTensor *tensors[3] = {NULL};
  double numbers[NUMBERS];
  for (int i = 0; count == ARGUMENTS && i < 3; i++)
    tensors[i] = tensor_of(arguments + (i < 2 ? i : ARGUMENTS - 1));
  for (int i = 0; i < 3; i++)
    if (!is_uint8(tensors[i]) || elements_of(tensors[i]) != elements_of(tensors[0]))
      return refuse("a sum takes tensors of one size");
  if (!read_numbers(arguments + 2, numbers, NUMBERS)) return refuse("a sum takes three grids");
  const AsSum sum = {
      .left = data_of(tensors[0]), .right = data_of(tensors[1]), .output = data_of(tensors[2]),
      .count = elements_of(tensors[0]), .left_grid = grid_of(numbers),
      .right_grid = grid_of(numbers + 2), .grid = grid_of(numbers + 4), .low = (float)numbers[6],
  };
  const AsParallel parallel = threads_of(parameters);
  as_add(&sum, &parallel);
  return 0;
}

static void forget_view(DLManagedTensor *view) {
  TVMFFIObjectDecRef(view->manager_ctx);
  free(view);
}

/* A view keeps the parameters, and so the map that it points into. */
static int view_tensor(const Parameters *parameters, int64_t index, TVMFFIObjectHandle keeper,
                       TVMFFIAny *result) {
  DLManagedTensor *view = calloc(1, sizeof *view);
  if (!view) return refuse("out of memory");
  TVMFFIObjectIncRef(keeper);
  *view = (DLManagedTensor){parameters->tensors[index], keeper, forget_view};
  TVMFFIObjectHandle made;
  if (TVMFFITensorFromDLPack(view, 0, 0, &made)) {
    forget_view(view);
    return -1;
  }
  result->type_index = kTVMFFITensor;
  result->zero_padding = 0;
  result->v_obj = made;
  return 0;
}

/* What a call asks the parameters for; layers and tensors by their number. */
typedef enum { A_LAYER, A_TENSOR, A_PRODUCT, A_SOFTMAX, A_QUANTIZE, A_SUM } Request;

/* The parameters themselves, called: (request, number, then what the request takes). */
static int use_parameters(void *self, const TVMFFIAny *arguments, int32_t count,
                          TVMFFIAny *result) {
  const Parameters *parameters = self;
  if (count < 3 || arguments[0].type_index != kTVMFFIInt || arguments[1].type_index != kTVMFFIInt)
    return refuse("parameters are handed to the main function, not called");
  const int64_t request = arguments[0].v_int64, number = arguments[1].v_int64;
  arguments += 2;
  count -= 2;
  if (request == A_PRODUCT) return run_product(parameters, arguments, count);
  if (request == A_SOFTMAX) return run_softmax(parameters, arguments, count);
  if (request == A_QUANTIZE) return run_quantize(parameters, arguments, count);
  if (request == A_SUM) return run_sum(parameters, arguments, count);
  if (request == A_LAYER && number >= 0 && number < parameters->layer_count && count >= 2)
    return run_layer(parameters, number, arguments, count);
  if (request == A_TENSOR && number >= 0 && number < parameters->tensor_count &&
      arguments[0].type_index == kTVMFFIFunction)
    return view_tensor(parameters, number, arguments[0].v_obj, result);
  return refuse("the parameters have no such layer or tensor");
}

static TVMFFIAny integer(int64_t value) {
  return (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = value};
}

/* Every function is given the parameters first; those that are `numbered`, a number next. */
static int forward(Request request, int numbered, const TVMFFIAny *arguments, int32_t count,
                   TVMFFIAny *result) {
  const int32_t begin = numbered ? 2 : 1;
  if (count < begin || count > MOST_ARGUMENTS || arguments[0].type_index != kTVMFFIFunction ||
      (numbered && arguments[1].type_index != kTVMFFIInt))
    return refuse("the first input of a model is what autosparse_load returned");
  TVMFFIAny passed[MOST_ARGUMENTS + 3];
  int32_t given = 0;
  passed[given++] = integer(request);
  passed[given++] = integer(numbered ? arguments[1].v_int64 : 0);
  if (request == A_TENSOR) passed[given++] = arguments[0];
  memcpy(passed + given, arguments + begin, (size_t)(count - begin) * sizeof *passed);
  return TVMFFIFunctionCall(arguments[0].v_obj, passed, given + count - begin, result);
}

/* One name for each kind of operator, so that a trace of calls tells what ran. */
#define FUNCTION(name, request, numbered)                                                    \
  EXPORTED(name)(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result);   \
  EXPORTED(name)(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result) {  \
    (void)self;                                                                              \
    return forward(request, numbered, arguments, count, result);                             \
  }

FUNCTION(autosparse_linear_fp32, A_LAYER, 1)
FUNCTION(autosparse_linear_int8, A_LAYER, 1)
FUNCTION(autosparse_convolution_fp32, A_LAYER, 1)
FUNCTION(autosparse_convolution_int8, A_LAYER, 1)
FUNCTION(autosparse_tensor, A_TENSOR, 1)
FUNCTION(autosparse_matmul, A_PRODUCT, 0)
FUNCTION(autosparse_softmax, A_SOFTMAX, 0)
FUNCTION(autosparse_quantize, A_QUANTIZE, 0)
FUNCTION(autosparse_add_uint8, A_SUM, 0)

static void release(void *self) {
  Parameters *parameters = self;
  if (parameters->pool_size) TVMFFIObjectDecRef(parameters->pool_size);
  as_parameters_release(self);
  free(self);
}

static const char *text_of(const TVMFFIAny *argument, char *room, size_t bytes) {
  if (argument->type_index == kTVMFFIRawStr) return argument->v_c_str;
  TVMFFIByteArray found;
  if (argument->type_index == kTVMFFISmallStr)
    found = (TVMFFIByteArray){argument->v_bytes, argument->small_str_len};
  else if (argument->type_index == kTVMFFIStr)
    found = *(const TVMFFIByteArray *)(const void *)((const char *)argument->v_obj +
                                                     sizeof(TVMFFIObject));
  else
    return NULL;
  if (found.size >= bytes) return NULL;
  memcpy(room, found.data, found.size);
  room[found.size] = 0;
  return room;
}

EXPORTED(autosparse_load)(void *self, const TVMFFIAny *arguments, int32_t count,
                          TVMFFIAny *result);
EXPORTED(autosparse_load)(void *self, const TVMFFIAny *arguments, int32_t count,
                          TVMFFIAny *result) {
  (void)self;
  char room[4096];
  const int asked = count == 2 && arguments[1].type_index == kTVMFFIInt;
  const char *path = count == 1 || asked ? text_of(arguments, room, sizeof room) : NULL;
  if (!path || (asked && (arguments[1].v_int64 < 0 || arguments[1].v_int64 > MOST_THREADS)))
    return refuse("autosparse_load takes the path of the parameters and a number of threads");
  Parameters *made = malloc(sizeof *made);
  if (!made) return refuse("out of memory");
  const char *problem = as_parameters_open(path, made);
  made->threads = asked ? (int)arguments[1].v_int64 : 0;
  const TVMFFIByteArray pool_size = {POOL_SIZE, sizeof POOL_SIZE - 1};
  if (TVMFFIFunctionGetGlobal(&pool_size, &made->pool_size)) made->pool_size = NULL;
  TVMFFIObjectHandle function;
  if (!problem && !TVMFFIFunctionCreate(made, use_parameters, release, &function)) {
    result->type_index = kTVMFFIFunction;
    result->zero_padding = 0;
    result->v_obj = function;
    return 0;
  }
  release(made);
  return problem ? refuse(problem) : -1;
}
