/* What a UNet in training draws. */
#include "tools/diffusion_pictures.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "models/sd_draw.h"
#include "tools/prompts.h"

enum { MOST = 16, COLUMNS = 4, STEPS = 25 };
static const double guidance = 7.5;

struct diffusion_pictures {
    const sd_model *m;
    nn_device *device;
    int64_t latent_side, side; /* side: of a picture, in pixels */
    uint64_t seed;
    prompts list;
    sd_prompt prompt[MOST], empty;
    const trainer_ranks *ranks;
    float *latent, *picture; /* of one */
    float *round;            /* a picture of each rank */
    nn_image bytes, sheet;   /* bytes: of one */
};

static nn_status reserve(diffusion_pictures *p)
{
    const int64_t columns = nn_min(p->list.n, COLUMNS);
    const int64_t rows = (p->list.n + COLUMNS - 1) / COLUMNS;
    p->latent =
        nn_alloc(p->latent_side * p->latent_side * p->m->vae.latent_channels, sizeof(*p->latent));
    NN_NEED(p->latent);
    p->picture = nn_alloc(p->side * p->side * 3, sizeof(*p->picture));
    NN_NEED(p->picture);
    p->round = nn_alloc(p->ranks->n * p->side * p->side * 3, sizeof(*p->round));
    NN_NEED(p->round);
    NN_TRY(nn_image_create(p->side, p->side, &p->bytes));
    return nn_image_create(columns * p->side, rows * p->side, &p->sheet);
}

static nn_status open_prompts(diffusion_pictures *p, const char *path)
{
    const sd_prompt_rules rules = { .windows = 1 };
    NN_TRY(prompts_read(path, &p->list));
    if (p->list.n > MOST)
        return nn_fail(NN_ARGUMENT, "%s: has %lld prompts; at most %d are drawn", path,
                       (long long)p->list.n, MOST);
    NN_TRY(sd_prompt_make(p->m, "", &rules, &p->empty));
    for (int64_t k = 0; k < p->list.n; k++)
        NN_TRY(sd_prompt_make(p->m, p->list.lines[k].text, &rules, &p->prompt[k]));
    return NN_OK;
}

nn_status diffusion_pictures_open(const sd_model *m, nn_device *device, const char *path,
                                  int64_t latent_side, uint64_t seed, const trainer_ranks *ranks,
                                  diffusion_pictures **out)
{
    diffusion_pictures *p = nn_alloc(1, sizeof(*p));
    NN_NEED(p);
    *out = p;
    p->m = m;
    p->device = device;
    p->latent_side = latent_side;
    p->side = latent_side * vae_stride(&m->vae);
    p->seed = seed;
    p->ranks = ranks;
    NN_TRY(open_prompts(p, path));
    return reserve(p);
}

void diffusion_pictures_close(diffusion_pictures *p)
{
    if (!p) return;
    for (int k = 0; k < MOST; k++) sd_prompt_free(&p->prompt[k]);
    sd_prompt_free(&p->empty);
    prompts_free(&p->list);
    nn_free(p->latent);
    nn_free(p->picture);
    nn_free(p->round);
    nn_image_free(&p->bytes);
    nn_image_free(&p->sheet);
    nn_free(p);
}

/* A picture to its place in the sheet, if all of it is finite. */
static void paste(diffusion_pictures *p, int64_t k, const float *picture)
{
    const int64_t top = k / COLUMNS * p->side, left = k % COLUMNS * p->side;
    for (int64_t i = 0; i < p->side * p->side * 3; i++)
        if (!isfinite(picture[i])) {
            nn_log(NN_LOG_WARN, "'%s': the picture is not finite and is left out",
                   p->list.lines[k].text);
            return;
        }
    nn_image_from_pixels(picture, &p->bytes);
    for (int64_t y = 0; y < p->side; y++)
        memcpy(p->sheet.rgb + 3 * ((top + y) * p->sheet.width + left),
               p->bytes.rgb + 3 * y * p->side, (size_t)(3 * p->side));
}

static nn_status draw_one(diffusion_pictures *p, sd_session *session, sd_codec *codec, int64_t k)
{
    static const sd_draw_options how = { .scheduler = "ddim",
                                         .n_steps = STEPS,
                                         .guidance = guidance };
    const prompt_line *line = &p->list.lines[k];
    const uint64_t seed = line->has_seed ? line->seed : p->seed + (uint64_t)k;
    const sd_prompt *prompt = &p->prompt[k], *negative = &p->empty;
    NN_TRY(sd_session_prompts(session, &prompt, &negative));
    NN_TRY(sd_draw(session, &how, 1, &seed, NULL, NULL, p->latent));
    return sd_codec_decode(codec, 1, p->latent, p->picture);
}

/* Pictures from number `first` on, one by each rank: nobody waits longer than one takes. */
static nn_status draw_round(diffusion_pictures *p, sd_session *session, sd_codec *codec,
                            int64_t first)
{
    const trainer_ranks *r = p->ranks;
    const int64_t elems = p->side * p->side * 3, own = first + r->rank;
    if (own < p->list.n) NN_TRY(draw_one(p, session, codec, own));
    if (r->n > 1) NN_TRY(nn_comm_all_gather(r->comm, NN_F32, elems, p->picture, p->round));
    for (int64_t k = first; k < nn_min(first + r->n, p->list.n); k++)
        paste(p, k, r->n > 1 ? p->round + (k - first) * elems : p->picture);
    return NN_OK;
}

static nn_status draw_all(diffusion_pictures *p)
{
    const sd_session_options options = { .batch = 1,
                                         .latent_height = p->latent_side,
                                         .latent_width = p->latent_side,
                                         .windows = 1,
                                         .guided = true };
    sd_session *session = NULL;
    sd_codec *codec = NULL;
    memset(p->sheet.rgb, 255, (size_t)(p->sheet.width * p->sheet.height * 3));
    nn_status status = sd_session_create(p->m, p->device, &options, &session);
    if (status == NN_OK)
        status =
            sd_codec_create(&p->m->vae, p->m->vae_params, p->device, 1, p->side, p->side, &codec);
    for (int64_t k = 0; k < p->list.n && status == NN_OK; k += p->ranks->n)
        status = draw_round(p, session, codec, k);
    sd_codec_destroy(codec);
    sd_session_destroy(session);
    return status;
}

/* Like the curves, pictures are not worth a training: what cannot be written is a warning. */
static void write_file(const trainer *t, const char *dir, const char *path, const nn_text *png)
{
    nn_status status = nn_file_make_dir(dir);
    if (status == NN_OK) status = nn_file_write(path, png->text, png->length);
    if (status != NN_OK) nn_log(NN_LOG_WARN, "%s: %s", t->what, nn_error_message());
}

static nn_status write_sheet(const diffusion_pictures *p, const trainer *t)
{
    nn_text png = { 0 };
    char *dir = nn_format("%s/pictures", t->set.output);
    char *path = nn_format("%s/pictures/%08" PRId64 ".png", t->set.output, t->step);
    nn_status status = dir && path ? nn_image_encode_png(&p->sheet, NULL, 0, &png) : NN_MEMORY;
    if (status == NN_OK) {
        trainer_watch_picture(t, "pictures", p->sheet.height, p->sheet.width, png.text, png.length);
        write_file(t, dir, path, &png);
    }
    nn_text_free(&png);
    nn_free(dir);
    nn_free(path);
    return status;
}

nn_status diffusion_pictures_draw(diffusion_pictures *p, const trainer *t)
{
    NN_TRY(draw_all(p));
    return p->ranks->rank ? NN_OK : write_sheet(p, t);
}
