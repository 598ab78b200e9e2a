/* All pictures of a run: those that are not there yet, in batches. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "tools/sample.h"

enum { F32 = 0 };     /* in device_dtypes */
enum { SHOWN = 100 }; /* runs of more pictures do not name each */

typedef struct job {
    const sample_settings *set;
    prompts list;
    sample_engine engine;
    sample_canvas canvas;
    int64_t height, width, total; /* of a picture; pictures */
    char **files;                 /* [total] */
    int64_t *todo, n_todo;        /* pictures that are not there */
    sample_picture *batch;        /* those at work */
    int64_t n_batch, most;
    float *images;  /* [most, height, width, 3] */
    uint64_t model; /* hash of the weights */
    const char *title;
} job;

static uint64_t seed_of(const void *ctx, int64_t picture)
{
    const job *j = ctx;
    const int64_t n = j->set->per_prompt;
    const prompt_line *line = &j->list.lines[picture / n];
    uint64_t base =
        line->has_seed ? line->seed : (uint64_t)j->set->seed + (uint64_t)(picture / n * n);
    return base + (uint64_t)(picture % n);
}

/* -- prompts -- */

static void picture_free(sample_picture *p)
{
    sd_prompt_free(&p->prompt);
    sd_prompt_free(&p->negative);
}

static void warn_of_cut(const sd_prompt *p, const char *text)
{
    if (p->cut)
        nn_log(NN_LOG_WARN,
               "a prompt fills %d window%s of %d tokens; '%s' was cut from its end: %s",
               p->n_windows, p->n_windows == 1 ? "" : "s", (int)p->length - 2, p->cut, text);
}

static nn_status fill_prompts(const job *j, sample_picture *p)
{
    const sd_model *m = &j->engine.model;
    const sd_prompt_rules rules = { .weights = j->set->weights,
                                    .windows = j->set->long_prompt == SAMPLE_LONG_WINDOWS
                                                   ? SD_MAX_WINDOWS
                                                   : 1 };
    NN_TRY(sd_prompt_make(m, p->line->text, &rules, &p->prompt));
    NN_TRY(sd_prompt_make(m, p->negative_text, &rules, &p->negative));
    const int windows = (int)nn_max(p->prompt.n_windows, p->negative.n_windows);
    NN_TRY(sd_prompt_widen(m, &p->prompt, windows));
    return sd_prompt_widen(m, &p->negative, windows);
}

static nn_status make_picture(const job *j, int64_t index, sample_picture *p)
{
    const prompt_line *line = &j->list.lines[index / j->set->per_prompt];
    *p = (sample_picture){ .index = index,
                           .line = line,
                           .negative_text = line->negative ? line->negative : j->set->negative,
                           .seed = seed_of(j, index) };
    nn_status status = fill_prompts(j, p);
    if (status != NN_OK) picture_free(p);
    return status;
}

static void clear_batch(job *j)
{
    for (int64_t i = 0; i < j->n_batch; i++) picture_free(&j->batch[i]);
    j->n_batch = 0;
}

/* The next pictures to draw, from todo[at] on: as many as fit, with prompts of equally many
 * windows.
 */
static nn_status gather(job *j, int64_t at)
{
    for (; j->n_batch < j->most && at < j->n_todo; at++) {
        sample_picture *p = &j->batch[j->n_batch];
        NN_TRY(make_picture(j, j->todo[at], p));
        if (j->n_batch && p->prompt.n_windows != j->batch[0].prompt.n_windows) {
            picture_free(p);
            break;
        }
        j->n_batch++;
        if (p->index % j->set->per_prompt && at) continue;
        warn_of_cut(&p->prompt, p->line->text);
        if (p->line->negative || !at) warn_of_cut(&p->negative, p->negative_text);
    }
    return NN_OK;
}

/* -- drawing -- */

static nn_status save(job *j, const char *path, const sample_picture *p, const float *image)
{
    const sample_info info = { .set = j->set,
                               .prompt = p->line->text,
                               .negative = p->negative_text,
                               .scheduler = j->engine.draw.scheduler,
                               .title = j->title,
                               .dtype = device_dtypes[j->engine.dtype],
                               .karras = j->engine.draw.sampler.karras,
                               .width = j->width,
                               .height = j->height,
                               .seed = p->seed,
                               .model = j->model };
    return sample_write_png(path, image, &info);
}

static nn_status save_preview(job *j, int done, const sample_picture *p, const float *image)
{
    const char *file = j->files[p->index];
    const int stem = (int)(nn_ends_with(file, ".png") ? strlen(file) - 4 : strlen(file));
    if (!sample_is_finite(image, j->width * j->height * 3)) return NN_OK;
    char *path = nn_format("%.*s.step-%04d.png", stem, file, done);
    NN_NEED(path);
    nn_status status = save(j, path, p, image);
    nn_free(path);
    return status;
}

static nn_status look(void *ctx, int done, int n_calls, const float *x0)
{
    job *j = ctx;
    (void)n_calls;
    if (nn_cli_interrupted())
        return nn_fail(NN_INTERRUPTED,
                       "interrupted; finished pictures are kept, the same command draws the rest");
    if (!x0) return NN_OK;
    NN_TRY(sample_engine_decode(&j->engine, j->n_batch, x0, j->images));
    for (int64_t i = 0; i < j->n_batch; i++)
        NN_TRY(save_preview(j, done, &j->batch[i], j->images + i * j->width * j->height * 3));
    return NN_OK;
}

/* Draw the batch and save what is finite of it; the pictures that are not stay in the batch. */
static nn_status draw_finite(job *j)
{
    const sd_watch watch = { look, j, (int)j->set->preview_every };
    const int64_t pixels = j->width * j->height * 3;
    int64_t left = 0;
    NN_TRY(sample_engine_draw(&j->engine, j->n_batch, j->batch, &watch, j->images));
    for (int64_t i = 0; i < j->n_batch; i++) {
        const float *image = j->images + i * pixels;
        sample_picture *p = &j->batch[i];
        if (!sample_is_finite(image, pixels)) {
            sample_picture bad = *p;
            *p = j->batch[left]; /* drawn already, or itself */
            j->batch[left++] = bad;
            continue;
        }
        NN_TRY(save(j, j->files[p->index], p, image));
        nn_log(j->total <= SHOWN ? NN_LOG_INFO : NN_LOG_DEBUG, "%s: seed %" PRIu64,
               j->files[p->index], p->seed);
    }
    for (int64_t i = left; i < j->n_batch; i++) picture_free(&j->batch[i]);
    j->n_batch = left;
    return NN_OK;
}

static nn_status open_engine(job *j, int dtype)
{
    sample_engine_close(&j->engine);
    NN_TRY(sample_engine_open(j->set, dtype, &j->engine));
    return sample_engine_prepare(&j->engine, j->most, j->height, j->width, &j->canvas);
}

/* The pictures that bf16 could not draw, in f32. */
static nn_status draw_again(job *j)
{
    nn_log(NN_LOG_WARN, "%s: not finite in bf16; drawn again in f32", j->files[j->batch[0].index]);
    NN_TRY(open_engine(j, F32));
    NN_TRY(draw_finite(j));
    return j->n_batch ? NN_OK : open_engine(j, j->set->on.dtype);
}

static nn_status draw_batch(job *j, int64_t at, int64_t *drawn)
{
    nn_status status = gather(j, at);
    *drawn = j->n_batch;
    if (status == NN_OK) status = draw_finite(j);
    if (status == NN_OK && j->n_batch && j->engine.dtype != F32) status = draw_again(j);
    if (status == NN_OK && j->n_batch)
        status = nn_fail(NN_NUMERIC,
                         "%s (seed %" PRIu64 "): the picture has values that are not finite in "
                         "f32; it is not written",
                         j->files[j->batch[0].index], j->batch[0].seed);
    clear_batch(j);
    return status;
}

static nn_status draw_all(job *j)
{
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, "samples", "picture", j->total - j->n_todo, j->total);
    for (int64_t at = 0, n; at < j->n_todo && status == NN_OK; at += n) {
        status = draw_batch(j, at, &n);
        if (status == NN_OK) nn_progress_step(&progress, j->total - j->n_todo + at + n, NULL, 0);
    }
    nn_progress_stop(&progress);
    return status;
}

static nn_status write_sheets(const job *j)
{
    const sample_settings *set = j->set;
    int64_t columns = set->columns ? set->columns : set->per_prompt;
    if (columns == 1 && !set->columns) columns = (int64_t)ceil(sqrt((double)j->total));
    if (set->output_dir)
        NN_TRY(sample_write_list(set->output_dir, &j->list, set->per_prompt, seed_of, j));
    if (set->grid) NN_TRY(sample_write_sheet(set->grid, j->files, j->total, columns, 0));
    if (!set->sheet) return NN_OK;
    return sample_write_sheet(set->sheet, j->files, j->total, columns, set->cell);
}

/* -- the beginning -- */

static nn_status name_files(job *j)
{
    const sample_settings *set = j->set;
    j->files = nn_alloc(j->total, sizeof(*j->files));
    NN_NEED(j->files);
    j->todo = nn_alloc(j->total, sizeof(*j->todo));
    NN_NEED(j->todo);
    for (int64_t i = 0; i < j->total; i++) {
        j->files[i] = set->output ? nn_strdup(set->output)
                                  : nn_format("%s/%06" PRId64 ".png", set->output_dir, i);
        NN_NEED(j->files[i]);
        if (set->output || !nn_file_exists(j->files[i])) j->todo[j->n_todo++] = i;
    }
    return set->output_dir ? nn_file_make_dir(set->output_dir) : NN_OK;
}

static nn_status open_list(job *j)
{
    const sample_settings *set = j->set;
    NN_TRY(set->prompt ? prompts_one(set->prompt, &j->list)
                       : prompts_read(set->prompt_file, &j->list));
    j->total = j->list.n * set->per_prompt;
    if (set->output && j->total != 1)
        return nn_fail(NN_ARGUMENT,
                       "%" PRId64 " pictures do not fit into --output; give "
                       "--output-dir",
                       j->total);
    return name_files(j);
}

/* The sampler's name in pictures; and whether it can be made at all, before anything is drawn. */
static nn_status name_sampler(job *j)
{
    const sd_draw_options *o = &j->engine.draw;
    nn_sampler *s;
    NN_TRY(nn_sampler_create(o->scheduler, &o->sampler, &j->engine.model.noise, o->n_steps, 1, &s));
    j->title = nn_sampler_title(s);
    nn_sampler_destroy(s);
    return NN_OK;
}

static nn_status open_job(job *j)
{
    const sample_settings *set = j->set;
    NN_TRY(open_list(j));
    NN_TRY(sample_engine_open(set, set->on.dtype, &j->engine));
    NN_TRY(name_sampler(j));
    const int64_t stride = vae_stride(&j->engine.model.vae);
    NN_TRY(sample_canvas_read(set, stride, j->engine.model.unet.sample_size * stride, &j->height,
                              &j->width, &j->canvas));
    NN_TRY(sample_model_hash(set->model, &j->model));
    j->most = nn_max(1, nn_min(set->batch, j->n_todo));
    j->batch = nn_alloc(j->most, sizeof(*j->batch));
    NN_NEED(j->batch);
    j->images = nn_alloc(j->most * j->height * j->width * 3, sizeof(*j->images));
    NN_NEED(j->images);
    if (!j->n_todo) return NN_OK;
    NN_TRY(sample_engine_prepare(&j->engine, j->most, j->height, j->width, &j->canvas));
    j->engine.opened = nn_clock_age_seconds();
    return NN_OK;
}

nn_status sample_run(const sample_settings *set)
{
    job j = { .set = set };
    nn_status status = open_job(&j);
    if (status == NN_OK) status = draw_all(&j);
    if (status == NN_OK) status = write_sheets(&j);
    sample_engine_close(&j.engine);
    sample_canvas_free(&j.canvas);
    for (int64_t i = 0; j.files && i < j.total; i++) nn_free(j.files[i]);
    nn_free(j.files);
    nn_free(j.todo);
    nn_free(j.batch);
    nn_free(j.images);
    prompts_free(&j.list);
    return status;
}
