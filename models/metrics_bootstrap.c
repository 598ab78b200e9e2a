/* Intervals by resampling prompts. */
#include <math.h>
#include <stdlib.h>

#include "engine/base/rng.h"
#include "models/metrics.h"

typedef struct sums {
    double over, under;
} sums;

static double ratio(sums s, bool root)
{
    double value = s.under > 0 ? s.over / s.under : NAN;
    return root ? sqrt(value) : value;
}

double metrics_value(metrics_terms t)
{
    sums s = { 0 };
    for (int64_t i = 0; i < t.n; i++) {
        s.over += t.over[i];
        s.under += t.under[i];
    }
    return ratio(s, t.root);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of n sorted values, linear between neighbours. */
static double quantile(const double *sorted, int64_t n, double q)
{
    double at = q * (double)(n - 1);
    int64_t i = (int64_t)at;
    if (i + 1 >= n) return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

static const double tail = 0.025;

static metrics_estimate percentile(double value, double *replicate, int64_t n)
{
    qsort(replicate, METRICS_RESAMPLES, sizeof(*replicate), by_value);
    return (metrics_estimate){ .value = value,
                               .low = quantile(replicate, METRICS_RESAMPLES, tail),
                               .high = quantile(replicate, METRICS_RESAMPLES, 1 - tail),
                               .n = n };
}

/* Both figures of one resample; b may be a itself. */
static void resample(metrics_terms a, metrics_terms b, nn_rng *rng, double value[2])
{
    sums s[2] = { { 0 } };
    for (int64_t i = 0; i < a.n; i++) {
        int64_t at = (int64_t)nn_rng_below(rng, (uint64_t)a.n);
        s[0].over += a.over[at];
        s[0].under += a.under[at];
        s[1].over += b.over[at];
        s[1].under += b.under[at];
    }
    value[0] = ratio(s[0], a.root);
    value[1] = ratio(s[1], b.root);
}

static const metrics_estimate unknown = { NAN, NAN, NAN, 0 };

metrics_estimate metrics_bootstrap(metrics_terms t, uint64_t seed)
{
    double replicate[METRICS_RESAMPLES], value[2];
    if (t.n < 1) return unknown;
    for (int r = 0; r < METRICS_RESAMPLES; r++) {
        nn_rng rng = nn_rng_make(seed, "bootstrap", (uint64_t)r);
        resample(t, t, &rng, value);
        replicate[r] = value[0];
    }
    return percentile(metrics_value(t), replicate, t.n);
}

metrics_estimate metrics_difference(metrics_terms a, metrics_terms b, uint64_t seed)
{
    double replicate[METRICS_RESAMPLES], value[2];
    NN_ASSERT(a.n == b.n);
    if (a.n < 1) return unknown;
    for (int r = 0; r < METRICS_RESAMPLES; r++) {
        nn_rng rng = nn_rng_make(seed, "bootstrap", (uint64_t)r);
        resample(a, b, &rng, value);
        replicate[r] = value[0] - value[1];
    }
    return percentile(metrics_value(a) - metrics_value(b), replicate, a.n);
}

void metrics_centred_interval(double *replicate, int64_t n, metrics_estimate *estimate)
{
    double mean = 0;
    for (int64_t i = 0; i < n; i++) mean += replicate[i] / (double)n;
    qsort(replicate, (size_t)n, sizeof(*replicate), by_value);
    estimate->low = estimate->value + quantile(replicate, n, tail) - mean;
    estimate->high = estimate->value + quantile(replicate, n, 1 - tail) - mean;
}

metrics_estimate metrics_frechet_difference(const metrics_estimate *a, const double *replicate_a,
                                            const metrics_estimate *b, const double *replicate_b)
{
    double replicate[METRICS_FRECHET_RESAMPLES];
    metrics_estimate d = { .value = a->value - b->value, .n = a->n };
    for (int r = 0; r < METRICS_FRECHET_RESAMPLES; r++)
        replicate[r] = replicate_a[r] - replicate_b[r];
    metrics_centred_interval(replicate, METRICS_FRECHET_RESAMPLES, &d);
    return d;
}
