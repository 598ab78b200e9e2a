/* The frozen codec in batches: pictures to moments, latents to pictures. */
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "models/stable_diffusion.h"

struct sd_codec {
    vae_config c;
    nn_device *device;
    int64_t batch, height, width; /* of the pictures */
    nn_graph *encode_graph, *decode_graph;
    nn_plan *encode, *decode;
    nn_tensor *image_in, *moments, *latent_in, *image_out;
    float *staging; /* one batch, padded with the last item */
};

static nn_status make_plans(sd_codec *k, nn_params *params)
{
    int64_t f = vae_stride(&k->c);
    nn_plan_options frozen = { .frozen = true };
    NN_TRY(nn_graph_create(&k->encode_graph));
    nn_graph_compute(k->encode_graph, nn_device_storage(k->device));
    k->image_in = nn_input(k->encode_graph, "image", NN_F32,
                           NN_DIMS(k->batch, k->height, k->width, k->c.in_channels));
    k->moments = vae_encode(nn_root(k->encode_graph, params, ""), &k->c, k->image_in);
    k->moments = nn_precise(k->encode_graph, k->moments);
    nn_keep(k->moments);
    NN_TRY(nn_plan_create(k->encode_graph, k->device, &frozen, &k->encode));
    NN_TRY(nn_graph_create(&k->decode_graph));
    nn_graph_compute(k->decode_graph, nn_device_storage(k->device));
    k->latent_in = nn_input(k->decode_graph, "latent", NN_F32,
                            NN_DIMS(k->batch, k->height / f, k->width / f, k->c.latent_channels));
    nn_tensor *code = nn_scale(k->decode_graph, k->latent_in, 1 / k->c.scaling_factor, 0);
    k->image_out = vae_decode(nn_root(k->decode_graph, params, ""), &k->c, code);
    k->image_out = nn_precise(k->decode_graph, k->image_out);
    nn_keep(k->image_out);
    NN_TRY(nn_plan_create(k->decode_graph, k->device, &frozen, &k->decode));
    int64_t most = nn_max(nn_view_elems(&k->image_in->view), nn_view_elems(&k->moments->view));
    k->staging = nn_alloc(most, sizeof(*k->staging));
    NN_NEED(k->staging);
    return NN_OK;
}

nn_status sd_codec_create(const vae_config *c, nn_params *params, nn_device *device, int64_t batch,
                          int64_t height, int64_t width, sd_codec **out)
{
    int64_t f = vae_stride(c);
    if (height % f || width % f)
        return nn_fail(NN_ARGUMENT, "pictures of %lld x %lld: both must be multiples of %lld",
                       (long long)width, (long long)height, (long long)f);
    sd_codec *k = nn_alloc(1, sizeof(*k));
    NN_NEED(k);
    k->c = *c;
    k->device = device;
    k->batch = batch;
    k->height = height;
    k->width = width;
    nn_status status = make_plans(k, params);
    if (status != NN_OK) {
        sd_codec_destroy(k);
        return status;
    }
    *out = k;
    return NN_OK;
}

void sd_codec_destroy(sd_codec *k)
{
    if (!k) return;
    nn_plan_destroy(k->encode);
    nn_plan_destroy(k->decode);
    nn_graph_destroy(k->encode_graph);
    nn_graph_destroy(k->decode_graph);
    nn_free(k->staging);
    nn_free(k);
}

int64_t sd_codec_latent_elems(const sd_codec *k)
{
    return nn_view_elems(&k->latent_in->view) / k->batch;
}

/* Run n <= batch items; the rest of the batch repeats the last one. */
static nn_status run_batch(sd_codec *k, nn_plan *plan, nn_tensor *in, const nn_tensor *out,
                           int64_t n, const char *src, char *dst)
{
    size_t in_bytes = (size_t)(nn_view_bytes(&in->view) / k->batch);
    size_t out_bytes = (size_t)(nn_view_bytes(&out->view) / k->batch);
    for (int64_t i = 0; i < k->batch; i++)
        memcpy((char *)k->staging + (size_t)i * in_bytes, src + (size_t)nn_min(i, n - 1) * in_bytes,
               in_bytes);
    NN_TRY(nn_plan_write(plan, in, k->staging));
    NN_TRY(nn_plan_run(plan, 0));
    if (n == k->batch) return nn_plan_read(plan, out, dst);
    NN_TRY(nn_plan_read(plan, out, k->staging));
    memcpy(dst, k->staging, (size_t)n * out_bytes);
    return NN_OK;
}

static nn_status run(sd_codec *k, nn_plan *plan, nn_tensor *in, const nn_tensor *out, int64_t n,
                     const float *src, float *dst)
{
    int64_t in_elems = nn_view_elems(&in->view) / k->batch;
    int64_t out_elems = nn_view_elems(&out->view) / k->batch;
    for (int64_t i = 0; i < n; i += k->batch)
        NN_TRY(run_batch(k, plan, in, out, nn_min(k->batch, n - i),
                         (const char *)(src + i * in_elems), (char *)(dst + i * out_elems)));
    return NN_OK;
}

nn_status sd_codec_encode(sd_codec *k, int64_t n, const float *images, float *moments)
{
    return run(k, k->encode, k->image_in, k->moments, n, images, moments);
}

nn_status sd_codec_decode(sd_codec *k, int64_t n, const float *latents, float *images)
{
    return run(k, k->decode, k->latent_in, k->image_out, n, latents, images);
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
