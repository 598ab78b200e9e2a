/* How well pictures answer their prompts, with intervals.
 *
 * Every figure is a ratio of two sums over prompts, or the root of one; its 95 % interval is the
 * percentile bootstrap over prompts (Efron 1979), seeded. Two arms that drew the same prompts from
 * the same seeds are compared prompt by prompt. The Frechet distance is taken between features of
 * our own detector: its name is fd_detector, never FID, and it compares with nobody else's. */
#ifndef MODELS_METRICS_H
#define MODELS_METRICS_H

#include "data/scenes.h"

typedef struct metrics_estimate {
    double value, low, high; /* NAN where n is too small */
    int64_t n;               /* prompts, or pictures */
} metrics_estimate;

/* -- the figures ------------------------------------------------------------------------------ */

/* X(name, word in files): SOA, named kinds that are present; CA, named kinds with the exact count,
 * and the root mean square of what is too many; PA, relations that hold; FULL, pictures with
 * every count right and nothing else. Sources: Hinz et al. 2019 (SOA), Dinh et al. 2021 (CA, PA).
 */
#define METRICS_LIST(X)                                                                            \
    X(SOA, "soa")                                                                                  \
    X(CA_EXACT, "ca_exact")                                                                        \
    X(CA_RMSE, "ca_rmse")                                                                          \
    X(PA, "pa")                                                                                    \
    X(FULL, "full")

typedef enum metrics_kind {
#define X(name, word) METRICS_##name,
    METRICS_LIST(X)
#undef X
        METRICS_KINDS
} metrics_kind;

const char *metrics_name(metrics_kind kind);

/* Whether a prompt that asks for `asked` counts; FULL takes all. */
bool metrics_counts(metrics_kind kind, nn_scene_metric asked);

/* What one picture adds to the two sums. */
void metrics_term(metrics_kind kind, const nn_scene_score *score, double *over, double *under);

/* n prompts with their terms (borrowed). The figure is sum over / sum under, or its root. */
typedef struct metrics_terms {
    const double *over, *under;
    int64_t n;
    bool root;
} metrics_terms;

bool metrics_is_root(metrics_kind kind);
double metrics_value(metrics_terms t);

enum { METRICS_RESAMPLES = 2000 };
metrics_estimate metrics_bootstrap(metrics_terms t, uint64_t seed);

/* a minus b over the same prompts in the same order: each resample draws prompts once for both. */
metrics_estimate metrics_difference(metrics_terms a, metrics_terms b, uint64_t seed);

/* -- captions --------------------------------------------------------------------------------- */

/* X(name, word): the fields of nn_scene_agreement. */
#define METRICS_FACT_LIST(X)                                                                       \
    X(OBJECTS, "objects")                                                                          \
    X(COUNTS, "counts")                                                                            \
    X(RELATION, "relation")                                                                        \
    X(BACKGROUND, "background")                                                                    \
    X(FACTS_FULL, "full")

typedef enum metrics_fact {
#define X(name, word) METRICS_##name,
    METRICS_FACT_LIST(X)
#undef X
        METRICS_FACTS
} metrics_fact;

const char *metrics_fact_name(metrics_fact fact);

/* 1 where a caption agrees with its picture, else 0. */
void metrics_agreement(const nn_scene *scene, const char *caption, double agrees[METRICS_FACTS]);

/* -- Frechet distance ------------------------------------------------------------------------- */

/* |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) of two Gaussians (Heusel et al. 2017), in doubles;
 * covariances with n - 1. What it needs of the reference set is prepared once. Errors: NN_ARGUMENT
 * for fewer than two pictures, NN_NUMERIC for features that are not finite. */
typedef struct metrics_frechet metrics_frechet;
nn_status metrics_frechet_create(const float *features, int64_t n, int dim,
                                 metrics_frechet **out) NN_CHECKED;
void metrics_frechet_destroy(metrics_frechet *reference); /* NULL is legal */

nn_status metrics_frechet_distance(const metrics_frechet *reference, const float *features,
                                   int64_t n, double *distance) NN_CHECKED;

enum { METRICS_FRECHET_RESAMPLES = 200 };

/* The distance with its interval: pictures are resampled, the reference stays. Resampling raises
 * the distance, so the quantiles are taken about the mean of the resamples. replicate
 * [METRICS_FRECHET_RESAMPLES] gets them: equal n and seed draw equal pictures, hence the
 * difference of two arms' replicates is paired. */
nn_status metrics_frechet_estimate(const metrics_frechet *reference, const float *features,
                                   int64_t n, uint64_t seed, double *replicate,
                                   metrics_estimate *out) NN_CHECKED;

/* a minus b, from estimates with the same n and seed, and their replicates. */
metrics_estimate metrics_frechet_difference(const metrics_estimate *a, const double *replicate_a,
                                            const metrics_estimate *b, const double *replicate_b);

/* The interval of a value from resamples of it, about their mean. Sorts replicate. */
void metrics_centred_interval(double *replicate, int64_t n, metrics_estimate *estimate);

/* Eigenvalues of a symmetric matrix a [n, n] in no order, by Jacobi's rotations; a is destroyed.
 * vectors [n, n] gets eigenvectors as rows; NULL = not wanted. */
void metrics_eigen(double *a, int n, double *values, double *vectors);

#endif
