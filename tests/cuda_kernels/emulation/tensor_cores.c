/* The tensor cores, element by element, from the tables of the PTX ISA ("Matrix Fragments for
 * mma.m16n8k16", "... for sparse mma.m16n8k32 with .f16/.bf16", "... m16n8k64 with .u8/.s8"):
 * group = lane / 4, member = lane % 4.
 *
 * Which lane holds which metadata is a figure there; it is what CUTLASS makes of it
 * (`reorder_meta` and its loads by ldmatrix), which the tests compare with PyTorch's copy. */
#include <stdbool.h>
#include <string.h>

#include "emulation.h"

typedef struct {
  int depth; /* features: 16, 32 or 64 */
  double a[16][64];
  bool there[16][64]; /* what is not there is not multiplied, NaN or not */
  double b[64][8];
} Matrices;

static double real(uint32_t bits, Operation operation) {
  const bool half = operation == OP_FP16 || operation == OP_SPARSE_FP16;
  return half ? as_of_fp16((uint16_t)bits) : as_of_bf16((uint16_t)bits);
}

static double element16(const uint32_t *registers, int i, Operation operation) {
  return real(registers[i / 2] >> (i % 2 * 16) & 0xFFFF, operation);
}

static double signed8(const uint32_t *registers, int i) {
  return (int8_t)(registers[i / 4] >> (i % 4 * 8) & 0xFF);
}

static double unsigned8(const uint32_t *registers, int i) {
  return registers[i / 4] >> (i % 4 * 8) & 0xFF;
}

static void put(Matrices *m, int row, int column, double value) {
  m->a[row][column] = value;
  m->there[row][column] = true;
}

static void take_dense16(Matrices *m, Operation operation, const Lane *lane, int group,
                         int member) {
  m->depth = 16;
  for (int i = 0; i < 8; i++) {
    const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
    put(m, row, member * 2 + (i & 1) + (i >= 4 ? 8 : 0), element16(lane->a, i, operation));
  }
  for (int i = 0; i < 4; i++) {
    m->b[member * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group] = element16(lane->b, i, operation);
  }
}

static void take_dense8(Matrices *m, const Lane *lane, int group, int member) {
  m->depth = 32;
  for (int i = 0; i < 16; i++) {
    const int row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
    put(m, row, member * 4 + (i & 3) + (i >= 8 ? 16 : 0), signed8(lane->a, i));
  }
  for (int i = 0; i < 8; i++) {
    m->b[member * 4 + (i & 3) + (i >= 4 ? 16 : 0)][group] = unsigned8(lane->b, i);
  }
}

/* The indices of the two weights that a row keeps of four columns, or -1 where PTX forbids them. */
static int indices16(const Lane lanes[32], int row, int four) {
  const Lane *lane = &lanes[row % 8 * 4 + lanes[0].selector * 2 + four / 4];
  return (int)(lane->metadata >> (row / 8 * 16 + four % 4 * 4) & 15);
}

static int indices8(const Lane lanes[32], int row, int four) {
  const Lane *lane = &lanes[row % 8 * 4 + row / 8 + four / 8 * 2];
  return (int)(lane->metadata >> (four % 8 * 4) & 15);
}

static const char *keep(Matrices *m, int row, int four, int indices, int second, double value) {
  if ((indices & 3) >= indices >> 2) return "the metadata's indices are not in order";
  put(m, row, four * 4 + (second ? indices >> 2 : indices & 3), value);
  return NULL;
}

static const char *take_sparse16(Matrices *m, Operation operation, const Lane lanes[32], int at) {
  const Lane *lane = &lanes[at];
  const int group = at / 4, member = at % 4;
  m->depth = 32;
  for (int i = 0; i < 8; i++) {
    const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
    const int first = member * 4 + (i >= 4 ? 16 : 0); /* of the four columns */
    const char *problem = keep(m, row, first / 4, indices16(lanes, row, first / 4), i & 1,
                               element16(lane->a, i, operation));
    if (problem) return problem;
  }
  for (int i = 0; i < 8; i++) {
    m->b[member * 2 + (i & 1) + i / 2 * 8][group] = element16(lane->b, i, operation);
  }
  return NULL;
}

static const char *take_sparse8(Matrices *m, const Lane lanes[32], int at) {
  const Lane *lane = &lanes[at];
  const int group = at / 4, member = at % 4;
  m->depth = 64;
  for (int i = 0; i < 16; i++) {
    const int row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
    const int first = member * 8 + (i >= 8 ? 32 : 0); /* of eight columns, two groups of four */
    const int four = first / 4 + (i & 3) / 2;
    const char *problem =
        keep(m, row, four, indices8(lanes, row, four), i & 1, signed8(lane->a, i));
    if (problem) return problem;
  }
  for (int i = 0; i < 16; i++) {
    m->b[member * 4 + (i & 3) + i / 4 * 16][group] = unsigned8(lane->b, i);
  }
  return NULL;
}

static const char *take(Matrices *m, Operation operation, const Lane lanes[32], int at) {
  switch (operation) {
    case OP_FP16:
    case OP_BF16: take_dense16(m, operation, &lanes[at], at / 4, at % 4); return NULL;
    case OP_INT8: take_dense8(m, &lanes[at], at / 4, at % 4); return NULL;
    case OP_SPARSE_INT8: return take_sparse8(m, lanes, at);
    default: return take_sparse16(m, operation, lanes, at);
  }
}

static void add_products(const Matrices *m, Operation operation, Lane lanes[32]) {
  const bool integers = operation == OP_INT8 || operation == OP_SPARSE_INT8;
  for (int at = 0; at < 32; at++) {
    for (int i = 0; i < 4; i++) {
      const int row = at / 4 + (i >= 2 ? 8 : 0), column = at % 4 * 2 + (i & 1);
      uint32_t *const bits = &lanes[at].sum[i];
      float before;
      memcpy(&before, bits, 4);
      double sum = integers ? (int32_t)*bits : before;
      for (int k = 0; k < m->depth; k++) {
        if (m->there[row][k]) sum += m->a[row][k] * m->b[k][column];
      }
      const float after = (float)sum;
      if (integers) *bits = (uint32_t)(int32_t)sum;
      else memcpy(bits, &after, 4);
    }
  }
}

static void load_matrices(Lane lanes[32]) {
  for (int at = 0; at < 32; at++) {
    for (int i = 0; i < 4; i++) {
      const char *row = lanes[8 * i + at / 4].row;
      memcpy(&lanes[at].sum[i], row + at % 4 * 4, 4);
    }
  }
}

const char *as_tensor_core(Operation operation, Lane lanes[32]) {
  Matrices m;
  if (operation == OP_MATRICES) {
    load_matrices(lanes);
    return NULL;
  }
  memset(m.there, 0, sizeof m.there);
  for (int at = 0; at < 32; at++) {
    if (lanes[at].selector != lanes[0].selector) return "lanes name different selectors";
    const char *problem = take(&m, operation, lanes, at);
    if (problem) return problem;
  }
  add_products(&m, operation, lanes);
  return NULL;
}

/* Numbers of 16 bits, rounded to nearest, ties to even. */
uint16_t as_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (isnan(value)) return 0x7FFF;
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float as_of_bf16(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

uint16_t as_to_fp16(float value) {
  const uint16_t sign = signbit(value) ? 0x8000 : 0;
  const double size = fabs((double)value);
  if (isnan(value)) return 0x7FFF;
  if (size >= 65520.0) return sign | 0x7C00;
  int exponent;
  frexp(size, &exponent);
  if (size == 0.0 || exponent < -13) exponent = -13; /* denormals share the least exponent */
  const double unit = ldexp(1.0, exponent - 11);
  const int count = (int)nearbyint(size / unit); /* of units: 0 .. 2048 */
  return (uint16_t)(sign | (((exponent + 13) << 10) + count));
}

float as_of_fp16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                      : exponent == 0 ? ldexp(fraction, -24)
                                      : ldexp(1024 + fraction, exponent - 25);
  return (float)(bits & 0x8000 ? -size : size);
}

int32_t as_nearest(float value) {
  if (isnan(value)) return 0;
  if (value >= 2147483648.0f) return INT32_MAX;
  if (value < -2147483648.0f) return INT32_MIN;
  return (int32_t)nearbyint(value);
}
