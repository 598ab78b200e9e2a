/* Figures of a set of results, and of two of them compared. */
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "tools/eval.h"

enum { BOOTSTRAP_SEED = 1 };

const char *eval_split_name(int split)
{
    static const char *const names[] = { "held_out", "seen" };
    return names[split];
}

const char *eval_metric_name(nn_scene_metric metric)
{
    static const char *const names[] = { "soa", "ca", "pa" };
    return names[metric];
}

void eval_free(eval_set *set)
{
    nn_free(set->samples);
    nn_arena_free(&set->arena);
    *set = (eval_set){ 0 };
}

/* The terms of a figure in one block that is the caller's: over, then under. */
static nn_status terms_of(const eval_set *set, metrics_kind kind, int split, metrics_terms *t)
{
    double *over = nn_alloc(2 * set->n, sizeof(*over));
    int64_t n = 0;
    NN_NEED(over);
    double *under = over + set->n;
    for (int64_t i = 0; i < set->n; i++) {
        const eval_sample *s = &set->samples[i];
        if (s->split != split || !metrics_counts(kind, s->metric)) continue;
        metrics_term(kind, &s->score, &over[n], &under[n]);
        n++;
    }
    *t = (metrics_terms){ over, under, n, metrics_is_root(kind) };
    return NN_OK;
}

static void free_terms(metrics_terms t)
{
    nn_free((double *)(uintptr_t)t.over);
}

nn_status eval_figure(const eval_set *set, metrics_kind kind, int split, metrics_estimate *out)
{
    metrics_terms t;
    NN_TRY(terms_of(set, kind, split, &t));
    *out = metrics_bootstrap(t, BOOTSTRAP_SEED);
    free_terms(t);
    return NN_OK;
}

nn_status eval_difference(const eval_set *a, const eval_set *b, metrics_kind kind, int split,
                          metrics_estimate *out)
{
    metrics_terms left, right;
    NN_TRY(eval_check_paired(a, b));
    NN_TRY(terms_of(a, kind, split, &left));
    nn_status status = terms_of(b, kind, split, &right);
    if (status == NN_OK) {
        *out = metrics_difference(left, right, BOOTSTRAP_SEED);
        free_terms(right);
    }
    free_terms(left);
    return status;
}

nn_status eval_check_paired(const eval_set *a, const eval_set *b)
{
    if (a->n != b->n)
        return nn_fail(NN_ARGUMENT,
                       "%lld pictures against %lld: a paired difference needs the "
                       "same prompts in both",
                       (long long)a->n, (long long)b->n);
    for (int64_t i = 0; i < a->n; i++) {
        const eval_sample *x = &a->samples[i], *y = &b->samples[i];
        if (strcmp(x->prompt, y->prompt) != 0 || x->seed != y->seed || x->metric != y->metric ||
            x->split != y->split)
            return nn_fail(NN_ARGUMENT,
                           "picture %lld is \"%.60s\" from seed %lld here and \"%.60s\" from seed "
                           "%lld there: a paired difference needs the same prompts in both",
                           (long long)i, x->prompt, (long long)x->seed, y->prompt,
                           (long long)y->seed);
    }
    return NN_OK;
}

nn_status eval_write_estimate(const metrics_estimate *e, nn_text *out)
{
    if (!isfinite(e->value) || !isfinite(e->low) || !isfinite(e->high))
        return nn_text_add(out, "null");
    return nn_text_add(out, "{\"value\": %.6g, \"low\": %.6g, \"high\": %.6g, \"n\": %lld}",
                       e->value, e->low, e->high, (long long)e->n);
}

metrics_estimate eval_read_estimate(const json_t *json)
{
    const json_t *value = json_object_get(json, "value"), *low = json_object_get(json, "low");
    const json_t *high = json_object_get(json, "high");
    if (!json_is_number(value) || !json_is_number(low) || !json_is_number(high))
        return (metrics_estimate){ NAN, NAN, NAN, 0 };
    return (metrics_estimate){ .value = json_number_value(value),
                               .low = json_number_value(low),
                               .high = json_number_value(high),
                               .n = json_integer_value(json_object_get(json, "n")) };
}
