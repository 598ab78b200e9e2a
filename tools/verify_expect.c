/* What must come out: statistics, samples, numbers and ids. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/verify.h"

void verify_number(verify_case *v, const char *what, double got, double want, double abs,
                   double rel)
{
    double allowed = abs + rel * fabs(want);
    double over = fabs(got - want) / allowed;
    if (isnan(over)) over = INFINITY;
    if (over > 1 && !v->why[0])
        snprintf(v->why, sizeof(v->why), "%s is %.8g, %.8g is expected (allowed %.2g)", what, got,
                 want, allowed);
    v->worst = fmax(v->worst, over);
}

static void statistics(verify_case *v, const json_t *e, double abs, const char *name,
                       const float *x, int64_t n)
{
    static const char *const keys[] = { "mean", "std", "max_abs" };
    double sum = 0, squares = 0, most = 0, got[3];
    for (int64_t i = 0; i < n; i++) sum += x[i];
    got[0] = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        squares += (x[i] - got[0]) * (x[i] - got[0]);
        most = fmax(most, fabs((double)x[i]));
    }
    got[1] = sqrt(squares / (double)n);
    got[2] = most;
    for (int k = 0; k < 3; k++) {
        const json_t *want = json_object_get(e, keys[k]);
        char what[128];
        snprintf(what, sizeof(what), "%s.%s", name, keys[k]);
        if (want) verify_number(v, what, got[k], json_number_value(want), abs, v->rel);
    }
}

nn_status verify_expect(verify_case *v, const char *name, const float *values, int rank,
                        const int64_t *dim)
{
    json_t *e = json_object_get(json_object_get(v->json, "expect"), name), *want;
    const json_t *shape = json_object_get(e, "shape");
    const char *key;
    int64_t n = 1;
    if (!e) return NN_OK;
    for (int i = 0; i < rank; i++) n *= dim[i];
    bool fits = !shape || (int)json_array_size(shape) == rank;
    for (int i = 0; shape && fits && i < rank; i++)
        fits = json_integer_value(json_array_get(shape, (size_t)i)) == dim[i];
    if (!fits) return nn_fail(NN_SHAPE, "%s: %s has another shape than expected", v->name, name);
    double abs = v->abs + v->share * json_number_value(json_object_get(e, "max_abs"));
    statistics(v, e, abs, name, values, n);
    json_object_foreach(json_object_get(e, "at"), key, want)
    {
        int64_t at = strtoll(key, NULL, 10);
        char what[128];
        if (at < 0 || at >= n)
            return nn_fail(NN_FORMAT, "%s: %s has no element %s", v->name, name, key);
        snprintf(what, sizeof(what), "%s[%s]", name, key);
        verify_number(v, what, values[at], json_number_value(want), abs, v->rel);
    }
    return NN_OK;
}

nn_status verify_ids(verify_case *v, int row, const int32_t *ids, int n)
{
    const json_t *want =
        json_array_get(json_object_get(json_object_get(v->json, "expect"), "ids"), (size_t)row);
    if (!want) return nn_fail(NN_FORMAT, "%s: expect.ids has no row %d", v->name, row);
    bool same = (int)json_array_size(want) == n;
    for (int i = 0; same && i < n; i++)
        same = json_integer_value(json_array_get(want, (size_t)i)) == ids[i];
    if (same) return NN_OK;
    int used = snprintf(v->why, sizeof(v->why), "ids are");
    for (int i = 0; i < n && used < (int)sizeof(v->why); i++)
        used += snprintf(v->why + used, sizeof(v->why) - (size_t)used, " %d", ids[i]);
    v->worst = INFINITY;
    return NN_OK;
}
