/* Beam search against a slow and literal second implementation of its rule. */
#include "tests/unit/decode_model.h"

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

static bool whole(const decode_case *c)
{
    return c->o.rule == NN_RULE_WHOLE;
}

/* Can the best continuation, L ids long, no longer change the finished set? */
static bool naive_stop(const decode_case *c, double best, const hypothesis *done, int n_done,
                       int length)
{
    if (n_done < c->o.n_beams) return false;
    if (c->o.early_stopping == NN_STOP_FIRST) return true;
    int n = length;
    if (c->o.early_stopping == NN_STOP_NEVER && c->o.length_penalty > 0) n = c->o.max_length;
    if (!whole(c)) n -= c->n_prompt;
    return best / pow(n, c->o.length_penalty) <= done[c->o.n_beams - 1].key;
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
            int counted = whole(c) ? h.n - (v == c->o.eos) : h.n - c->n_prompt;
            h.key = h.sum / pow(counted, c->o.length_penalty);
            all[n++] = h;
        }
    }
    sort_by_sum(all, n, false);
    return n;
}

/* The finished set after additions: at most n, best first. */
static int best_of(hypothesis *done, int n_done, int n)
{
    sort_by_sum(done, n_done, true);
    return n_done < n ? n_done : n;
}

/* Beam search as the rule is written down, one image, in double: n_beams sequences, best first. */
static const hypothesis *naive_beam(const decode_case *c, int image)
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
        const bool last = length + 1 == c->o.max_length;
        for (int r = 0; r < 2 * n; r++) {
            bool ends = all[r].ids[length] == c->o.eos || (last && !whole(c));
            if (ends && r < n) done[n_done++] = all[r];
            if (!ends && kept < n) run[kept++] = all[r];
        }
        n_done = best_of(done, n_done, n);
        bool stop = naive_stop(c, whole(c) ? all[0].sum : run[0].sum, done, n_done, length + 1);
        if (last && whole(c) && !stop) {
            memcpy(done + n_done, run, (size_t)n * sizeof(*run));
            n_done = best_of(done, n_done + n, n);
        }
        if (last || stop) return done;
    }
}

static void test_beam_against_rule(void **state)
{
    (void)state;
    int ended = 0, cut = 0;
    for (uint64_t seed = 0; seed < 1200; seed++) {
        static const double powers[] = { 1, 0, 2, -1, 0.6 };
        decode_case c = make_case(NN_DECODE_BEAM, 11 + (int)(seed % 4), 1, seed);
        c.o.n_beams = 1 + (int)(seed % 5);
        c.o.early_stopping = (nn_decode_stop)(seed / 5 % 3);
        c.o.length_penalty = powers[seed / 7 % 5];
        c.o.rule = seed < 600 ? NN_RULE_GENERATED : NN_RULE_WHOLE;
        c.o.min_length = (int)(seed / 3 % 3) * 3;
        c.o.repetition_penalty = seed / 11 % 2 ? 1.3 : 1;
        c.m.favourite = c.o.eos;
        c.m.bonus = (float)(seed / 2 % 3) * 1.5f;
        c.o.n_returned = 1 + (int)(seed / 5 % (uint64_t)c.o.n_beams);
        const hypothesis *want = naive_beam(&c, 0);
        decoded_batch got;
        OK(decode(&c, &got));
        for (int r = 0; r < c.o.n_returned; r++, want++) {
            assert_int_equal(got.out[r].length, want->n);
            assert_memory_equal(got.ids[r], want->ids, (size_t)want->n * sizeof(int32_t));
            assert_true(fabs(got.out[r].key - want->key) < 1e-5 * (1 + fabs(want->key)));
            assert_true(fabs(got.out[r].log_prob - want->sum) < 1e-5 * (1 + fabs(want->sum)));
            assert_int_equal(got.out[r].ended, want->ids[want->n - 1] == c.o.eos);
            *(got.out[r].ended ? &ended : &cut) += 1;
        }
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
        double first[MAX_VOCAB] = { 0 }, second[MAX_VOCAB] = { 0 }, best;
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

/* A model whose logits are multiples of 1/512, so that other programs can compute them. */
typedef struct congruent {
    uint32_t seed;
    float bonus; /* of the end token */
    int32_t ids[MAX_BEAMS][LONGEST];
} congruent;

static nn_status congruent_step(void *ctx, int64_t position, int rows, const int32_t *ids,
                                const int32_t *parents, float *logits)
{
    congruent *m = ctx;
    int32_t before[MAX_BEAMS][LONGEST];
    memcpy(before, m->ids, sizeof before);
    for (int r = 0; r < rows; r++) {
        memcpy(m->ids[r], before[parents[r]], sizeof m->ids[r]);
        m->ids[r][position] = ids[r];
        uint32_t key = m->seed;
        for (int i = 0; i <= position; i++)
            key = (key * 1103515245u + (uint32_t)m->ids[r][i] + 12345u) & 0x7fffffffu;
        for (uint32_t v = 0; v < 11 && logits; v++)
            logits[r * 11 + (int)v] =
                (float)((key + v * 40503u) * 2654435761u >> 20) / 512 + (v == 1 ? m->bonus : 0);
    }
    return NN_OK;
}

/* What BeamSearchScorer of transformers 4.35.2 finds with that model, seeds 1 to 24. */
static const struct {
    int length;
    int32_t ids[10];
    double key;
} want[] = {
    { 10, { 2, 3, 4, 2, 2, 2, 3, 7, 9, 3 }, -5.409426 },
    { 10, { 2, 3, 0, 0, 9, 7, 9, 5, 8, 4 }, -0.05762177 },
    { 3, { 2, 3, 1 }, -3.452243 },
    { 7, { 2, 3, 3, 9, 3, 0, 1 }, -1.023789 },
    { 3, { 2, 3, 1 }, -0.1683531 },
    { 3, { 2, 3, 1 }, -0.1101573 },
    { 10, { 2, 3, 0, 8, 4, 0, 3, 4, 8, 9 }, -0.07498354 },
    { 4, { 2, 3, 9, 1 }, -2.455929 },
    { 10, { 2, 3, 3, 4, 9, 8, 10, 8, 10, 4 }, -1.258766 },
    { 10, { 2, 3, 3, 4, 3, 3, 5, 2, 4, 6 }, -0.5399476 },
    { 3, { 2, 3, 1 }, -1.995908 },
    { 10, { 2, 3, 2, 2, 8, 7, 0, 4, 2, 9 }, -0.06645956 },
    { 4, { 2, 3, 4, 1 }, -6.315282 },
    { 5, { 2, 3, 5, 7, 1 }, -0.8853392 },
    { 3, { 2, 3, 1 }, -0.4291135 },
    { 3, { 2, 3, 1 }, -0.0527638 },
    { 3, { 2, 3, 1 }, -0.05224076 },
    { 10, { 2, 3, 0, 7, 8, 6, 6, 5, 4, 4 }, -51.27237 },
    { 5, { 2, 3, 9, 0, 1 }, -1.227425 },
    { 10, { 2, 3, 3, 3, 4, 10, 8, 5, 3, 9 }, -0.5200279 },
    { 4, { 2, 3, 8, 1 }, -2.195806 },
    { 10, { 2, 3, 6, 3, 9, 8, 4, 0, 9, 8 }, -0.06490099 },
    { 3, { 2, 3, 1 }, -1.99798 },
    { 4, { 2, 3, 0, 1 }, -0.8149248 },
};

static void test_older_rule_against_its_release(void **state)
{
    static const double powers[] = { 1, 0, 2, -1, 0.6 };
    static const nn_decode_stop stops[] = { NN_STOP_UNLIKELY, NN_STOP_FIRST, NN_STOP_NEVER };
    (void)state;
    for (int i = 0; i < NN_COUNT(want); i++) {
        const int seed = i + 1;
        congruent m = { .seed = (uint32_t)seed, .bonus = 2.0f * (float)(seed / 3 % 3) };
        nn_decode_options o = nn_decode_defaults();
        o.rule = NN_RULE_WHOLE;
        o.eos = 1;
        o.min_length = 0;
        o.max_length = 10;
        o.n_beams = 2 + seed % 4;
        o.length_penalty = powers[seed % 5];
        o.early_stopping = stops[seed / 2 % 3];
        const int32_t prompt[] = { 2, 3 };
        const nn_decode_input in = { .step = congruent_step,
                                     .ctx = &m,
                                     .n_images = 1,
                                     .vocab = 11,
                                     .n_prompt = 2,
                                     .prompt = prompt };
        int32_t ids[10];
        nn_decoded got;
        OK(nn_decode(&o, &in, ids, &got));
        assert_int_equal(got.length, want[i].length);
        assert_memory_equal(ids, want[i].ids, (size_t)got.length * sizeof(int32_t));
        assert_true(fabs(got.key - want[i].key) < 1e-5 * fabs(want[i].key));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beam_against_rule),
        cmocka_unit_test(test_wide_beam_is_exhaustive),
        cmocka_unit_test(test_older_rule_against_its_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
