/* Inputs and weights of a case, from the generator. */
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/base/str.h"
#include "tools/verify.h"

float verify_uniform(uint64_t name_hash, int64_t i)
{
    uint64_t z = name_hash + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (float)(z >> 40) * 0x1p-23f - 1.0f;
}

void verify_tensor_free(verify_tensor *t)
{
    nn_free(t->values);
    nn_free(t->ids);
    *t = (verify_tensor){ 0 };
}

static nn_status read_shape(const verify_case *v, const json_t *shape, verify_tensor *t)
{
    t->rank = (int)json_array_size(shape);
    t->n = 1;
    if (t->rank < 1 || t->rank > NN_MAX_RANK)
        return nn_fail(NN_FORMAT, "%s: a tensor has %d dims, 1 to %d are expected", v->name,
                       t->rank, NN_MAX_RANK);
    for (int i = 0; i < t->rank; i++) {
        t->dim[i] = json_integer_value(json_array_get(shape, (size_t)i));
        if (t->dim[i] < 1 || t->dim[i] > INT32_MAX / t->n)
            return nn_fail(NN_FORMAT, "%s: dim %d of a tensor is %lld", v->name, i,
                           (long long)t->dim[i]);
        t->n *= t->dim[i];
    }
    return NN_OK;
}

/* o + s * u, all of it or one row of the leading dimension. */
static nn_status read_fill(const verify_case *v, const json_t *j, verify_tensor *t)
{
    const json_t *scale = json_object_get(j, "scale"), *offset = json_object_get(j, "offset");
    const json_t *row = json_object_get(j, "row");
    float s = scale ? (float)json_number_value(scale) : 1.0f, o = (float)json_number_value(offset);
    uint64_t hash = nn_hash_text(json_string_value(json_object_get(j, "fill")));
    NN_TRY(read_shape(v, json_object_get(j, "shape"), t));
    int64_t first = 0;
    if (row) {
        int64_t r = json_integer_value(row);
        if (r < 0 || r >= t->dim[0])
            return nn_fail(NN_FORMAT, "%s: no row %lld", v->name, (long long)r);
        t->n /= t->dim[0];
        t->dim[0] = 1;
        first = r * t->n;
    }
    t->values = nn_alloc(t->n, sizeof(*t->values));
    NN_NEED(t->values);
    for (int64_t i = 0; i < t->n; i++) t->values[i] = s * verify_uniform(hash, first + i) + o;
    return NN_OK;
}

static nn_status read_values(const verify_case *v, const json_t *j, verify_tensor *t)
{
    const json_t *values = json_object_get(j, "values"), *shape = json_object_get(j, "shape");
    int64_t n = (int64_t)json_array_size(values);
    *t = (verify_tensor){ .rank = 1, .dim = { n }, .n = n };
    if (shape) NN_TRY(read_shape(v, shape, t));
    if (t->n != n)
        return nn_fail(NN_FORMAT, "%s: %lld values do not fill the shape", v->name, (long long)n);
    t->values = nn_alloc(n, sizeof(*t->values));
    NN_NEED(t->values);
    for (int64_t i = 0; i < n; i++)
        t->values[i] = (float)json_number_value(json_array_get(values, (size_t)i));
    return NN_OK;
}

static nn_status read_ids(const verify_case *v, const json_t *rows, verify_tensor *t)
{
    t->rank = 2;
    t->dim[0] = (int64_t)json_array_size(rows);
    t->dim[1] = (int64_t)json_array_size(json_array_get(rows, 0));
    t->n = t->dim[0] * t->dim[1];
    if (t->n < 1) return nn_fail(NN_FORMAT, "%s: empty ids", v->name);
    t->ids = nn_alloc(t->n, sizeof(*t->ids));
    NN_NEED(t->ids);
    for (int64_t i = 0; i < t->n; i++) {
        const json_t *row = json_array_get(rows, (size_t)(i / t->dim[1]));
        if ((int64_t)json_array_size(row) != t->dim[1])
            return nn_fail(NN_FORMAT, "%s: rows of ids differ in length", v->name);
        t->ids[i] = (int32_t)json_integer_value(json_array_get(row, (size_t)(i % t->dim[1])));
    }
    return NN_OK;
}

bool verify_has_input(const verify_case *v, const char *name)
{
    return json_object_get(json_object_get(v->json, "inputs"), name) != NULL;
}

nn_status verify_input(const verify_case *v, const char *name, int k, verify_tensor *out)
{
    const json_t *j = json_object_get(json_object_get(v->json, "inputs"), name);
    *out = (verify_tensor){ 0 };
    if (json_is_array(j)) j = json_array_get(j, (size_t)k);
    nn_status status;
    if (json_is_string(json_object_get(j, "fill")))
        status = read_fill(v, j, out);
    else if (json_object_get(j, "values"))
        status = read_values(v, j, out);
    else if (json_object_get(j, "ids"))
        status = read_ids(v, json_object_get(j, "ids"), out);
    else
        return nn_fail(NN_FORMAT, "%s: input %s is missing or has no fill, values or ids", v->name,
                       name);
    if (status != NN_OK) verify_tensor_free(out);
    return status;
}

void verify_to_nhwc(const float *src, int rank, const int64_t *dim, float *dst)
{
    int64_t n = dim[0], c = rank == 4 ? dim[1] : 1, hw = rank == 4 ? dim[2] * dim[3] : 1;
    for (int i = 1; rank != 4 && i < rank; i++) hw *= dim[i];
    for (int64_t b = 0; b < n; b++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < hw; p++) dst[(b * hw + p) * c + k] = src[(b * c + k) * hw + p];
}

void verify_to_nchw(const float *src, int rank, const int64_t *dim, float *dst)
{
    int64_t n = dim[0], c = rank == 4 ? dim[1] : 1, hw = rank == 4 ? dim[2] * dim[3] : 1;
    for (int i = 1; rank != 4 && i < rank; i++) hw *= dim[i];
    for (int64_t b = 0; b < n; b++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < hw; p++) dst[(b * c + k) * hw + p] = src[(b * hw + p) * c + k];
}

/* -- weights -- */

typedef struct fill_job {
    float *out;
    uint64_t hash;
    float scale, offset;
} fill_job;

static void fill_part(void *ctx, int thread, int64_t begin, int64_t end)
{
    const fill_job *j = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        j->out[i] = j->scale * verify_uniform(j->hash, i) + j->offset;
}

static fill_job rule_of(const char *name, const nn_view *v)
{
    fill_job j = { .hash = nn_hash_text(name) };
    int64_t fan = 1;
    for (int i = 1; i < v->rank; i++) fan *= v->dim[i];
    if (v->rank == 0)
        j.offset = 2.6592f;
    else if (v->rank >= 2)
        j.scale = (float)sqrt(3.0 / (double)fan);
    else if (nn_ends_with(name, "running_var"))
        j.scale = 0.2f, j.offset = 1;
    else if (nn_ends_with(name, "running_mean"))
        j.scale = 0.1f;
    else if (nn_ends_with(name, "weight"))
        j.scale = 0.1f, j.offset = 1;
    else
        j.scale = 0.02f;
    return j;
}

/* Whether a name fits a pattern in which {i} stands for a number. */
static bool matches(const char *pattern, const char *name)
{
    const char *hole = strstr(pattern, "{i}");
    if (!hole) return !strcmp(pattern, name);
    size_t before = (size_t)(hole - pattern);
    if (strncmp(pattern, name, before) != 0) return false;
    size_t digits = strspn(name + before, "0123456789");
    return digits && !strcmp(hole + 3, name + before + digits);
}

static double factor_of(const json_t *weights, const char *name)
{
    double factor = 1;
    size_t i;
    json_t *rule;
    json_array_foreach(json_object_get(weights, "scale"), i, rule)
    {
        const char *pattern = json_string_value(json_array_get(rule, 0));
        if (pattern && matches(pattern, name)) factor *= json_number_value(json_array_get(rule, 1));
    }
    return factor;
}

static void add_to(const json_t *weights, const char *name, float *values, int64_t n)
{
    size_t i;
    json_t *rule;
    json_array_foreach(json_object_get(weights, "add"), i, rule)
    {
        const char *pattern = json_string_value(json_array_get(rule, 0));
        int64_t at = json_integer_value(json_array_get(rule, 1));
        if (pattern && matches(pattern, name) && at >= 0 && at < n)
            values[at] += (float)json_number_value(json_array_get(rule, 2));
    }
}

static nn_status fill_one(const verify_case *v, nn_params *params, nn_param *p, const char *name)
{
    const json_t *weights = json_object_get(v->json, "weights");
    const char *prefix = json_string_value(json_object_get(weights, "prefix"));
    int64_t n = nn_view_elems(&p->view);
    char *hashed = nn_format("%s%s", prefix ? prefix : "", name);
    NN_NEED(hashed);
    fill_job j = rule_of(hashed, &p->view);
    nn_free(hashed);
    float factor = (float)factor_of(weights, name);
    j.out = nn_alloc(n, sizeof(float));
    NN_NEED(j.out);
    nn_pool_for(v->device->pool, n, 4096, fill_part, &j);
    for (int64_t i = 0; factor != 1 && i < n; i++) j.out[i] *= factor;
    add_to(weights, name, j.out, n);
    nn_status status = nn_params_write(params, p, j.out);
    nn_free(j.out);
    return status;
}

nn_status verify_fill(const verify_case *v, nn_params *params, const char *const *strip,
                      int n_strip)
{
    for (int64_t i = 0; i < params->n; i++) {
        const char *name = params->items[i]->name;
        for (int k = 0; k < n_strip; k++)
            if (nn_starts_with(name, strip[k])) {
                name += strlen(strip[k]);
                break;
            }
        NN_TRY(fill_one(v, params, params->items[i], name));
    }
    return NN_OK;
}

nn_status verify_config(const verify_case *v, const char *preset, const char *part, bool *is_preset,
                        nn_json *json)
{
    const json_t *config = json_object_get(v->json, "config");
    const char *name = json_string_value(config);
    *json = (nn_json){ 0 };
    *is_preset = name && !strcmp(name, preset);
    if (*is_preset) return NN_OK;
    if (name) return nn_fail(NN_UNSUPPORTED, "%s: preset '%s' is not known here", v->name, name);
    if (part && *part) config = json_object_get(config, part);
    if (!json_is_object(config))
        return nn_fail(NN_FORMAT, "%s: config is missing or no object", v->name);
    *json = (nn_json){ (json_t *)(uintptr_t)config, (char *)(uintptr_t)v->name };
    return NN_OK;
}
