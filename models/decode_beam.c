/* Beam search by the rules of transformers.
 *
 * Every image has n running sequences and at most n finished ones. Of the 2n best continuations
 * those that end enter the finished set if their rank is below n, and the first n that do not end
 * run on. A vocabulary of two or more words has at most one ending continuation per beam, so there
 * are always n that run on. In the last step everything ends: by rank as before, or by the older
 * rule all n that run on, unless the search was over. */
#include <math.h>
#include <string.h>

#include "engine/base/arena.h"
#include "models/decode_internal.h"

typedef struct candidate {
    float sum;
    int beam;
    int32_t token;
} candidate;

typedef struct finished {
    float key, sum;
    int length;
    int32_t *ids; /* [max_length] */
} finished;

typedef struct search {
    const nn_decode_options *o;
    const nn_decode_input *in;
    int n, length;       /* beams; ids of every running sequence */
    int32_t *ids, *next; /* [rows, max_length]: the running sequences now and after this step */
    float *sum;          /* [rows] */
    finished *done;      /* [n_images, n], best first */
    int *n_done;         /* [n_images] */
    bool *stopped;       /* [n_images] */
    candidate *top;      /* [2n], best first */
    nn_decode_feed feed;
} search;

static nn_status search_init(search *s, nn_arena *arena)
{
    const int images = s->in->n_images, rows = images * s->n, longest = s->o->max_length;
    NN_TRY(nn_decode_feed_init(&s->feed, s->in, rows, arena));
    s->ids = nn_arena_alloc(arena, (int64_t)rows * longest, sizeof(int32_t));
    NN_NEED(s->ids);
    s->next = nn_arena_alloc(arena, (int64_t)rows * longest, sizeof(int32_t));
    NN_NEED(s->next);
    s->sum = nn_arena_alloc(arena, rows, sizeof(float));
    NN_NEED(s->sum);
    s->done = nn_arena_alloc(arena, rows, sizeof(finished));
    NN_NEED(s->done);
    s->n_done = nn_arena_alloc(arena, images, sizeof(int));
    NN_NEED(s->n_done);
    s->stopped = nn_arena_alloc(arena, images, sizeof(bool));
    NN_NEED(s->stopped);
    s->top = nn_arena_alloc(arena, 2 * (int64_t)s->n, sizeof(candidate));
    NN_NEED(s->top);
    int32_t *pool = nn_arena_alloc(arena, (int64_t)rows * longest, sizeof(int32_t));
    NN_NEED(pool);
    for (int r = 0; r < rows; r++) {
        s->done[r].ids = pool + (int64_t)r * longest;
        s->sum[r] = r % s->n ? -1e9f : 0.0f; /* all beams are equal at first: only one may run */
        memcpy(s->ids + (int64_t)r * longest, s->in->prompt + (int64_t)(r / s->n) * s->in->n_prompt,
               (size_t)s->in->n_prompt * sizeof(int32_t));
    }
    s->length = s->in->n_prompt;
    return NN_OK;
}

static int32_t *running(const search *s, int row)
{
    return s->ids + (int64_t)row * s->o->max_length;
}

/* Logits of a row to the sums that its continuations would have. */
static nn_status score(search *s, int row)
{
    float *x = s->feed.logits + (int64_t)row * s->in->vocab, total;
    NN_TRY(nn_decode_logsumexp(x, s->in->vocab, &total));
    for (int v = 0; v < s->in->vocab; v++) x[v] -= total;
    nn_decode_process(s->o, running(s, row), s->length, x);
    for (int v = 0; v < s->in->vocab; v++) x[v] += s->sum[row];
    return NN_OK;
}

/* The 2n best continuations of the n rows from first_row on; the earlier one among equals. */
static void find_top(search *s, int first_row)
{
    const int most = 2 * s->n;
    int have = 0;
    for (int b = 0; b < s->n; b++) {
        const float *x = s->feed.logits + (int64_t)(first_row + b) * s->in->vocab;
        for (int32_t v = 0; v < s->in->vocab; v++) {
            if (have == most && !(x[v] > s->top[most - 1].sum)) continue;
            int at = have < most ? have++ : most - 1;
            for (; at > 0 && x[v] > s->top[at - 1].sum; at--) s->top[at] = s->top[at - 1];
            s->top[at] = (candidate){ .sum = x[v], .beam = b, .token = v };
        }
    }
}

static bool whole(const search *s)
{
    return s->o->rule == NN_RULE_WHOLE;
}

/* The length of a continuation, as the rule counts it. */
static int counted(const search *s, const candidate *c)
{
    const int length = s->length + 1;
    return whole(s) ? length - (c->token == s->o->eos) : length - s->in->n_prompt;
}

/* Put an ended continuation into the finished set, if it is among the n best. */
static void finish(search *s, int image, const candidate *c)
{
    const float key = c->sum / nn_decode_norm(s->o, counted(s, c));
    finished *set = s->done + (int64_t)image * s->n;
    int at = s->n_done[image];
    if (at == s->n && !(key > set[at - 1].key)) return;
    if (at < s->n)
        s->n_done[image]++;
    else
        at--;
    int32_t *ids = set[at].ids; /* of the one that leaves, or of a free place */
    for (; at > 0 && key > set[at - 1].key; at--) set[at] = set[at - 1];
    memcpy(ids, running(s, image * s->n + c->beam), (size_t)s->length * sizeof(int32_t));
    ids[s->length] = c->token;
    set[at] = (finished){ .key = key, .sum = c->sum, .length = s->length + 1, .ids = ids };
}

static void run_on(search *s, int image, int beam, const candidate *c)
{
    const int row = image * s->n + beam, parent = image * s->n + c->beam;
    int32_t *ids = s->next + (int64_t)row * s->o->max_length;
    memcpy(ids, running(s, parent), (size_t)s->length * sizeof(int32_t));
    ids[s->length] = c->token;
    s->sum[row] = c->sum;
    s->feed.ids[row] = c->token;
    s->feed.parents[row] = parent;
}

/* After the step: can nothing that runs on change the finished set? */
static bool is_over(const search *s, int image)
{
    if (s->n_done[image] < s->n) return false;
    if (s->o->early_stopping == NN_STOP_FIRST) return true;
    bool longest = s->o->early_stopping == NN_STOP_NEVER && s->o->length_penalty > 0;
    int length = longest ? s->o->max_length : s->length + 1;
    if (!whole(s)) length -= s->in->n_prompt;
    float best = whole(s) ? s->top[0].sum : s->sum[image * s->n];
    return best / nn_decode_norm(s->o, length) <= s->done[(int64_t)image * s->n + s->n - 1].key;
}

/* The older rule's last step: all that run on are finished too. */
static void finish_running(search *s, int image)
{
    for (int rank = 0, beam = 0; rank < 2 * s->n && beam < s->n; rank++) {
        if (s->top[rank].token == s->o->eos) continue;
        finish(s, image, &s->top[rank]);
        beam++;
    }
}

static nn_status step_image(search *s, int image)
{
    const int first = image * s->n;
    for (int b = 0; b < s->n; b++) NN_TRY(score(s, first + b));
    find_top(s, first);
    const bool last = s->length + 1 == s->o->max_length, all_end = last && !whole(s);
    for (int rank = 0, beam = 0; rank < 2 * s->n; rank++) {
        const candidate *c = &s->top[rank];
        bool ends = all_end || c->token == s->o->eos;
        if (ends && rank < s->n) finish(s, image, c);
        if (!ends && beam < s->n) run_on(s, image, beam++, c);
    }
    bool over = is_over(s, image);
    if (last && !all_end && !over) finish_running(s, image);
    s->stopped[image] = last || over;
    return NN_OK;
}

/* Rows of a stopped image go on with the end token, so that the shape of the batch stays. */
static void idle(search *s, int image)
{
    for (int r = image * s->n; r < (image + 1) * s->n; r++) {
        s->feed.ids[r] = s->o->eos;
        s->feed.parents[r] = r;
    }
}

static nn_status search_run(search *s)
{
    NN_TRY(nn_decode_prompt(&s->feed, s->in));
    for (;;) {
        bool more = false;
        for (int image = 0; image < s->in->n_images; image++) {
            if (!s->stopped[image]) NN_TRY(step_image(s, image));
            if (s->stopped[image]) idle(s, image);
            more |= !s->stopped[image];
        }
        if (!more) return NN_OK;
        int32_t *old = s->ids;
        s->ids = s->next;
        s->next = old;
        s->length++;
        NN_TRY(nn_decode_feed_step(&s->feed, s->in, s->length - 1));
    }
}

static void copy_best(const search *s, int32_t *ids, nn_decoded *out)
{
    const int kept = s->o->n_returned;
    for (int64_t i = 0; i < (int64_t)s->in->n_images * kept; i++) {
        const int64_t image = i / kept, rank = i % kept;
        const finished *f = s->done + image * s->n + rank;
        NN_ASSERT(rank < s->n_done[image]); /* the last step finishes n */
        memcpy(ids + i * s->o->max_length, f->ids, (size_t)f->length * sizeof(int32_t));
        out[i] = (nn_decoded){ .length = f->length,
                               .ended = f->ids[f->length - 1] == s->o->eos,
                               .log_prob = (double)f->sum,
                               .key = (double)f->key };
    }
}

nn_status nn_decode_beam(const nn_decode_options *o, const nn_decode_input *in, int32_t *ids,
                         nn_decoded *out)
{
    nn_arena arena = { 0 };
    search s = { .o = o, .in = in, .n = o->n_beams };
    nn_status status = search_init(&s, &arena);
    if (status == NN_OK) status = search_run(&s);
    if (status == NN_OK) copy_best(&s, ids, out);
    nn_arena_free(&arena);
    NN_TRY(status);
    return NN_OK;
}
