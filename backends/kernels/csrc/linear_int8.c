/* Matrix products of uint8 and int8: which family computes one, and what both share. */
#include "dense.h"

typedef struct {
  AsRequantize how;
  int32_t *start;
  AsInt8Broadcast *broadcast; /* one of the two, or both */
  AsInt8Broadcast *short_tiles; /* the same weight for some rows, or NULL */
  AsInt8Permute *permute;
  AsDenseLayer *dense; /* alone, where there are no zeros to skip */
  int64_t short_rows; /* up to which `short_tiles` runs */
} Packed;

/* Tiles of one or two registers of rows: the sums of 8 output channels fit into the registers of
 * AVX-512, and their depth, in larger blocks, into the first cache. Measured on Zen 5: 16 rows of
 * 768x768 to 3072x768 take 8 % less time at 75 % zeros and 9 % at 90 % than with the usual plan,
 * which from 128 rows on takes up to 5 % less; but at a tenth of the weights and 768 features or
 * more, these tiles take 4 to 8 % less at 128 rows, too, and at 512 up to 2 %. */
enum { SHORT_REGISTERS = 2, SHORT_LANES = 16, DEEP = 512 };
static const AsPlan SHORT_PLAN = {AS_BROADCAST, SHORT_REGISTERS, 8, 1024};

enum { FEW_ROWS = 4 /* up to which columns of rows would mostly be empty */ };
/* A word of the permute family takes longer: it is selected before it is multiplied. */
static const double PERMUTE_COST = 1.15;

/* Short tiles for every number of rows, or beside the usual ones, at the cost of a second copy of
 * the non-zeros; neither where somebody asked for another plan. */
static const char *create_broadcast(const AsLayerSpec *spec, Packed *packed) {
  const AsPlan *plan = &spec->plan;
  const int lanes = as_current_set()->lanes;
  const int shorter = lanes == SHORT_LANES && !plan->vectors && !plan->rows && !plan->depth;
  const int always = shorter && spec->depth >= DEEP && as_int8_density(spec) <= AS_INT8_FEW;
  const char *problem =
      as_int8_broadcast_create(spec, always ? &SHORT_PLAN : plan, &packed->broadcast);
  if (problem || !shorter || always) return problem;
  packed->short_rows = SHORT_REGISTERS * lanes;
  return as_int8_broadcast_create(spec, &SHORT_PLAN, &packed->short_tiles);
}

/* The permute family alone where it has less to do, else beside the other for few rows. */
static const char *choose(const AsLayerSpec *spec, Packed *packed) {
  const int32_t family = spec->plan.family;
  if (family != AS_BROADCAST && as_int8_permute_possible(spec)) {
    const char *problem = as_int8_permute_create(spec, &spec->plan, &packed->permute);
    if (!problem && family == AS_PERMUTE) return NULL;
    if (problem) { /* too much for it: the other family computes every weight */
      as_int8_permute_destroy(packed->permute);
      packed->permute = NULL;
    }
  }
  const char *problem = create_broadcast(spec, packed);
  if (problem || !packed->permute) return problem;
  if (PERMUTE_COST * (double)as_int8_permute_words(packed->permute) <
      (double)as_int8_broadcast_words(packed->broadcast)) {
    as_int8_broadcast_destroy(packed->broadcast);
    as_int8_broadcast_destroy(packed->short_tiles);
    packed->broadcast = packed->short_tiles = NULL;
  }
  return NULL;
}

static const char *create(AsLayer *layer) {
  const AsLayerSpec *spec = &layer->spec;
  Packed *packed = layer->packed = as_allocate(sizeof *packed);
  if (!packed) return "out of memory";
  const char *problem = as_requantize_create(spec, AS_INT8_MORE, &packed->how, &packed->start);
  if (problem) return problem;
  return as_dense_possible(spec) ? as_dense_create(spec, &packed->dense) : choose(spec, packed);
}

static const char *run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel) {
  const Packed *packed = layer->packed;
  const AsInt8Run given = {&layer->spec, &packed->how, packed->start, call, parallel};
  if (packed->dense)
    return as_dense_run(packed->dense, call, &packed->how, packed->start, parallel);
  const int permute = packed->permute && (!packed->broadcast || call->rows <= FEW_ROWS);
  const AsInt8Broadcast *broadcast =
      call->rows <= packed->short_rows ? packed->short_tiles : packed->broadcast;
  return permute ? as_int8_permute_run(packed->permute, &given)
                 : as_int8_broadcast_run(broadcast, &given);
}

static void destroy(AsLayer *layer) {
  Packed *packed = layer->packed;
  if (!packed) return;
  as_int8_broadcast_destroy(packed->broadcast);
  as_int8_broadcast_destroy(packed->short_tiles);
  as_int8_permute_destroy(packed->permute);
  as_dense_destroy(packed->dense);
  as_requantize_destroy(&packed->how);
  as_free(packed->start);
  as_free(packed);
}

const AsOperator as_linear_int8 = {create, run, destroy};
