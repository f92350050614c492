/* The two families that compute fp32 matrix products, behind the operator in linear_fp32.c. */
#ifndef AUTOSPARSE_LINEAR_FP32_H
#define AUTOSPARSE_LINEAR_FP32_H

#include "internal.h"

/* `create` may set `*made` and still fail: then it is to be destroyed all the same. */
typedef struct AsLinearBroadcast AsLinearBroadcast;
const char *as_linear_broadcast_create(const AsLayerSpec *spec, const AsPlan *plan,
                                       AsLinearBroadcast **made);
const char *as_linear_broadcast_run(const AsLinearBroadcast *packed, const AsCall *call,
                                    const AsParallel *parallel);
void as_linear_broadcast_destroy(AsLinearBroadcast *packed);

typedef struct AsLinearPermute AsLinearPermute;
/* Whether the processor, the library and the sizes allow it. */
int as_linear_permute_possible(const AsLayerSpec *spec);
const char *as_linear_permute_create(const AsLayerSpec *spec, const AsPlan *plan,
                                     AsLinearPermute **made);
const char *as_linear_permute_run(const AsLinearPermute *packed, const AsCall *call,
                                  const AsParallel *parallel);
void as_linear_permute_destroy(AsLinearPermute *packed);

#endif
