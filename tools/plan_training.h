/* A training as a plan sees it, before anything of it exists: what a rank's memory must hold, and
 * what its passes and updates compute and move. recap-plan prints it; recap-train chooses by it
 * what fits (--memory). */
#ifndef TOOLS_PLAN_TRAINING_H
#define TOOLS_PLAN_TRAINING_H

#include "engine/nn.h"

/* Stores that the parameters of a training are declared in. */
typedef struct plan_stores {
    nn_params *trained;
    nn_params *beside; /* in memory all the time, and not trained: a codec, what it starts from */
} plan_stores;

/* What is trained. */
typedef struct plan_task {
    /* The loss of one pass of `batch` samples. */
    nn_tensor *(*build)(void *ctx, nn_graph *g, const plan_stores *p, int64_t batch,
                        bool recompute);
    /* Declare what else lies beside it, or set p->beside->exact. NULL = nothing. */
    void (*declare)(void *ctx, nn_graph *g, const plan_stores *p);
    void *ctx;
    bool recomputes;      /* build knows what to do with `recompute` */
    bool validates;       /* the loss is also computed on samples that are not trained on */
    bool average;         /* there is a moving average of the weights */
    int64_t sample_bytes; /* of the host's memory, for each sample of a pass */
    int64_t granule;      /* the samples of a pass are a multiple of it; 0 = any number */
} plan_task;

/* How it is trained. */
typedef struct plan_setting {
    int64_t batch;  /* samples of a pass */
    int64_t passes; /* of an update, on each rank */
    int ranks;
    bool recompute, shard; /* as --gradient-checkpointing and --shard-optimizer */
} plan_setting;

/* What a device computes and moves in a second, and how much of that a kernel reaches. */
typedef struct plan_rates {
    double flops, bytes, efficiency;
} plan_rates;

/* Of one pass, or of one update; times are those of kernels one after the other, each the longer of
 * its arithmetic and its memory traffic. */
typedef struct plan_work {
    double flops, moved_bytes, seconds;
    int64_t n_launches;
} plan_work;

typedef struct plan_result {
    /* Bytes of the device: weights and their bf16 copies, gradients, moments, moving average; */
    int64_t state_bytes;
    int64_t beside_bytes; /* weights that are not trained; */
    int64_t activation_bytes, workspace_bytes;
    /* of the host, on devices that are in its memory: */
    int64_t program_bytes;         /* what preparing the kernels made resident in this process */
    int64_t host_bytes;            /* a batch, before it is written to the device */
    int64_t n_parameters, n_elems; /* trained; with the gaps between them in the flat buffers */
    plan_work pass, update;
} plan_result;

/* Plan it. The device is one without memory (nn_device_open_absent, "null", "null:cuda"); nothing
 * is computed. */
nn_status plan_training(const plan_task *task, nn_device *device, const plan_setting *setting,
                        const plan_rates *rates, plan_result *out) NN_CHECKED;

/* Everything that one rank needs. */
int64_t plan_bytes(const plan_result *r);

/* Elements of the flat buffers that the rank with the most of them updates, of `ranks` that each
 * have a part. */
int64_t plan_part_elems(int64_t n_elems, int ranks);

/* -- what fits -------------------------------------------------------------------------------- */

typedef struct plan_limits {
    int64_t bytes;         /* of one rank, of which */
    int64_t fixed_bytes;   /* are taken by what is not planned */
    int64_t samples, most; /* of a rank: in an update, and in a pass at most */
    int ranks;
    bool recompute, shard; /* asked for: not left out again */
} plan_limits;

/* The setting that fits and takes the least time: passes as large as can be, with an optimizer in
 * parts or with recomputation where that makes room for what is faster. All updates have the same
 * samples whichever it is. device: plans without memory, with the kernels that will run. Errors:
 * NN_MEMORY says what is needed at least, and what would fit. */
nn_status plan_fit(const plan_task *task, nn_device *device, const plan_limits *limits,
                   const plan_rates *rates, plan_setting *setting, plan_result *out) NN_CHECKED;

/* "21.4 GB", "850 MB" by value, for messages; up: rounded so that it is enough. */
typedef struct plan_size {
    char s[32];
} plan_size;
plan_size plan_size_text(int64_t bytes, bool up);

/* "micro-batch 4, recompute, optimizer in 8 parts" */
nn_status plan_say(const plan_setting *s, nn_text *out) NN_CHECKED;

#endif
