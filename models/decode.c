/* The parts of decoding that all methods share, and their checks. */
#include "models/decode.h"

#include <limits.h>
#include <math.h>

#include "engine/base/arena.h"
#include "models/decode_internal.h"

nn_decode_options nn_decode_defaults(void)
{
    return (nn_decode_options){ .method = NN_DECODE_BEAM,
                                .n_beams = 3,
                                .n_returned = 1,
                                .max_length = 20,
                                .min_length = 5,
                                .eos = 102,
                                .repetition_penalty = 1,
                                .length_penalty = 1,
                                .early_stopping = NN_STOP_UNLIKELY,
                                .temperature = 1,
                                .top_k = 0,
                                .top_p = 1,
                                .seed = 0 };
}

static nn_status check_input(const nn_decode_options *o, const nn_decode_input *in)
{
    if (in->n_images < 1) return nn_fail(NN_ARGUMENT, "decode: %d images; give one", in->n_images);
    if (in->vocab < 2)
        return nn_fail(NN_ARGUMENT, "decode: a vocabulary of %d; at least 2 words are needed",
                       in->vocab);
    if (in->n_prompt < 1)
        return nn_fail(NN_ARGUMENT, "decode: the prompt is empty; give the start token");
    if (in->n_prompt >= o->max_length)
        return nn_fail(NN_ARGUMENT,
                       "decode: max_length is %d, the prompt alone has %d ids; raise max_length",
                       o->max_length, in->n_prompt);
    if (o->eos < 0 || o->eos >= in->vocab)
        return nn_fail(NN_ARGUMENT, "decode: the end token is %d, outside the vocabulary of %d",
                       o->eos, in->vocab);
    for (int64_t i = 0; i < (int64_t)in->n_images * in->n_prompt; i++)
        if (in->prompt[i] < 0 || in->prompt[i] >= in->vocab)
            return nn_fail(NN_ARGUMENT,
                           "decode: prompt id %d is outside the vocabulary of %d; is it the "
                           "tokenizer of this model?",
                           in->prompt[i], in->vocab);
    return NN_OK;
}

static nn_status check_options(const nn_decode_options *o, const nn_decode_input *in)
{
    if (o->method == NN_DECODE_BEAM && (o->n_beams < 1 || o->n_beams > INT_MAX / 2 / in->n_images ||
                                        o->n_beams > INT_MAX / 2 / in->vocab))
        return nn_fail(NN_ARGUMENT, "decode: %d beams for %d images; give 1 or more, in reason",
                       o->n_beams, in->n_images);
    const int most = o->method == NN_DECODE_BEAM     ? o->n_beams
                     : o->method == NN_DECODE_SAMPLE ? INT_MAX / 2 / in->n_images
                                                     : 1;
    if (o->n_returned < 1 || o->n_returned > most)
        return nn_fail(NN_ARGUMENT,
                       "decode: %d sequences per image; a beam search has as many as beams (%d), "
                       "greedy search has one, only sampling has more",
                       o->n_returned, o->n_beams);
    if (!(o->repetition_penalty > 0))
        return nn_fail(NN_ARGUMENT, "decode: repetition_penalty is %g; it must be above 0",
                       o->repetition_penalty);
    if (!isfinite(o->length_penalty))
        return nn_fail(NN_ARGUMENT, "decode: length_penalty is %g; it must be finite",
                       o->length_penalty);
    if (o->method != NN_DECODE_SAMPLE) return NN_OK;
    if (!(o->temperature > 0))
        return nn_fail(NN_ARGUMENT,
                       "decode: temperature is %g; it must be above 0 (greedy search is the limit)",
                       o->temperature);
    if (o->top_k < 0) return nn_fail(NN_ARGUMENT, "decode: top_k is %d; 0 is off", o->top_k);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return nn_fail(NN_ARGUMENT, "decode: top_p is %g; it must be in (0, 1]", o->top_p);
    return NN_OK;
}

nn_status nn_decode(const nn_decode_options *o, const nn_decode_input *in, int32_t *ids,
                    nn_decoded *out)
{
    NN_TRY(check_input(o, in));
    NN_TRY(check_options(o, in));
    if (o->method == NN_DECODE_BEAM) return nn_decode_beam(o, in, ids, out);
    return nn_decode_single(o, in, ids, out);
}

nn_status nn_decode_feed_init(nn_decode_feed *feed, const nn_decode_input *in, int rows,
                              nn_arena *arena)
{
    feed->rows = rows;
    feed->ids = nn_arena_alloc(arena, rows, sizeof(int32_t));
    NN_NEED(feed->ids);
    feed->parents = nn_arena_alloc(arena, rows, sizeof(int32_t));
    NN_NEED(feed->parents);
    feed->logits = nn_arena_alloc(arena, (int64_t)rows * in->vocab, sizeof(float));
    NN_NEED(feed->logits);
    for (int r = 0; r < rows; r++) feed->parents[r] = r;
    return NN_OK;
}

nn_status nn_decode_prompt(nn_decode_feed *feed, const nn_decode_input *in)
{
    int per_image = feed->rows / in->n_images;
    for (int at = 0; at < in->n_prompt; at++) {
        for (int r = 0; r < feed->rows; r++)
            feed->ids[r] = in->prompt[(int64_t)(r / per_image) * in->n_prompt + at];
        bool last = at == in->n_prompt - 1;
        NN_TRY(in->step(in->ctx, at, feed->rows, feed->ids, feed->parents,
                        last ? feed->logits : NULL));
    }
    return NN_OK;
}

nn_status nn_decode_feed_step(nn_decode_feed *feed, const nn_decode_input *in, int64_t position)
{
    return in->step(in->ctx, position, feed->rows, feed->ids, feed->parents, feed->logits);
}

nn_status nn_decode_logsumexp(const float *x, int n, float *out)
{
    float most = x[0];
    for (int i = 1; i < n; i++)
        if (x[i] > most) most = x[i];
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)expf(x[i] - most);
    *out = most + (float)log(sum);
    if (!isfinite(*out))
        return nn_fail(NN_NUMERIC,
                       "decode: the log-sum of the model's logits is %g; are the "
                       "weights sound?",
                       (double)*out);
    return NN_OK;
}

static bool seen_before(const int32_t *ids, int at)
{
    for (int i = 0; i < at; i++)
        if (ids[i] == ids[at]) return true;
    return false;
}

void nn_decode_process(const nn_decode_options *o, const int32_t *ids, int length, float *scores)
{
    const float penalty = (float)o->repetition_penalty;
    for (int i = 0; penalty != 1.0f && i < length; i++) {
        if (seen_before(ids, i)) continue;
        float *s = &scores[ids[i]];
        *s = *s < 0 ? *s * penalty : *s / penalty;
    }
    if (length < o->min_length) scores[o->eos] = -INFINITY;
}

float nn_decode_norm(const nn_decode_options *o, int n_generated)
{
    return (float)pow(n_generated, o->length_penalty);
}
