/* Frechet distance between sets of features.
 *
 * tr (S1 S2)^1/2 is the sum of the roots of the eigenvalues of R S2 R with R = S1^1/2: symmetric
 * problems only. Rounding may leave tiny negative eigenvalues, which count as 0. */
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "models/metrics.h"

struct metrics_frechet {
    int dim;
    double trace;        /* of the covariance */
    double *mean, *root; /* [dim], [dim, dim] */
};

/* What one distance needs beside the reference. */
typedef struct scratch {
    double *mean, *cov, *product, *inner, *values;
} scratch;

static void free_scratch(scratch *s)
{
    nn_free(s->mean);
    nn_free(s->cov);
    nn_free(s->product);
    nn_free(s->inner);
    nn_free(s->values);
}

static nn_status make_scratch(int dim, scratch *s)
{
    int64_t square = (int64_t)dim * dim;
    *s = (scratch){ .mean = nn_alloc(dim, sizeof(double)),
                    .cov = nn_alloc(square, sizeof(double)),
                    .product = nn_alloc(square, sizeof(double)),
                    .inner = nn_alloc(square, sizeof(double)),
                    .values = nn_alloc(dim, sizeof(double)) };
    if (s->mean && s->cov && s->product && s->inner && s->values) return NN_OK;
    free_scratch(s);
    return NN_MEMORY;
}

static const float *row(const float *features, int dim, const int64_t *pick, int64_t i)
{
    return features + (pick ? pick[i] : i) * dim;
}

/* Mean and covariance of the n rows that pick names; NULL = all. centred [dim] is scratch. */
static void moments(const float *features, int64_t n, int dim, const int64_t *pick, double *mean,
                    double *cov, double *centred)
{
    memset(mean, 0, (size_t)dim * sizeof(*mean));
    memset(cov, 0, (size_t)dim * (size_t)dim * sizeof(*cov));
    for (int64_t i = 0; i < n; i++)
        for (int d = 0; d < dim; d++) mean[d] += row(features, dim, pick, i)[d] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const float *x = row(features, dim, pick, i);
        for (int d = 0; d < dim; d++) centred[d] = x[d] - mean[d];
        for (int d = 0; d < dim; d++)
            for (int e = 0; e <= d; e++) cov[d * dim + e] += centred[d] * centred[e];
    }
    for (int d = 0; d < dim; d++)
        for (int e = 0; e <= d; e++) cov[e * dim + d] = cov[d * dim + e] /= (double)(n - 1);
}

static nn_status check_features(const float *features, int64_t n, int dim)
{
    if (n < 2 || dim < 1)
        return nn_fail(NN_ARGUMENT,
                       "Frechet distance: %lld pictures of %d features, expected at "
                       "least 2 pictures",
                       (long long)n, dim);
    for (int64_t i = 0; i < n * dim; i++)
        if (!isfinite(features[i]))
            return nn_fail(NN_NUMERIC, "Frechet distance: feature %lld of picture %lld is %g",
                           (long long)(i % dim), (long long)(i / dim), (double)features[i]);
    return NN_OK;
}

/* c = a b, all [n, n] and symmetric or not. */
static void multiply(const double *a, const double *b, int n, double *c)
{
    memset(c, 0, (size_t)n * (size_t)n * sizeof(*c));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            for (int j = 0; j < n; j++) c[i * n + j] += a[i * n + k] * b[k * n + j];
}

/* root = V^T diag(values^1/2) V with eigenvectors in the rows of v. */
static void square_root(const double *values, const double *v, int n, double *root)
{
    memset(root, 0, (size_t)n * (size_t)n * sizeof(*root));
    for (int k = 0; k < n; k++) {
        double s = sqrt(fmax(values[k], 0));
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) root[i * n + j] += s * v[k * n + i] * v[k * n + j];
    }
}

nn_status metrics_frechet_create(const float *features, int64_t n, int dim, metrics_frechet **out)
{
    scratch s;
    NN_TRY(check_features(features, n, dim));
    metrics_frechet *f = nn_alloc(1, sizeof(*f));
    NN_NEED(f);
    f->dim = dim;
    f->mean = nn_alloc(dim, sizeof(double));
    f->root = nn_alloc((int64_t)dim * dim, sizeof(double));
    nn_status status = f->mean && f->root ? make_scratch(dim, &s) : NN_MEMORY;
    if (status != NN_OK) {
        metrics_frechet_destroy(f);
        return status;
    }
    moments(features, n, dim, NULL, f->mean, s.cov, s.values);
    for (int d = 0; d < dim; d++) f->trace += s.cov[d * dim + d];
    metrics_eigen(s.cov, dim, s.values, s.inner);
    square_root(s.values, s.inner, dim, f->root);
    free_scratch(&s);
    *out = f;
    return NN_OK;
}

void metrics_frechet_destroy(metrics_frechet *f)
{
    if (!f) return;
    nn_free(f->mean);
    nn_free(f->root);
    nn_free(f);
}

static double distance_of(const metrics_frechet *f, const float *features, int64_t n,
                          const int64_t *pick, scratch *s)
{
    int dim = f->dim;
    moments(features, n, dim, pick, s->mean, s->cov, s->values);
    double distance = f->trace;
    for (int d = 0; d < dim; d++) {
        double apart = s->mean[d] - f->mean[d];
        distance += apart * apart + s->cov[d * dim + d];
    }
    multiply(f->root, s->cov, dim, s->product);
    multiply(s->product, f->root, dim, s->inner);
    metrics_eigen(s->inner, dim, s->values, NULL);
    for (int d = 0; d < dim; d++) distance -= 2 * sqrt(fmax(s->values[d], 0));
    return fmax(distance, 0);
}

nn_status metrics_frechet_distance(const metrics_frechet *f, const float *features, int64_t n,
                                   double *distance)
{
    scratch s;
    NN_TRY(check_features(features, n, f->dim));
    NN_TRY(make_scratch(f->dim, &s));
    *distance = distance_of(f, features, n, NULL, &s);
    free_scratch(&s);
    return NN_OK;
}

nn_status metrics_frechet_estimate(const metrics_frechet *f, const float *features, int64_t n,
                                   uint64_t seed, double *replicate, metrics_estimate *out)
{
    scratch s;
    double sorted[METRICS_FRECHET_RESAMPLES];
    NN_TRY(check_features(features, n, f->dim));
    NN_TRY(make_scratch(f->dim, &s));
    int64_t *pick = nn_alloc(n, sizeof(*pick));
    if (!pick) {
        free_scratch(&s);
        return NN_MEMORY;
    }
    out->n = n;
    out->value = distance_of(f, features, n, NULL, &s);
    for (int r = 0; r < METRICS_FRECHET_RESAMPLES; r++) {
        nn_rng rng = nn_rng_make(seed, "frechet", (uint64_t)r);
        for (int64_t i = 0; i < n; i++) pick[i] = (int64_t)nn_rng_below(&rng, (uint64_t)n);
        sorted[r] = replicate[r] = distance_of(f, features, n, pick, &s);
    }
    metrics_centred_interval(sorted, METRICS_FRECHET_RESAMPLES, out);
    out->low = fmax(out->low, 0);
    nn_free(pick);
    free_scratch(&s);
    return NN_OK;
}
