/* Captions for batches of pictures. */
#include "tools/captioning.h"

#include <string.h>

#include "engine/base/alloc.h"

const char *const captioning_methods[] = { "greedy", "beam", "sample", NULL };
const char *const captioning_length_rules[] = { "generated", "whole", NULL };

struct captioning {
    captioner_folder *model;
    nn_device *device;
    captioning_settings set;
    nn_tokens prompt[CAPTIONING_PREFIXES];
    captioner_session *session;
    int room;                 /* ids of the longest sequence */
    float *pixels;            /* [batch, S, S, 3] */
    nn_status *status;        /* [batch]: of preparing a picture */
    int32_t *prompts;         /* [batch, prompt] */
    int32_t *ids;             /* [batch, captions, room] */
    uint64_t *sample_id;      /* [batch, captions] */
    nn_decoded *decoded;      /* [batch, captions] */
    const nn_image *pictures; /* while preparing */
};

static int64_t picture_elems(const captioning *c)
{
    int64_t side = c->model->config.vision.image_size;
    return 3 * side * side;
}

static nn_status reserve(captioning *c)
{
    const int64_t n = c->set.batch, captions = n * c->set.captions;
    c->pixels = nn_alloc(n * picture_elems(c), sizeof(*c->pixels));
    NN_NEED(c->pixels);
    c->status = nn_alloc(n, sizeof(*c->status));
    NN_NEED(c->status);
    c->prompts = nn_alloc(n * c->room, sizeof(*c->prompts));
    NN_NEED(c->prompts);
    c->ids = nn_alloc(captions * c->room, sizeof(*c->ids));
    NN_NEED(c->ids);
    c->sample_id = nn_alloc(captions, sizeof(*c->sample_id));
    NN_NEED(c->sample_id);
    c->decoded = nn_alloc(captions, sizeof(*c->decoded));
    NN_NEED(c->decoded);
    return NN_OK;
}

static nn_status open_session(captioning *c, const char *const *prefixes, int n)
{
    NN_ASSERT(n >= 1 && n <= CAPTIONING_PREFIXES);
    int longest = 0;
    for (int i = 0; i < n; i++) {
        NN_TRY(caption_prompt(&c->model->words, prefixes[i], &c->prompt[i]));
        longest = (int)nn_max(longest, c->prompt[i].n);
    }
    c->room = (int)nn_min(longest + c->set.most_tokens, c->model->config.text.max_positions);
    if (c->room <= longest)
        return nn_fail(NN_ARGUMENT,
                       "a prefix of %d tokens leaves no room for a caption: the model has %lld "
                       "positions",
                       longest - 1, (long long)c->model->config.text.max_positions);
    NN_TRY(reserve(c));
    int64_t beams = c->set.method == NN_DECODE_BEAM ? c->set.beams : c->set.captions;
    return captioner_session_create(&c->model->config, c->model->params, c->device, c->set.batch,
                                    beams, c->room, &c->session);
}

nn_status captioning_open(captioner_folder *model, nn_device *device,
                          const captioning_settings *settings, const char *const *prefixes, int n,
                          captioning **out)
{
    captioning *c = nn_alloc(1, sizeof(*c));
    NN_NEED(c);
    c->model = model;
    c->device = device;
    c->set = *settings;
    nn_status status = open_session(c, prefixes, n);
    if (status == NN_OK)
        *out = c;
    else
        captioning_close(c);
    return status;
}

void captioning_close(captioning *c)
{
    if (!c) return;
    captioner_session_destroy(c->session);
    for (int i = 0; i < CAPTIONING_PREFIXES; i++) nn_tokens_free(&c->prompt[i]);
    nn_free(c->pixels);
    nn_free(c->status);
    nn_free(c->prompts);
    nn_free(c->ids);
    nn_free(c->sample_id);
    nn_free(c->decoded);
    nn_free(c);
}

static void prepare(void *ctx, int thread, int64_t begin, int64_t end)
{
    captioning *c = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        nn_image square;
        c->status[i] = NN_OK;
        if (!c->pictures[i].rgb) continue;
        c->status[i] = captioner_square(&c->model->config, &c->pictures[i], &square);
        if (c->status[i] != NN_OK) continue;
        captioner_pixels(&square, c->pixels + i * picture_elems(c));
        nn_image_free(&square);
    }
}

/* Places of the batch without a picture see one of the others: what they would say of noise could
 * be longer than any caption, and all would wait for it. */
nn_status captioning_look(captioning *c, const nn_image *pictures, int n)
{
    const int64_t elems = picture_elems(c);
    int first = 0;
    c->pictures = pictures;
    nn_pool_for(c->device->pool, n, 1, prepare, c);
    for (int i = 0; i < n; i++)
        if (c->status[i] != NN_OK)
            return nn_fail(c->status[i], "picture %d of the batch cannot be resized", i);
    while (first < n && !pictures[first].rgb) first++;
    NN_ASSERT(first < n);
    for (int64_t i = 0; i < c->set.batch; i++)
        if (i >= n || !pictures[i].rgb)
            memcpy(c->pixels + i * elems, c->pixels + first * elems,
                   (size_t)elems * sizeof(*c->pixels));
    return captioner_session_look(c->session, c->pixels);
}

static nn_decode_options options_of(const captioning *c, int n_prompt)
{
    const captioning_settings *s = &c->set;
    return (nn_decode_options){
        .method = (nn_decode_method)s->method,
        .n_beams = (int)s->beams,
        .n_returned = (int)s->captions,
        .max_length = (int)nn_min(n_prompt + s->most_tokens, c->room),
        .min_length = n_prompt + (int)s->least_tokens,
        .eos = c->model->words.eos,
        .repetition_penalty = s->repetition_penalty,
        .length_penalty = s->length_penalty,
        .rule = (nn_decode_rule)s->length_rule,
        .temperature = s->temperature,
        .top_k = (int)s->top_k,
        .top_p = s->top_p,
        .seed = (uint64_t)s->seed,
    };
}

nn_status captioning_write(captioning *c, int which, const uint64_t *sample_id, int n, caption *out)
{
    const nn_tokens *prompt = &c->prompt[which];
    const nn_decode_options o = options_of(c, prompt->n);
    const int64_t asked = n * c->set.captions;
    for (int64_t i = 0; i < c->set.batch; i++)
        memcpy(c->prompts + i * prompt->n, prompt->ids, (size_t)prompt->n * sizeof(int32_t));
    for (int64_t i = 0; i < c->set.batch * c->set.captions; i++)
        c->sample_id[i] = i < asked ? sample_id[i] : 0;
    nn_decode_input in = { .step = captioner_session_step,
                           .ctx = c->session,
                           .n_images = (int)c->set.batch,
                           .vocab = (int)c->model->config.text.vocab_size,
                           .n_prompt = prompt->n,
                           .prompt = c->prompts,
                           .sample_id = c->sample_id };
    NN_TRY(nn_decode(&o, &in, c->ids, c->decoded));
    for (int64_t i = 0; i < asked; i++) {
        const nn_decoded *d = &c->decoded[i];
        const int32_t *generated = c->ids + i * o.max_length + prompt->n;
        out[i] = (caption){ .text = out[i].text,
                            .tokens = d->length - prompt->n - d->ended,
                            .logprob = d->log_prob,
                            .score = d->key,
                            .ids = generated,
                            .n_ids = d->length - prompt->n };
        nn_text_clear(&out[i].text);
        NN_TRY(caption_detokenize(&c->model->words, generated, out[i].n_ids, &out[i].text));
    }
    return NN_OK;
}
