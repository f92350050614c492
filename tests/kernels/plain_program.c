/* Runs a model with the kernels where there is no Python: a program that knows of ONNX Runtime what
 * any C program knows of it, which is the C interface that C++ and C# call, too.
 *
 *   plain_program RUNTIME KERNELS MODEL TYPE INPUT OUTPUT DIMENSION...
 *
 * RUNTIME is ONNX Runtime's shared library and KERNELS ours; where it is empty, none is registered.
 * The model has one input `x` of the DIMENSIONs and one output `y`, both of one TYPE, by its number:
 * 1 for fp32, 2 for uint8. INPUT holds the numbers of x; those of y are written to OUTPUT, and its
 * dimensions printed. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "ort_api.h"

typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtMemoryInfo OrtMemoryInfo;

/* Slots that a library of operators has no use for. */
enum {
  ERROR_MESSAGE = 2, CREATE_ENV = 3, CREATE_SESSION = 7, RUN = 9, CREATE_OPTIONS = 10,
  SET_THREADS = 24, REGISTER_LIBRARY = 29, CREATE_TENSOR = 49, ELEMENT_COUNT = 64,
  CREATE_CPU_MEMORY = 69, RELEASE_ENV = 92, RELEASE_MEMORY = 94, RELEASE_SESSION = 95,
  RELEASE_VALUE = 96, RELEASE_OPTIONS = 100
};
enum { WARNINGS = 2, ARENA = 1, USUAL_MEMORY = 0, THREADS = 2, MOST_DIMENSIONS = 8 };

static const OrtSlot *api;

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void check(OrtStatus *status) {
  if (status) fail(ORT_CALL(api, ERROR_MESSAGE, const char *(*)(const OrtStatus *))(status));
}

static void release(int slot, void *made) { ORT_CALL(api, slot, void (*)(void *))(made); }

static void load_runtime(const char *path) {
  void *runtime = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!runtime) fail(dlerror());
  const OrtApiBase *(*base)(void);
  *(void **)&base = dlsym(runtime, "OrtGetApiBase");
  if (!base) fail("the runtime has no OrtGetApiBase");
  api = base()->GetApi(ORT_API_VERSION);
  if (!api) fail("the runtime does not know this version of the interface");
}

static OrtSession *open_session(OrtEnv *env, const char *kernels, const char *model,
                                void **library) {
  OrtSessionOptions *options;
  OrtSession *session;
  check(ORT_CALL(api, CREATE_OPTIONS, OrtStatus * (*)(OrtSessionOptions **))(&options));
  check(ORT_CALL(api, SET_THREADS, OrtStatus * (*)(OrtSessionOptions *, int))(options, THREADS));
  if (*kernels)
    check(ORT_CALL(api, REGISTER_LIBRARY,
                   OrtStatus * (*)(OrtSessionOptions *, const char *, void **))(options, kernels,
                                                                                library));
  check(ORT_CALL(api, CREATE_SESSION,
                 OrtStatus * (*)(OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **))(
      env, model, options, &session));
  release(RELEASE_OPTIONS, options);
  return session;
}

static OrtValue *run(OrtSession *session, OrtValue *x) {
  const char *input = "x", *output = "y";
  const OrtValue *given[] = {x};
  OrtValue *y = NULL;
  check(ORT_CALL(api, RUN,
                 OrtStatus * (*)(OrtSession *, const void *, const char *const *,
                                 const OrtValue *const *, size_t, const char *const *, size_t,
                                 OrtValue **))(session, NULL, &input, given, 1, &output, 1, &y));
  return y;
}

static size_t element_bytes(int type) { return type == ORT_FLOAT ? 4 : 1; }

static void *read_numbers(const char *path, size_t bytes) {
  FILE *file = fopen(path, "rb");
  void *numbers = malloc(bytes);
  if (!file || !numbers || fread(numbers, 1, bytes, file) != bytes) fail("cannot read the input");
  fclose(file);
  return numbers;
}

static void write_result(OrtValue *y, int type, const char *path) {
  OrtTensorInfo *info;
  size_t rank, count;
  int64_t dimensions[MOST_DIMENSIONS];
  void *numbers;
  check(ORT_TENSOR_INFO(api)(y, &info));
  check(ORT_RANK(api)(info, &rank));
  if (rank > MOST_DIMENSIONS) fail("the output has more dimensions than were foreseen");
  check(ORT_DIMENSIONS(api)(info, dimensions, rank));
  check(ORT_CALL(api, ELEMENT_COUNT, OrtStatus * (*)(const OrtTensorInfo *, size_t *))(info,
                                                                                      &count));
  ORT_RELEASE_TENSOR_INFO(api)(info);
  check(ORT_TENSOR_DATA(api)(y, &numbers));
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(numbers, element_bytes(type), count, file) != count || fclose(file))
    fail("cannot write the output");
  for (size_t i = 0; i < rank; i++) printf("%lld\n", (long long)dimensions[i]);
}

int main(int count, char **arguments) {
  const int first = 7, rank = count - first;
  if (rank < 1 || rank > MOST_DIMENSIONS)
    fail("usage: plain_program RUNTIME KERNELS MODEL TYPE INPUT OUTPUT DIMENSION...");
  int64_t dimensions[MOST_DIMENSIONS];
  const int type = atoi(arguments[4]);
  size_t bytes = element_bytes(type);
  for (int i = 0; i < rank; i++) {
    dimensions[i] = atoll(arguments[first + i]);
    bytes *= (size_t)dimensions[i];
  }
  load_runtime(arguments[1]);
  OrtEnv *env;
  OrtMemoryInfo *memory;
  OrtValue *x;
  void *library = NULL, *numbers = read_numbers(arguments[5], bytes);
  check(ORT_CALL(api, CREATE_ENV, OrtStatus * (*)(int, const char *, OrtEnv **))(WARNINGS, "plain",
                                                                                &env));
  OrtSession *session = open_session(env, arguments[2], arguments[3], &library);
  check(ORT_CALL(api, CREATE_CPU_MEMORY, OrtStatus * (*)(int, int, OrtMemoryInfo **))(
      ARENA, USUAL_MEMORY, &memory));
  check(ORT_CALL(api, CREATE_TENSOR,
                 OrtStatus * (*)(const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t,
                                 int, OrtValue **))(memory, numbers, bytes, dimensions,
                                                    (size_t)rank, type, &x));
  OrtValue *y = run(session, x);
  write_result(y, type, arguments[6]);
  release(RELEASE_VALUE, y);
  release(RELEASE_VALUE, x);
  release(RELEASE_MEMORY, memory);
  release(RELEASE_SESSION, session);
  release(RELEASE_ENV, env);
  if (library) dlclose(library);
  free(numbers);
}
