/* Decoding with the captioner: one plan looks at pictures, one writes a word. */
#include <string.h>

#include "engine/base/alloc.h"
#include "models/captioner.h"

struct captioner_session {
    captioner_config config;
    text_cache cache;
    int64_t row_bytes; /* self keys of one row and layer */
    char *shelf;       /* rows of one layer while they change places */
    int32_t *seen_now; /* [rows, room] */
    nn_graph *look_graph, *step_graph;
    nn_plan *look_plan, *step_plan;
    nn_tensor *pixels, *ids, *position, *seen, *logits;
    nn_device *owner;
};

static nn_status reserve(captioner_session *s, void **out, int64_t elems)
{
    *out = s->owner->backend->alloc(s->owner, elems * nn_dtype_bytes(s->cache.dtype));
    NN_NEED(*out);
    return NN_OK;
}

static nn_status reserve_cache(captioner_session *s)
{
    text_cache *k = &s->cache;
    int64_t rows = k->images * k->beams, width = s->config.text.hidden_size;
    s->row_bytes = k->room * width * nn_dtype_bytes(k->dtype);
    for (int i = 0; i < s->config.text.n_layers; i++) {
        NN_TRY(reserve(s, &k->self_k[i], rows * k->room * width));
        NN_TRY(reserve(s, &k->self_v[i], rows * k->room * width));
        NN_TRY(reserve(s, &k->cross_k[i], k->images * k->tokens * width));
        NN_TRY(reserve(s, &k->cross_v[i], k->images * k->tokens * width));
    }
    s->shelf = nn_alloc(rows, (size_t)s->row_bytes);
    NN_NEED(s->shelf);
    s->seen_now = nn_alloc(rows * k->room, sizeof(*s->seen_now));
    NN_NEED(s->seen_now);
    return NN_OK;
}

static nn_status plan_look(captioner_session *s, nn_params *params)
{
    const vit_config *v = &s->config.vision;
    NN_TRY(nn_graph_create(&s->look_graph));
    nn_graph_compute(s->look_graph, s->cache.dtype);
    nn_scope root = nn_root(s->look_graph, params, "");
    s->pixels = nn_input(s->look_graph, "pixels", NN_F32,
                         NN_DIMS(s->cache.images, v->image_size, v->image_size, 3));
    nn_tensor *image = captioner_encode(root, &s->config, s->pixels);
    text_decoder_prefill(nn_at(root, "text_decoder"), &s->config.text, image, &s->cache);
    return nn_plan_create(s->look_graph, s->owner, &(nn_plan_options){ .frozen = true },
                          &s->look_plan);
}

static nn_status plan_step(captioner_session *s, nn_params *params)
{
    int64_t rows = s->cache.images * s->cache.beams;
    NN_TRY(nn_graph_create(&s->step_graph));
    nn_graph *g = s->step_graph;
    nn_graph_compute(g, s->cache.dtype);
    nn_scope root = nn_root(g, params, "");
    s->ids = nn_input(g, "ids", NN_I32, NN_DIMS(rows, 1));
    s->position = nn_input(g, "position", NN_I32, NN_DIMS(1));
    s->seen = nn_input(g, "seen", NN_I32, NN_DIMS(rows, s->cache.room));
    s->logits = nn_precise(g, text_decoder_step(nn_at(root, "text_decoder"), &s->config.text,
                                                s->ids, s->position, s->seen, &s->cache));
    nn_keep(s->logits);
    return nn_plan_create(g, s->owner, &(nn_plan_options){ .frozen = true }, &s->step_plan);
}

static nn_status open_session(captioner_session *s, nn_params *params)
{
    if (s->cache.room > s->config.text.max_positions)
        return nn_fail(NN_ARGUMENT, "captions of %lld ids: the model has %lld positions",
                       (long long)s->cache.room, (long long)s->config.text.max_positions);
    NN_TRY(reserve_cache(s));
    NN_TRY(plan_look(s, params));
    return plan_step(s, params);
}

nn_status captioner_session_create(const captioner_config *c, nn_params *params, nn_device *device,
                                   int64_t images, int64_t beams, int64_t room,
                                   captioner_session **out)
{
    captioner_session *s = nn_alloc(1, sizeof(*s));
    NN_NEED(s);
    s->owner = device;
    s->config = *c;
    s->cache = (text_cache){ .images = images,
                             .beams = beams,
                             .room = room,
                             .tokens = vit_tokens(&c->vision),
                             .dtype = nn_device_storage(device) };
    nn_status status = open_session(s, params);
    if (status != NN_OK) {
        captioner_session_destroy(s);
        return status;
    }
    *out = s;
    return NN_OK;
}

static void release(captioner_session *s, void *block)
{
    if (block) s->owner->backend->free(s->owner, block);
}

void captioner_session_destroy(captioner_session *s)
{
    if (!s) return;
    nn_plan_destroy(s->look_plan);
    nn_plan_destroy(s->step_plan);
    nn_graph_destroy(s->look_graph);
    nn_graph_destroy(s->step_graph);
    for (int i = 0; i < s->config.text.n_layers; i++) {
        release(s, s->cache.self_k[i]);
        release(s, s->cache.self_v[i]);
        release(s, s->cache.cross_k[i]);
        release(s, s->cache.cross_v[i]);
    }
    nn_free(s->shelf);
    nn_free(s->seen_now);
    nn_free(s);
}

nn_status captioner_session_look(captioner_session *s, const float *pixels)
{
    NN_TRY(nn_plan_write(s->look_plan, s->pixels, pixels));
    return nn_plan_run(s->look_plan, 0);
}

/* Row r goes on from what row parents[r] has said so far. */
static nn_status reorder(captioner_session *s, int rows, const int32_t *parents, void *layer)
{
    const nn_backend *b = s->owner->backend;
    bool moved = false;
    for (int r = 0; r < rows; r++) moved |= parents[r] != r;
    if (!moved) return NN_OK;
    for (int r = 0; r < rows; r++)
        NN_TRY(b->read(s->owner, s->shelf + r * s->row_bytes,
                       (char *)layer + parents[r] * s->row_bytes, s->row_bytes));
    return b->write(s->owner, layer, s->shelf, rows * s->row_bytes);
}

nn_status captioner_session_step(void *ctx, int64_t position, int rows, const int32_t *ids,
                                 const int32_t *parents, float *logits)
{
    captioner_session *s = ctx;
    int64_t room = s->cache.room;
    int32_t at = (int32_t)position;
    NN_ASSERT(rows == s->cache.images * s->cache.beams);
    for (int i = 0; parents && i < s->config.text.n_layers; i++) {
        NN_TRY(reorder(s, rows, parents, s->cache.self_k[i]));
        NN_TRY(reorder(s, rows, parents, s->cache.self_v[i]));
    }
    for (int64_t i = 0; i < rows * room; i++) s->seen_now[i] = i % room <= position;
    NN_TRY(nn_plan_write(s->step_plan, s->ids, ids));
    NN_TRY(nn_plan_write(s->step_plan, s->position, &at));
    NN_TRY(nn_plan_write(s->step_plan, s->seen, s->seen_now));
    NN_TRY(nn_plan_run(s->step_plan, 0));
    return logits ? nn_plan_read(s->step_plan, s->logits, logits) : NN_OK;
}

const nn_plan *captioner_session_look_plan(const captioner_session *s)
{
    return s->look_plan;
}

const nn_plan *captioner_session_step_plan(const captioner_session *s)
{
    return s->step_plan;
}
