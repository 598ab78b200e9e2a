/* Sequences that run alone: greedy search and sampling. */
#include <math.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/rng.h"
#include "models/decode_internal.h"

typedef struct run {
    const nn_decode_options *o;
    const nn_decode_input *in;
    int n;           /* sequences: n_returned of each image */
    int32_t *ids;    /* [n, max_length], the caller's */
    nn_decoded *out; /* [n]; length grows until ended */
    nn_rng *rng;     /* [n] */
    int32_t *order;  /* [vocab]: a heap of tokens, then the popped ones */
    float *scores;   /* [vocab]: processed logits of one row */
    nn_decode_feed feed;
} run;

static int32_t argmax(const float *x, int n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Restore the heap of n tokens (largest score on top, lower id among equals) below `at`. */
static void sift_down(int32_t *heap, int n, int at, const float *x)
{
    for (int child; (child = 2 * at + 1) < n; at = child) {
        for (int c = child + 1; c < n && c <= 2 * at + 2; c++)
            if (x[heap[c]] > x[heap[child]] ||
                (x[heap[c]] == x[heap[child]] && heap[c] < heap[child]))
                child = c;
        int32_t up = heap[child], down = heap[at];
        if (x[up] < x[down] || (x[up] == x[down] && up > down)) return;
        heap[at] = up;
        heap[child] = down;
    }
}

/* Take the best of the n - popped tokens that are still in the heap; it lies at order[n - 1 -
 * popped] afterwards, so the array ends in the popped ones, worst first. */
static void pop(int32_t *order, int n, int popped, const float *x)
{
    int32_t best = order[0];
    order[0] = order[n - 1 - popped];
    order[n - 1 - popped] = best;
    sift_down(order, n - popped - 1, 0, x);
}

/* The tokens that survive top-k: its k best and those that tie with the last of them. */
static int pop_top_k(int32_t *order, int n, int k, const float *x)
{
    int popped = 0;
    while (popped < k) pop(order, n, popped++, x);
    while (popped < n && x[order[0]] == x[order[n - popped]]) pop(order, n, popped++, x);
    return popped;
}

static double weight(float score, float most)
{
    return exp((double)(score - most));
}

/* Draw from the processed scores [vocab]. A token stays in the nucleus while the more likely ones
 * together have less than top_p. */
static int32_t draw(run *s, nn_rng *rng)
{
    const int n = s->in->vocab;
    int32_t *order = s->order;
    float *x = s->scores;
    for (int v = 0; v < n; v++) x[v] /= (float)s->o->temperature;
    for (int v = 0; v < n; v++) order[v] = v;
    for (int v = n / 2; v-- > 0;) sift_down(order, n, v, x);
    const float most = x[order[0]];

    const bool top_k = s->o->top_k > 0 && s->o->top_k < n;
    int popped = top_k ? pop_top_k(order, n, s->o->top_k, x) : 0;
    const int allowed = top_k ? popped : n;
    double total = 0, inside = 0;
    for (int j = 0; j < allowed; j++) total += weight(x[order[n - 1 - j]], most);

    int nucleus = 0;
    for (; nucleus < allowed && inside < s->o->top_p * total; nucleus++) {
        if (nucleus == popped) pop(order, n, popped++, x);
        inside += weight(x[order[n - 1 - nucleus]], most);
    }
    int32_t token = order[n - 1];
    double left = (double)nn_rng_uniform(rng) * inside;
    for (int j = 0; j < nucleus && left >= 0; j++) {
        double w = weight(x[order[n - 1 - j]], most);
        if (w > 0) token = order[n - 1 - j];
        left -= w;
    }
    return token;
}

/* Choose the next token of a row and append it. */
static nn_status step_row(run *s, int row)
{
    const float *logits = s->feed.logits + (int64_t)row * s->in->vocab;
    int32_t *ids = s->ids + (int64_t)row * s->o->max_length;
    nn_decoded *d = &s->out[row];
    float total;
    NN_TRY(nn_decode_logsumexp(logits, s->in->vocab, &total));
    memcpy(s->scores, logits, (size_t)s->in->vocab * sizeof(float));
    nn_decode_process(s->o, ids, d->length, s->scores);
    int32_t token =
        s->o->method == NN_DECODE_SAMPLE ? draw(s, &s->rng[row]) : argmax(s->scores, s->in->vocab);
    d->log_prob += (double)(logits[token] - total);
    d->key = d->log_prob / (double)nn_decode_norm(s->o, d->length + 1 - s->in->n_prompt);
    ids[d->length++] = token;
    d->ended = token == s->o->eos;
    s->feed.ids[row] = token; /* when ended, the row goes on with the end token */
    return NN_OK;
}

static nn_status run_init(run *s, nn_arena *arena)
{
    NN_TRY(nn_decode_feed_init(&s->feed, s->in, s->n, arena));
    s->rng = nn_arena_alloc(arena, s->n, sizeof(nn_rng));
    NN_NEED(s->rng);
    s->order = nn_arena_alloc(arena, s->in->vocab, sizeof(int32_t));
    NN_NEED(s->order);
    s->scores = nn_arena_alloc(arena, s->in->vocab, sizeof(float));
    NN_NEED(s->scores);
    for (int r = 0; r < s->n; r++) {
        const int32_t *prompt = s->in->prompt + (int64_t)(r / s->o->n_returned) * s->in->n_prompt;
        uint64_t id = s->in->sample_id ? s->in->sample_id[r] : (uint64_t)r;
        s->rng[r] = nn_rng_make(s->o->seed, "decode", id);
        s->out[r] = (nn_decoded){ .length = s->in->n_prompt };
        memcpy(s->ids + (int64_t)r * s->o->max_length, prompt,
               (size_t)s->in->n_prompt * sizeof(int32_t));
    }
    return NN_OK;
}

static nn_status run_all(run *s)
{
    NN_TRY(nn_decode_prompt(&s->feed, s->in));
    for (int position = s->in->n_prompt;; position++) { /* of the token that is chosen here */
        bool more = false;
        for (int r = 0; r < s->n; r++) {
            if (!s->out[r].ended) NN_TRY(step_row(s, r));
            more |= !s->out[r].ended;
        }
        if (!more || position + 1 == s->o->max_length) return NN_OK;
        NN_TRY(nn_decode_feed_step(&s->feed, s->in, position));
    }
}

nn_status nn_decode_single(const nn_decode_options *o, const nn_decode_input *in, int32_t *ids,
                           nn_decoded *out)
{
    nn_arena arena = { 0 };
    run s = { .o = o, .in = in, .n = in->n_images * o->n_returned, .ids = ids, .out = out };
    nn_status status = run_init(&s, &arena);
    if (status == NN_OK) status = run_all(&s);
    nn_arena_free(&arena);
    NN_TRY(status);
    return NN_OK;
}
