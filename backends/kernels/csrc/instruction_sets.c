/* Which of the compiled instruction sets this processor has. */
#include <string.h>

#include "convolution.h"

static const AsInstructionSet *forced;

#if defined(__x86_64__)
extern const AsSteps as_steps_baseline, as_steps_avx2, as_steps_avx512, as_steps_avx512_vnni;
extern const AsConvSteps as_conv_steps_baseline, as_conv_steps_avx2, as_conv_steps_avx512,
    as_conv_steps_avx512_vnni;

static int always(void) { return 1; }
static int has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}
static int has_avx512_vnni(void) {
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static const AsInstructionSet sets[] = {
    {"baseline", 4, &as_steps_baseline, &as_conv_steps_baseline, always},
    {"avx2", 8, &as_steps_avx2, &as_conv_steps_avx2, has_avx2},
    {"avx512", 16, &as_steps_avx512, &as_conv_steps_avx512, has_avx512},
    {"avx512-vnni", 16, &as_steps_avx512_vnni, &as_conv_steps_avx512_vnni, has_avx512_vnni},
};
#elif defined(__aarch64__)
extern const AsSteps as_steps_neon;
extern const AsConvSteps as_conv_steps_neon;
static int always(void) { return 1; }
static const AsInstructionSet sets[] = {{"neon", 4, &as_steps_neon, &as_conv_steps_neon, always}};
#else
#error "no kernels for this architecture"
#endif

enum { SETS = sizeof sets / sizeof *sets };

const AsInstructionSet *as_current_set(void) {
  if (forced) return forced;
  for (int i = SETS - 1; i > 0; i--)
    if (sets[i].supported()) return &sets[i];
  return &sets[0];
}

const char *as_instruction_set(void) { return as_current_set()->name; }

const char *as_force_instruction_set(const char *name) {
  for (int i = 0; i < SETS; i++) {
    if (strcmp(sets[i].name, name)) continue;
    if (!sets[i].supported()) return "this processor does not have that instruction set";
    forced = &sets[i];
    return NULL;
  }
  return "no such instruction set in this library";
}
