/* The figures: what each picture adds, and how captions agree. */
#include "models/metrics.h"

const char *metrics_name(metrics_kind kind)
{
#define X(name, word) word,
    static const char *const names[] = { METRICS_LIST(X) };
#undef X
    return names[kind];
}

const char *metrics_fact_name(metrics_fact fact)
{
#define X(name, word) word,
    static const char *const names[] = { METRICS_FACT_LIST(X) };
#undef X
    return names[fact];
}

bool metrics_counts(metrics_kind kind, nn_scene_metric asked)
{
    switch (kind) {
    case METRICS_SOA:
        return asked == NN_SCENE_SOA;
    case METRICS_CA_EXACT:
    case METRICS_CA_RMSE:
        return asked == NN_SCENE_CA;
    case METRICS_PA:
        return asked == NN_SCENE_PA;
    default:
        return true;
    }
}

bool metrics_is_root(metrics_kind kind)
{
    return kind == METRICS_CA_RMSE;
}

void metrics_term(metrics_kind kind, const nn_scene_score *score, double *over, double *under)
{
    *under = score->n_named;
    switch (kind) {
    case METRICS_SOA:
        *over = score->n_present;
        return;
    case METRICS_CA_EXACT:
        *over = score->n_exact;
        return;
    case METRICS_CA_RMSE:
        *over = 0;
        for (int i = 0; i < score->n_named; i++)
            *over += (double)score->count_error[i] * score->count_error[i];
        return;
    default:
        *over = kind == METRICS_PA ? score->related : score->exact;
        *under = 1;
    }
}

void metrics_agreement(const nn_scene *scene, const char *caption, double agrees[METRICS_FACTS])
{
    nn_scene_reading reading;
    nn_scene_parse(caption, &reading);
    nn_scene_agreement a = nn_scene_compare(scene, &reading);
    agrees[METRICS_OBJECTS] = a.objects;
    agrees[METRICS_COUNTS] = a.counts;
    agrees[METRICS_RELATION] = a.relation;
    agrees[METRICS_BACKGROUND] = a.background;
    agrees[METRICS_FACTS_FULL] = a.full;
}
