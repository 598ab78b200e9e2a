/* recap-eval compare: one arm minus another over the same prompts and seeds. */
#include <math.h>
#include <stdio.h>

#include "engine/base/file.h"
#include "tools/eval.h"

static const char *output;

const nn_option eval_compare_options[] = {
    { .name = "output", .text = &output, .value = "FILE", .help = "differences as JSON" },
    { 0 },
};

static void print_difference(const char *name, const metrics_estimate *d)
{
    if (d->n && isfinite(d->value))
        printf("  %-12s %+8.3f   %+7.3f to %+7.3f   n %lld%s\n", name, d->value, d->low, d->high,
               (long long)d->n, d->low > 0 || d->high < 0 ? "   *" : "");
}

static nn_status add_difference(const char *name, const metrics_estimate *d, nn_text *json)
{
    print_difference(name, d);
    NN_TRY(nn_text_add(json, "\"%s\": ", name));
    return d->n ? eval_write_estimate(d, json) : nn_text_add(json, "null");
}

static nn_status compare_split(const eval_set *a, const eval_set *b, int split, nn_text *json)
{
    printf("%s\n", eval_split_name(split));
    NN_TRY(nn_text_add(json, "%s\"%s\": {", split ? ",\n " : "", eval_split_name(split)));
    for (int k = 0; k < METRICS_KINDS; k++) {
        metrics_estimate d;
        NN_TRY(eval_difference(a, b, (metrics_kind)k, split, &d));
        NN_TRY(add_difference(metrics_name((metrics_kind)k), &d, json));
        NN_TRY(nn_text_add(json, ", "));
    }
    const eval_distance *x = &a->distance[split], *y = &b->distance[split];
    metrics_estimate d = { 0 };
    if (x->estimate.n && x->estimate.n == y->estimate.n)
        d = metrics_frechet_difference(&x->estimate, x->replicate, &y->estimate, y->replicate);
    NN_TRY(add_difference("fd_detector", &d, json));
    return nn_text_add(json, "}");
}

static nn_status compare(const eval_set *a, const eval_set *b)
{
    nn_text json = { 0 };
    nn_status status = nn_text_add(&json, "{");
    for (int split = 0; split < EVAL_SPLITS && status == NN_OK; split++)
        status = compare_split(a, b, split, &json);
    if (status == NN_OK) status = nn_text_add(&json, "}\n");
    if (status == NN_OK && output) status = nn_file_write(output, json.text, json.length);
    nn_text_free(&json);
    return status;
}

nn_status eval_compare(const nn_cli *cli)
{
    eval_set a, b;
    NN_TRY(eval_read(cli->arguments[0], &a));
    nn_status status = eval_read(cli->arguments[1], &b);
    if (status == NN_OK) {
        printf("%s minus %s; 95 %% intervals, * where they exclude 0\n", cli->arguments[0],
               cli->arguments[1]);
        status = compare(&a, &b);
        eval_free(&b);
    }
    eval_free(&a);
    return status;
}
