/* Kernels and graphs, timed by the device's clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "tools/bench.h"

enum { MOST_COPIES = 64, MOST_BATCH = 64 };

/* The copies of a case are larger than this together: five times the largest cache of a GPU. */
static const double working_set = 256e6;
/* A batch of launches between two marks takes about this long. */
static const double batch_seconds = 4e-4;
/* Elements that are copied in front of a batch: the device is at work until it is enqueued. */
static const int64_t lead_elems = 1 << 29;

typedef struct job {
    const bench_case *c;
    const bench_settings *set;
    nn_device *device;
    bench_copy *copies;
    int64_t n_copies, at;
    bench_copy lead; /* plan NULL: none */
    bench_row row;   /* what all rows of the case have in common */
    bench_emit *emit;
    void *ctx;
} job;

static int smaller_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Time of one run of the steps, over a batch of n. */
static nn_status time_batch(job *j, int64_t first, int64_t last, int64_t n, double *seconds)
{
    if (j->lead.plan && n > 1)
        NN_TRY(nn_plan_enqueue(j->lead.plan, 0, 0, nn_plan_n_steps(j->lead.plan)));
    NN_TRY(nn_device_mark(j->device, 0));
    for (int64_t i = 0; i < n; i++) {
        nn_plan *plan = j->copies[j->at++ % j->n_copies].plan;
        NN_TRY(nn_plan_enqueue(plan, (uint64_t)j->at, first, last));
    }
    NN_TRY(nn_device_mark(j->device, 1));
    NN_TRY(nn_device_elapsed(j->device, seconds));
    *seconds /= (double)n;
    return NN_OK;
}

static nn_status time_steps(job *j, int64_t first, int64_t last, double *median)
{
    double seconds[BENCH_MOST_RUNS], once;
    int64_t runs = j->set->runs, n = 1;
    NN_TRY(time_batch(j, first, last, 1, &once)); /* warms up */
    NN_TRY(time_batch(j, first, last, 1, &once));
    if (j->c->measure && !j->device->backend->host_memory && !j->set->tiny)
        n = nn_max(1, nn_min((int64_t)(batch_seconds / once) + 1, MOST_BATCH));
    for (int64_t i = 0; i < runs; i++) NN_TRY(time_batch(j, first, last, n, &seconds[i]));
    qsort(seconds, (size_t)runs, sizeof(*seconds), smaller_first);
    *median = (seconds[(runs - 1) / 2] + seconds[runs / 2]) / 2;
    return NN_OK;
}

/* -- rows */

static void say_shape(bench_row *row, const nn_node *n)
{
    snprintf(row->shape, sizeof(row->shape), "%s -> %s", nn_view_text(&n->in[0]->view).s,
             nn_view_text(&n->out[0]->view).s);
}

static nn_status time_node(job *j, int64_t i)
{
    nn_plan_step s = nn_plan_step_at(j->copies[0].plan, i);
    bench_row row = j->row;
    const char *op = nn_op_name(s.node->op);
    NN_TRY(time_steps(j, i, i + 1, &row.seconds));
    snprintf(row.name, sizeof(row.name), "%s%s%s", j->c->name, j->c->training ? "." : "",
             j->c->training ? op : "");
    snprintf(row.kernel, sizeof(row.kernel), "%s", s.kernel);
    say_shape(&row, s.node);
    row.gflop = 1e-9 * s.flops;
    row.bytes = s.bytes;
    row.n_launches = 1;
    j->emit(j->ctx, &row);
    return NN_OK;
}

static nn_status time_graph(job *j)
{
    const bench_copy *copy = &j->copies[0];
    nn_plan_stats s = nn_plan_stats_of(copy->plan);
    bench_row row = j->row;
    NN_TRY(time_steps(j, 0, nn_plan_n_steps(copy->plan), &row.seconds));
    snprintf(row.name, sizeof(row.name), "%s", j->c->name);
    snprintf(row.kernel, sizeof(row.kernel), "graph");
    for (int64_t i = 0; i < copy->graph->n_tensors && !row.shape[0]; i++)
        if (copy->graph->tensors[i]->kind == NN_INPUT)
            snprintf(row.shape, sizeof(row.shape), "%s -> %s",
                     nn_view_text(&copy->graph->tensors[i]->view).s,
                     nn_view_text(&copy->out->view).s);
    row.gflop = 1e-9 * s.flops;
    row.bytes = s.bytes;
    row.n_launches = s.n_launches;
    if (j->c->unit) row.per_second = (double)j->c->dim[0] / row.seconds;
    j->emit(j->ctx, &row);
    return NN_OK;
}

static nn_status time_all(job *j)
{
    const nn_plan *plan = j->copies[0].plan;
    if (!j->c->measure) return time_graph(j);
    for (int64_t i = 0; i < nn_plan_n_steps(plan); i++)
        if (bench_measures(j->c, nn_plan_step_at(plan, i).node)) NN_TRY(time_node(j, i));
    return NN_OK;
}

/* -- the case */

static void count_copies(job *j)
{
    nn_plan_stats s = nn_plan_stats_of(j->copies[0].plan);
    double bytes = (double)s.activation_bytes + 4.0 * (double)j->copies[0].params->n_elems + 1;
    bool turns = j->c->measure && !j->c->optimize && !j->set->tiny;
    j->n_copies = turns ? nn_min((int64_t)(working_set / bytes) + 1, MOST_COPIES) : 1;
}

static nn_tensor *build_lead(const bench_case *c, nn_scope s)
{
    nn_tensor *x = nn_input(s.g, "x", NN_BF16, 1, c->dim);
    return NN_NODE(s.g, COPY, &(nn_copy_params){ NN_BF16 }, x);
}

/* Only the time it takes counts, so its memory stays as it is. */
static nn_status open_lead(job *j)
{
    const bench_case c = { .dim = { lead_elems } };
    bench_copy *lead = &j->lead;
    if (!j->c->measure || j->device->backend->host_memory || j->set->tiny) return NN_OK;
    NN_TRY(nn_graph_create(&lead->graph));
    nn_keep(build_lead(&c, (nn_scope){ .g = lead->graph }));
    return nn_plan_create(lead->graph, j->device, NULL, &lead->plan);
}

static nn_status open_copies(job *j)
{
    j->copies = nn_alloc(MOST_COPIES, sizeof(*j->copies));
    NN_NEED(j->copies);
    NN_TRY(bench_copy_open(j->c, j->device, j->set->profile, &j->copies[0]));
    count_copies(j);
    for (int64_t i = 1; i < j->n_copies; i++)
        NN_TRY(bench_copy_open(j->c, j->device, false, &j->copies[i]));
    for (int64_t i = 0; i < j->n_copies; i++) NN_TRY(nn_plan_run(j->copies[i].plan, 1));
    return open_lead(j);
}

static nn_status check(job *j, uint64_t *hash)
{
    bool finite, ok;
    bench_row *row = &j->row;
    NN_TRY(bench_look(j->c, &j->copies[0], &finite, hash));
    NN_TRY(bench_check(j->c, j->device, j->copies[0].plan, row->check, sizeof(row->check), &ok));
    if (!row->check[0]) snprintf(row->check, sizeof(row->check), "finite");
    if (!finite) snprintf(row->check, sizeof(row->check), "WRONG: not finite");
    row->failed = !ok || !finite;
    return NN_OK;
}

/* Updates change the weights, and with them everything. */
static nn_status check_again(job *j, uint64_t before)
{
    bool finite;
    uint64_t hash;
    if (j->c->optimize) return NN_OK;
    NN_TRY(nn_plan_run(j->copies[0].plan, 1));
    NN_TRY(bench_look(j->c, &j->copies[0], &finite, &hash));
    if (hash == before) return NN_OK;
    bench_row row = j->row;
    snprintf(row.name, sizeof(row.name), "%s", j->c->name);
    snprintf(row.check, sizeof(row.check), "WRONG: a second run has other bits");
    row.failed = true;
    j->emit(j->ctx, &row);
    return NN_OK;
}

static nn_status run(job *j)
{
    uint64_t hash;
    NN_TRY(open_copies(j));
    NN_TRY(check(j, &hash));
    NN_TRY(time_all(j));
    if (j->set->profile) NN_TRY(bench_print_profile(j->copies[0].plan));
    return check_again(j, hash);
}

nn_status bench_steps(const bench_case *c, const bench_settings *set, nn_device *device,
                      bench_emit *emit, void *ctx)
{
    bench_case sized = *c;
    if (set->tiny && c->shrink) c->shrink(sized.dim);
    int64_t batch = set->tiny || c->one_size ? 1 : set->batch;
    sized.dim[0] *= batch;
    job j = { .c = &sized, .set = set, .device = device, .emit = emit, .ctx = ctx };
    j.row.batch = batch;
    snprintf(j.row.dtype, sizeof(j.row.dtype), "%s", nn_dtype_name(nn_device_storage(device)));
    nn_status status = run(&j);
    bench_copy_close(&j.lead);
    for (int64_t i = 0; j.copies && i < MOST_COPIES; i++) bench_copy_close(&j.copies[i]);
    nn_free(j.copies);
    return status;
}
