/* Captions for batches of pictures: what recap-caption and recap-relabel share. */
#ifndef TOOLS_CAPTIONING_H
#define TOOLS_CAPTIONING_H

#include "models/captioner_folder.h"
#include "tools/cli.h"
#include "tools/device.h"

/* How captions are searched for. */
typedef struct captioning_settings {
    int64_t batch, beams, most_tokens, least_tokens, top_k, seed;
    int64_t captions;        /* of a picture with one prefix; see n_returned of nn_decode_options */
    int method, length_rule; /* indices in captioning_methods, captioning_length_rules */
    double temperature, top_p, length_penalty, repetition_penalty;
} captioning_settings;

extern const char *const captioning_methods[];      /* in the order of nn_decode_method */
extern const char *const captioning_length_rules[]; /* in the order of nn_decode_rule */

#define CAPTIONING_DEFAULTS                                                                        \
    .beams = 3, .captions = 1, .most_tokens = 64, .temperature = 1, .top_p = 1,                    \
    .length_penalty = 1, .repetition_penalty = 1

/* Rows of an option table for the settings `s`. */
#define CAPTIONING_OPTIONS(s)                                                                      \
    { .name = "batch-size",                                                                        \
      .integer = &(s).batch,                                                                       \
      .low = 1,                                                                                    \
      .high = 4096,                                                                                \
      .help = "pictures at a time" },                                                              \
        { .name = "method",                                                                        \
          .choice = &(s).method,                                                                   \
          .choices = captioning_methods,                                                           \
          .help = "how words are chosen" },                                                        \
        { .name = "num-beams",                                                                     \
          .integer = &(s).beams,                                                                   \
          .low = 1,                                                                                \
          .high = 100,                                                                             \
          .help = "beams of a beam search" },                                                      \
        { .name = "max-new-tokens",                                                                \
          .integer = &(s).most_tokens,                                                             \
          .low = 1,                                                                                \
          .high = 500,                                                                             \
          .help = "tokens of a caption at most, its end included" },                               \
        { .name = "min-new-tokens",                                                                \
          .integer = &(s).least_tokens,                                                            \
          .low = 0,                                                                                \
          .high = 500,                                                                             \
          .help = "tokens of a caption at least" },                                                \
        { .name = "length-penalty",                                                                \
          .real = &(s).length_penalty,                                                             \
          .low = -10,                                                                              \
          .high = 10,                                                                              \
          .help = "beam search: above 1 favours long captions" },                                  \
        { .name = "length-rule",                                                                   \
          .choice = &(s).length_rule,                                                              \
          .choices = captioning_length_rules,                                                      \
          .help = "what that penalty counts: generated tokens (transformers 5), or the whole "     \
                  "sequence without its end (to 4.35, and BLIP's published captions)" },           \
        { .name = "repetition-penalty",                                                            \
          .real = &(s).repetition_penalty,                                                         \
          .low = 0.01,                                                                             \
          .high = 100,                                                                             \
          .help = "above 1 disfavours tokens that were used" },                                    \
        { .name = "temperature",                                                                   \
          .real = &(s).temperature,                                                                \
          .low = 0.01,                                                                             \
          .high = 100,                                                                             \
          .help = "of sampling" },                                                                 \
        { .name = "top-k",                                                                         \
          .integer = &(s).top_k,                                                                   \
          .low = 0,                                                                                \
          .high = 1e6,                                                                             \
          .help = "sampling: among the k most likely tokens; 0 = all" },                           \
        { .name = "top-p",                                                                         \
          .real = &(s).top_p,                                                                      \
          .low = 0.001,                                                                            \
          .high = 1,                                                                               \
          .help = "sampling: in the nucleus of that probability" },                                \
    {                                                                                              \
        .name = "seed", .integer = &(s).seed, .low = 0, .high = 1e15, .help = "of sampling"        \
    }

typedef struct caption {
    nn_text text;
    int tokens;     /* generated, without the end token */
    double logprob; /* of the whole caption, natural logarithm */
    double score;   /* what a beam search goes by: logprob over a power of the length */
    const int32_t *ids;
    int n_ids; /* generated, end token included; valid until the next captioning_write */
} caption;

enum { CAPTIONING_PREFIXES = CAPTIONER_STYLES };

/* A captioner in use. */
typedef struct captioning captioning;

/* Load the captioner of a directory, ready to caption after any of the n prefixes. Borrowed: the
 * device. Owner: captioning_close. */
nn_status captioning_open(captioner_folder *model, nn_device *device,
                          const captioning_settings *settings, const char *const *prefixes, int n,
                          captioning **out) NN_CHECKED;
void captioning_close(captioning *c); /* NULL is legal */

/* Look at n <= batch pictures, of any size; pictures without pixels are passed over, but one must
 * have some. */
nn_status captioning_look(captioning *c, const nn_image *pictures, int n) NN_CHECKED;

/* Caption the pictures that were looked at, after prefix number `which`. sample_id [n, captions]
 * keys the draws of sampling: a caption is a function of it, not of its place in the batch. out
 * [n, captions], the best of a picture first, is the caller's; texts are overwritten and the
 * caller's to free. */
nn_status captioning_write(captioning *c, int which, const uint64_t *sample_id, int n,
                           caption *out) NN_CHECKED;

#endif
