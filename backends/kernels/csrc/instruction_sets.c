/* Which of the compiled instruction sets this processor has. */
#include <stdatomic.h>
#include <string.h>

#include "bf16.h"
#include "convolution.h"

/* A set that extends another one multiplies bytes in another way, which kernels do; what surrounds
 * these is the same code: targets.py. */
#if defined(__x86_64__)
#include <cpuid.h>

extern const AsSteps as_steps_baseline, as_steps_avx2, as_steps_avx512;
extern const AsConvSteps as_conv_steps_baseline, as_conv_steps_avx2, as_conv_steps_avx512;
extern const AsBf16Steps as_bf16_steps_baseline, as_bf16_steps_avx2, as_bf16_steps_avx512,
    as_bf16_steps_avx512_bf16;

/* The processor is asked here, since not every compiler's __builtin_cpu_supports does: that of zig
 * denies everything. What x86-64-v3 and v4 comprise, as bits of the registers of CPUID. */
/* SSE3 SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT OSXSAVE AVX F16C */
static const uint32_t V3_ECX_OF_1 =
    1u | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 | 1u << 27 |
    1u << 28 | 1u << 29;
static const uint32_t V3_EBX_OF_7 = 1u << 3 | 1u << 5 | 1u << 8; /* BMI1 AVX2 BMI2 */
static const uint32_t V3_ECX_OF_80000001 = 1u | 1u << 5;         /* LAHF LZCNT */
/* AVX512 F DQ CD BW VL */
static const uint32_t V4_EBX_OF_7 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
static const uint32_t VNNI_ECX_OF_7 = 1u << 11;
static const uint32_t AVX_VNNI_EAX_OF_7_1 = 1u << 4; /* the same for registers of 256 bits alone */
static const uint32_t AVX512_BF16_EAX_OF_7_1 = 1u << 5;
/* Registers that the operating system keeps for a program. */
static const uint32_t KEEPS_YMM = 0x6, KEEPS_ZMM = 0xe6;

typedef struct {
  uint32_t a, b, c, d;
} Registers;

static Registers cpuid_of(uint32_t leaf, uint32_t part) {
  Registers r = {0, 0, 0, 0};
  return __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d) ? r : (Registers){0, 0, 0, 0};
}

static Registers cpuid(uint32_t leaf) { return cpuid_of(leaf, 0); }

static int all_of(uint32_t bits, uint32_t wanted) { return (bits & wanted) == wanted; }

static int keeps(uint32_t wanted) { /* only where there is OSXSAVE */
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return all_of(low, wanted);
}

static int always(void) { return 1; }
static int has_avx2(void) {
  return all_of(cpuid(1).c, V3_ECX_OF_1) && all_of(cpuid(7).b, V3_EBX_OF_7) &&
         all_of(cpuid(0x80000001).c, V3_ECX_OF_80000001) && keeps(KEEPS_YMM);
}
static int has_avx2_vnni(void) {
  return has_avx2() && cpuid(7).a >= 1 && all_of(cpuid_of(7, 1).a, AVX_VNNI_EAX_OF_7_1);
}
static int has_avx512(void) {
  return has_avx2() && all_of(cpuid(7).b, V4_EBX_OF_7) && keeps(KEEPS_ZMM);
}
static int has_avx512_vnni(void) { return has_avx512() && all_of(cpuid(7).c, VNNI_ECX_OF_7); }
static int has_avx512_bf16(void) {
  return cpuid(7).a >= 1 && all_of(cpuid_of(7, 1).a, AVX512_BF16_EAX_OF_7_1);
}

static const AsInstructionSet sets[] = {
    {"baseline", 4, &as_steps_baseline, &as_conv_steps_baseline, &as_bf16_steps_baseline, always},
    {"avx2", 8, &as_steps_avx2, &as_conv_steps_avx2, &as_bf16_steps_avx2, has_avx2},
    {"avx2-vnni", 8, &as_steps_avx2, &as_conv_steps_avx2, &as_bf16_steps_avx2, has_avx2_vnni},
    {"avx512", 16, &as_steps_avx512, &as_conv_steps_avx512, &as_bf16_steps_avx512, has_avx512},
    {"avx512-vnni", 16, &as_steps_avx512, &as_conv_steps_avx512, &as_bf16_steps_avx512,
     has_avx512_vnni},
};
#elif defined(__aarch64__)
#include <sys/auxv.h>

extern const AsSteps as_steps_neon;
extern const AsConvSteps as_conv_steps_neon;
extern const AsBf16Steps as_bf16_steps_neon;

static int always(void) { return 1; }
static int has_dotprod(void) {
  const unsigned long asimddp = 1ul << 20; /* HWCAP_ASIMDDP, which old headers lack */
  return (getauxval(AT_HWCAP) & asimddp) != 0;
}

static const AsInstructionSet sets[] = {
    {"neon", 4, &as_steps_neon, &as_conv_steps_neon, &as_bf16_steps_neon, always},
    {"neon-dotprod", 4, &as_steps_neon, &as_conv_steps_neon, &as_bf16_steps_neon, has_dotprod},
};
#else
#error "no kernels for this architecture"
#endif

enum { SETS = sizeof sets / sizeof *sets };

/* What was forced, or found; asking the processor may take microseconds in a virtual machine. */
static _Atomic(const AsInstructionSet *) current;

const AsInstructionSet *as_current_set(void) {
  const AsInstructionSet *known = atomic_load_explicit(&current, memory_order_relaxed);
  if (known) return known;
  int best = SETS - 1;
  while (best > 0 && !sets[best].supported()) best--;
  atomic_store_explicit(&current, &sets[best], memory_order_relaxed);
  return &sets[best];
}

const AsBf16Steps *as_bf16_steps(void) {
  const AsInstructionSet *set = as_current_set();
#if defined(__x86_64__)
  if (set == &sets[SETS - 1] && has_avx512_bf16()) return &as_bf16_steps_avx512_bf16;
#endif
  return set->bf16_steps;
}

const char *as_instruction_set(void) { return as_current_set()->name; }

int as_has_instruction_set(const char *name) {
  for (int i = 0; i < SETS; i++)
    if (!strcmp(sets[i].name, name)) return sets[i].supported();
  return 0;
}

const char *as_force_instruction_set(const char *name) {
  for (int i = 0; i < SETS; i++) {
    if (strcmp(sets[i].name, name)) continue;
    if (!sets[i].supported()) return "this processor does not have that instruction set";
    atomic_store_explicit(&current, &sets[i], memory_order_relaxed);
    return NULL;
  }
  return "no such instruction set in this library";
}
