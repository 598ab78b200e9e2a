/* Decoding: greedy search and sampling against their definitions; what holds for every method. */
#include "engine/base/alloc.h"
#include "tests/unit/decode_model.h"

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

/* Three sequences of each of two images give what six single runs give. */
static void test_several_draws_in_one_pass(void **state)
{
    (void)state;
    decode_case c = make_case(NN_DECODE_SAMPLE, 30, 2, 3);
    decoded_batch all, one;
    c.o.n_returned = 3;
    OK(decode(&c, &all));
    assert_memory_not_equal(all.ids[0], all.ids[1], sizeof all.ids[0]);
    for (int r = 0; r < 6; r++) {
        decode_case s = c;
        const int image = r / 3;
        s.n_images = s.o.n_returned = 1;
        s.m.image_id[0] = c.m.image_id[image];
        s.sample_id[0] = c.sample_id[r];
        memcpy(s.prompt, c.prompt + image * c.n_prompt, (size_t)c.n_prompt * sizeof(int32_t));
        OK(decode(&s, &one));
        assert_same(&all, r, &one, 0);
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

enum { VOCAB = 8, DRAWS = 20000 };

/* What the options leave of the scores lp: keep[v], not normalised. Returns its sum. */
static double naive_filter(const nn_decode_options *o, const double *lp, double *keep)
{
    double p[VOCAB], total = 0, kept = 0;
    int rank[VOCAB] = { 0 };
    for (int v = 0; v < VOCAB; v++)
        for (int w = 0; w < VOCAB; w++) rank[v] += lp[w] > lp[v];
    for (int v = 0; v < VOCAB; v++) {
        p[v] = o->top_k && rank[v] >= o->top_k ? 0 : exp(lp[v] / o->temperature);
        total += p[v];
    }
    for (int v = 0; v < VOCAB; v++) {
        double above = 0;
        for (int w = 0; w < VOCAB; w++) above += rank[w] < rank[v] ? p[w] / total : 0;
        keep[v] = above < o->top_p ? p[v] : 0;
        kept += keep[v];
    }
    return kept;
}

static void test_sampling_distribution(void **state)
{
    (void)state;
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
        double lp[MAX_VOCAB] = { 0 }, share[MAX_VOCAB], keep[VOCAB];
        naive_scores(&c, 0, c.prompt, c.n_prompt, lp);
        double kept = naive_filter(&c.o, lp, keep);
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
    WRONG(c.o.n_returned = 0);
    WRONG(c.o.n_returned = INT32_MAX);
    WRONG((c.o.method = NN_DECODE_GREEDY, c.o.n_returned = 2));
    WRONG((c.o.method = NN_DECODE_BEAM, c.o.n_returned = 4));
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
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_repetition_penalty),
        cmocka_unit_test(test_batch_independence),
        cmocka_unit_test(test_several_draws_in_one_pass),
        cmocka_unit_test(test_sampling_distribution),
        cmocka_unit_test(test_sampling_keys),
        cmocka_unit_test(test_min_length),
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_model_failures),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
