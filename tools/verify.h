/* Case files: known outputs of networks, training steps and samplers.
 *
 * A case names a network, fills its weights from a hash of their names, gives inputs, and lists
 * what must come out. */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include <jansson.h>

#include "data/json.h"
#include "engine/nn.h"

/* A tensor of the file, in the file's layout (images are NCHW). */
typedef struct verify_tensor {
    int rank;
    int64_t dim[NN_MAX_RANK], n;
    float *values; /* of a fill or of values; NULL for ids */
    int32_t *ids;
} verify_tensor;

typedef struct verify_case {
    const char *name;
    const json_t *json;
    nn_device *device;
    double abs, rel; /* tolerance */
    double share;    /* in bf16: further tolerance, of the largest value of a tensor */
    double worst;    /* largest deviation over tolerance so far */
    char why[256];   /* the first value that is outside of it */
} verify_case;

/* Runs one network's case. NN_UNSUPPORTED means "not implemented". */
typedef nn_status verify_fn(verify_case *v);

/* NULL if the network is not known. */
verify_fn *verify_network(const char *network);

/* -- verify_input.c -- */

/* Element i of the generator under a name: uniform in [-1, 1). */
float verify_uniform(uint64_t name_hash, int64_t i);

/* Input `name` of the case; at index k if the file has a list there. Owner: verify_tensor_free. */
nn_status verify_input(const verify_case *v, const char *name, int k,
                       verify_tensor *out) NN_CHECKED;
bool verify_has_input(const verify_case *v, const char *name);
void verify_tensor_free(verify_tensor *t);

/* Fill a sealed store as the case's "weights" say. strip: a prefix of our names that the generator
 * does not see. */
nn_status verify_fill(const verify_case *v, nn_params *params, const char *const *strip,
                      int n_strip) NN_CHECKED;

/* [N, C, H, W] <-> [N, H, W, C]; other ranks are copied. dim is that of the NCHW side. */
void verify_to_nhwc(const float *src, int rank, const int64_t *dim, float *dst);
void verify_to_nchw(const float *src, int rank, const int64_t *dim, float *dst);

/* Configuration: `preset` if the file names it, else the inline object (or its child `part`),
 * borrowed. */
nn_status verify_config(const verify_case *v, const char *preset, const char *part, bool *is_preset,
                        nn_json *json) NN_CHECKED;

/* -- verify_expect.c -- */

/* Compare with expect[name]: shape, mean, std, max_abs and samples, in the file's layout. */
nn_status verify_expect(verify_case *v, const char *name, const float *values, int rank,
                        const int64_t *dim) NN_CHECKED;

/* Compare one number with tolerance abs + rel * |expected|. */
void verify_number(verify_case *v, const char *what, double got, double want, double abs,
                   double rel);

/* Compare token ids with expect.ids row `row`. */
nn_status verify_ids(verify_case *v, int row, const int32_t *ids, int n) NN_CHECKED;

/* -- the networks -- */

verify_fn verify_time_embedding, verify_unet, verify_vae_encoder, verify_vae_decoder,
    verify_clip_text, verify_blip_vision, verify_blip_decoder, verify_blip_generate,
    verify_train_diffusion, verify_train_captioner, verify_scheduler, verify_resize;

#endif
