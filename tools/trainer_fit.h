/* --memory: how a training is cut so that it fits, chosen before anything of it is allocated. What
 * an update is does not change: only how many passes do it, whether they recompute, and whether the
 * optimizer is in parts (docs/TRAINING.md says what of that can be seen in the last digits). */
#ifndef TOOLS_TRAINER_FIT_H
#define TOOLS_TRAINER_FIT_H

#include "tools/plan_training.h"
#include "tools/trainer.h"

#define TRAINER_MEMORY_OPTION(s)                                                                   \
    {                                                                                              \
        .name = "memory", .text = &(s).memory, .value = "SIZE", .incidental = true,                \
        .help = "choose smaller passes, recomputation and an optimizer in parts as they fit: "     \
                "24GB, 40GB, 80GB (of a rank), or auto: what is free"                              \
    }

/* Set set->ranks and set->shard for set->memory, or for what is free of the device, and *recompute;
 * say what is needed. The ranks have met. Errors: NN_MEMORY says what would fit. */
nn_status trainer_fit(trainer_settings *set, const plan_task *task, nn_device *device,
                      bool *recompute) NN_CHECKED;

#endif
