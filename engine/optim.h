/* AdamW over a parameter store, as nodes of the training graph.
 *
 * Decoupled decay and bias correction as torch.optim.AdamW; clipping by the global norm as
 * torch.nn.utils.clip_grad_norm_; the moving average of the weights as diffusers' EMAModel. One
 * pass over the flat buffers does all of it.
 *
 *     nn_optimizer_begin(o, plan, lr);  nn_plan_run(plan, seed);  nn_optimizer_end(o, plan, &norm);
 *
 * When the norm of the gradients is not finite, nothing changes and the step does not count.
 *
 * A fused optimizer updates each parameter in the backward pass, as soon as its gradient is
 * complete, and the memory of the gradient is free again: they never exist all at once. Then there
 * is no global norm to clip to, and no pass to add gradients of; what the gradients were not finite
 * of stays as it was, while the rest has been updated. Else the bits are those of the ordinary
 * update.
 *
 * An optimizer may hold one part of the flat buffers only, where others hold the rest (ZeRO-1):
 * moments and average of that part, which alone it updates. Then the caller finds the norm of all
 * gradients from those of the parts. */
#ifndef ENGINE_OPTIM_H
#define ENGINE_OPTIM_H

#include "engine/nn.h"

typedef struct nn_adamw_options {
    double beta1, beta2, eps, weight_decay;
    double clip_norm; /* 0 = no clipping */
    double ema_decay; /* 0 = no moving average */
    bool fused;       /* into backward; without clipping */
} nn_adamw_options;

#define NN_ADAMW_DEFAULTS                                                                          \
    {                                                                                              \
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 1e-2                            \
    }

/* How an optimizer of one part reaches the others; each moves all of m, v or ema, of which the
 * caller's part lies at `part` on the device. */
typedef struct nn_optimizer_peers {
    float *room; /* on the device: as many elements as the store has */
    nn_status (*gather)(void *ctx, const float *part); /* from everyone into the room */
    nn_status (*scatter)(void *ctx, float *part);      /* from the room to everyone */
    void *ctx;
} nn_optimizer_peers;

typedef struct nn_optimizer {
    nn_adamw_options options;
    nn_params *params;  /* borrowed */
    int64_t first, n;   /* elements of the flat buffers that it updates */
    float *m, *v, *ema; /* [n] on the device, in the order of the store; ema NULL = none */
    const nn_optimizer_peers *peers; /* borrowed; NULL: the part is all, or checkpoints are not
                                        needed */
    int64_t step;                    /* updates done */
    int64_t n_skipped;               /* runs whose norm was not finite */
    nn_tensor *hyper;                /* input of the graph the optimizer was last added to */
    nn_tensor *norm; /* [1] global norm of the gradients, before clipping; kept. Of a part: input */
    nn_tensor *part_norm; /* [1] norm of the part's gradients: see nn_optimizer_add_norm */
    bool lowers;          /* the update writes the bf16 copy of the values too */
    float *norms; /* fused: of each parameter's gradient, by its index, on the device; 0 = none */
} nn_optimizer;

/* The store (f32) must have been allocated with gradients. The moments start at zero, the moving
 * average at the weights as they are now. NN_UNSUPPORTED: fused and clipping. Owner: the caller;
 * the store must outlive it. */
nn_status nn_optimizer_create(nn_params *params, const nn_adamw_options *options,
                              nn_optimizer **out) NN_CHECKED;
void nn_optimizer_destroy(nn_optimizer *o);

/* The same of the elements first .. first + n - 1 of the flat buffers; multiples of 16. */
nn_status nn_optimizer_create_part(nn_params *params, const nn_adamw_options *options,
                                   int64_t first, int64_t n, nn_optimizer **out) NN_CHECKED;

/* Append the norm of the part's gradients to a graph: o->part_norm, kept. */
void nn_optimizer_add_norm(nn_optimizer *o, nn_graph *g);

/* Append the update to a graph, after nn_backward. */
void nn_optimizer_add(nn_optimizer *o, nn_graph *g);

/* Of a fused optimizer, in the place of nn_backward and nn_optimizer_add: append the gradients of
 * `loss`, each followed by its update. */
void nn_optimizer_backward(nn_optimizer *o, nn_graph *g, nn_tensor *loss);

/* Before each run: the learning rate of this step. Counts the step. */
nn_status nn_optimizer_begin(nn_optimizer *o, nn_plan *plan, double lr) NN_CHECKED;

/* Before each run of an optimizer of a part: the norm of all gradients. */
nn_status nn_optimizer_set_norm(nn_optimizer *o, nn_plan *plan, float norm) NN_CHECKED;

/* After each run: the global norm. If it is not finite n_skipped is raised, and the step taken back
 * if nothing has changed; a fused update that has changed some parameters counts and says so in the
 * log. */
nn_status nn_optimizer_end(nn_optimizer *o, nn_plan *plan, float *norm) NN_CHECKED;

/* Decay of the moving average in update number `step` (from 1): 0 in the first, so that it starts
 * at the updated weights, then min(decay, step / (9 + step)). */
double nn_ema_decay(double decay, int64_t step);

/* Put the moving average in place of the weights, and back: exchanges the two, in its part. */
nn_status nn_optimizer_swap_ema(nn_optimizer *o) NN_CHECKED;

/* -- learning rate schedules -- */

typedef enum nn_schedule_kind { NN_LR_CONSTANT, NN_LR_LINEAR, NN_LR_COSINE } nn_schedule_kind;
typedef struct nn_schedule {
    nn_schedule_kind kind;
    double lr;
    int64_t warmup, total; /* steps */
} nn_schedule;

/* Rate of update number `step` (from 0): rises linearly over `warmup` steps, then is constant or
 * falls to 0 at `total`. Source: transformers get_scheduler. */
double nn_schedule_at(const nn_schedule *s, int64_t step);

#endif
