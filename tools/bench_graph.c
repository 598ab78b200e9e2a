/* A case that is one graph: random inputs, a plan, and its runs. */
#include <stdio.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "tools/bench.h"

enum { IDS = 1000 }; /* every table has more rows */

typedef struct job {
    const bench_case *what;
    const bench_settings *set;
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    bench_result *out;
    bench_clock clock;
} job;

nn_tensor *bench_input(const bench_case *c, nn_scope s, const char *name, int rank,
                       const int64_t *dim)
{
    nn_tensor *x = nn_input(s.g, name, NN_F32, rank, dim);
    if (c->training) nn_require_grad(x);
    return nn_lower(s.g, x);
}

nn_tensor *bench_ids(nn_scope s, const char *name, int rank, const int64_t *dim)
{
    return nn_input(s.g, name, NN_I32, rank, dim);
}

static bool is_input(const nn_tensor *t)
{
    return t->kind == NN_INPUT && t->root == t;
}

static nn_status fill(nn_plan *plan, nn_tensor *t, bench_result *out)
{
    int64_t n = nn_view_elems(&t->view), bytes = nn_view_bytes(&t->view);
    nn_rng rng = nn_rng_make(1, t->name, 0);
    float *numbers = nn_alloc(bytes, 1);
    NN_NEED(numbers);
    int32_t *ids = (int32_t *)numbers;
    if (t->view.dtype == NN_F32)
        nn_rng_normal_fill(&rng, numbers, n);
    else
        for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)nn_rng_below(&rng, IDS);
    nn_status status = nn_plan_write(plan, t, numbers);
    nn_free(numbers);
    out->batch_bytes = nn_max(out->batch_bytes, bytes);
    return status;
}

static nn_tensor *build(job *j, nn_graph *g)
{
    const bench_case *c = j->what;
    if (c->training) nn_graph_training(g);
    nn_tensor *y = c->build(c, nn_root(g, j->params, ""));
    nn_keep(y);
    if (c->training) {
        nn_tensor *target = nn_input(g, "target", NN_F32, y->view.rank, y->view.dim);
        nn_backward(g, nn_mse(g, y, target, NULL), 1.0, false);
    }
    for (int64_t i = 0, n = g->n_tensors; i < n; i++)
        if (is_input(g->tensors[i]) && nn_grad_of(g->tensors[i]))
            nn_keep(nn_grad_of(g->tensors[i]));
    return y;
}

static nn_status make_params(job *j)
{
    nn_graph *g;
    NN_TRY(nn_params_create(&j->params));
    NN_TRY(nn_graph_create(&g));
    (void)j->what->build(j->what, nn_root(g, j->params, ""));
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    j->params->frozen = !j->what->training;
    NN_TRY(nn_params_alloc(j->params, j->device, j->what->training));
    j->out->parameter_bytes = j->params->frozen ? j->params->n_vector_elems : j->params->n_elems;
    j->out->parameter_bytes *= (int64_t)sizeof(float) * (j->what->training ? 2 : 1);
    return nn_params_init(j->params, 1);
}

static void say_shape(const job *j, const nn_tensor *y)
{
    for (int64_t i = 0; i < j->g->n_tensors; i++) {
        const nn_tensor *t = j->g->tensors[i];
        if (!is_input(t)) continue;
        snprintf(j->out->shape, sizeof(j->out->shape), "%s -> %s", nn_view_text(&t->view).s,
                 nn_view_text(&y->view).s);
        return;
    }
}

void bench_count_plan(const nn_plan *plan, bench_result *out)
{
    nn_plan_stats s = nn_plan_stats_of(plan);
    out->gflop += 1e-9 * s.flops;
    out->bytes += s.bytes;
    out->activation_bytes += s.activation_bytes;
    out->workspace_bytes += s.workspace_bytes;
    out->packed_bytes += s.packed_bytes;
    out->parameter_bytes += s.weight_bytes;
    out->program_bytes += s.program_bytes;
    out->n_launches += s.n_launches;
    out->n_fallbacks += s.n_fallbacks;
}

static nn_status make_plan(job *j)
{
    const nn_plan_options options = { .frozen = !j->what->training, .profile = j->set->profile };
    NN_TRY(make_params(j));
    NN_TRY(nn_graph_create(&j->g));
    nn_graph_compute(j->g, nn_device_storage(j->device));
    nn_tensor *y = build(j, j->g);
    double start = nn_clock_cpu_seconds();
    NN_TRY(nn_plan_create(j->g, j->device, &options, &j->plan));
    j->out->create_seconds = nn_clock_cpu_seconds() - start;
    say_shape(j, y);
    bench_count_plan(j->plan, j->out);
    for (int64_t i = 0; i < j->g->n_tensors; i++)
        if (is_input(j->g->tensors[i])) NN_TRY(fill(j->plan, j->g->tensors[i], j->out));
    return NN_OK;
}

nn_status bench_print_profile(const nn_plan *plan)
{
    nn_text table = { 0 };
    nn_status status = nn_plan_profile_table(plan, &table);
    if (status == NN_OK) fputs(table.text, stderr);
    nn_text_free(&table);
    return status;
}

static nn_status time_runs(job *j)
{
    double start = nn_clock_cpu_seconds();
    NN_TRY(nn_plan_run(j->plan, 0));
    j->out->first_seconds = nn_clock_cpu_seconds() - start;
    bench_clock_start(&j->clock);
    for (int64_t i = 1; i <= j->set->runs; i++) {
        NN_TRY(nn_plan_run(j->plan, (uint64_t)i));
        bench_clock_lap(&j->clock);
    }
    bench_clock_result(&j->clock, j->out);
    return j->set->profile ? bench_print_profile(j->plan) : NN_OK;
}

nn_status bench_graph(const bench_case *c, const bench_settings *set, nn_device *device,
                      bench_result *out)
{
    job j = { .what = c, .set = set, .device = device, .out = out };
    nn_status status = make_plan(&j);
    if (status == NN_OK) status = time_runs(&j);
    nn_plan_destroy(j.plan);
    nn_graph_destroy(j.g);
    nn_params_destroy(j.params);
    return status;
}
