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
    int64_t same_as;        /* id of the root whose storage it takes over, or of its whole; or -1 */
    const nn_tensor *whole; /* the concatenation of which it is a part, written there; or NULL */
    int64_t part_offset;    /* where it begins in the whole, in elements, */
    int64_t part_stride[NN_MAX_RANK]; /* and how it steps there */
    bool used;
} nn_place;

typedef struct nn_part { /* of a plan's steps: what is recorded as one */
    int64_t first, last;
    bool warm;       /* it has run directly: code and libraries are loaded */
    void *recording; /* the device's; NULL = none yet */
} nn_part;
/* Whether the plan finds memory for t. */
static inline bool nn_is_planned(const nn_tensor *t)
{
    return t->root == t && !t->bound && (t->kind == NN_ACTIVATION || t->kind == NN_INPUT);
}

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
    int64_t run_workspace; /* bytes of the workspace that runs need after the weights are packed */
    bool captures;         /* runs are recorded and repeated */
    nn_part *parts;        /* one behind the other, all steps */
    int64_t n_parts;
    uint64_t *run_seed; /* device memory: the seed of the run; NULL = kernels find it in the call */
    char *poison;       /* hostile plans: NaN, enough for the largest output with its guard bands */
    nn_plan_stats stats;
};

/* plan.c: the call of a node as its kernel is chosen by. */
void nn_plan_describe(const nn_plan *plan, const nn_node *n, nn_call *c);

/* plan_join.c: where all parts of a concatenation can be written where they belong, their places
 * say so, and the node lives no more. Places exist, steps do not. */
void nn_plan_join(nn_plan *plan, bool *lives);

/* plan_layout.c: liveness, in-place and offsets. Fills places and stats.activation_bytes; steps
 * exist. */
nn_status nn_plan_layout(nn_plan *plan) NN_CHECKED;

/* plan_weights.c: what becomes of the weights of frozen stores. Marks parameters, fills
 * stats.weight_bytes; steps exist. NN_ARGUMENT: a store that was not loaded. */
nn_status nn_plan_sort_weights(nn_plan *plan) NN_CHECKED;

/* plan_weights.c: what a step is about to read of frozen stores comes into memory, and stale
 * weights are packed, by itself or (call.repack) by its run. After that: what was packed may leave;
 * _plan_: and what only packing needs of the workspace. */
nn_status nn_step_pack(nn_plan *plan, nn_step *s) NN_CHECKED;
void nn_step_give_back(const nn_step *s);
void nn_plan_give_back(nn_plan *plan);

/* exec.c: what hostile plans need, once the steps have their memory. */
nn_status nn_plan_make_poison(nn_plan *plan) NN_CHECKED;

/* exec.c: enqueue steps first .. last-1, each by itself. */
nn_status nn_plan_run_direct(nn_plan *plan, uint64_t seed, int64_t first, int64_t last) NN_CHECKED;

/* exec.c: sum of the versions of the weights that a step reads; 0 if no store owns one, so that
 * they may change with every run. */
uint64_t nn_step_version(const nn_step *s);

/* capture.c: whether the plan's runs are recorded, and the memory that takes; run steps first ..
 * last-1, recorded or directly, whichever is due; free both. The steps exist, their calls get their
 * addresses later. */
nn_status nn_plan_capture_reserve(nn_plan *plan) NN_CHECKED;
nn_status nn_plan_run_captured(nn_plan *plan, uint64_t seed, int64_t first,
                               int64_t last) NN_CHECKED;
void nn_plan_capture_free(nn_plan *plan);

/* Elements from the start of its storage to a tensor's first element. */
int64_t nn_plan_offset(const nn_plan *plan, const nn_tensor *t);

/* Address of a tensor's first element in the plan, NULL for absent. */
void *nn_plan_address(const nn_plan *plan, const nn_tensor *t);

#endif
