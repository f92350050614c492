/* Matrix products of uint8 and int8: which family computes one, and what both share. */
#include "int8.h"

typedef struct {
  AsRequantize how;
  int32_t *start;
  AsInt8Broadcast *broadcast; /* one of the two, or both */
  AsInt8Permute *permute;
} Packed;

enum { FEW_ROWS = 4 /* up to which columns of rows would mostly be empty */ };
/* A word of the permute family takes longer: it is selected before it is multiplied. */
static const double PERMUTE_COST = 1.15;

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
  const char *problem = as_int8_broadcast_create(spec, &spec->plan, &packed->broadcast);
  if (problem || !packed->permute) return problem;
  if (PERMUTE_COST * (double)as_int8_permute_words(packed->permute) <
      (double)as_int8_broadcast_words(packed->broadcast)) {
    as_int8_broadcast_destroy(packed->broadcast);
    packed->broadcast = NULL;
  }
  return NULL;
}

static const char *create(AsLayer *layer) {
  const AsLayerSpec *spec = &layer->spec;
  Packed *packed = layer->packed = as_allocate(sizeof *packed);
  if (!packed) return "out of memory";
  const char *problem = as_requantize_create(spec, AS_INT8_MORE, &packed->how, &packed->start);
  return problem ? problem : choose(spec, packed);
}

static const char *run(const AsLayer *layer, const AsCall *call, const AsParallel *parallel) {
  const Packed *packed = layer->packed;
  const AsInt8Run given = {&layer->spec, &packed->how, packed->start, call, parallel};
  const int permute = packed->permute && (!packed->broadcast || call->rows <= FEW_ROWS);
  const int done = permute ? as_int8_permute_run(packed->permute, &given)
                           : as_int8_broadcast_run(packed->broadcast, &given);
  return done ? NULL : "a sparse layer ran out of memory";
}

static void destroy(AsLayer *layer) {
  Packed *packed = layer->packed;
  if (!packed) return;
  as_int8_broadcast_destroy(packed->broadcast);
  as_int8_permute_destroy(packed->permute);
  as_requantize_destroy(&packed->how);
  as_free(packed->start);
  as_free(packed);
}

const AsOperator as_linear_int8 = {create, run, destroy};
