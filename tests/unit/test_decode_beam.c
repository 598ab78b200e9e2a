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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beam_against_rule),
        cmocka_unit_test(test_wide_beam_is_exhaustive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
