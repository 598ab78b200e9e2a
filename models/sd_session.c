/* The networks on their store, and three plans: a window of text, the keys and values of one
 * prompt, a step of the whole batch. Nothing here needs the tokenizer. */
#include "models/sd_session.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "models/sampler.h"

/* Keys or values of one cross-attention: made by the text's plan, read by the step's. */
typedef struct channel {
    nn_tensor *made, *read; /* [1, S, C], [rows, S, C] */
    int64_t row_bytes;
    char *rows; /* [rows] of row_bytes on the host */
} channel;

struct sd_session {
    const sd_model *m;
    nn_device *device;
    sd_session_options o;
    int64_t rows;         /* of the step: two for each picture where guided */
    int64_t latent_elems; /* of one picture */
    int64_t beside;       /* channels of the UNet's input beside the latent's */
    int64_t words;        /* ids of a prompt */
    nn_graph *window_graph, *text_graph, *step_graph;
    nn_plan *window, *text, *step;
    nn_tensor *ids, *encoded, *context, *latent, *t, *predicted;
    int n_channels;
    channel channels[2 * UNET_MAX_TEXTS];
    float *context_now, *both; /* of one prompt; model input or output of all passes */
    float *surroundings;       /* [batch, h, w, beside]; NULL = there are none */
    int32_t *row_ids;          /* [rows, words]: what the channels hold, -1 = nothing yet */
    float *row_weight;
    bool told; /* the step's plan has the channels */
    int64_t n_encoded;
};

bool sd_fills_in(const sd_model *m)
{
    return m->unet.in_channels == 2 * m->vae.latent_channels + 1;
}

nn_tensor *sd_text(const sd_model *m, nn_graph *g, nn_tensor *ids, bool recompute)
{
    return clip_text(nn_root(g, m->params, "text.text_model"), &m->text, ids, recompute);
}

nn_tensor *sd_unet(const sd_model *m, nn_graph *g, nn_tensor *latent, nn_tensor *t,
                   nn_tensor *context, bool recompute)
{
    return unet(nn_root(g, m->params, "unet"), &m->unet, latent, t, context, recompute);
}

static nn_status make_plan(const sd_session *s, nn_graph *g, nn_plan **plan)
{
    const nn_plan_options o = { .frozen = true };
    return *plan ? NN_OK : nn_plan_create(g, s->device, &o, plan);
}

static void drop(nn_plan **plan)
{
    nn_plan_destroy(*plan);
    *plan = NULL;
}

/* The plans that turn text into keys and values; */
static nn_status need_text(sd_session *s)
{
    if (s->o.save_memory) drop(&s->step);
    NN_TRY(make_plan(s, s->window_graph, &s->window));
    return make_plan(s, s->text_graph, &s->text);
}

/* the plan of a step, told what they are. */
static nn_status need_step(sd_session *s)
{
    if (s->o.save_memory && s->window) {
        drop(&s->window);
        drop(&s->text);
        nn_params_give_back_all(s->m->params);
    }
    if (!s->step) s->told = false;
    NN_TRY(make_plan(s, s->step_graph, &s->step));
    for (int i = 0; i < s->n_channels && !s->told; i++)
        NN_TRY(nn_plan_write(s->step, s->channels[i].read, s->channels[i].rows));
    s->told = true;
    return NN_OK;
}

void sd_session_rest(sd_session *s)
{
    if (!s->o.save_memory) return;
    drop(&s->window);
    drop(&s->text);
    drop(&s->step);
    nn_params_give_back_all(s->m->params);
}

static nn_status make_window(sd_session *s)
{
    clip_text_config text = s->m->text;
    text.n_layers -= s->o.clip_skip;
    if (s->o.clip_skip < 0 || text.n_layers < 1)
        return nn_fail(NN_ARGUMENT, "clip skip %d: the text encoder has %d layers", s->o.clip_skip,
                       s->m->text.n_layers);
    NN_TRY(nn_graph_create(&s->window_graph));
    nn_graph *g = s->window_graph;
    nn_graph_compute(g, nn_device_storage(s->device));
    s->ids = nn_input(g, "ids", NN_I32, NN_DIMS(1, text.max_positions));
    s->encoded = clip_text(nn_root(g, s->m->params, "text.text_model"), &text, s->ids, false);
    s->encoded = nn_precise(g, s->encoded);
    nn_keep(s->encoded);
    return nn_graph_status(g);
}

static nn_status make_text(sd_session *s, unet_text *made)
{
    NN_TRY(nn_graph_create(&s->text_graph));
    nn_graph *g = s->text_graph;
    nn_graph_compute(g, nn_device_storage(s->device));
    s->context = nn_input(g, "context", NN_F32, NN_DIMS(1, s->words, s->m->text.hidden_size));
    unet_project_text(nn_root(g, s->m->params, "unet"), &s->m->unet, s->context, made);
    for (int i = 0; i < made->n; i++) {
        nn_keep(made->of[i].k);
        nn_keep(made->of[i].v);
    }
    return nn_graph_status(g);
}

/* What the text's plan makes, as an input with all rows. */
static nn_tensor *add_channel(sd_session *s, const char *name, nn_tensor *made)
{
    channel *c = &s->channels[s->n_channels++];
    const nn_view *v = &made->view;
    c->made = made;
    c->read =
        nn_input(s->step_graph, name, v->dtype, 3, (int64_t[]){ s->rows, v->dim[1], v->dim[2] });
    c->row_bytes = nn_view_bytes(v);
    return c->read;
}

static nn_status make_step(sd_session *s, const unet_text *made)
{
    const unet_config *c = &s->m->unet;
    unet_text text = { .n = made->n };
    NN_TRY(nn_graph_create(&s->step_graph));
    nn_graph *g = s->step_graph;
    nn_graph_compute(g, nn_device_storage(s->device));
    s->latent = nn_input(g, "latent", NN_F32,
                         NN_DIMS(s->rows, s->o.latent_height, s->o.latent_width, c->in_channels));
    s->t = nn_input(g, "t", NN_F32, NN_DIMS(s->rows));
    for (int i = 0; i < made->n; i++) {
        text.of[i].k = add_channel(s, "k", made->of[i].k);
        text.of[i].v = add_channel(s, "v", made->of[i].v);
    }
    s->predicted = unet_on_text(nn_root(g, s->m->params, "unet"), c, s->latent, s->t, &text);
    s->predicted = nn_precise(g, s->predicted);
    nn_keep(s->predicted);
    return nn_graph_status(g);
}

static nn_status reserve(sd_session *s)
{
    const int64_t places = s->o.latent_height * s->o.latent_width;
    s->both = nn_alloc(s->rows * places * s->m->unet.in_channels, sizeof(*s->both));
    NN_NEED(s->both);
    if (s->beside) {
        s->surroundings = nn_alloc(s->o.batch * places * s->beside, sizeof(*s->surroundings));
        NN_NEED(s->surroundings);
    }
    s->context_now = nn_alloc(s->words * s->m->text.hidden_size, sizeof(*s->context_now));
    NN_NEED(s->context_now);
    s->row_ids = nn_alloc(s->rows * s->words, sizeof(*s->row_ids));
    NN_NEED(s->row_ids);
    s->row_weight = nn_alloc(s->rows * s->words, sizeof(*s->row_weight));
    NN_NEED(s->row_weight);
    for (int64_t i = 0; i < s->rows * s->words; i++) s->row_ids[i] = -1;
    for (int i = 0; i < s->n_channels; i++) {
        s->channels[i].rows = nn_alloc_aligned(s->rows * s->channels[i].row_bytes);
        NN_NEED(s->channels[i].rows);
    }
    return NN_OK;
}

static nn_status open_session(sd_session *s)
{
    unet_text made;
    const unet_config *c = &s->m->unet;
    const int64_t l = s->m->vae.latent_channels;
    if (c->out_channels != l || (c->in_channels != l && !sd_fills_in(s->m)))
        return nn_fail(NN_UNSUPPORTED,
                       "the UNet turns %lld channels into %lld and the codec has %lld; known are "
                       "%lld to %lld, and %lld to %lld of UNets that fill in pictures",
                       (long long)c->in_channels, (long long)c->out_channels, (long long)l,
                       (long long)l, (long long)l, (long long)(2 * l + 1), (long long)l);
    NN_TRY(make_window(s));
    NN_TRY(make_text(s, &made));
    NN_TRY(make_step(s, &made));
    NN_TRY(reserve(s));
    if (s->o.save_memory) return NN_OK;
    NN_TRY(need_text(s));
    return make_plan(s, s->step_graph, &s->step);
}

nn_status sd_session_create(const sd_model *m, nn_device *device, const sd_session_options *o,
                            sd_session **out)
{
    NN_ASSERT(o->windows >= 1 && o->windows <= SD_MAX_WINDOWS);
    *out = NULL;
    sd_session *s = nn_alloc(1, sizeof(*s));
    NN_NEED(s);
    s->m = m;
    s->device = device;
    s->o = *o;
    s->rows = o->batch * (o->guided ? 2 : 1);
    s->latent_elems = o->latent_height * o->latent_width * m->vae.latent_channels;
    s->beside = m->unet.in_channels - m->vae.latent_channels;
    s->words = o->windows * m->text.max_positions;
    nn_status status = open_session(s);
    if (status == NN_OK)
        *out = s;
    else
        sd_session_destroy(s);
    return status;
}

void sd_session_destroy(sd_session *s)
{
    if (!s) return;
    nn_plan_destroy(s->window);
    nn_plan_destroy(s->text);
    nn_plan_destroy(s->step);
    nn_graph_destroy(s->window_graph);
    nn_graph_destroy(s->text_graph);
    nn_graph_destroy(s->step_graph);
    for (int i = 0; i < s->n_channels; i++) nn_free(s->channels[i].rows);
    nn_free(s->both);
    nn_free(s->surroundings);
    nn_free(s->context_now);
    nn_free(s->row_ids);
    nn_free(s->row_weight);
    nn_free(s);
}

const sd_session_options *sd_session_options_of(const sd_session *s)
{
    return &s->o;
}

const sd_model *sd_session_model(const sd_session *s)
{
    return s->m;
}

int64_t sd_session_encoded(const sd_session *s)
{
    return s->n_encoded;
}

/* -- prompts -- */

void sd_prompt_emphasise(const sd_prompt *p, int window, int64_t width, float *encoded)
{
    const float *weight = p->weight + window * p->length;
    double before = 0, after = 0;
    if (!p->weighted) return;
    for (int64_t i = 0; i < p->length; i++)
        for (int64_t k = 0; k < width; k++) {
            float *x = &encoded[i * width + k];
            before += (double)*x;
            *x *= weight[i];
            after += (double)*x;
        }
    if (after == 0) return; /* no factor restores the mean */
    const float factor = (float)(before / after);
    for (int64_t i = 0; i < p->length * width; i++) encoded[i] *= factor;
}

static nn_status encode(sd_session *s, const sd_prompt *p, int64_t row)
{
    const int64_t width = s->m->text.hidden_size;
    NN_TRY(need_text(s));
    for (int w = 0; w < p->n_windows; w++) {
        float *to = s->context_now + w * p->length * width;
        NN_TRY(nn_plan_write(s->window, s->ids, p->ids + w * p->length));
        NN_TRY(nn_plan_run(s->window, 0));
        NN_TRY(nn_plan_read(s->window, s->encoded, to));
        sd_prompt_emphasise(p, w, width, to);
    }
    NN_TRY(nn_plan_write(s->text, s->context, s->context_now));
    NN_TRY(nn_plan_run(s->text, 0));
    for (int i = 0; i < s->n_channels; i++) {
        const channel *c = &s->channels[i];
        NN_TRY(nn_plan_read(s->text, c->made, c->rows + row * c->row_bytes));
    }
    s->n_encoded++;
    return NN_OK;
}

static bool holds(const sd_session *s, int64_t row, const sd_prompt *p)
{
    const int64_t at = row * s->words;
    for (int64_t i = 0; i < s->words; i++)
        if (s->row_ids[at + i] != p->ids[i] || s->row_weight[at + i] != p->weight[i]) return false;
    return true;
}

/* A row that holds the prompt, `row` itself first; -1 = none. */
static int64_t find_row(const sd_session *s, const sd_prompt *p, int64_t row)
{
    for (int64_t k = 0; k < s->rows; k++)
        if (holds(s, (row + k) % s->rows, p)) return (row + k) % s->rows;
    return -1;
}

static nn_status set_row(sd_session *s, const sd_prompt *p, int64_t row)
{
    NN_ASSERT(p->n_windows == s->o.windows);
    const int64_t from = find_row(s, p, row), at = row * s->words;
    if (from == row) return NN_OK;
    s->row_ids[at] = -1; /* until the row is complete */
    if (from < 0)
        NN_TRY(encode(s, p, row));
    else
        for (int i = 0; i < s->n_channels; i++) {
            const channel *c = &s->channels[i];
            memcpy(c->rows + row * c->row_bytes, c->rows + from * c->row_bytes,
                   (size_t)c->row_bytes);
        }
    memcpy(s->row_ids + at, p->ids, (size_t)s->words * sizeof(*p->ids));
    memcpy(s->row_weight + at, p->weight, (size_t)s->words * sizeof(*p->weight));
    return NN_OK;
}

nn_status sd_session_prompts(sd_session *s, const sd_prompt *const prompts[],
                             const sd_prompt *const negative[])
{
    for (int64_t i = 0; i < s->o.batch && s->o.guided; i++) NN_TRY(set_row(s, negative[i], i));
    for (int64_t i = 0; i < s->o.batch; i++)
        NN_TRY(set_row(s, prompts[i], s->rows - s->o.batch + i));
    s->told = false;
    return NN_OK;
}

/* -- a step -- */

nn_status sd_session_prepare(sd_session *s)
{
    NN_TRY(need_step(s));
    return nn_plan_pack(s->step);
}

void sd_session_surround(sd_session *s, const float *surroundings)
{
    const int64_t places = s->o.latent_height * s->o.latent_width;
    NN_ASSERT(s->surroundings);
    memcpy(s->surroundings, surroundings,
           (size_t)(s->o.batch * places * s->beside) * sizeof(float));
}

/* The UNet's input for all passes: each place has its latent and its surroundings. */
static void make_input(sd_session *s, const float *latents)
{
    const int64_t c = s->m->unet.in_channels, l = c - s->beside;
    const int64_t places = s->o.batch * s->o.latent_height * s->o.latent_width;
    for (int64_t p = 0; p < places && s->beside; p++) {
        memcpy(s->both + p * c, latents + p * l, (size_t)l * sizeof(float));
        memcpy(s->both + p * c + l, s->surroundings + p * s->beside,
               (size_t)s->beside * sizeof(float));
    }
    if (!s->beside) memcpy(s->both, latents, (size_t)(places * c) * sizeof(float));
    for (int64_t k = 1; k < s->rows / s->o.batch; k++)
        memcpy(s->both + k * places * c, s->both, (size_t)(places * c) * sizeof(float));
}

nn_status sd_session_predict(sd_session *s, const float *latents, float t, double guidance,
                             double rescale, float *out)
{
    const int64_t n = s->o.batch * s->latent_elems;
    NN_TRY(need_step(s));
    make_input(s, latents);
    NN_TRY(nn_plan_write(s->step, s->latent, s->both));
    for (int64_t i = 0; i < s->rows; i++) s->both[i] = t; /* rows <= elements of the latents */
    NN_TRY(nn_plan_write(s->step, s->t, s->both));
    NN_TRY(nn_plan_run(s->step, 0));
    NN_TRY(nn_plan_read(s->step, s->predicted, s->both));
    if (s->o.guided)
        nn_guide(s->both, s->both + n, guidance, rescale, (int)s->o.batch, s->latent_elems, out);
    else
        memcpy(out, s->both, (size_t)n * sizeof(float));
    return NN_OK;
}
