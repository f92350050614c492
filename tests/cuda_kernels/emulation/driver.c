/* The functions of NVIDIA's driver that `driver.py` calls, for a GPU that is emulated. They check
 * what a driver would check, and answer with its numbers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "emulator.h"

enum { NO_DEVICE = 100, INVALID_VALUE = 1, INVALID_CONTEXT = 201, NOT_FOUND = 500, FAILED = 719 };
enum { MAJOR = 75, MINOR = 76, SHARED_BYTES = 8, GRANTED_BEFORE = 48 << 10 };

/* What tests change and look at. */
int as_device_count = 1, as_device_major = 9, as_launches;
static int ready, current, granted = GRANTED_BEFORE;

int cuInit(unsigned flags) {
  ready = flags == 0;
  return as_device_count < 0 ? NO_DEVICE : 0;
}

int cuDeviceGetCount(int *count) {
  *count = as_device_count;
  return ready ? 0 : 3;
}

int cuDeviceGet(int *device, int ordinal) {
  *device = 40 + ordinal;
  return ordinal < as_device_count ? 0 : 101;
}

int cuDeviceGetName(char *name, int size, int device) {
  strncpy(name, "emulated", (size_t)size);
  return device == 40 ? 0 : 101;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == MAJOR ? as_device_major : attribute == MINOR ? 0 : -1;
  return device == 40 ? 0 : 101;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = &current;
  return device == 40 ? 0 : 101;
}

int cuCtxSetCurrent(void *context) {
  current = context == &current;
  return current ? 0 : INVALID_CONTEXT;
}

int cuModuleLoadData(void **module, const void *image) {
  *module = &ready;
  return memcmp(image, "\x7f" "ELF", 4) ? 200 : current ? 0 : INVALID_CONTEXT;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
  *function = dlsym(RTLD_DEFAULT, name);
  if (!*function) { /* the library may have been loaded for itself */
    Dl_info own;
    if (!dladdr((void *)&as_launches, &own)) return NOT_FOUND;
    void *const library = dlopen(own.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *function = library ? dlsym(library, name) : NULL;
  }
  return module == &ready && *function ? 0 : NOT_FOUND;
}

int cuFuncSetAttribute(void *function, int attribute, int value) {
  if (!function || attribute != SHARED_BYTES || value > 227 << 10) return INVALID_VALUE;
  granted = value > GRANTED_BEFORE ? value : GRANTED_BEFORE;
  return 0;
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   void *stream, void **parameters, void **extra) {
  if (grid_z != 1 || block_y != 1 || block_z != 1 || extra || stream) return INVALID_VALUE;
  if (!grid_x || !grid_y || !block_x || (int)shared_bytes > granted) return INVALID_VALUE;
  const AsLaunch how = {(int)grid_x, (int)grid_y, (int)block_x, (int)shared_bytes, 0};
  void (*kernel)(AsLinear);
  memcpy(&kernel, &function, sizeof kernel);
  as_launches++;
  return *as_emulate(kernel, parameters[0], &how) ? FAILED : 0;
}

int cuGetErrorString(int status, const char **text) {
  *text = status == NO_DEVICE       ? "no CUDA-capable device is detected"
          : status == NOT_FOUND     ? "named symbol not found"
          : status == INVALID_VALUE ? "invalid argument"
                                    : NULL;
  return 0;
}
