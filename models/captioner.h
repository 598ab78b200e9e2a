/* BLIP's captioner: image encoder and text decoder. Source: transformers
 * BlipForConditionalGeneration. */
#ifndef MODELS_CAPTIONER_H
#define MODELS_CAPTIONER_H

#include "models/decode.h"
#include "models/text_decoder.h"
#include "models/vit.h"

typedef struct captioner_config {
    vit_config vision;
    text_decoder_config text;
} captioner_config;

/* The published config.json of BLIP; what is absent has the values of the base model. */
nn_status captioner_config_parse(const nn_json *json, captioner_config *out) NN_CHECKED;
captioner_config captioner_config_blip_base(void);

/* Append the members "vision_config", "text_config" and "tie_word_embeddings", which is asked for
 * outside of "text_config" by transformers, each with a comma behind it. */
nn_status captioner_config_write(const captioner_config *c, nn_text *out) NN_CHECKED;

/* pixels [B, S, S, 3] -> [B, tokens, D]; parameters below s.vision_model. */
nn_tensor *captioner_encode(nn_scope s, const captioner_config *c, nn_tensor *pixels);

/* Teacher forcing: ids [B, T], key_mask [B, T] or NULL -> logits [B, T, V]; parameters below
 * s.text_decoder. */
nn_tensor *captioner_logits(nn_scope s, const captioner_config *c, nn_tensor *image, nn_tensor *ids,
                            nn_tensor *key_mask);

/* Mean cross-entropy of labels [B, T] (i32, < 0 = ignored), each predicted from the ids before it.
 */
nn_tensor *captioner_loss(nn_scope s, const captioner_config *c, nn_tensor *pixels, nn_tensor *ids,
                          nn_tensor *key_mask, nn_tensor *labels);

/* The same behind an encoder that ran already: image [B, tokens, D]. */
nn_tensor *captioner_text_loss(nn_scope s, const captioner_config *c, nn_tensor *image,
                               nn_tensor *ids, nn_tensor *key_mask, nn_tensor *labels);

/* -- decoding ---------------------------------------------------------------------------------- */

/* Plans and caches for up to `images` pictures with `beams` beams and captions of up to `room` ids.
 * The store must be sealed and outlive the session, and so must the device. Owner: the caller. */
typedef struct captioner_session captioner_session;
nn_status captioner_session_create(const captioner_config *c, nn_params *params, nn_device *device,
                                   int64_t images, int64_t beams, int64_t room,
                                   captioner_session **out) NN_CHECKED;
void captioner_session_destroy(captioner_session *session);

/* Look at the pictures: pixels [images, S, S, 3], normalised. Captions of any number of prompts may
 * follow. */
nn_status captioner_session_look(captioner_session *session, const float *pixels) NN_CHECKED;

/* A decode_step over the session: ctx is the captioner_session. */
nn_status captioner_session_step(void *ctx, int64_t position, int rows, const int32_t *ids,
                                 const int32_t *parents, float *logits) NN_CHECKED;

/* What the session runs for the pictures, and for each word: for statistics. */
const nn_plan *captioner_session_look_plan(const captioner_session *session);
const nn_plan *captioner_session_step_plan(const captioner_session *session);

#endif
