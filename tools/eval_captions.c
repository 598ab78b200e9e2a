/* recap-eval captions: how far the captions of a corpus agree with what its pictures show.
 *
 * Results: {"pictures": 2000, "columns": {"short": {"objects": {"value": 0.99, ...}, "counts": ...,
 * "relation": ..., "background": ..., "full": ...}, ...}} */
#include <stdio.h>
#include <string.h>

#include "data/captions.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/eval.h"

static const char *shards_spec, *columns = "short,long", *output;
static int64_t most = 5000;

enum { MOST_COLUMNS = 8, SEED = 1 };

const nn_option eval_captions_options[] = {
    { .name = "shards",
      .text = &shards_spec,
      .value = "SHARDS",
      .required = true,
      .help = "a corpus of scenes" },
    { .name = "column",
      .text = &columns,
      .value = "NAMES",
      .help = "columns of captions, with commas between" },
    { .name = "count", .integer = &most, .low = 1, .high = 1e9, .help = "pictures at most" },
    { .name = "output", .text = &output, .value = "FILE", .help = "results as JSON" },
    { 0 },
};

typedef struct column {
    char name[NN_MIX_NAME];
    double *agrees; /* [METRICS_FACTS, most] */
    int64_t n;
} column;

typedef struct census {
    column column[MOST_COLUMNS];
    int n_columns;
    int64_t room;
    double *one;
} census;

static nn_status name_columns(census *c)
{
    for (const char *at = columns; *at;) {
        size_t n = strcspn(at, ",");
        if (!n || n >= NN_MIX_NAME || c->n_columns == MOST_COLUMNS)
            return nn_fail(NN_ARGUMENT,
                           "--column %s: expected up to %d names of less than %d "
                           "bytes, with commas between",
                           columns, MOST_COLUMNS, NN_MIX_NAME);
        memcpy(c->column[c->n_columns++].name, at, n);
        at += n + (at[n] == ',');
    }
    return NN_OK;
}

static nn_status reserve(census *c, int64_t room)
{
    c->room = room;
    c->one = nn_alloc(room, sizeof(*c->one));
    NN_NEED(c->one);
    for (int64_t i = 0; i < room; i++) c->one[i] = 1;
    for (int k = 0; k < c->n_columns; k++) {
        c->column[k].agrees = nn_alloc(METRICS_FACTS * room, sizeof(double));
        NN_NEED(c->column[k].agrees);
    }
    return NN_OK;
}

static void release(census *c)
{
    nn_free(c->one);
    for (int k = 0; k < c->n_columns; k++) nn_free(c->column[k].agrees);
}

static nn_status count_sample(census *c, const nn_sample *s)
{
    nn_captions *captions;
    nn_scene scene;
    NN_TRY(nn_captions_parse(s, &captions));
    char *json = nn_captions_field(captions, "scene");
    nn_status status =
        json ? nn_scene_read_json(json, (int64_t)strlen(json), &scene)
             : nn_fail(NN_NOT_FOUND, "%s, %s: has no \"scene\" to compare with", s->shard, s->key);
    nn_free(json);
    for (int k = 0; k < c->n_columns && status == NN_OK; k++) {
        const char *caption = nn_captions_get(captions, c->column[k].name);
        double agrees[METRICS_FACTS];
        if (!caption) continue;
        metrics_agreement(&scene, caption, agrees);
        for (int f = 0; f < METRICS_FACTS; f++)
            c->column[k].agrees[f * c->room + c->column[k].n] = agrees[f];
        c->column[k].n++;
    }
    nn_captions_free(captions);
    return status;
}

static metrics_estimate agreement(const census *c, int k, int fact)
{
    metrics_terms t = { c->column[k].agrees + fact * c->room, c->one, c->column[k].n, false };
    return metrics_bootstrap(t, SEED);
}

static nn_status write_census(const census *c, nn_text *out)
{
    NN_TRY(nn_text_add(out, "{\"pictures\": %lld, \"columns\": {", (long long)c->room));
    for (int k = 0; k < c->n_columns; k++) {
        NN_TRY(nn_text_add(out, "%s\n  ", k ? "," : ""));
        NN_TRY(nn_json_write_string(out, c->column[k].name));
        NN_TRY(nn_text_add(out, ": {"));
        for (int f = 0; f < METRICS_FACTS; f++) {
            metrics_estimate e = agreement(c, k, f);
            NN_TRY(
                nn_text_add(out, "%s\"%s\": ", f ? ", " : "", metrics_fact_name((metrics_fact)f)));
            NN_TRY(eval_write_estimate(&e, out));
        }
        NN_TRY(nn_text_add(out, "}"));
    }
    return nn_text_add(out, "\n}}\n");
}

static void print_census(const census *c)
{
    printf("%-12s %8s", "column", "captions");
    for (int f = 0; f < METRICS_FACTS; f++) printf(" %10s", metrics_fact_name((metrics_fact)f));
    printf("\n");
    for (int k = 0; k < c->n_columns; k++) {
        printf("%-12s %8lld", c->column[k].name, (long long)c->column[k].n);
        for (int f = 0; f < METRICS_FACTS && c->column[k].n; f++)
            printf(" %9.1f%%", 100 * agreement(c, k, f).value);
        printf("\n");
    }
}

static nn_status take_census(census *c, const nn_shards *shards)
{
    nn_text out = { 0 };
    NN_TRY(name_columns(c));
    NN_TRY(reserve(c, nn_min(most, nn_shards_count(shards))));
    for (int64_t i = 0; i < c->room; i++) NN_TRY(count_sample(c, nn_shards_at(shards, i)));
    print_census(c);
    if (!output) return NN_OK;
    nn_status status = write_census(c, &out);
    if (status == NN_OK) status = nn_file_write(output, out.text, out.length);
    nn_text_free(&out);
    return status;
}

nn_status eval_captions(const nn_cli *cli)
{
    nn_shards *shards;
    nn_shard_report report = { 0 };
    census c = { 0 };
    (void)cli;
    nn_status status = nn_shards_open(shards_spec, NULL, &report, &shards);
    nn_shard_report_free(&report);
    if (status != NN_OK) return status;
    status = take_census(&c, shards);
    release(&c);
    nn_shards_close(shards);
    return status;
}
