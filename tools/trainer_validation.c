/* What is measured beside the training: the loss on samples that it does not see, and where the
 * numbers go. */
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "tools/trainer.h"

struct trainer_watch {
    nn_graph *graph;
    nn_plan *plan;
    nn_tensor *loss;
    scalars *scalars; /* of the first rank, with --logging-dir */
    bool complained;
};

static nn_status plan_validation(trainer *t, trainer_watch *w)
{
    NN_TRY(nn_graph_create(&w->graph));
    nn_graph_compute(w->graph, nn_device_storage(t->device));
    w->loss = t->validation.build(t->ctx, w->graph, t->params);
    nn_keep(w->loss);
    return nn_plan_create(w->graph, t->device, NULL, &w->plan);
}

nn_status trainer_watch_open(trainer *t)
{
    trainer_watch *w = nn_alloc(1, sizeof(*w));
    NN_NEED(w);
    t->watch = w;
    if (t->validation.build) NN_TRY(plan_validation(t, w));
    return NN_OK;
}

nn_status trainer_watch_start(trainer *t)
{
    const char *dir = t->set.logging_dir;
    if (!dir || t->set.ranks.rank) return NN_OK;
    return scalars_open(dir, t->step + 1, &t->watch->scalars);
}

void trainer_watch_close(trainer *t)
{
    trainer_watch *w = t->watch;
    if (!w) return;
    nn_plan_destroy(w->plan);
    nn_graph_destroy(w->graph);
    scalars_close(w->scalars);
    nn_free(w);
    t->watch = NULL;
}

/* A training is worth more than its curves: what cannot be written is said once. */
static void check(trainer_watch *w, nn_status status)
{
    if (status == NN_OK || w->complained) return;
    w->complained = true;
    nn_log(NN_LOG_WARN, "%s; the training goes on, its curves may have gaps", nn_error_message());
}

void trainer_watch_add(const trainer *t, const char *table, const nn_field *fields, int n_fields)
{
    trainer_watch *w = t->watch;
    if (w->scalars) check(w, scalars_add(w->scalars, table, t->step, fields, n_fields));
}

void trainer_watch_picture(const trainer *t, const char *tag, int64_t height, int64_t width,
                           const void *png, int64_t n)
{
    trainer_watch *w = t->watch;
    if (w->scalars) check(w, scalars_picture(w->scalars, t->step, tag, height, width, png, n));
}

/* The mean over this rank's passes. */
static nn_status run_passes(trainer *t, float *mean)
{
    trainer_watch *w = t->watch;
    const trainer_ranks *r = &t->set.ranks;
    const int64_t passes = nn_max(t->validation.n_samples / (r->batch * r->n), 1);
    double sum = 0;
    for (int64_t i = 0; i < passes; i++) {
        float loss;
        NN_TRY(t->validation.feed(t->ctx, w->plan, i));
        NN_TRY(nn_plan_run(w->plan, 0));
        NN_TRY(nn_plan_read(w->plan, w->loss, &loss));
        sum += loss;
    }
    *mean = (float)(sum / (double)passes);
    return NN_OK;
}

/* The mean over all ranks', summed in their order. */
static nn_status join(const trainer *t, float own, double *mean)
{
    const trainer_ranks *r = &t->set.ranks;
    *mean = own;
    if (r->n == 1) return NN_OK;
    float *all = nn_alloc(r->n, sizeof(*all));
    NN_NEED(all);
    const nn_status status = nn_comm_all_gather(r->comm, NN_F32, 1, &own, all);
    *mean = 0;
    for (int k = 0; k < r->n && status == NN_OK; k++) *mean += all[k] / (double)r->n;
    nn_free(all);
    return status;
}

bool trainer_validates_after(const trainer_settings *set, int64_t step)
{
    return step == set->steps || step % set->validation_every == 0;
}

nn_status trainer_validate(trainer *t)
{
    float own = 0;
    double mean = 0;
    NN_TRY(trainer_swap_average(t));
    nn_status status = run_passes(t, &own);
    NN_TRY(trainer_swap_average(t));
    NN_TRY(status);
    NN_TRY(join(t, own, &mean));
    const nn_field fields[] = { { "loss", mean } };
    const nn_field logged[] = { { "update", (double)t->step }, { "loss", mean } };
    trainer_watch_add(t, "validation", fields, NN_COUNT(fields));
    nn_cli_log("validation", logged, NN_COUNT(logged));
    nn_log(NN_LOG_INFO, "%s: validation loss %.6g after update %lld", t->what, mean,
           (long long)t->step);
    return NN_OK;
}
