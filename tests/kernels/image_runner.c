/* Runs the layers of a memory image, as `memory_image.py` writes it, and appends what each of them
 * computes to a file.
 *
 *   image_runner IMAGE OUTPUTS [INSTRUCTION_SET]
 *
 * Prints the instruction set. Inputs, residuals and outputs end where memory ends, so that an
 * access beyond them is a fault. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "autosparse_kernels.h"

/* Pointers are offsets from the begin of the image, or zero. */
typedef struct {
  AsLayerSpec spec;
  AsCall call;
  int64_t input_bytes, residual_bytes, output_bytes;
} Case;

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void serial(void *context, void (*task)(void *data, size_t index), size_t count,
                   void *data) {
  (void)context;
  while (count--) task(data, count);
}

static char *read_image(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail("cannot read the image");
  const long bytes = ftell(file);
  char *image = bytes > 0 ? malloc((size_t)bytes) : NULL;
  rewind(file);
  if (!image || fread(image, 1, (size_t)bytes, file) != (size_t)bytes)
    fail("cannot read the image");
  fclose(file);
  return image;
}

static const void *within(const char *image, const void *offset) {
  return offset ? image + (uintptr_t)offset : NULL;
}

typedef struct {
  char *memory, *data;
  size_t used, page;
} Buffer;

static Buffer at_end_of_page(int64_t bytes, const void *content) {
  Buffer made = {.page = (size_t)sysconf(_SC_PAGESIZE)};
  made.used = ((size_t)bytes + made.page - 1) / made.page * made.page;
  made.memory = mmap(NULL, made.used + made.page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (made.memory == MAP_FAILED || mprotect(made.memory + made.used, made.page, PROT_NONE))
    fail("out of memory");
  made.data = made.memory + made.used - bytes;
  if (content) memcpy(made.data, content, (size_t)bytes);
  return made;
}

static void give_back(Buffer buffer) { munmap(buffer.memory, buffer.used + buffer.page); }

static void run(const char *image, Case given, FILE *outputs) {
  AsLayerSpec *spec = &given.spec;
  spec->positions = within(image, spec->positions);
  spec->fp32_values = within(image, spec->fp32_values);
  spec->int8_values = within(image, spec->int8_values);
  spec->bf16_values = within(image, spec->bf16_values);
  spec->bias = within(image, spec->bias);
  spec->weight_steps = within(image, spec->weight_steps);
  spec->norm_scale = within(image, spec->norm_scale);
  spec->norm_shift = within(image, spec->norm_shift);
  const Buffer input = at_end_of_page(given.input_bytes, within(image, given.call.input));
  const Buffer residual = at_end_of_page(given.residual_bytes, within(image, given.call.residual));
  const Buffer output = at_end_of_page(given.output_bytes, NULL);
  given.call.input = input.data;
  if (given.call.residual) given.call.residual = (const float *)(const void *)residual.data;
  given.call.output = output.data;
  AsLayer *layer;
  const char *problem = as_layer_create(spec, &layer);
  if (problem) fail(problem);
  const AsParallel parallel = {NULL, serial};
  problem = as_layer_run(layer, &given.call, &parallel);
  if (problem) fail(problem);
  as_layer_destroy(layer);
  if (fwrite(output.data, 1, (size_t)given.output_bytes, outputs) != (size_t)given.output_bytes)
    fail("cannot write the outputs");
  give_back(input);
  give_back(residual);
  give_back(output);
}

int main(int count, char **arguments) {
  if (count < 3) fail("usage: image_runner IMAGE OUTPUTS [INSTRUCTION_SET]");
  char *image = read_image(arguments[1]);
  FILE *outputs = fopen(arguments[2], "wb");
  if (!outputs) fail("cannot write the outputs");
  const char *problem = count > 3 ? as_force_instruction_set(arguments[3]) : NULL;
  if (problem) fail(problem);
  int64_t cases;
  memcpy(&cases, image, sizeof cases);
  for (int64_t i = 0; i < cases; i++) {
    Case given;
    memcpy(&given, image + sizeof cases + (size_t)i * sizeof given, sizeof given);
    run(image, given, outputs);
  }
  free(image);
  if (fclose(outputs)) fail("cannot write the outputs");
  printf("%s\n", as_instruction_set());
}
