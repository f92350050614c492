/* What starts an emulated kernel. */
#ifndef AUTOSPARSE_EMULATOR_H
#define AUTOSPARSE_EMULATOR_H

#include "linear.h"

typedef struct {
  int32_t grid_x, grid_y, threads, shared_bytes, order;
} AsLaunch;

/* Run a kernel; the sentence that is returned is empty where nothing went wrong. */
const char *as_emulate(void (*kernel)(AsLinear), const AsLinear *given, const AsLaunch *how);

#endif
