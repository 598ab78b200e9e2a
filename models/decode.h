/* Text from a language model: greedy search, beam search and sampling.
 *
 * The model is a callback that takes one token per row and gives the logits of the next one. A row
 * is one running sequence: row r belongs to image r / beams, where beams is n_beams in beam search
 * and n_returned otherwise. The number of rows is the same in every call of one nn_decode. */
#ifndef MODELS_DECODE_H
#define MODELS_DECODE_H

#include "engine/base/status.h"

typedef enum nn_decode_method {
    NN_DECODE_GREEDY, /* the most likely token; the lowest id among equals */
    NN_DECODE_BEAM,
    NN_DECODE_SAMPLE /* temperature, then top-k, then top-p (Holtzman et al. 2020) */
} nn_decode_method;

/* When a beam search that has n_beams finished sequences ends. */
typedef enum nn_decode_stop {
    NN_STOP_UNLIKELY, /* when the best running one, ending now, could not beat the worst of them */
    NN_STOP_FIRST,    /* at once */
    NN_STOP_NEVER     /* when it could not at any length */
} nn_decode_stop;

/* What the length penalty of a beam search counts, and what its last step keeps. */
typedef enum nn_decode_rule {
    NN_RULE_GENERATED, /* the generated tokens, end token included; transformers 5 */
    NN_RULE_WHOLE      /* all ids but the end token; transformers to 4.35, and BLIP's published
                          captions. The last step keeps what ended in it and all that run on */
} nn_decode_rule;

/* Lengths count ids, prompt included. */
typedef struct nn_decode_options {
    nn_decode_method method;
    int n_beams;
    int n_returned; /* sequences per image: the best ones of a beam search, at most n_beams; draws;
                       1 in greedy search */
    int max_length;
    int min_length;            /* the end token is forbidden while there are fewer */
    int32_t eos;               /* the end token */
    double repetition_penalty; /* > 0; 1 is off */
    double length_penalty;     /* exponent of the length; 1: mean log-probability of a token */
    nn_decode_rule rule;       /* of that length */
    nn_decode_stop early_stopping;
    double temperature; /* > 0 */
    int top_k;          /* 0 is off */
    double top_p;       /* (0, 1]; 1 is off */
    uint64_t seed;
} nn_decode_options;

/* BLIP's captions: 3 beams, 5 to 20 ids, end token 102. Sampling fields: temperature 1, no
 * limits. */
nn_decode_options nn_decode_defaults(void);

/* One step of the model. Row r appends ids[r], the token at `position` (counted from 0), to the
 * sequence that row parents[r] had after the last call: a key-value cache is reordered by parents
 * first. In the prompt parents[r] is r. logits [rows, vocab] is filled with the scores of the next
 * token; it is NULL where they are not needed. All arrays are the decoder's and borrowed. Rows of
 * finished images go on with the end token; their logits are not read. */
typedef nn_status nn_decode_step(void *ctx, int64_t position, int rows, const int32_t *ids,
                                 const int32_t *parents, float *logits);

typedef struct nn_decode_input {
    nn_decode_step *step;
    void *ctx;
    int n_images, vocab, n_prompt;
    const int32_t *prompt;     /* [n_images, n_prompt], fed one position at a time */
    const uint64_t *sample_id; /* [n_images, n_returned], keys the draws; NULL: 0, 1, 2, ... */
} nn_decode_input;

typedef struct nn_decoded {
    int length;      /* ids of the sequence: prompt, generated tokens, end token if there is one */
    bool ended;      /* the last id is the end token */
    double log_prob; /* sum over the generated tokens; of the processed scores in beam search, of
                        the model's distribution before any processing otherwise */
    double key;      /* log_prob / (length as the rule counts it ^ length_penalty) */
} nn_decoded;

/* Decode a batch. ids [n_images, n_returned, max_length] and out [n_images, n_returned] are the
 * caller's, of a beam search the best sequence first; what lies in a row of ids behind
 * out[i].length is undefined. Images do not influence each other. Memory is allocated once per
 * call, none per step.
 *
 * Order of processing: repetition penalty, min_length, temperature, top-k, top-p; on the logits in
 * greedy search and sampling, on log-probabilities (not normalised again) in beam search.
 *
 * Errors: NN_ARGUMENT for options that make no sense, NN_NUMERIC for logits without a finite
 * log-sum, and whatever the callback returns. Source: transformers 5.23, GenerationMixin; 4.35.2,
 * BeamSearchScorer. */
nn_status nn_decode(const nn_decode_options *o, const nn_decode_input *in, int32_t *ids,
                    nn_decoded *out) NN_CHECKED;

#endif
