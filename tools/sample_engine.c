/* The networks of recap-sample. */
#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "models/published.h"
#include "tools/sample.h"

enum { TILED_FROM = 1024 * 1024, CODEC_BATCH = 8 }; /* pixels of a picture; pictures */
static const double tile_overlap = 0.25;

static nn_status open_schedule(const char *model, nn_json *json)
{
    if (!sd_is_file(model))
        return nn_json_open_config(model, "scheduler/scheduler_config.json", json);
    return nn_json_parse(published_schedule, (int64_t)strlen(published_schedule), model, json);
}

/* The sampler: what the command line says, then the model's scheduler_config.json. */
static nn_status choose_sampler(const sample_settings *set, sd_draw_options *out)
{
    nn_json json;
    nn_sampler_options file = { 0 };
    const char *name = set->scheduler;
    NN_TRY(open_schedule(set->model, &json));
    nn_status status = nn_sampler_options_parse(&json, &file);
    if (status == NN_OK && !name) status = nn_sampler_name_parse(&json, &name);
    nn_json_close(&json);
    NN_TRY(status);
    if (!name) name = "ddim";
    *out = (sd_draw_options){
        .scheduler = name,
        .sampler = { .spacing = set->spacing ? (nn_spacing)set->spacing : file.spacing,
                     .karras = set->karras || (file.karras && nn_sampler_has_karras(name)),
                     .eta = set->eta },
        .n_steps = (int)set->steps,
        .guidance = set->guidance,
        .rescale = set->rescale,
        .rng = (sd_rng)set->rng,
    };
    return NN_OK;
}

static nn_status open_engine(sample_engine *e)
{
    device_settings on = e->set->on;
    on.dtype = e->dtype;
    NN_TRY(device_open(&on, &e->device));
    NN_TRY(sd_model_open_any(e->set->model, e->set->tokenizer, e->device, &e->model));
    return choose_sampler(e->set, &e->draw);
}

nn_status sample_engine_open(const sample_settings *set, int dtype, sample_engine *e)
{
    *e = (sample_engine){ .set = set, .dtype = dtype };
    nn_status status = open_engine(e);
    if (status != NN_OK) sample_engine_close(e);
    return status;
}

/* Networks come and go, unless that takes longer than the user is ready to wait, or weights would
 * have to be sent to the device every time. */
static bool saves_memory(const sample_engine *e)
{
    return !e->set->fast && e->device->backend->host_memory;
}

void sample_engine_close(sample_engine *e)
{
    sd_session_destroy(e->session);
    sd_codec_destroy(e->codec);
    sd_model_close(&e->model);
    if (e->device) nn_device_close(e->device);
    nn_free(e->moments);
    nn_free(e->grey);
    nn_free(e->latents);
    *e = (sample_engine){ 0 };
}

/* A picture through the codec's encoder; 0 where it is covered. */
static nn_status encode(sample_engine *e, const nn_image *picture, const uint8_t *cover,
                        float **moments)
{
    static const float half[] = { 0.5f, 0.5f, 0.5f };
    const int64_t f = vae_stride(&e->model.vae), places = e->height / f * (e->width / f);
    float *image = nn_alloc(e->height * e->width * 3, sizeof(*image));
    NN_NEED(image);
    *moments = nn_alloc(places * 2 * e->model.vae.latent_channels, sizeof(**moments));
    nn_status status = *moments ? NN_OK : NN_MEMORY;
    nn_image_to_tensor(picture, image, half, half);
    for (int64_t i = 0; i < e->height * e->width && cover; i++)
        if (cover[i]) memset(image + 3 * i, 0, 3 * sizeof(*image));
    if (status == NN_OK)
        status = e->tiled ? sd_codec_encode_tiles(e->codec, e->height, e->width, tile_overlap,
                                                  image, *moments)
                          : sd_codec_encode(e->codec, 1, image, *moments);
    sd_codec_rest(e->codec);
    nn_free(image);
    return status;
}

static nn_status encode_canvas(sample_engine *e, const sample_canvas *canvas)
{
    if (canvas->picture.rgb) NN_TRY(encode(e, &canvas->picture, NULL, &e->moments));
    if (!sd_fills_in(&e->model)) return NN_OK;
    if (canvas->cover) return encode(e, &canvas->picture, canvas->cover, &e->grey);
    return nn_fail(NN_ARGUMENT,
                   "%s: this model fills in pictures; give --init-image, the picture, and "
                   "--mask-image, white where it is drawn anew",
                   e->set->model);
}

nn_status sample_engine_prepare(sample_engine *e, int64_t batch, int64_t height, int64_t width,
                                const sample_canvas *canvas)
{
    const int64_t f = vae_stride(&e->model.vae), tile = e->set->tile / f * f;
    const bool larger = height > tile || width > tile;
    e->batch = batch;
    e->height = height;
    e->width = width;
    e->mask = canvas->mask;
    e->tiled = larger && (e->set->tiling == SAMPLE_TILE_ON ||
                          (e->set->tiling == SAMPLE_TILE_AUTO && height * width > TILED_FROM));
    NN_TRY(sd_codec_create(&e->model.vae, e->model.vae_params, e->device,
                           e->tiled ? 1 : nn_min(batch, CODEC_BATCH),
                           e->tiled ? nn_min(tile, height) : height,
                           e->tiled ? nn_min(tile, width) : width, &e->codec));
    if (saves_memory(e)) sd_codec_save_memory(e->codec);
    e->latents = nn_alloc(batch * (height / f) * (width / f) * e->model.vae.latent_channels,
                          sizeof(*e->latents));
    NN_NEED(e->latents);
    return encode_canvas(e, canvas);
}

/* A session for so many windows. */
static nn_status need_session(sample_engine *e, int windows)
{
    const int64_t f = vae_stride(&e->model.vae);
    if (e->session && sd_session_options_of(e->session)->windows == windows) return NN_OK;
    sd_session_destroy(e->session);
    e->session = NULL;
    const sd_session_options o = { .batch = e->batch,
                                   .latent_height = e->height / f,
                                   .latent_width = e->width / f,
                                   .windows = windows,
                                   .clip_skip = (int)e->set->clip_skip,
                                   .guided = e->set->guidance > 1,
                                   .save_memory = saves_memory(e) };
    return sd_session_create(&e->model, e->device, &o, &e->session);
}

static nn_status set_prompts(sample_engine *e, int64_t n, const sample_picture *pictures)
{
    const sd_prompt **all = nn_alloc(2 * e->batch, sizeof(*all));
    NN_NEED(all);
    for (int64_t i = 0; i < e->batch; i++) {
        const sample_picture *p = &pictures[nn_min(i, n - 1)];
        all[i] = &p->prompt;
        all[e->batch + i] = &p->negative;
    }
    nn_status status = sd_session_prompts(e->session, all, all + e->batch);
    nn_free(all);
    return status;
}

/* What the user waited for before the first step of the first batch. */
static void tell_start(sample_engine *e, double told)
{
    const double now = nn_clock_age_seconds();
    const nn_field fields[] = { { "age", now },
                                { "opening", e->opened },
                                { "prompts", told - e->opened },
                                { "packing", now - told } };
    if (!e->opened) return;
    nn_log(NN_LOG_DEBUG,
           "first step after %.2f s: opening %.2f, prompts %.2f, packing the UNet's weights %.2f",
           fields[0].value, fields[1].value, fields[2].value, fields[3].value);
    nn_cli_log("start", fields, NN_COUNT(fields));
    e->opened = 0;
}

/* All that the steps want. */
static nn_status prepare_steps(sample_engine *e, int64_t n, const sample_picture *pictures)
{
    NN_TRY(need_session(e, pictures[0].prompt.n_windows));
    NN_TRY(set_prompts(e, n, pictures));
    const double told = nn_clock_age_seconds();
    NN_TRY(sd_session_prepare(e->session));
    tell_start(e, told);
    return NN_OK;
}

nn_status sample_engine_draw(sample_engine *e, int64_t n, const sample_picture *pictures,
                             const sd_watch *watch, float *images)
{
    const sd_canvas canvas = { e->moments, e->mask, e->set->strength, e->grey };
    uint64_t *seeds = nn_alloc(n, sizeof(*seeds));
    NN_NEED(seeds);
    for (int64_t i = 0; i < n; i++) seeds[i] = pictures[i].seed;
    nn_status status = prepare_steps(e, n, pictures);
    if (status == NN_OK)
        status = sd_draw(e->session, &e->draw, n, seeds, &canvas, watch, e->latents);
    nn_free(seeds);
    NN_TRY(status);
    sd_session_rest(e->session);
    return sample_engine_decode(e, n, e->latents, images);
}

static nn_status decode(sample_engine *e, int64_t n, const float *latents, float *images)
{
    const int64_t f = vae_stride(&e->model.vae), pixels = e->height * e->width;
    const int64_t elems = pixels / (f * f) * e->model.vae.latent_channels;
    if (!e->tiled) return sd_codec_decode(e->codec, n, latents, images);
    for (int64_t i = 0; i < n; i++)
        NN_TRY(sd_codec_decode_tiles(e->codec, e->height, e->width, tile_overlap,
                                     latents + i * elems, images + i * pixels * 3));
    return NN_OK;
}

nn_status sample_engine_decode(sample_engine *e, int64_t n, const float *latents, float *images)
{
    nn_status status = decode(e, n, latents, images);
    sd_codec_rest(e->codec);
    return status;
}
