/* A corpus of captioned pictures as the UNet trains on it. */
#include "tools/diffusion_corpus.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"

/* A sample as the loader keeps it. */
typedef struct item {
    const float *moments; /* borrowed from the cache */
    uint64_t id;
    unsigned present; /* bit k: column k of the mix has a caption that fits */
    int32_t *ids;     /* [columns, T] */
} item;

static nn_status read_columns(diffusion_corpus *c, const nn_captions *captions, item *it)
{
    bool truncated;
    for (int k = 0; k < c->mix.n; k++) {
        const char *text = nn_captions_get(captions, c->mix.column[k]);
        if (!text) continue;
        NN_TRY(sd_tokenize(c->config.model, text, it->ids + k * c->t_len, &truncated));
        if (truncated) c->n_overlong++;
        if (!truncated || !c->config.drop_overlong) it->present |= 1u << k;
    }
    return NN_OK;
}

static nn_status decode(void *ctx, const nn_sample *sample, void *slot)
{
    diffusion_corpus *c = ctx;
    item *it = slot;
    nn_captions *captions;
    it->moments = nn_cache_find(c->latents, nn_sample_content(sample));
    if (!it->moments)
        return nn_fail(NN_NOT_FOUND, "%s: no latent, since the picture could not be read",
                       sample->key);
    NN_TRY(nn_captions_parse(sample, &captions));
    it->id = sample->id;
    it->ids = nn_alloc(c->mix.n * c->t_len, sizeof(*it->ids));
    nn_status status = it->ids ? read_columns(c, captions, it) : NN_MEMORY;
    nn_captions_free(captions);
    if (status != NN_OK) nn_free(it->ids);
    return status;
}

static void release(void *ctx, void *slot)
{
    (void)ctx;
    nn_free(((item *)slot)->ids);
}

static nn_status reserve(diffusion_corpus *c)
{
    const int64_t batch = c->config.ranks->batch;
    const int64_t n = batch * c->places * c->config.model->vae.latent_channels;
    float *block = nn_alloc(4 * n + 2 * batch, sizeof(float));
    NN_NEED(block);
    c->x = block;
    c->noise = block + n;
    c->answer = block + 2 * n;
    c->x0 = block + 3 * n;
    c->t = block + 4 * n;
    c->weight = c->t + batch;
    c->ids = nn_alloc((batch + 1) * c->t_len, sizeof(int32_t));
    NN_NEED(c->ids);
    c->empty = c->ids + batch * c->t_len;
    bool truncated;
    return sd_tokenize(c->config.model, "", c->empty, &truncated);
}

nn_status diffusion_corpus_open(const diffusion_corpus_config *config, diffusion_corpus *c)
{
    const sd_model *m = config->model;
    const int64_t stride = vae_stride(&m->vae);
    const int64_t pixels = config->resolution ? config->resolution : m->unet.sample_size * stride;
    *c = (diffusion_corpus){ .config = *config,
                             .side = pixels / stride,
                             .places = (pixels / stride) * (pixels / stride),
                             .t_len = m->text.max_positions };
    NN_TRY(nn_caption_mix_parse(config->columns, config->prompt_dropout, &c->mix));
    NN_TRY(nn_shards_open(config->shards, NULL, &c->report, &c->shards));
    if (nn_shards_count(c->shards) < 1)
        return nn_fail(NN_NOT_FOUND, "%s: no sample that can be read", config->shards);
    c->config.shards = c->config.columns = c->config.latent_cache = NULL;
    NN_TRY(latents_of_shards(m, config->device, c->shards, pixels, config->latent_cache,
                             config->ranks, &c->report, &c->latents));
    return reserve(c);
}

void diffusion_corpus_close(diffusion_corpus *c)
{
    nn_loader_close(c->loader);
    nn_cache_close(c->latents);
    nn_shards_close(c->shards);
    nn_shard_report_free(&c->report);
    nn_free(c->x);
    nn_free(c->ids);
}

nn_status diffusion_corpus_seek(diffusion_corpus *c, int64_t epoch, int64_t position)
{
    const nn_loader_config config = { .threads = 1,
                                      .seed = c->config.seed,
                                      .in_order = c->config.in_order,
                                      .keep = true,
                                      .rank = c->config.ranks->rank,
                                      .n_ranks = c->config.ranks->n,
                                      .block = c->config.ranks->batch,
                                      .slot_bytes = sizeof(item),
                                      .decode = decode,
                                      .release = release,
                                      .ctx = c };
    nn_loader_close(c->loader);
    c->loader = NULL;
    return nn_loader_open(c->shards, &config, epoch, position, &c->report, &c->loader);
}

nn_status diffusion_corpus_next(diffusion_corpus *c, int64_t i, int64_t turn)
{
    const sd_model *m = c->config.model;
    const uint64_t seed = c->config.seed;
    const int64_t elems = c->places * m->vae.latent_channels, at = i * elems;
    nn_loader_item next;
    NN_TRY(nn_loader_next(c->loader, &next));
    const item *it = next.slot;
    const uint64_t draw = nn_mix(it->id, (uint64_t)turn);
    nn_rng rng = nn_rng_make(seed, "latent", draw);
    nn_rng_normal_fill(&rng, c->noise + at, elems);
    sd_latent(&m->vae, c->places, it->moments, c->noise + at, c->x0 + at);
    rng = nn_rng_make(seed, "noise", draw);
    nn_rng_normal_fill(&rng, c->noise + at, elems);
    const int t = nn_noise_schedule_draw(&m->noise, seed, it->id, (uint64_t)turn);
    nn_noise_schedule_add(&m->noise, t, elems, c->x0 + at, c->noise + at, c->x + at);
    nn_noise_schedule_target(&m->noise, t, elems, c->x0 + at, c->noise + at, c->answer + at);
    c->t[i] = (float)t;
    c->weight[i] = (float)nn_noise_schedule_weight(&m->noise, t, c->config.snr_gamma);
    const int column = nn_caption_draw(&c->mix, it->present, seed, next.epoch, it->id, &c->counts);
    memcpy(c->ids + i * c->t_len,
           column == NN_CAPTION_EMPTY ? c->empty : it->ids + column * c->t_len,
           (size_t)c->t_len * sizeof(int32_t));
    return NN_OK;
}

nn_status diffusion_corpus_write(const diffusion_corpus *c, nn_plan *plan,
                                 const diffusion_inputs *in)
{
    NN_TRY(nn_plan_write(plan, in->latent, c->x));
    NN_TRY(nn_plan_write(plan, in->target, c->answer));
    NN_TRY(nn_plan_write(plan, in->t, c->t));
    if (in->weight) NN_TRY(nn_plan_write(plan, in->weight, c->weight));
    return nn_plan_write(plan, in->ids, c->ids);
}

nn_tensor *diffusion_corpus_loss(const diffusion_corpus *c, nn_graph *g, bool recompute,
                                 diffusion_inputs *in)
{
    const sd_model *m = c->config.model;
    return diffusion_loss(m, g, m->params, c->config.ranks->batch, c->side, c->config.snr_gamma > 0,
                          recompute, in);
}
