/* A model for decoding that is a function of the sequence so far, and cases on it. */
#ifndef TESTS_UNIT_DECODE_MODEL_H
#define TESTS_UNIT_DECODE_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine/base/rng.h"
#include "models/decode.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

enum { MAX_IMAGES = 5, MAX_BEAMS = 5, MAX_VOCAB = 40, LONGEST = 16, ROWS = MAX_IMAGES * MAX_BEAMS };

/* A model with a cache: it remembers the sequence of every row and reorders them by parents. */
typedef struct fake_model {
    int vocab, calls, fail_at, rows;
    uint64_t seed;
    uint64_t image_id[MAX_IMAGES];
    int per_image;
    float sharpness;
    int32_t favourite; /* a token that gets a bonus; -1: none */
    float bonus;
    int32_t ids[ROWS][LONGEST];
    bool no_logits_in_prompt;
    int n_prompt;
} fake_model;

static inline void fake_logits(const fake_model *m, uint64_t image, const int32_t *ids, int n,
                               float *out)
{
    uint64_t key = nn_hash(m->seed + 1 + image, ids, n * (int64_t)sizeof(int32_t));
    nn_rng rng = nn_rng_make(key, "fake", 0);
    for (int v = 0; v < m->vocab; v++) out[v] = m->sharpness * nn_rng_normal(&rng);
    if (m->favourite >= 0) out[m->favourite] += m->bonus;
}

static inline nn_status fake_step(void *ctx, int64_t position, int rows, const int32_t *ids,
                                  const int32_t *parents, float *logits)
{
    fake_model *m = ctx;
    static int32_t before[ROWS][LONGEST];
    if (++m->calls == m->fail_at) return nn_fail(NN_DEVICE, "the model fails here");
    assert_true(rows <= ROWS && position < LONGEST && (position == 0 || rows == m->rows));
    assert_int_equal(logits != NULL, position >= m->n_prompt - 1);
    m->rows = rows;
    memcpy(before, m->ids, sizeof before);
    for (int r = 0; r < rows; r++) {
        assert_in_range(parents[r], 0, rows - 1);
        assert_int_equal(parents[r] / m->per_image, r / m->per_image);
        if (position < m->n_prompt) assert_int_equal(parents[r], r);
        memcpy(m->ids[r], before[parents[r]], sizeof m->ids[r]);
        m->ids[r][position] = ids[r];
        if (logits)
            fake_logits(m, m->image_id[r / m->per_image], m->ids[r], (int)position + 1,
                        logits + (int64_t)r * m->vocab);
    }
    return NN_OK;
}

typedef struct decode_case {
    nn_decode_options o;
    fake_model m;
    int n_images, n_prompt;
    int32_t prompt[MAX_IMAGES * LONGEST];
    uint64_t sample_id[ROWS];
} decode_case;

typedef struct decoded_batch {
    int32_t ids[ROWS][LONGEST];
    nn_decoded out[ROWS];
} decoded_batch;

static inline nn_status decode(decode_case *c, decoded_batch *b)
{
    static int32_t ids[ROWS * LONGEST];
    c->m.calls = 0;
    c->m.n_prompt = c->n_prompt;
    c->m.per_image = c->o.method == NN_DECODE_BEAM ? c->o.n_beams : c->o.n_returned;
    nn_decode_input in = { .step = fake_step,
                           .ctx = &c->m,
                           .n_images = c->n_images,
                           .vocab = c->m.vocab,
                           .n_prompt = c->n_prompt,
                           .prompt = c->prompt,
                           .sample_id = c->sample_id };
    memset(b, 0, sizeof *b);
    NN_TRY(nn_decode(&c->o, &in, ids, b->out));
    for (int i = 0; i < c->n_images * c->o.n_returned; i++)
        memcpy(b->ids[i], ids + (int64_t)i * c->o.max_length,
               (size_t)b->out[i].length * sizeof(int32_t));
    return NN_OK;
}

static inline decode_case make_case(nn_decode_method method, int vocab, int n_images, uint64_t seed)
{
    decode_case c = { .o = nn_decode_defaults(), .n_images = n_images, .n_prompt = 2 };
    c.o.method = method;
    c.o.eos = 1;
    c.o.max_length = 10;
    c.o.min_length = 0;
    c.m.vocab = vocab;
    c.m.seed = seed;
    c.m.sharpness = 2;
    c.m.favourite = -1;
    for (int i = 0; i < n_images; i++) {
        c.m.image_id[i] = 100 + (uint64_t)i;
        for (int p = 0; p < c.n_prompt; p++) c.prompt[i * c.n_prompt + p] = (2 + i + p) % vocab;
    }
    for (int i = 0; i < ROWS; i++) c.sample_id[i] = 100 + (uint64_t)i;
    return c;
}

/* The log-probabilities after a sequence, processed as in beam search. */
static inline void naive_scores(const decode_case *c, int image, const int32_t *ids, int n,
                                double *lp)
{
    float logits[MAX_VOCAB];
    fake_logits(&c->m, c->m.image_id[image], ids, n, logits);
    double sum = 0;
    for (int v = 0; v < c->m.vocab; v++) sum += exp((double)logits[v]);
    for (int v = 0; v < c->m.vocab; v++) {
        lp[v] = (double)logits[v] - log(sum);
        bool used = false;
        for (int i = 0; i < n; i++) used |= ids[i] == v;
        if (used) lp[v] *= c->o.repetition_penalty; /* log-probabilities are never positive */
    }
    if (n < c->o.min_length) lp[c->o.eos] = -INFINITY;
}

#endif
