/* What a training run takes on a cluster: time, communication and money, from the work that a plan
 * counts and the rates of a card. A model on paper: nothing here is measured. */
#ifndef TOOLS_PLAN_RUN_H
#define TOOLS_PLAN_RUN_H

#include "tools/plan_training.h"

/* A card as its data sheet has it. */
typedef struct plan_card {
    const char *name;
    double flops;     /* of dense bf16 products with f32 sums, a second */
    double bandwidth; /* bytes a second of its memory */
    double memory;    /* bytes */
    double peer;      /* bytes a second to another card of its node, in one direction */
    int of_node;      /* cards in the usual node */
} plan_card;

/* NN_ARGUMENT names those that are known. */
nn_status plan_card_find(const char *name, const plan_card **out) NN_CHECKED;
const plan_card *plan_card_at(int i); /* NULL behind the last */

/* The machines. */
typedef struct plan_cluster {
    int gpus, of_node;
    double peer, link;      /* bytes a second in one direction: in a node; out of a node, by all of
                               its links together */
    double link_efficiency; /* share of that which a collective reaches */
    double overlap;         /* share of the communication that is done beside the last pass */
    double step_latency;    /* seconds that a step of a ring takes at least */
} plan_cluster;

/* One update, and the run. Seconds. */
typedef struct plan_times {
    double passes, update, exchange; /* exchange: as long as it takes; */
    double waiting;                  /* of it, what nothing else is done beside */
    double step;                     /* all of an update */
    double exchanged_bytes;          /* that each rank sends in an update */
    double run, gpu_hours;
    double images_per_second;
    double
        utilisation; /* arithmetic of the model, nothing counted twice, over what all cards can */
} plan_times;

/* Ring all-reduce of n f32 gradients or, of a sharded optimizer, reduce-scatter of the gradients
 * and all-gather of the values; each rank sends (N - 1) / N of the buffer twice either way. The
 * slowest link of the ring decides. model_flops: of a pass without recomputation. peak: of a card;
 * 0 = unknown. */
void plan_run(const plan_cluster *c, const plan_setting *s, const plan_result *r,
              double model_flops, double peak, int64_t steps, plan_times *out);

#endif
