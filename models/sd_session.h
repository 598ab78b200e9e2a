/* The networks of one batch of pictures, planned: text once a prompt, UNet once a step.
 *
 * Each prompt is encoded by itself, and the keys and values of the UNet's cross-attentions are
 * computed from it once: they are inputs of the step. So what a picture is told does not depend on
 * its batch, and prompts that stay (the negative one) are not encoded again. */
#ifndef MODELS_SD_SESSION_H
#define MODELS_SD_SESSION_H

#include "models/sd_prompt.h"

typedef struct sd_session_options {
    int64_t batch, latent_height, latent_width;
    int windows;      /* of every prompt */
    int clip_skip;    /* layers of the text encoder that are left out at its end */
    bool guided;      /* two passes as one batch: [without the prompt, with it] */
    bool save_memory; /* memory counts more than time: text encoder and UNet are planned when they
                         are needed, and never at once */
} sd_session_options;

/* Plans. m is borrowed for the session's life. Owner: the caller. NN_ARGUMENT: a clip_skip that
 * leaves no layer. */
typedef struct sd_session sd_session;
nn_status sd_session_create(const sd_model *m, nn_device *device, const sd_session_options *o,
                            sd_session **out) NN_CHECKED;
void sd_session_destroy(sd_session *s);

const sd_session_options *sd_session_options_of(const sd_session *s);
const sd_model *sd_session_model(const sd_session *s);

/* Prompts [batch], and negative prompts [batch] where guided, all of the session's windows. */
nn_status sd_session_prompts(sd_session *s, const sd_prompt *const prompts[],
                             const sd_prompt *const negative[]) NN_CHECKED;

/* The weights on the encoder's output of one window [length, width], in place: each vector times
 * its weight, then all times what gives the window its old mean. Source: AUTOMATIC1111's web UI,
 * sd_emphasis.py, "Original". */
void sd_prompt_emphasise(const sd_prompt *p, int window, int64_t width, float *encoded);

/* Rows of prompts that were encoded since the session was made: equal ones are encoded once. */
int64_t sd_session_encoded(const sd_session *s);

/* What a UNet that fills in pictures (sd_fills_in) is told at every step beside the latents:
 * [batch, h, w, 1 + L], 1 where the picture is drawn anew and 0 elsewhere, then the latents of the
 * picture whose drawn part is grey. Copied; before the first step. */
void sd_session_surround(sd_session *s, const float *surroundings);

/* Where memory counts more than time: give the plans back until they are needed again. What the
 * prompts say is kept. */
void sd_session_rest(sd_session *s);

/* Make now what the first step would make otherwise: its plan and its packed weights. */
nn_status sd_session_prepare(sd_session *s) NN_CHECKED;

/* Model output for latents [batch, h, w, L] at timestep t, after guidance; rescale: see nn_guide.
 */
nn_status sd_session_predict(sd_session *s, const float *latents, float t, double guidance,
                             double rescale, float *out) NN_CHECKED;

#endif
