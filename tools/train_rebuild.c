/* A corpus through the codec and back, once, before training. */
#include "tools/train_rebuild.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "models/stable_diffusion.h"
#include "tools/cli.h"

enum { BATCH = 16 };

/* A batch on its way. */
typedef struct pipe {
    vae_config c;
    nn_params *params;
    sd_codec *codec;
    const train_images *images;
    int64_t side, number[BATCH], n; /* samples in the batch */
    float *pixels, *moments, *latents;
} pipe;

static nn_status read_config(const char *directory, vae_config *c)
{
    nn_json json;
    NN_TRY(nn_json_open_config(directory, "config.json", &json));
    nn_status status = vae_config_parse(&json, c);
    nn_json_close(&json);
    return status;
}

/* Building both graphs once declares the parameters. */
static nn_status load(const char *directory, nn_device *device, pipe *p)
{
    nn_graph *g;
    int64_t f = vae_stride(&p->c);
    NN_TRY(nn_params_create(&p->params));
    NN_TRY(nn_graph_create(&g));
    nn_scope root = nn_root(g, p->params, "");
    vae_encode(root, &p->c, nn_input(g, "image", NN_F32, NN_DIMS(1, f, f, 3)));
    vae_decode(root, &p->c, nn_input(g, "latent", NN_F32, NN_DIMS(1, 1, 1, p->c.latent_channels)));
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    NN_TRY(nn_params_alloc(p->params, device, false));
    return nn_params_load(p->params, directory, NULL, 0, NULL);
}

static nn_status open_pipe(const char *directory, nn_device *device, pipe *p)
{
    p->side = p->images->corpus.size;
    NN_TRY(read_config(directory, &p->c));
    NN_TRY(load(directory, device, p));
    NN_TRY(sd_codec_create(&p->c, p->params, device, BATCH, p->side, p->side, &p->codec));
    int64_t latents = BATCH * sd_codec_latent_elems(p->codec);
    NN_NEED(p->pixels = nn_alloc(BATCH * 3 * p->side * p->side, sizeof(float)));
    NN_NEED(p->moments = nn_alloc(2 * latents, sizeof(float)));
    NN_NEED(p->latents = nn_alloc(latents, sizeof(float)));
    return NN_OK;
}

static void close_pipe(pipe *p)
{
    sd_codec_destroy(p->codec);
    nn_params_destroy(p->params);
    nn_free(p->pixels);
    nn_free(p->moments);
    nn_free(p->latents);
}

static nn_status flush(pipe *p, rebuilt *out)
{
    if (!p->n) return NN_OK;
    int64_t places = p->n * sd_codec_latent_elems(p->codec) / p->c.latent_channels;
    NN_TRY(sd_codec_encode(p->codec, p->n, p->pixels, p->moments));
    sd_latent(&p->c, places, p->moments, NULL, p->latents);
    NN_TRY(sd_codec_decode(p->codec, p->n, p->latents, p->pixels));
    for (int64_t i = 0; i < p->n; i++) {
        uint8_t *rgb = nn_alloc(out->bytes, 1);
        NN_NEED(rgb);
        train_bytes(p->pixels + i * out->bytes, out->bytes, rgb);
        out->rgb[p->number[i] - out->first] = rgb;
    }
    p->n = 0;
    return NN_OK;
}

static nn_status add(pipe *p, int64_t number, rebuilt *out)
{
    train_image image;
    nn_status status = train_images_read(p->images, number, &image);
    if (status == NN_MEMORY) return status;
    if (status != NN_OK) return NN_OK; /* the loader reports it */
    train_crop_pixels(&image, p->side, p->side, 0, 0, p->pixels + p->n * out->bytes);
    train_image_free(&image);
    p->number[p->n++] = number;
    return p->n == BATCH ? flush(p, out) : NN_OK;
}

static nn_status add_all(pipe *p, double share, uint64_t seed, rebuilt *out)
{
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, "reconstructions", "picture", 0, out->n);
    for (int64_t i = 0; i < out->n && status == NN_OK; i++) {
        nn_rng rng = nn_rng_make(seed, "rebuilt", (uint64_t)(out->first + i));
        if (nn_rng_uniform(&rng) < share) status = add(p, out->first + i, out);
        if (status == NN_OK && nn_cli_interrupted())
            status = nn_fail(NN_INTERRUPTED, "interrupted; nothing was trained yet");
        nn_progress_step(&progress, i + 1, NULL, 0);
    }
    if (status == NN_OK) status = flush(p, out);
    nn_progress_stop(&progress);
    return status;
}

nn_status rebuilt_open(const char *directory, const train_images *images, nn_device *device,
                       int64_t first, int64_t n, double share, uint64_t seed, rebuilt *out)
{
    pipe p = { .images = images };
    int64_t size = images->corpus.size;
    *out = (rebuilt){ .first = first, .n = n, .bytes = 3 * size * size };
    NN_NEED(out->rgb = nn_alloc(n, sizeof(*out->rgb)));
    nn_status status = open_pipe(directory, device, &p);
    if (status == NN_OK) status = add_all(&p, share, seed, out);
    close_pipe(&p);
    return status;
}

void rebuilt_close(rebuilt *r)
{
    for (int64_t i = 0; r->rgb && i < r->n; i++) nn_free(r->rgb[i]);
    nn_free(r->rgb);
    *r = (rebuilt){ 0 };
}

const uint8_t *rebuilt_at(const rebuilt *r, int64_t number)
{
    return number >= r->first && number < r->first + r->n ? r->rgb[number - r->first] : NULL;
}
