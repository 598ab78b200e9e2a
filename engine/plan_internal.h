/* What the planner, the executor and the profile share. */
#ifndef ENGINE_PLAN_INTERNAL_H
#define ENGINE_PLAN_INTERNAL_H

#include "engine/plan.h"

enum { NN_GUARD_BYTES = 64 };

typedef struct nn_step { /* a node that launches a kernel */
    const nn_node *node;
    const nn_kernel *kernel;
    nn_call call;
    int64_t packed_offset;
    uint64_t packed_version; /* of the weights that are packed; 0 = none */
    bool inplace;
    double seconds; /* of the last profiled run */
} nn_step;

/* Where a root tensor lies and when it is alive, in steps: [first, last]. */
typedef struct nn_place {
    int64_t first, last;
    int64_t bytes; /* reserved, guards included; 0 = not planned */
    int64_t offset;
    int64_t same_as; /* id of the root whose storage it takes over in place, or -1 */
    bool used;
} nn_place;

struct nn_plan {
    nn_graph *graph;
    nn_device *device;
    nn_plan_options options;
    nn_step *steps;
    int64_t n_steps;
    nn_place *places; /* by tensor id */
    char *activations, *workspace, *packed;
    nn_params **stores; /* whose values the graph reads */
    int64_t n_stores, stores_capacity;
    char *poison; /* hostile plans: NaN for the largest output with its guard bands */
    nn_plan_stats stats;
};

/* plan_layout.c: liveness, in-place and offsets. Fills places and stats.activation_bytes; steps
 * exist. */
nn_status nn_plan_layout(nn_plan *plan) NN_CHECKED;

/* exec.c: what hostile plans need, once the steps exist. */
nn_status nn_plan_make_poison(nn_plan *plan) NN_CHECKED;

/* Address of a tensor's first element in the plan, NULL for absent. */
void *nn_plan_address(const nn_plan *plan, const nn_tensor *t);

#endif
