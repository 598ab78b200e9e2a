/* What a UNet in training draws: a few prompts, from seeds that stay. */
#ifndef TOOLS_DIFFUSION_PICTURES_H
#define TOOLS_DIFFUSION_PICTURES_H

#include "models/stable_diffusion.h"
#include "tools/trainer.h"

typedef struct diffusion_pictures diffusion_pictures;

/* prompts: what prompts_read reads, 16 at most. Picture k is drawn from its line's seed, or
 * from seed + k; with 25 steps of DDIM and guidance 7.5, as recap-sample would with
 * --scheduler ddim --steps 25. m, device and ranks are borrowed. Owner: diffusion_pictures_close,
 * also after an error. */
nn_status diffusion_pictures_open(const sd_model *m, nn_device *device, const char *prompts,
                                  int64_t latent_side, uint64_t seed, const trainer_ranks *ranks,
                                  diffusion_pictures **out) NN_CHECKED;
void diffusion_pictures_close(diffusion_pictures *p); /* NULL is fine */

/* All of them with the model's present weights, each rank some of them, in rows of four, as
 * OUTPUT/pictures/00000500.png (the update) and under --logging-dir. Memory for it is taken and
 * given back. A picture with a value that is not finite is left white, with a warning. */
nn_status diffusion_pictures_draw(diffusion_pictures *p, const trainer *t) NN_CHECKED;

#endif
