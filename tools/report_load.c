/* The manifest, and what it names. */
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "tools/report.h"

enum { MOST_POINTS = 1000, MOST_RESULTS = 1 << 30 };

const report_figure report_figures[REPORT_FIGURES] = {
    [METRICS_SOA] = { "soa", "SOA", "named objects that are there", true, false },
    [METRICS_CA_EXACT] = { "ca_exact", "CA exact", "named objects with the right count", true,
                           false },
    [METRICS_CA_RMSE] = { "ca_rmse", "CA RMSE", "error of the counts", false, true },
    [METRICS_PA] = { "pa", "PA", "relations that hold", true, false },
    [METRICS_FULL] = { "full", "Exact", "pictures with everything right", true, false },
    [REPORT_FD] = { "fd_detector", "FD detector",
                    "Frechet distance of our detector's features; no FID", false, true },
};

bool report_known(const metrics_estimate *e)
{
    return e->n > 0 && isfinite(e->value) && isfinite(e->low) && isfinite(e->high);
}

/* A path of the manifest, relative to DIR unless absolute. */
static const char *place(report *r, const char *path)
{
    if (!path || *path == '/') return path;
    return nn_arena_format(&r->arena, "%s/%s", r->directory, path);
}

static nn_status wrong(const report *r, const char *what)
{
    return nn_fail(NN_FORMAT, "%s: %s", r->manifest.file, what);
}

/* The figures of the first n_splits splits. */
static nn_status read_figures(const char *path, int n_splits,
                              metrics_estimate (*to)[REPORT_FIGURES])
{
    nn_json json;
    NN_TRY(nn_json_open(path, MOST_RESULTS, &json));
    for (int split = 0; split < n_splits; split++) {
        const json_t *figures = json_object_get(json.node, eval_split_name(split));
        for (int f = 0; f < REPORT_FIGURES; f++)
            to[split][f] = eval_read_estimate(json_object_get(figures, report_figures[f].key));
    }
    nn_json_close(&json);
    return NN_OK;
}

static nn_status read_point(report *r, const json_t *from, report_point *p, const char **eval)
{
    const json_t *seen = json_object_get(from, "samples_seen");
    *eval = place(r, json_string_value(json_object_get(from, "eval")));
    p->samples = place(r, json_string_value(json_object_get(from, "samples")));
    if (!json_is_number(seen) || !*eval)
        return wrong(r, "a point of a curve needs \"samples_seen\" and \"eval\"");
    p->samples_seen = json_number_value(seen);
    return read_figures(*eval, EVAL_SPLITS, p->figure);
}

static nn_status read_arm(report *r, const char *key, const json_t *from)
{
    const json_t *curve = json_object_get(from, "curve");
    const char *name = json_string_value(json_object_get(from, "name")), *eval = NULL;
    size_t n = json_array_size(curve);
    if (r->n_arms == REPORT_ARMS) return wrong(r, "has more arms than a report shows (6)");
    if (n < 1 || n > MOST_POINTS) return wrong(r, "an arm needs a \"curve\" of 1 to 1000 points");
    report_arm *arm = &r->arm[r->n_arms++];
    arm->key = key;
    arm->name = name ? name : key;
    arm->points = nn_arena_alloc(&r->arena, (int64_t)n, sizeof(*arm->points));
    NN_NEED(arm->points);
    for (size_t i = 0; i < n; i++) {
        NN_TRY(read_point(r, json_array_get(curve, i), &arm->points[i], &eval));
        if (i && arm->points[i].samples_seen < arm->points[i - 1].samples_seen)
            return wrong(r, "\"samples_seen\" falls along a curve");
        arm->n++;
    }
    return eval_read(eval, &arm->result);
}

static nn_status read_arms(report *r)
{
    const json_t *arms = json_object_get(r->manifest.node, "arms");
    const char *key;
    json_t *arm;
    if (!json_object_size(arms)) return wrong(r, "has no \"arms\"");
    json_object_foreach((json_t *)(uintptr_t)arms, key, arm)
    {
        NN_TRY(read_arm(r, key, arm));
    }
    return NN_OK;
}

static const report_arm *find_arm(const report *r, const char *key)
{
    for (int i = 0; i < r->n_arms; i++)
        if (!strcmp(r->arm[i].key, key)) return &r->arm[i];
    return NULL;
}

static nn_status compare_split(report *r, const eval_set *a, const eval_set *b, int split)
{
    const eval_distance *x = &a->distance[split], *y = &b->distance[split];
    for (int k = 0; k < METRICS_KINDS; k++)
        NN_TRY(eval_difference(a, b, (metrics_kind)k, split, &r->difference[split][k]));
    if (x->estimate.n && x->estimate.n == y->estimate.n)
        r->difference[split][REPORT_FD] =
            metrics_frechet_difference(&x->estimate, x->replicate, &y->estimate, y->replicate);
    return NN_OK;
}

/* Arms that drew different prompts have no paired difference; the report does without. */
static nn_status compare(report *r)
{
    const report_arm *mix = find_arm(r, "mix"), *alttext = find_arm(r, "alttext");
    if (!mix || !alttext) return NN_OK;
    nn_status paired = eval_check_paired(&mix->result, &alttext->result);
    if (paired == NN_ARGUMENT) {
        nn_log(NN_LOG_WARN, "mix and alttext are not compared: %s", nn_error_message());
        return NN_OK;
    }
    NN_TRY(paired);
    for (int split = 0; split < EVAL_SPLITS; split++)
        NN_TRY(compare_split(r, &mix->result, &alttext->result, split));
    r->compared = true;
    return NN_OK;
}

static nn_status read_row(report *r, const char *key, const json_t *from)
{
    report_cross *cross = &r->cross;
    const char *name = json_string_value(json_object_get(from, "name"));
    if (cross->n_rows == REPORT_ROWS) return wrong(r, "\"cross\" has more than 7 \"arms\"");
    report_row *row = &cross->row[cross->n_rows++];
    row->key = key;
    row->name = name ? name : key;
    for (int i = 0; i < cross->n_styles; i++) {
        const char *eval = place(r, json_string_value(json_object_get(from, cross->style[i])));
        if (eval) NN_TRY(read_figures(eval, EVAL_HELD_OUT + 1, &row->figure[i]));
    }
    return NN_OK;
}

static nn_status read_cross(report *r)
{
    const json_t *from = json_object_get(r->manifest.node, "cross");
    const json_t *styles = json_object_get(from, "styles"), *arms = json_object_get(from, "arms");
    const char *key;
    json_t *arm;
    if (!from) return NN_OK;
    size_t n = json_array_size(styles);
    if (n < 1 || n > REPORT_STYLES) return wrong(r, "\"cross\" needs 1 to 4 \"styles\"");
    for (size_t i = 0; i < n; i++) {
        const char *style = json_string_value(json_array_get(styles, i));
        if (!style) return wrong(r, "\"styles\" of \"cross\" holds more than names");
        r->cross.style[r->cross.n_styles++] = style;
    }
    json_object_foreach((json_t *)(uintptr_t)arms, key, arm)
    {
        NN_TRY(read_row(r, key, arm));
    }
    return NN_OK;
}

static nn_status read_rest(report *r)
{
    const json_t *root = r->manifest.node, *stages = json_object_get(root, "stages");
    const char *captioner = place(r, json_string_value(json_object_get(root, "captioner")));
    const char *captions = place(r, json_string_value(json_object_get(root, "captions")));
    const json_t *busy = json_object_get(root, "seconds");
    const char *key;
    json_t *seconds;
    json_object_foreach((json_t *)(uintptr_t)stages, key, seconds)
    {
        if (!json_is_number(seconds)) return wrong(r, "\"stages\" holds more than seconds");
    }
    if (busy && !json_is_number(busy)) return wrong(r, "\"seconds\" is not a number");
    r->seconds = json_number_value(busy);
    if (captioner) NN_TRY(nn_json_open(captioner, NN_JSON_CONFIG_BYTES, &r->captioner));
    if (captions) {
        nn_shard_report faults = { 0 };
        nn_status status = nn_shards_open(captions, NULL, &faults, &r->captions);
        nn_shard_report_free(&faults);
        NN_TRY(status);
    }
    return NN_OK;
}

nn_status report_load(const char *directory, const char *manifest, report *r)
{
    *r = (report){ .directory = directory };
    nn_status status = nn_json_open(manifest, MOST_RESULTS, &r->manifest);
    if (status != NN_OK) return status;
    status = read_arms(r);
    if (status == NN_OK) status = compare(r);
    if (status == NN_OK) status = read_cross(r);
    if (status == NN_OK) status = read_rest(r);
    if (status != NN_OK) report_free(r);
    return status;
}

void report_free(report *r)
{
    for (int i = 0; i < r->n_arms; i++) eval_free(&r->arm[i].result);
    if (r->captions) nn_shards_close(r->captions);
    nn_json_close(&r->captioner);
    nn_json_close(&r->manifest);
    nn_arena_free(&r->arena);
    *r = (report){ 0 };
}
