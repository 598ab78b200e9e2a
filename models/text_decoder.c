/* BLIP's text decoder, in one pass for training and position by position for decoding. */
#include "models/text_decoder.h"

#include "models/block/config.h"
#include "models/block/layers.h"

text_decoder_config text_decoder_config_blip_base(void)
{
    return (text_decoder_config){ .vocab_size = 30524,
                                  .hidden_size = 768,
                                  .intermediate_size = 3072,
                                  .encoder_width = 768,
                                  .max_positions = 512,
                                  .n_layers = 12,
                                  .heads = 12,
                                  .act = NN_ACT_GELU,
                                  .eps = 1e-12,
                                  .bos = 30522,
                                  .eos = 102,
                                  .pad = 0 };
}

nn_status text_decoder_config_parse(const nn_json *json, text_decoder_config *out)
{
    text_decoder_config c = text_decoder_config_blip_base();
    int bos = c.bos, eos = c.eos, pad = c.pad;
    NN_TRY(nn_json_int64(json, "vocab_size", &c.vocab_size));
    NN_TRY(nn_json_int64(json, "hidden_size", &c.hidden_size));
    NN_TRY(nn_json_int64(json, "intermediate_size", &c.intermediate_size));
    NN_TRY(nn_json_int64(json, "encoder_hidden_size", &c.encoder_width));
    NN_TRY(nn_json_int64(json, "max_position_embeddings", &c.max_positions));
    NN_TRY(nn_json_int(json, "num_hidden_layers", &c.n_layers));
    NN_TRY(nn_json_int(json, "num_attention_heads", &c.heads));
    NN_TRY(nn_json_double(json, "layer_norm_eps", &c.eps));
    NN_TRY(nn_json_double(json, "hidden_dropout_prob", &c.dropout));
    NN_TRY(nn_json_double(json, "label_smoothing", &c.label_smoothing));
    NN_TRY(nn_json_int(json, "bos_token_id", &bos));
    NN_TRY(nn_json_int(json, "sep_token_id", &eos));
    NN_TRY(nn_json_int(json, "pad_token_id", &pad));
    NN_TRY(nn_json_bool(json, "tie_word_embeddings", &c.tied));
    NN_TRY(config_activation(json, "hidden_act", &c.act));
    NN_TRY(config_check_heads(json, c.hidden_size, c.heads));
    if (c.n_layers > TEXT_DECODER_MAX_LAYERS)
        return nn_fail(NN_UNSUPPORTED, "%s: %d layers, at most %d are supported", json->file,
                       c.n_layers, TEXT_DECODER_MAX_LAYERS);
    c.bos = bos;
    c.eos = eos;
    c.pad = pad;
    *out = c;
    return NN_OK;
}

typedef struct state { /* how this pass attends */
    const text_decoder_config *c;
    nn_tensor *key_mask, *image; /* all positions at once */
    nn_tensor *position, *seen;  /* one position, with the cache */
    const text_cache *cache;
} state;

/* dense, dropout, residual, norm: how each of the three parts of a layer ends. */
static nn_tensor *finish(nn_scope s, const state *d, nn_tensor *h, nn_tensor *residual)
{
    if (d->c->dropout > 0) {
        h = linear(nn_at(s, "dense"), h, d->c->hidden_size, BIAS);
        h = nn_add(s.g, nn_dropout(s.g, h, d->c->dropout), residual);
    } else {
        h = linear_onto(nn_at(s, "dense"), h, residual);
    }
    return layernorm(nn_at(s, "LayerNorm"), h, d->c->eps);
}

static nn_tensor *cached(nn_scope s, const state *d, const char *name, void *data, bool cross)
{
    const text_cache *k = d->cache;
    int64_t heads = d->c->heads, size = d->c->hidden_size / heads;
    nn_view v = nn_view_make(k->dtype, 4,
                             (int64_t[]){ cross ? k->images : k->images * k->beams,
                                          cross ? k->tokens : k->room, heads, size });
    return nn_external(s.g, name, &v, data);
}

/* The last n of query, key and value: y[i] [B, T, H, D]. */
static void project(nn_scope s, const state *d, int n, nn_tensor *x, nn_tensor *y[])
{
    const nn_scope at[] = { nn_at(s, "query"), nn_at(s, "key"), nn_at(s, "value") };
    linear_split(n, at + 3 - n, x, d->c->hidden_size, BIAS, y);
    for (int i = 0; i < n; i++) y[i] = split_heads(s.g, y[i], d->c->heads);
}

static nn_tensor *self_attention(nn_scope s, const state *d, nn_tensor *x, int layer)
{
    nn_scope self = nn_at(s, "self");
    nn_attend attend = { .causal = d->cache == NULL };
    nn_tensor *part[3]; /* [B, T, H, D] */
    nn_tensor *mask = d->key_mask;
    project(self, d, 3, x, part);
    if (d->cache) {
        part[1] = nn_cache_write(s.g, cached(s, d, "self_k", d->cache->self_k[layer], false),
                                 part[1], d->position);
        part[2] = nn_cache_write(s.g, cached(s, d, "self_v", d->cache->self_v[layer], false),
                                 part[2], d->position);
        mask = d->seen;
    }
    nn_tensor *y = nn_attention(s.g, part[0], part[1], part[2], mask, attend);
    return finish(nn_at(s, "output"), d, join_heads(s.g, y), x);
}

/* With a cache the beams of an image stand side by side as queries, so that its keys are there
 * once. */
static nn_tensor *cross_attention_to_image(nn_scope s, const state *d, nn_tensor *x, int layer)
{
    nn_scope self = nn_at(s, "self");
    int64_t rows = x->view.dim[0], t = x->view.dim[1], heads = d->c->heads;
    nn_tensor *part[2]; /* [B, S, H, D] */
    nn_tensor *q = linear(nn_at(self, "query"), x, d->c->hidden_size, BIAS);
    q = split_heads(s.g, q, d->c->heads); /* [B, T, H, D] */
    if (d->cache) {
        q = nn_reshape(s.g, q, 4, (int64_t[]){ d->cache->images, d->cache->beams, heads, -1 });
        part[0] = cached(s, d, "cross_k", d->cache->cross_k[layer], true);
        part[1] = cached(s, d, "cross_v", d->cache->cross_v[layer], true);
    } else {
        project(self, d, 2, d->image, part);
    }
    nn_tensor *y = nn_attention(s.g, q, part[0], part[1], NULL, (nn_attend){ 0 });
    y = nn_reshape(s.g, y, 3, (int64_t[]){ rows, t, d->c->hidden_size });
    return finish(nn_at(s, "output"), d, y, x);
}

static nn_tensor *layer(nn_scope s, const state *d, nn_tensor *x, int i)
{
    x = self_attention(nn_at(s, "attention"), d, x, i); /* [B, T, C] */
    x = cross_attention_to_image(nn_at(s, "crossattention"), d, x, i);
    nn_tensor *h = linear(nn_at(s, "intermediate.dense"), x, d->c->intermediate_size, BIAS);
    return finish(nn_at(s, "output"), d, nn_activation(s.g, h, d->c->act), x);
}

/* h [B, T, C] -> logits [B, T, V] */
static nn_tensor *head(nn_scope s, const text_decoder_config *c, nn_tensor *h, nn_tensor *words)
{
    h = linear(nn_at(s, "transform.dense"), h, c->hidden_size, BIAS);
    h = layernorm(nn_at(s, "transform.LayerNorm"), nn_activation(s.g, h, c->act), c->eps);
    nn_enter(s);
    nn_tensor *bias = nn_param_at(s, "bias", NN_ZEROS, 1, (int64_t[]){ c->vocab_size });
    nn_tensor *w = words;
    if (!c->tied)
        w = nn_param_at(nn_at(s, "decoder"), "weight", NN_NORMAL(0.02f), 2,
                        (int64_t[]){ c->vocab_size, c->hidden_size });
    return nn_linear(s.g, h, w, bias, NULL);
}

static nn_tensor *run(nn_scope s, const state *d, nn_tensor *ids)
{
    const text_decoder_config *c = d->c;
    nn_scope bert = nn_at(s, "bert"), e = nn_at(bert, "embeddings");
    nn_tensor *words = nn_param_at(nn_at(e, "word_embeddings"), "weight", NN_NORMAL(0.02f), 2,
                                   (int64_t[]){ c->vocab_size, c->hidden_size });
    nn_tensor *places = nn_param_at(nn_at(e, "position_embeddings"), "weight", NN_NORMAL(0.02f), 2,
                                    (int64_t[]){ c->max_positions, c->hidden_size });
    nn_tensor *place = d->cache ? nn_embedding(s.g, d->position, places)
                                : nn_slice(s.g, places, 0, 0, ids->view.dim[1]); /* [T, C] */
    nn_tensor *x = nn_add(s.g, nn_embedding(s.g, ids, words), place);            /* [B, T, C] */
    x = layernorm(nn_at(e, "LayerNorm"), x, c->eps);
    x = nn_dropout(s.g, x, c->dropout);
    for (int i = 0; i < c->n_layers; i++) x = layer(nn_at(bert, "encoder.layer.%d", i), d, x, i);
    return head(nn_at(s, "cls.predictions"), c, x, words);
}

nn_tensor *text_decoder(nn_scope s, const text_decoder_config *c, nn_tensor *ids,
                        nn_tensor *key_mask, nn_tensor *image)
{
    return run(s, &(state){ .c = c, .key_mask = key_mask, .image = image }, ids);
}

nn_tensor *text_decoder_step(nn_scope s, const text_decoder_config *c, nn_tensor *ids,
                             nn_tensor *position, nn_tensor *seen, const text_cache *cache)
{
    nn_tensor *logits =
        run(s, &(state){ .c = c, .position = position, .seen = seen, .cache = cache }, ids);
    return nn_reshape(s.g, logits, 2, (int64_t[]){ ids->view.dim[0], c->vocab_size });
}

void text_decoder_prefill(nn_scope s, const text_decoder_config *c, nn_tensor *image,
                          const text_cache *cache)
{
    state d = { .c = c, .cache = cache };
    nn_tensor *start = nn_fill(s.g, NN_I32, NN_DIMS(1), 0);
    for (int i = 0; i < c->n_layers; i++) {
        nn_scope l = nn_at(s, "bert.encoder.layer.%d.crossattention.self", i);
        nn_tensor *part[2];
        project(l, &d, 2, image, part);
        nn_cache_write(s.g, cached(s, &d, "cross_k", cache->cross_k[i], true), part[0], start);
        nn_cache_write(s.g, cached(s, &d, "cross_v", cache->cross_v[i], true), part[1], start);
    }
}
