/* Sparse fp32 matrix products: which family runs, and the usual plan of each. */
#include "linear_fp32.h"

#include "dense.h"

/* What an untuned layer uses. Measured on Zen 5 for 384x384 to 3072x768 at 70 to 95 % zeros.
 *
 * Broadcast: 4 registers by 4 output channels are 16 sums, half of what AVX-512 and NEON have;
 * with 16 registers (AVX2, SSE) it is 4 by 2. The bytes of a depth block's tile decide most: many
 * non-zeros want a block inside the first cache, few of them rather want to read and write their
 * sums less often. Nothing that was tried is more than 8 % faster than these at 64 rows and more,
 * or 17 % at 16 rows.
 *
 * Permute: up to 8 rows, whatever the shape and density (at 8 rows the two are about even); with
 * AVX2, which permutes half as much at a time, up to 2. Windows of 2 registers: those of 4 leave
 * a quarter less to fill up, but take twice the permutations. */
enum {
  USUAL_VECTORS = 4,
  USUAL_WINDOW = 2,
};

static int usual_rows(const AsInstructionSet *set) {
#if defined(__aarch64__)
  (void)set;
  return 4;
#else
  return set->lanes == 16 ? 4 : 2;
#endif
}

static int64_t permute_rows(const AsInstructionSet *set) { return set->lanes == 16 ? 8 : 2; }

static int64_t usual_block_bytes(const AsLayerSpec *spec) {
  const double density = (double)spec->runs / ((double)spec->outputs * (double)spec->depth);
  return density > 0.15 ? 32 << 10 : density > 0.07 ? 48 << 10 : 64 << 10;
}

typedef struct {
  AsLinearBroadcast *broadcast;
  AsLinearPermute *permute;
  AsDenseLayer *dense; /* alone, where there are no zeros to skip */
  int64_t permute_rows; /* up to here the permute family runs; 0 where there is none */
  int64_t lanes;
} Packed;

static int32_t wished(int32_t wish, int32_t usual) { return wish > 0 ? wish : usual; }

static AsPlan broadcast_plan(const AsLayerSpec *spec) {
  const AsInstructionSet *set = as_current_set();
  const int asked = spec->plan.family != AS_PERMUTE; /* else its numbers mean something else */
  const int32_t vectors = wished(asked ? spec->plan.vectors : 0, USUAL_VECTORS);
  const int64_t depth = usual_block_bytes(spec) / (vectors * set->lanes * (int64_t)sizeof(float));
  return (AsPlan){
      .family = AS_BROADCAST,
      .vectors = vectors,
      .rows = wished(asked ? spec->plan.rows : 0, usual_rows(set)),
      .depth = asked && spec->plan.depth > 0 ? spec->plan.depth : (int32_t)depth,
  };
}

static AsPlan permute_plan(const AsLayerSpec *spec) {
  const int asked = spec->plan.family == AS_PERMUTE;
  return (AsPlan){
      .family = AS_PERMUTE,
      .vectors = wished(asked ? spec->plan.vectors : 0, USUAL_WINDOW),
      .rows = wished(asked ? spec->plan.rows : 0, 0),
  };
}

static const char *create(AsLayer *layer) {
  const AsLayerSpec *spec = &layer->spec;
  Packed *packed = as_allocate(sizeof *packed);
  if (!packed) return "out of memory";
  layer->packed = packed;
  packed->lanes = as_current_set()->lanes;
  if (as_dense_possible(spec)) return as_dense_create(spec, &packed->dense);
  const int only_permute = spec->plan.family == AS_PERMUTE;
  if (spec->plan.family != AS_BROADCAST && as_linear_permute_possible(spec)) {
    const AsPlan plan = permute_plan(spec);
    const char *problem = as_linear_permute_create(spec, &plan, &packed->permute);
    if (!problem) {
      packed->permute_rows = only_permute ? INT64_MAX : permute_rows(as_current_set());
      if (only_permute) return NULL;
    } else { /* too much for it: the other family computes every number of rows as well */
      as_linear_permute_destroy(packed->permute);
      packed->permute = NULL;
    }
  }
  const AsPlan plan = broadcast_plan(spec);
  return as_linear_broadcast_create(spec, &plan, &packed->broadcast);
}

static AsCall rows_from(const AsLayerSpec *spec, const AsCall *call, int64_t first, int64_t rows) {
  AsCall part = *call;
  part.input = (const float *)call->input + first * spec->depth;
  part.output = (float *)call->output + first * spec->outputs;
  if (call->residual) part.residual = call->residual + first * spec->outputs;
  part.rows = rows;
  return part;
}

static const char *run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel) {
  const Packed *packed = layer->packed;
  if (packed->dense) return as_dense_run(packed->dense, call, NULL, NULL, parallel);
  if (call->rows <= packed->permute_rows)
    return as_linear_permute_run(packed->permute, call, parallel);
  /* a few rows that would want a register of their own cost less by the other family */
  const int64_t rest = call->rows % packed->lanes;
  if (rest == 0 || rest > packed->permute_rows / 2)
    return as_linear_broadcast_run(packed->broadcast, call, parallel);
  const AsCall most = rows_from(&layer->spec, call, 0, call->rows - rest);
  const AsCall last = rows_from(&layer->spec, call, call->rows - rest, rest);
  const char *problem = as_linear_broadcast_run(packed->broadcast, &most, parallel);
  return problem ? problem : as_linear_permute_run(packed->permute, &last, parallel);
}

static void destroy(AsLayer *layer) {
  Packed *packed = layer->packed;
  if (!packed) return;
  as_linear_broadcast_destroy(packed->broadcast);
  as_linear_permute_destroy(packed->permute);
  as_dense_destroy(packed->dense);
  as_free(packed);
}

const AsOperator as_linear_fp32 = {create, run, destroy};
