/* Where the time of a profiled run went: a table by op and kernel, and a trace for
 * chrome://tracing. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/plan_internal.h"

typedef struct row {
    const char *op, *kernel;
    int64_t count;
    double seconds, flops;
} row;

static double flops_of(const nn_step *s)
{
    double flops = 0, bytes = 0;
    const nn_op *op = nn_op_of(s->node->op);
    if (op->cost) op->cost(s->node, &flops, &bytes);
    return flops;
}

static void add_row(row *rows, int64_t *n, const nn_step *s)
{
    int64_t i = 0;
    while (i < *n && strcmp(rows[i].kernel, s->kernel->name) != 0) i++;
    if (i == *n) rows[(*n)++] = (row){ .op = nn_op_name(s->node->op), .kernel = s->kernel->name };
    rows[i].count++;
    rows[i].seconds += s->seconds;
    rows[i].flops += flops_of(s);
}

static int slowest_first(const void *a, const void *b)
{
    double x = ((const row *)a)->seconds, y = ((const row *)b)->seconds;
    return x > y ? -1 : x < y;
}

nn_status nn_plan_profile_table(const nn_plan *plan, nn_text *out)
{
    row *rows = nn_alloc(plan->n_steps, sizeof(*rows));
    NN_NEED(rows);
    int64_t n = 0;
    double total = 0;
    for (int64_t i = 0; i < plan->n_steps; i++) {
        add_row(rows, &n, &plan->steps[i]);
        total += plan->steps[i].seconds;
    }
    qsort(rows, (size_t)n, sizeof(*rows), slowest_first);
    nn_status status = nn_text_add(out, "%-16s %-32s %6s %10s %6s %9s\n", "op", "kernel", "calls",
                                   "ms", "share", "GFLOP/s");
    for (int64_t i = 0; i < n && status == NN_OK; i++)
        status = nn_text_add(out, "%-16s %-32s %6lld %10.3f %5.1f%% %9.1f\n", rows[i].op,
                             rows[i].kernel, (long long)rows[i].count, 1e3 * rows[i].seconds,
                             total > 0 ? 100 * rows[i].seconds / total : 0,
                             rows[i].seconds > 0 ? 1e-9 * rows[i].flops / rows[i].seconds : 0);
    nn_free(rows);
    return status;
}

nn_status nn_plan_profile_trace(const nn_plan *plan, const char *path)
{
    nn_text t = { 0 };
    double at = 0;
    nn_status status = nn_text_add(&t, "{\"traceEvents\":[");
    for (int64_t i = 0; i < plan->n_steps && status == NN_OK; i++) {
        const nn_step *s = &plan->steps[i];
        status = nn_text_add(&t,
                             "%s\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1,"
                             "\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"scope\":\"%s\",\"gflop\":%.6f}}",
                             i ? "," : "", s->kernel->name, nn_op_name(s->node->op), 1e6 * at,
                             1e6 * s->seconds, s->node->scope, 1e-9 * flops_of(s));
        at += s->seconds;
    }
    if (status == NN_OK) status = nn_text_add(&t, "\n]}\n");
    if (status == NN_OK) status = nn_file_write(path, t.text, t.length);
    nn_text_free(&t);
    return status;
}
