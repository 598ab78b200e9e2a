/* Decoding against a slow and literal second implementation, on a model that is a function of the
 * sequence so far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
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

static void fake_logits(const fake_model *m, uint64_t image, const int32_t *ids, int n, float *out)
{
    uint64_t key = nn_hash(m->seed + 1 + image, ids, n * (int64_t)sizeof(int32_t));
    nn_rng rng = nn_rng_make(key, "fake", 0);
    for (int v = 0; v < m->vocab; v++) out[v] = m->sharpness * nn_rng_normal(&rng);
    if (m->favourite >= 0) out[m->favourite] += m->bonus;
}

static nn_status fake_step(void *ctx, int64_t position, int rows, const int32_t *ids,
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
    uint64_t sample_id[MAX_IMAGES];
} decode_case;

typedef struct decoded_batch {
    int32_t ids[MAX_IMAGES][LONGEST];
    nn_decoded out[MAX_IMAGES];
} decoded_batch;

static nn_status decode(decode_case *c, decoded_batch *b)
{
    static int32_t ids[MAX_IMAGES * LONGEST];
    c->m.calls = 0;
    c->m.n_prompt = c->n_prompt;
    c->m.per_image = c->o.method == NN_DECODE_BEAM ? c->o.n_beams : 1;
    nn_decode_input in = { .step = fake_step,
                           .ctx = &c->m,
                           .n_images = c->n_images,
                           .vocab = c->m.vocab,
                           .n_prompt = c->n_prompt,
                           .prompt = c->prompt,
                           .sample_id = c->sample_id };
    memset(b, 0, sizeof *b);
    NN_TRY(nn_decode(&c->o, &in, ids, b->out));
    for (int i = 0; i < c->n_images; i++)
        memcpy(b->ids[i], ids + (int64_t)i * c->o.max_length,
               (size_t)b->out[i].length * sizeof(int32_t));
    return NN_OK;
}

static decode_case make_case(nn_decode_method method, int vocab, int n_images, uint64_t seed)
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
        c.sample_id[i] = 100 + (uint64_t)i;
        for (int p = 0; p < c.n_prompt; p++) c.prompt[i * c.n_prompt + p] = (2 + i + p) % vocab;
    }
    return c;
}

/* The log-probabilities after a sequence, processed as in beam search. */
static void naive_scores(const decode_case *c, int image, const int32_t *ids, int n, double *lp)
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

typedef struct hypothesis {
    int32_t ids[LONGEST];
    int n;
    double sum, key;
    int beam, token;
} hypothesis;

static void sort_by_sum(hypothesis *h, int n, bool by_key)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && (by_key ? h[j].key > h[j - 1].key : h[j].sum > h[j - 1].sum);
             j--) {
            hypothesis t = h[j];
            h[j] = h[j - 1];
            h[j - 1] = t;
        }
}

/* Does the search of one image stop behind the step that made the running sequences L long? */
static bool naive_stop(const decode_case *c, const hypothesis *run, const hypothesis *done,
                       int n_done, int length)
{
    if (length == c->o.max_length) return true;
    if (n_done < c->o.n_beams) return false;
    if (c->o.early_stopping == NN_STOP_FIRST) return true;
    int n = length - c->n_prompt;
    if (c->o.early_stopping == NN_STOP_NEVER && c->o.length_penalty > 0)
        n = c->o.max_length - c->n_prompt;
    return run[0].sum / pow(n, c->o.length_penalty) <= done[c->o.n_beams - 1].key;
}

/* All continuations of all running sequences, best first. */
static int naive_expand(const decode_case *c, int image, const hypothesis *run, hypothesis *all)
{
    int n = 0;
    for (int b = 0; b < c->o.n_beams; b++) {
        double lp[MAX_VOCAB];
        naive_scores(c, image, run[b].ids, run[b].n, lp);
        for (int v = 0; v < c->m.vocab; v++) {
            hypothesis h = run[b];
            h.ids[h.n++] = v;
            h.sum += lp[v];
            h.key = h.sum / pow(h.n - c->n_prompt, c->o.length_penalty);
            all[n++] = h;
        }
    }
    sort_by_sum(all, n, false);
    return n;
}

/* Beam search as the rule is written down, one image, in double. */
static hypothesis naive_beam(const decode_case *c, int image)
{
    static hypothesis all[MAX_BEAMS * MAX_VOCAB], run[MAX_BEAMS], done[2 * MAX_BEAMS];
    const int n = c->o.n_beams;
    int n_done = 0;
    for (int b = 0; b < n; b++) {
        run[b] = (hypothesis){ .n = c->n_prompt, .sum = b ? -1e9 : 0 };
        memcpy(run[b].ids, c->prompt + image * c->n_prompt, (size_t)c->n_prompt * sizeof(int32_t));
    }
    for (int length = c->n_prompt;; length++) {
        naive_expand(c, image, run, all);
        int kept = 0;
        for (int r = 0; r < 2 * n; r++) {
            bool ends = all[r].ids[length] == c->o.eos || length + 1 == c->o.max_length;
            if (ends && r < n) done[n_done++] = all[r];
            if (!ends && kept < n) run[kept++] = all[r];
        }
        sort_by_sum(done, n_done, true);
        if (n_done > n) n_done = n;
        if (naive_stop(c, run, done, n_done, length + 1)) return done[0];
    }
}

static void test_beam_against_rule(void **state)
{
    (void)state;
    int ended = 0, cut = 0;
    for (uint64_t seed = 0; seed < 600; seed++) {
        static const double powers[] = { 1, 0, 2, -1, 0.6 };
        decode_case c = make_case(NN_DECODE_BEAM, 11 + (int)(seed % 4), 1, seed);
        c.o.n_beams = 1 + (int)(seed % 5);
        c.o.early_stopping = (nn_decode_stop)(seed / 5 % 3);
        c.o.length_penalty = powers[seed / 7 % 5];
        c.o.min_length = (int)(seed / 3 % 3) * 3;
        c.o.repetition_penalty = seed / 11 % 2 ? 1.3 : 1;
        c.m.favourite = c.o.eos;
        c.m.bonus = (float)(seed / 2 % 3) * 1.5f;
        hypothesis want = naive_beam(&c, 0);
        decoded_batch got;
        OK(decode(&c, &got));
        assert_int_equal(got.out[0].length, want.n);
        assert_memory_equal(got.ids[0], want.ids, (size_t)want.n * sizeof(int32_t));
        assert_true(fabs(got.out[0].key - want.key) < 1e-5 * (1 + fabs(want.key)));
        assert_true(fabs(got.out[0].log_prob - want.sum) < 1e-5 * (1 + fabs(want.sum)));
        assert_int_equal(got.out[0].ended, want.ids[want.n - 1] == c.o.eos);
        *(got.out[0].ended ? &ended : &cut) += 1;
    }
    assert_true(ended > 100 && cut > 50); /* both ways of ending were exercised */
}

/* With as many beams as there are sequences, beam search is exhaustive search. */
static void test_wide_beam_is_exhaustive(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        decode_case c = make_case(NN_DECODE_BEAM, 4, 1, seed);
        c.n_prompt = 1;
        c.prompt[0] = 3;
        c.o.max_length = 3; /* two tokens: 4 + 3 * 4 sequences, at most 3 run */
        c.o.n_beams = 4;
        c.o.length_penalty = 0;
        c.o.early_stopping = NN_STOP_NEVER;
        double first[MAX_VOCAB], second[MAX_VOCAB], best;
        int32_t ids[3] = { 3 };
        naive_scores(&c, 0, ids, 1, first);
        best = first[c.o.eos];
        for (int a = 0; a < 4; a++) {
            if (a == c.o.eos) continue;
            ids[1] = a;
            naive_scores(&c, 0, ids, 2, second);
            for (int b = 0; b < 4; b++) best = fmax(best, first[a] + second[b]);
        }
        decoded_batch got;
        OK(decode(&c, &got));
        assert_true(fabs(got.out[0].log_prob - best) < 1e-5);
    }
}

static void test_greedy(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        decode_case c = make_case(NN_DECODE_GREEDY, 9, 1, seed);
        c.o.min_length = seed % 2 ? 6 : 0;
        int32_t ids[LONGEST] = { c.prompt[0], c.prompt[1] };
        int n = 2;
        double sum = 0;
        while (n < c.o.max_length && (n == 2 || ids[n - 1] != c.o.eos)) {
            double lp[MAX_VOCAB];
            naive_scores(&c, 0, ids, n, lp);
            int best = 0;
            for (int v = 1; v < 9; v++)
                if (lp[v] > lp[best]) best = v;
            ids[n++] = best;
            sum += lp[best];
        }
        decoded_batch got;
        OK(decode(&c, &got));
        assert_int_equal(got.out[0].length, n);
        assert_memory_equal(got.ids[0], ids, (size_t)n * sizeof(int32_t));
        assert_true(fabs(got.out[0].log_prob - sum) < 1e-5 * (1 + fabs(sum)));
        assert_true(fabs(got.out[0].key - sum / (n - 2)) < 1e-5);
        assert_true(n >= c.o.min_length);
    }
}

/* Greedy search divides positive logits by the penalty and multiplies negative ones, once per id.
 */
static nn_status two_word_step(void *ctx, int64_t position, int rows, const int32_t *ids,
                               const int32_t *parents, float *logits)
{
    (void)position, (void)rows, (void)ids, (void)parents;
    if (logits) memcpy(logits, ctx, 4 * sizeof(float));
    return NN_OK;
}

static int32_t second_word(float *logits, double penalty)
{
    nn_decode_options o = nn_decode_defaults();
    o.method = NN_DECODE_GREEDY;
    o.eos = 0;
    o.repetition_penalty = penalty;
    o.max_length = 4;
    int32_t prompt[] = { 2, 2, 2 }, ids[4];
    nn_decode_input in = { two_word_step, logits, 1, 4, 3, prompt, NULL };
    nn_decoded out;
    OK(nn_decode(&o, &in, ids, &out));
    return ids[3];
}

static void test_repetition_penalty(void **state)
{
    (void)state;
    float positive[] = { -9, -9, 3, 2 }, negative[] = { -9, -9, -2, -3 };
    assert_int_equal(second_word(positive, 1.0), 2);
    assert_int_equal(second_word(positive, 1.45), 2); /* 2.07: applied once, not three times */
    assert_int_equal(second_word(positive, 1.55), 3);
    assert_int_equal(second_word(negative, 1.45), 2);
    assert_int_equal(second_word(negative, 1.55), 3);
    float tie[] = { -9, 1, 0, 1 };
    assert_int_equal(second_word(tie, 1.0), 1);
}

static void assert_same(const decoded_batch *a, int i, const decoded_batch *b, int j)
{
    assert_int_equal(a->out[i].length, b->out[j].length);
    assert_memory_equal(a->ids[i], b->ids[j], (size_t)a->out[i].length * sizeof(int32_t));
    assert_true(a->out[i].log_prob == b->out[j].log_prob && a->out[i].key == b->out[j].key);
    assert_int_equal(a->out[i].ended, b->out[j].ended);
}

/* Five images together give what five single runs give, for every method. */
static void test_batch_independence(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        decode_case c = make_case((nn_decode_method)(seed % 3), 12, 5, seed);
        c.m.favourite = c.o.eos;
        c.m.bonus = 2;
        decoded_batch all, one;
        OK(decode(&c, &all));
        for (int i = 0; i < 5; i++) {
            decode_case s = c;
            s.n_images = 1;
            s.m.image_id[0] = c.m.image_id[i];
            s.sample_id[0] = c.sample_id[i];
            memcpy(s.prompt, c.prompt + i * c.n_prompt, (size_t)c.n_prompt * sizeof(int32_t));
            OK(decode(&s, &one));
            assert_same(&all, i, &one, 0);
        }
    }
}

/* Frequencies of the first sampled token over many sample ids, against the exact distribution. */
static void frequencies(decode_case *c, int draws, double *share)
{
    decoded_batch got;
    memset(share, 0, MAX_VOCAB * sizeof *share);
    for (int d = 0; d < draws; d++) {
        c->sample_id[0] = (uint64_t)d;
        OK(decode(c, &got));
        share[got.ids[0][c->n_prompt]] += 1.0 / draws;
    }
}

static void test_sampling_distribution(void **state)
{
    (void)state;
    enum { VOCAB = 8, DRAWS = 20000 };
    static const struct {
        double temperature, top_p;
        int top_k;
    } rows[] = { { 1, 1, 0 }, { 0.7, 1, 0 }, { 1, 1, 3 }, { 1, 0.6, 0 }, { 1.5, 0.8, 4 } };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        decode_case c = make_case(NN_DECODE_SAMPLE, VOCAB, 1, r);
        c.m.sharpness = 1;
        c.o.max_length = c.n_prompt + 1;
        c.o.temperature = rows[r].temperature;
        c.o.top_p = rows[r].top_p;
        c.o.top_k = rows[r].top_k;
        double lp[MAX_VOCAB], share[MAX_VOCAB], p[VOCAB], total = 0, kept = 0;
        naive_scores(&c, 0, c.prompt, c.n_prompt, lp);
        int rank[VOCAB] = { 0 };
        for (int v = 0; v < VOCAB; v++)
            for (int w = 0; w < VOCAB; w++) rank[v] += lp[w] > lp[v];
        for (int v = 0; v < VOCAB; v++) {
            p[v] = rows[r].top_k && rank[v] >= rows[r].top_k ? 0 : exp(lp[v] / rows[r].temperature);
            total += p[v];
        }
        double keep[VOCAB];
        for (int v = 0; v < VOCAB; v++) {
            double above = 0;
            for (int w = 0; w < VOCAB; w++) above += rank[w] < rank[v] ? p[w] / total : 0;
            keep[v] = above < rows[r].top_p ? p[v] : 0;
            kept += keep[v];
        }
        frequencies(&c, DRAWS, share);
        for (int v = 0; v < VOCAB; v++) {
            if (keep[v] == 0) assert_true(share[v] == 0);
            assert_true(fabs(share[v] - keep[v] / kept) < 0.015); /* four standard deviations */
        }
    }
}

static void test_sampling_keys(void **state)
{
    (void)state;
    decode_case c = make_case(NN_DECODE_SAMPLE, 30, 5, 3);
    c.m.sharpness = 0.3f;
    decoded_batch a, b;
    OK(decode(&c, &a));
    OK(decode(&c, &b));
    for (int i = 0; i < 5; i++) assert_same(&a, i, &b, i);
    c.o.seed = 1;
    OK(decode(&c, &b));
    assert_memory_not_equal(a.ids, b.ids, sizeof a.ids);
    c.o.temperature = 1e-4; /* the limit is greedy search */
    OK(decode(&c, &a));
    c.o.method = NN_DECODE_GREEDY;
    OK(decode(&c, &b));
    assert_memory_equal(a.ids, b.ids, sizeof a.ids);
}

static void test_min_length(void **state)
{
    (void)state;
    for (int method = 0; method < 3; method++) {
        decode_case c = make_case((nn_decode_method)method, 12, 5, 9);
        c.m.favourite = c.o.eos;
        c.m.bonus = 50;
        c.o.min_length = 6;
        decoded_batch got;
        OK(decode(&c, &got));
        for (int i = 0; i < 5; i++) assert_int_equal(got.out[i].length, 7);
        assert_int_equal(c.m.calls, 6); /* nobody is fed the end token in vain */
    }
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    decoded_batch got;
#define WRONG(statement)                                                                           \
    do {                                                                                           \
        decode_case c = make_case(NN_DECODE_SAMPLE, 12, 2, 0);                                     \
        statement;                                                                                 \
        assert_int_equal(decode(&c, &got), NN_ARGUMENT);                                           \
    } while (0)
    WRONG(c.o.max_length = 2);
    WRONG(c.o.eos = 12);
    WRONG(c.o.eos = -1);
    WRONG(c.o.temperature = 0);
    WRONG(c.o.temperature = NAN);
    WRONG(c.o.top_p = 0);
    WRONG(c.o.top_p = 1.01);
    WRONG(c.o.top_k = -1);
    WRONG(c.o.repetition_penalty = 0);
    WRONG(c.o.length_penalty = INFINITY);
    WRONG(c.prompt[1] = 12);
    WRONG(c.n_prompt = 0);
    WRONG(c.n_images = 0);
    WRONG(c.m.vocab = 1);
    WRONG((c.o.method = NN_DECODE_BEAM, c.o.n_beams = 0));
    WRONG((c.o.method = NN_DECODE_BEAM, c.o.n_beams = INT32_MAX));
}

static void test_model_failures(void **state)
{
    (void)state;
    decoded_batch got;
    for (int method = 0; method < 3; method++) {
        decode_case c = make_case((nn_decode_method)method, 12, 2, 5);
        for (c.m.fail_at = 1; c.m.fail_at < 5; c.m.fail_at++)
            assert_int_equal(decode(&c, &got), NN_DEVICE);
        c.m.fail_at = 0;
        c.m.favourite = 4;
        c.m.bonus = NAN;
        assert_int_equal(decode(&c, &got), NN_NUMERIC);
    }
}

/* Every allocation fails once; and their number does not grow with the number of steps. */
static void test_allocations(void **state)
{
    (void)state;
    for (int method = 0; method < 3; method++) {
        decode_case c = make_case((nn_decode_method)method, 12, 2, 5);
        decoded_batch want, got;
        OK(decode(&c, &want));
        nn_status status = NN_MEMORY;
        int64_t k = 1;
        for (; status != NN_OK && k < 100; k++) {
            nn_alloc_fail_at(k);
            status = decode(&c, &got);
            nn_alloc_fail_at(0);
            assert_true(status == NN_OK || status == NN_MEMORY);
        }
        assert_true(k > 2 && k < 100);
        assert_same(&want, 0, &got, 0);
        c.o.min_length = 9;
        int64_t before = nn_alloc_count();
        c.o.max_length = 15;
        OK(decode(&c, &got));
        assert_int_equal(nn_alloc_count() - before, k - 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beam_against_rule),
        cmocka_unit_test(test_wide_beam_is_exhaustive),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_repetition_penalty),
        cmocka_unit_test(test_batch_independence),
        cmocka_unit_test(test_sampling_distribution),
        cmocka_unit_test(test_sampling_keys),
        cmocka_unit_test(test_min_length),
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_model_failures),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
