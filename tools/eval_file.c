/* samples.jsonl in; results files out and in. */
#include <math.h>
#include <string.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/eval.h"

enum { MOST_BYTES = 1 << 30 };

static nn_status malformed(const char *path, int64_t number, const char *what)
{
    return nn_fail(NN_FORMAT, "%s: picture %lld: %s", path, (long long)number, what);
}

/* The entry of a list of names that a string is, or -1. */
static int choice(const json_t *from, const char *key, const char *const *names, int n)
{
    const char *text = json_string_value(json_object_get(from, key));
    for (int i = 0; text && i < n; i++)
        if (!strcmp(text, names[i])) return i;
    return -1;
}

/* What lines of samples.jsonl and entries of results share. */
static nn_status read_head(const json_t *from, const char *path, eval_set *set, eval_sample *s)
{
    static const char *const metrics[] = { "soa", "ca", "pa" };
    static const char *const splits[] = { "held_out", "seen" };
    const char *prompt = json_string_value(json_object_get(from, "prompt"));
    const char *file = json_string_value(json_object_get(from, "file"));
    int metric = choice(from, "metric", metrics, NN_COUNT(metrics));
    s->split = choice(from, "split", splits, NN_COUNT(splits));
    if (!prompt || !file) return malformed(path, set->n, "\"prompt\" or \"file\" is no string");
    if (metric < 0) return malformed(path, set->n, "\"metric\" is none of soa, ca and pa");
    if (s->split < 0) return malformed(path, set->n, "\"split\" is none of held_out and seen");
    if (strchr(file, '/') || !strcmp(file, ".."))
        return malformed(path, set->n, "\"file\" is no plain name");
    s->metric = (nn_scene_metric)metric;
    s->seed = json_integer_value(json_object_get(from, "seed"));
    s->prompt = nn_arena_strdup(&set->arena, prompt);
    s->file = nn_arena_strdup(&set->arena, file);
    NN_NEED(s->prompt);
    NN_NEED(s->file);
    return NN_OK;
}

static nn_status read_answer(const json_t *from, nn_scene *answer)
{
    nn_text text = { 0 };
    const json_t *scene = json_object_get(from, "scene");
    if (!json_is_object(scene)) return nn_fail(NN_FORMAT, "\"scene\" is no object");
    nn_status status = nn_json_write(&text, scene, JSON_COMPACT);
    if (status == NN_OK) status = nn_scene_read_json(text.text, text.length, answer);
    nn_text_free(&text);
    return status;
}

static nn_status add_line(eval_set *set, const char *path, const char *line, int64_t length)
{
    json_error_t error;
    NN_TRY(nn_grow(&set->samples, &set->capacity, set->n, sizeof(*set->samples)));
    eval_sample *s = &set->samples[set->n];
    *s = (eval_sample){ 0 };
    json_t *json = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!json) return malformed(path, set->n, error.text);
    nn_status status = read_head(json, path, set, s);
    if (status == NN_OK) {
        status = read_answer(json, &s->answer);
        if (status != NN_OK)
            status = nn_fail_prefix(status, "%s: picture %lld: ", path, (long long)set->n);
    }
    json_decref(json);
    set->n += status == NN_OK;
    return status;
}

static nn_status read_lines(eval_set *set, const char *path)
{
    char *bytes;
    int64_t n;
    nn_status status = NN_OK;
    NN_TRY(nn_file_read(path, MOST_BYTES, &bytes, &n));
    for (char *line = bytes; *line && status == NN_OK;) {
        char *end = strchr(line, '\n');
        int64_t length = end ? end - line : (int64_t)strlen(line);
        if (length) status = add_line(set, path, line, length);
        line += length + (end != NULL);
    }
    nn_free(bytes);
    if (status == NN_OK && !set->n) status = nn_fail(NN_FORMAT, "%s: holds no picture", path);
    return status;
}

nn_status eval_read_samples(const char *directory, eval_set *set)
{
    *set = (eval_set){ 0 };
    char *path = nn_format("%s/samples.jsonl", directory);
    NN_NEED(path);
    nn_status status = read_lines(set, path);
    nn_free(path);
    if (status != NN_OK) eval_free(set);
    return status;
}

/* -- results ---------------------------------------------------------------------------------- */

static nn_status write_split(const eval_set *set, int split, nn_text *out)
{
    NN_TRY(nn_text_add(out, "\"%s\": {", eval_split_name(split)));
    for (int k = 0; k < METRICS_KINDS; k++) {
        metrics_estimate e;
        NN_TRY(eval_figure(set, (metrics_kind)k, split, &e));
        NN_TRY(nn_text_add(out, "\"%s\": ", metrics_name((metrics_kind)k)));
        NN_TRY(eval_write_estimate(&e, out));
        NN_TRY(nn_text_add(out, ", "));
    }
    const metrics_estimate *fd = &set->distance[split].estimate;
    NN_TRY(nn_text_add(out, "\"fd_detector\": "));
    NN_TRY(fd->n ? eval_write_estimate(fd, out) : nn_text_add(out, "null"));
    return nn_text_add(out, "},\n ");
}

static nn_status write_replicates(const eval_set *set, nn_text *out)
{
    const char *comma = "";
    NN_TRY(nn_text_add(out, "\"fd_replicates\": {"));
    for (int split = 0; split < EVAL_SPLITS; split++) {
        const eval_distance *d = &set->distance[split];
        if (!d->estimate.n) continue;
        NN_TRY(nn_text_add(out, "%s\"%s\": [", comma, eval_split_name(split)));
        for (int r = 0; r < METRICS_FRECHET_RESAMPLES; r++)
            NN_TRY(nn_text_add(out, "%s%.8g", r ? ", " : "", d->replicate[r]));
        NN_TRY(nn_text_add(out, "]"));
        comma = ", ";
    }
    return nn_text_add(out, "},\n ");
}

static const char *truth(bool yes)
{
    return yes ? "true" : "false";
}

static nn_status write_sample(const eval_sample *s, nn_text *out)
{
    NN_TRY(nn_text_add(out, "  {\"prompt\": "));
    NN_TRY(nn_json_write_string(out, s->prompt));
    NN_TRY(nn_text_add(out, ", \"metric\": \"%s\", \"split\": \"%s\", \"seed\": %lld, \"file\": ",
                       eval_metric_name(s->metric), eval_split_name(s->split), (long long)s->seed));
    NN_TRY(nn_json_write_string(out, s->file));
    return nn_text_add(out,
                       ", \"named\": %d, \"present\": %d, \"counted\": %d, \"count_error\": "
                       "[%d, %d], \"exact\": %s, \"related\": %s}",
                       s->score.n_named, s->score.n_present, s->score.n_exact,
                       s->score.count_error[0], s->score.count_error[1], truth(s->score.exact),
                       truth(s->score.related));
}

static nn_status write_results(const eval_set *set, nn_text *out)
{
    NN_TRY(nn_text_add(out, "{"));
    for (int split = 0; split < EVAL_SPLITS; split++) NN_TRY(write_split(set, split, out));
    NN_TRY(write_replicates(set, out));
    NN_TRY(nn_text_add(out, "\"detector\": {\"reference_full\": "));
    NN_TRY(set->ceiling.n ? eval_write_estimate(&set->ceiling, out) : nn_text_add(out, "null"));
    NN_TRY(nn_text_add(out, "},\n \"samples\": [\n"));
    for (int64_t i = 0; i < set->n; i++) {
        NN_TRY(write_sample(&set->samples[i], out));
        NN_TRY(nn_text_add(out, i + 1 < set->n ? ",\n" : "\n"));
    }
    return nn_text_add(out, " ]}\n");
}

nn_status eval_write(const eval_set *set, const char *path)
{
    nn_text out = { 0 };
    nn_status status = write_results(set, &out);
    if (status == NN_OK) status = nn_file_write(path, out.text, out.length);
    nn_text_free(&out);
    return status;
}

static int small(const json_t *from, const char *key)
{
    return (int)json_integer_value(json_object_get(from, key));
}

static nn_status read_sample(const json_t *from, const char *path, eval_set *set)
{
    NN_TRY(nn_grow(&set->samples, &set->capacity, set->n, sizeof(*set->samples)));
    eval_sample *s = &set->samples[set->n];
    const json_t *error = json_object_get(from, "count_error");
    *s = (eval_sample){ 0 };
    NN_TRY(read_head(from, path, set, s));
    s->score = (nn_scene_score){
        .n_named = small(from, "named"),
        .n_present = small(from, "present"),
        .n_exact = small(from, "counted"),
        .count_error = { (int)json_integer_value(json_array_get(error, 0)),
                         (int)json_integer_value(json_array_get(error, 1)) },
        .exact = json_is_true(json_object_get(from, "exact")),
        .related = json_is_true(json_object_get(from, "related")),
    };
    if (s->score.n_named < 1 || s->score.n_named > 2)
        return malformed(path, set->n, "\"named\" is neither 1 nor 2");
    set->n++;
    return NN_OK;
}

static void read_distance(const json_t *root, int split, eval_distance *d)
{
    const char *name = eval_split_name(split);
    const json_t *list = json_object_get(json_object_get(root, "fd_replicates"), name);
    const json_t *figures = json_object_get(root, name);
    if (json_array_size(list) != METRICS_FRECHET_RESAMPLES) return;
    d->estimate = eval_read_estimate(json_object_get(figures, "fd_detector"));
    for (size_t r = 0; r < METRICS_FRECHET_RESAMPLES; r++)
        d->replicate[r] = json_number_value(json_array_get(list, r));
}

static nn_status read_results(const json_t *root, const char *path, eval_set *set)
{
    const json_t *samples = json_object_get(root, "samples");
    if (!json_is_array(samples))
        return nn_fail(NN_FORMAT, "%s: has no list \"samples\"; recap-eval writes such files",
                       path);
    for (size_t i = 0; i < json_array_size(samples); i++)
        NN_TRY(read_sample(json_array_get(samples, i), path, set));
    for (int split = 0; split < EVAL_SPLITS; split++)
        read_distance(root, split, &set->distance[split]);
    set->ceiling =
        eval_read_estimate(json_object_get(json_object_get(root, "detector"), "reference_full"));
    return NN_OK;
}

nn_status eval_read(const char *path, eval_set *set)
{
    nn_json json;
    *set = (eval_set){ 0 };
    NN_TRY(nn_json_open(path, MOST_BYTES, &json));
    nn_status status = read_results(json.node, path, set);
    nn_json_close(&json);
    if (status != NN_OK) eval_free(set);
    return status;
}
