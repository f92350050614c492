#define _POSIX_C_SOURCE 200809L

#include "parameters.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGNMENT = 64 };

static const char DAMAGED[] = "the file of parameters is damaged: copy it again";

static const char *map_file(const char *path, Parameters *made) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return "the file of parameters cannot be opened: is the path right?";
  struct stat found;
  if (fstat(file, &found) || found.st_size < (off_t)sizeof(ParameterHeader)) {
    close(file);
    return DAMAGED;
  }
  void *map = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (map == MAP_FAILED) return "the file of parameters cannot be mapped into memory";
  made->map = map;
  made->bytes = (size_t)found.st_size;
  return NULL;
}

/* The words that hold the sums count as zero, and everything else is under them. */
static int sums_agree(const Parameters *made, const ParameterHeader *header) {
  enum { SUM = offsetof(ParameterHeader, sum) / sizeof(uint64_t) };
  const uint64_t *words = (const uint64_t *)(const void *)made->map;
  const size_t count = made->bytes / sizeof *words;
  uint64_t sum = 0, weighted = 0;
  for (size_t i = 0; i < count; i++) {
    sum += words[i];
    weighted += words[i] * (uint64_t)(i + 1);
  }
  sum -= header->sum + header->weighted_sum;
  weighted -= header->sum * (SUM + 1) + header->weighted_sum * (SUM + 2);
  return sum == header->sum && weighted == header->weighted_sum;
}

/* The graph's own code is compiled for one instruction set, unlike the kernels. */
static const char *check_processor(void) {
  static _Thread_local char sentence[160];
  const char *needed = as_artifact_identity + CODE_CHARACTERS;
  if (as_has_instruction_set(needed)) return NULL;
  snprintf(sentence, sizeof sentence,
           "the model was compiled for %s, and the best that this processor has is %s", needed,
           as_instruction_set());
  return sentence;
}

static const char *check_header(const Parameters *made) {
  const ParameterHeader *header = (const void *)made->map;
  if (memcmp(header->magic, "ASPARAMS", sizeof header->magic))
    return "this is no file of parameters that AutoSparse wrote";
  if (header->version != PARAMETERS_VERSION)
    return "the file of parameters is of another version than the library";
  if (header->bytes != made->bytes || made->bytes % sizeof(uint64_t)) return DAMAGED;
  if (!sums_agree(made, header)) return DAMAGED;
  const size_t records = header->layers * sizeof(LayerRecord) +
                         header->tensors * sizeof(TensorRecord) + sizeof *header;
  if (records > made->bytes) return DAMAGED;
  if (memcmp(header->code, as_artifact_identity, CODE_CHARACTERS))
    return "the file of parameters belongs to another library: take both from one bundle";
  return check_processor();
}

/* The array of `count` elements at an offset; NULL where there is none. */
static const void *array_at(const Parameters *made, int64_t offset, int64_t count, size_t bytes,
                            const char **problem) {
  if (!offset) return NULL;
  const uint64_t room = made->bytes - (uint64_t)offset;
  if (offset < 0 || offset % ALIGNMENT || (uint64_t)offset > made->bytes || count < 0 ||
      (uint64_t)count > room / bytes) {
    *problem = DAMAGED;
    return NULL;
  }
  return made->map + offset;
}

static AsLayerSpec specification(const LayerRecord *record) {
  AsLayerSpec spec = {
      .struct_bytes = sizeof spec, .operation = record->operation, .outputs = record->outputs,
      .depth = record->depth, .run = record->run, .group = record->group,
      .input_type = record->input_type, .output_type = record->output_type,
      .input_step = record->input_step, .input_zero = record->input_zero,
      .output_step = record->output_step, .output_zero = record->output_zero,
      .activation = record->activation, .activation_low = record->low,
      .activation_high = record->high, .norm_epsilon = record->epsilon,
      .channels = record->channels, .groups = record->groups,
      .plan = {record->plan[0], record->plan[1], record->plan[2], record->plan[3]},
  };
  memcpy(spec.kernel, record->kernel, sizeof spec.kernel);
  memcpy(spec.strides, record->strides, sizeof spec.strides);
  memcpy(spec.dilations, record->dilations, sizeof spec.dilations);
  memcpy(spec.pads, record->pads, sizeof spec.pads);
  return spec;
}

static const char *create_layer(const Parameters *made, const LayerRecord *record,
                                AsLayer **layer) {
  AsLayerSpec spec = specification(record);
  if (spec.run < 1 || spec.outputs < 1 || spec.depth < 1 || spec.depth % spec.run) return DAMAGED;
  const size_t run_bytes = (size_t)spec.run * (spec.input_type == AS_FP32 ? 4 : 1);
  const char *problem = NULL;
  AsStoredRuns stored = {
      .values = array_at(made, record->values, record->stored_runs, run_bytes, &problem),
      .gaps = array_at(made, record->gaps, record->stored_runs, 1, &problem),
      .stored = record->stored_runs,
      .all = spec.outputs * (spec.depth / spec.run),
      .run_bytes = run_bytes,
  };
  spec.bias = array_at(made, record->bias, spec.outputs, 4, &problem);
  spec.weight_steps = array_at(made, record->weight_steps, spec.outputs, 4, &problem);
  spec.norm_scale = array_at(made, record->norm_scale, spec.outputs, 4, &problem);
  spec.norm_shift = array_at(made, record->norm_shift, spec.outputs, 4, &problem);
  if (problem) return problem;
  AsRuns runs;
  problem = as_runs_decode(&stored, &runs);
  spec.runs = runs.count;
  spec.positions = runs.positions;
  if (spec.input_type == AS_FP32)
    spec.fp32_values = runs.values;
  else
    spec.int8_values = runs.values;
  if (!problem) problem = as_layer_create(&spec, layer);
  as_runs_release(&runs);
  return problem;
}

static const char *create_layers(const ParameterHeader *header, Parameters *made) {
  const LayerRecord *records = (const void *)(header + 1);
  made->layers = calloc(header->layers + 1, sizeof *made->layers);
  if (!made->layers) return "out of memory";
  for (; made->layer_count < header->layers; made->layer_count++) {
    const char *problem =
        create_layer(made, records + made->layer_count, made->layers + made->layer_count);
    if (problem) return problem;
  }
  return NULL;
}

static const char *view_tensors(const ParameterHeader *header, Parameters *made) {
  const TensorRecord *records =
      (const void *)((const char *)(header + 1) + header->layers * sizeof(LayerRecord));
  made->tensors = calloc(header->tensors + 1, sizeof *made->tensors);
  made->shapes = calloc(header->tensors + 1, sizeof *made->shapes);
  if (!made->tensors || !made->shapes) return "out of memory";
  for (uint32_t i = 0; i < header->tensors; i++) {
    const TensorRecord *record = records + i;
    int64_t elements = 1;
    if (record->rank < 0 || record->rank > MOST_DIMENSIONS || record->type_bits < 8)
      return DAMAGED;
    for (int64_t d = 0; d < record->rank; d++) elements *= made->shapes[i][d] = record->shape[d];
    const char *problem = NULL;
    const size_t bytes = (size_t)record->type_bits / 8;
    const void *values = array_at(made, record->values, elements, bytes, &problem);
    if (!values) return DAMAGED;
    made->tensors[i] = (DLTensor){
        .data = (void *)values, .device = {kDLCPU, 0}, .ndim = (int32_t)record->rank,
        .dtype = {(uint8_t)record->type_code, (uint8_t)record->type_bits, 1},
        .shape = made->shapes[i],
    };
    made->tensor_count++;
  }
  return NULL;
}

const char *as_parameters_open(const char *path, Parameters *made) {
  memset(made, 0, sizeof *made);
  const char *problem = map_file(path, made);
  if (!problem) problem = check_header(made);
  const ParameterHeader *header = (const void *)made->map;
  if (!problem) problem = create_layers(header, made);
  if (!problem) problem = view_tensors(header, made);
  return problem;
}

void as_parameters_release(Parameters *parameters) {
  for (int64_t i = 0; i < parameters->layer_count; i++) as_layer_destroy(parameters->layers[i]);
  free(parameters->layers);
  free(parameters->tensors);
  free(parameters->shapes);
  if (parameters->map) munmap((void *)parameters->map, parameters->bytes);
  memset(parameters, 0, sizeof *parameters);
}
