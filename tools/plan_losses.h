/* The losses of the trainers as graphs: what recap-train trains on, and what is planned of it. */
#ifndef TOOLS_PLAN_LOSSES_H
#define TOOLS_PLAN_LOSSES_H

#include "models/captioner.h"
#include "models/stable_diffusion.h"
#include "tools/plan_training.h"

/* Inputs of the diffusion loss: latent and target [n, side, side, C], t [n], ids [n, T]; weight [n]
 * or NULL. */
typedef struct diffusion_inputs {
    nn_tensor *latent, *target, *t, *ids, *weight;
} diffusion_inputs;

/* Of n samples with latents of `side`; of the model its configurations are read. Parameters lie
 * below "unet" and "text.text_model", as in sd_model.params. */
nn_tensor *diffusion_loss(const sd_model *m, nn_graph *g, nn_params *params, int64_t n,
                          int64_t side, bool weighted, bool recompute, diffusion_inputs *in);

/* Bytes of host memory that the trainer of diffusion has for each sample of a pass, and for each
 * sample of the corpus beside its captions. */
int64_t diffusion_sample_bytes(const sd_model *m, int64_t side);
int64_t diffusion_latent_bytes(const sd_model *m, int64_t side);

/* Inputs of the captioner's loss: pixels [n, S, S, 3]; ids, labels, seen [n, length]. */
typedef struct captioner_inputs {
    nn_tensor *pixels, *ids, *labels, *seen;
} captioner_inputs;

/* vision: the store of the image encoder, `params` or one that is not trained. */
nn_tensor *captioner_train_loss(const captioner_config *c, nn_graph *g, nn_params *params,
                                nn_params *vision, int64_t n, int64_t length, captioner_inputs *in);

/* -- as tasks to plan; the contexts must outlive them ----------------------------------------- */

typedef struct diffusion_plan {
    const sd_model *model; /* configured */
    int64_t side;          /* of latents */
    bool weighted;
} diffusion_plan;
plan_task diffusion_task(diffusion_plan *p, bool average);

typedef struct captioner_plan {
    const captioner_config *config;
    int64_t length; /* ids of a caption */
    bool freeze_vision;
} captioner_plan;
plan_task captioner_task(captioner_plan *p, bool average);

#endif
