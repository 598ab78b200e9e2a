/* The frozen codec in batches: pictures to moments, latents to pictures. */
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "models/stable_diffusion.h"

/* The encoder or the decoder. */
typedef struct direction {
    nn_graph *graph;
    nn_plan *plan; /* NULL until it is used */
    nn_tensor *in, *out;
} direction;

struct sd_codec {
    vae_config c;
    nn_params *params;
    nn_device *device;
    sd_codec_size size;
    direction encode, decode;
    bool save_memory;
    float *staging; /* one batch, padded with the last item */
};

static void build_encode(sd_codec *k)
{
    nn_graph *g = k->encode.graph;
    k->encode.in =
        nn_input(g, "image", NN_F32,
                 NN_DIMS(k->size.batch, k->size.height, k->size.width, k->size.image_channels));
    k->encode.out = vae_encode(nn_root(g, k->params, ""), &k->c, k->encode.in);
}

static void build_decode(sd_codec *k)
{
    nn_graph *g = k->decode.graph;
    const int64_t f = k->size.stride;
    k->decode.in = nn_input(
        g, "latent", NN_F32,
        NN_DIMS(k->size.batch, k->size.height / f, k->size.width / f, k->size.latent_channels));
    nn_tensor *code = nn_scale(g, k->decode.in, 1 / k->c.scaling_factor, 0);
    k->decode.out = vae_decode(nn_root(g, k->params, ""), &k->c, code);
}

static nn_status plan(sd_codec *k, direction *d, void (*build)(sd_codec *k))
{
    if (d->plan) return NN_OK;
    nn_graph_destroy(d->graph); /* of a try that failed */
    d->graph = NULL;
    NN_TRY(nn_graph_create(&d->graph));
    nn_graph_compute(d->graph, nn_device_storage(k->device));
    build(k);
    d->out = nn_precise(d->graph, d->out);
    nn_keep(d->out);
    const nn_plan_options options = { .frozen = true };
    return nn_plan_create(d->graph, k->device, &options, &d->plan);
}

static void close_direction(direction *d)
{
    nn_plan_destroy(d->plan);
    nn_graph_destroy(d->graph);
    *d = (direction){ 0 };
}

nn_status sd_codec_create(const vae_config *c, nn_params *params, nn_device *device, int64_t batch,
                          int64_t height, int64_t width, sd_codec **out)
{
    int64_t f = vae_stride(c);
    if (height < f || width < f || height % f || width % f)
        return nn_fail(NN_ARGUMENT, "pictures of %lld x %lld: both must be multiples of %lld",
                       (long long)width, (long long)height, (long long)f);
    sd_codec *k = nn_alloc(1, sizeof(*k));
    NN_NEED(k);
    k->c = *c;
    k->params = params;
    k->device = device;
    k->size = (sd_codec_size){ .batch = batch,
                               .height = height,
                               .width = width,
                               .stride = f,
                               .image_channels = c->in_channels,
                               .latent_channels = c->latent_channels };
    int64_t image = height * width * c->in_channels;
    int64_t moments = height / f * (width / f) * 2 * c->latent_channels;
    k->staging = nn_alloc(batch * nn_max(image, moments), sizeof(*k->staging));
    if (!k->staging) {
        sd_codec_destroy(k);
        return NN_MEMORY;
    }
    *out = k;
    return NN_OK;
}

void sd_codec_destroy(sd_codec *k)
{
    if (!k) return;
    close_direction(&k->encode);
    close_direction(&k->decode);
    nn_free(k->staging);
    nn_free(k);
}

void sd_codec_save_memory(sd_codec *k)
{
    k->save_memory = true;
}

void sd_codec_rest(sd_codec *k)
{
    if (!k->save_memory) return;
    close_direction(&k->encode);
    close_direction(&k->decode);
    nn_params_give_back_all(k->params);
}

const sd_codec_size *sd_codec_size_of(const sd_codec *k)
{
    return &k->size;
}

int64_t sd_codec_latent_elems(const sd_codec *k)
{
    const int64_t f = k->size.stride;
    return k->size.height / f * (k->size.width / f) * k->size.latent_channels;
}

/* Run n <= batch items; the rest of the batch repeats the last one. */
static nn_status run_batch(sd_codec *k, const direction *d, int64_t n, const char *src, char *dst)
{
    const int64_t batch = k->size.batch;
    size_t in_bytes = (size_t)(nn_view_bytes(&d->in->view) / batch);
    size_t out_bytes = (size_t)(nn_view_bytes(&d->out->view) / batch);
    for (int64_t i = 0; i < batch; i++)
        memcpy((char *)k->staging + (size_t)i * in_bytes, src + (size_t)nn_min(i, n - 1) * in_bytes,
               in_bytes);
    NN_TRY(nn_plan_write(d->plan, d->in, k->staging));
    NN_TRY(nn_plan_run(d->plan, 0));
    if (n == batch) return nn_plan_read(d->plan, d->out, dst);
    NN_TRY(nn_plan_read(d->plan, d->out, k->staging));
    memcpy(dst, k->staging, (size_t)n * out_bytes);
    return NN_OK;
}

static nn_status run(sd_codec *k, const direction *d, int64_t n, const float *src, float *dst)
{
    const int64_t batch = k->size.batch;
    int64_t in_elems = nn_view_elems(&d->in->view) / batch;
    int64_t out_elems = nn_view_elems(&d->out->view) / batch;
    for (int64_t i = 0; i < n; i += batch)
        NN_TRY(run_batch(k, d, nn_min(batch, n - i), (const char *)(src + i * in_elems),
                         (char *)(dst + i * out_elems)));
    return NN_OK;
}

nn_status sd_codec_encode(sd_codec *k, int64_t n, const float *images, float *moments)
{
    NN_TRY(plan(k, &k->encode, build_encode));
    return run(k, &k->encode, n, images, moments);
}

nn_status sd_codec_decode(sd_codec *k, int64_t n, const float *latents, float *images)
{
    NN_TRY(plan(k, &k->decode, build_decode));
    return run(k, &k->decode, n, latents, images);
}

void sd_latent(const vae_config *c, int64_t places, const float *moments, const float *noise,
               float *latent)
{
    int64_t l = c->latent_channels;
    float scale = (float)c->scaling_factor;
    for (int64_t p = 0; p < places; p++)
        for (int64_t k = 0; k < l; k++) {
            float mean = moments[p * 2 * l + k];
            float logvar = fminf(fmaxf(moments[p * 2 * l + l + k], -30), 20);
            float z = noise ? mean + expf(0.5f * logvar) * noise[p * l + k] : mean;
            latent[p * l + k] = scale * z;
        }
}
