/* A plan: a graph bound to a device, with a kernel and memory for every node. Nothing is allocated
 * after it is made.
 *
 * Device memory comes in lifetimes, each one block: activations (placed by liveness), workspace
 * (the largest any node wants), packed weights. Parameters and optimizer state belong to their
 * stores. */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "engine/base/str.h"
#include "engine/graph.h"
#include "kernels/backend.h"

typedef struct nn_plan nn_plan;

typedef struct nn_plan_options {
    bool frozen;  /* inference: weights change rarely, kernels may keep packed copies */
    bool direct;  /* run the kernels one by one every time; otherwise a device that can record is
                     given the second run to record, and repeats it from there on */
    bool profile; /* time every node; runs directly */
    bool hostile; /* tests: memory is NaN before it is written, around inputs and in the workspace
                     too, and guard bands are checked after each node; runs directly */
    int skip;     /* tests: leave out that many accepting kernels of each node where more remain */
} nn_plan_options;

typedef struct nn_plan_stats {
    int64_t activation_bytes; /* exact: the block is this large */
    int64_t workspace_bytes;
    int64_t packed_bytes;
    int64_t weight_bytes;  /* of frozen stores, beside their vectors, in memory at most: what every
                              run reads (counted by the first plan that does), and what there is
                              beyond packed_bytes while weights are packed */
    int64_t program_bytes; /* what choosing and preparing the kernels made resident, as measured:
                              code that a library loaded or generated, and its descriptions */
    int64_t n_launches;    /* nodes that run a kernel */
    double flops, bytes;   /* of one run, by the ops' own account */
    double moved_bytes;    /* of one run with fresh packed weights, as its kernels move them */
    int64_t n_fallbacks;   /* nodes that the backend declined and its fallback runs */
} nn_plan_stats;

/* Choose kernels, place memory. Reports the first error of building the graph. options NULL = all
 * off. The graph must outlive the plan. Owner: the caller. */
nn_status nn_plan_create(nn_graph *g, nn_device *device, const nn_plan_options *options,
                         nn_plan **out) NN_CHECKED;
void nn_plan_destroy(nn_plan *plan);
nn_plan_stats nn_plan_stats_of(const nn_plan *plan);

/* Run every node in order. seed keys the random ops. Returns after the work is done and reports its
 * first error. */
nn_status nn_plan_run(nn_plan *plan, uint64_t seed) NN_CHECKED;

/* Pack the weights of a frozen plan now, as far as its kernels can without running; otherwise the
 * first run does it. They are loaded by then. */
nn_status nn_plan_pack(nn_plan *plan) NN_CHECKED;

/* Copy between host memory (packed, the tensor's dtype) and an input or a kept tensor. Views are
 * gathered. */
nn_status nn_plan_write(nn_plan *plan, nn_tensor *t, const void *src) NN_CHECKED;
nn_status nn_plan_read(nn_plan *plan, const nn_tensor *t, void *dst) NN_CHECKED;

/* -- measuring -- */

/* A node that runs a kernel, in the order of running. */
typedef struct nn_plan_step {
    const nn_node *node;
    const char *kernel;
    double flops, bytes; /* by the op's own account; bytes read and written once */
    double moved_bytes;  /* by the kernel's account */
} nn_plan_step;
int64_t nn_plan_n_steps(const nn_plan *plan);
nn_plan_step nn_plan_step_at(const nn_plan *plan, int64_t i);

/* Enqueue steps first .. last-1 without waiting (nn_plan_run with a last of nn_plan_n_steps does
 * the same and waits). What the steps before leave behind must be there: only tensors that are
 * kept outlive the run of the whole plan. */
nn_status nn_plan_enqueue(nn_plan *plan, uint64_t seed, int64_t first, int64_t last) NN_CHECKED;

/* -- runs in parts, between which the caller does something else -- */

/* Number of steps after which no node writes to this memory outside the plan any more, as when the
 * gradients in it are complete; 0 = none does at all. A node that writes into an operand counts for
 * all of its operands. */
int64_t nn_plan_written(const nn_plan *plan, const void *from, const void *to);

/* Runs will be enqueued in parts: up to step at[0], from there to at[1], ... and to the end. A
 * device that can record records each part by itself. at: ascending, 0 < at[i] < nn_plan_n_steps.
 */
nn_status nn_plan_cut(nn_plan *plan, int64_t n, const int64_t at[]) NN_CHECKED;

/* -- profile (options.profile) -- */

/* Table of the costliest kinds of nodes, and a chrome-trace JSON of the last run. */
nn_status nn_plan_profile_table(const nn_plan *plan, nn_text *out) NN_CHECKED;
nn_status nn_plan_profile_trace(const nn_plan *plan, const char *path) NN_CHECKED;

#endif
