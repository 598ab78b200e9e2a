/* What the decoding methods share. */
#ifndef MODELS_DECODE_INTERNAL_H
#define MODELS_DECODE_INTERNAL_H

#include "models/decode.h"

/* The arrays that a callback sees. */
typedef struct nn_decode_feed {
    int rows;
    int32_t *ids, *parents; /* [rows] */
    float *logits;          /* [rows, vocab] */
} nn_decode_feed;

struct nn_arena;
nn_status nn_decode_feed_init(nn_decode_feed *feed, const nn_decode_input *in, int rows,
                              struct nn_arena *arena) NN_CHECKED;

/* Feed the prompt; each image has rows / n_images rows. logits: after its last position. */
nn_status nn_decode_prompt(nn_decode_feed *feed, const nn_decode_input *in) NN_CHECKED;

/* Feed ids and parents as they are. */
nn_status nn_decode_feed_step(nn_decode_feed *feed, const nn_decode_input *in,
                              int64_t position) NN_CHECKED;

/* log(sum(exp(x))) of n logits; NN_NUMERIC when it is not finite. */
nn_status nn_decode_logsumexp(const float *x, int n, float *out) NN_CHECKED;

/* Repetition penalty and min_length on scores [vocab] of a sequence of `length` ids. */
void nn_decode_process(const nn_decode_options *o, const int32_t *ids, int length, float *scores);

/* n_generated ^ length_penalty, in f32. */
float nn_decode_norm(const nn_decode_options *o, int n_generated);

/* The methods; options and input are checked. */
nn_status nn_decode_beam(const nn_decode_options *o, const nn_decode_input *in, int32_t *ids,
                         nn_decoded *out) NN_CHECKED;
nn_status nn_decode_single(const nn_decode_options *o, const nn_decode_input *in, int32_t *ids,
                           nn_decoded *out) NN_CHECKED;

#endif
