/* The graphs of a training, planned and counted: those of the trainers' loop (tools/trainer.c). */
#include "tools/plan_training.h"

#include <math.h>

#include "engine/base/clock.h"
#include "engine/optim.h"

enum { PASS, NORM, UPDATE, VALIDATION, GRAPHS };

typedef struct planned {
    const plan_task *task;
    const plan_setting *setting;
    nn_device *device;
    plan_stores stores;
    nn_optimizer *optimizer;
    nn_graph *graph[GRAPHS];
    nn_plan *plan[GRAPHS];
} planned;

int64_t plan_part_elems(int64_t n_elems, int ranks)
{
    return n_elems - (ranks - 1) * (n_elems / ranks / 16 * 16);
}

static bool is_sharded(const planned *p)
{
    const plan_setting *s = p->setting;
    return s->shard && s->ranks > 1 && p->stores.trained->n_elems / s->ranks >= 16;
}

static nn_status declare(planned *p)
{
    nn_graph *g;
    NN_TRY(nn_params_create(&p->stores.trained));
    NN_TRY(nn_params_create(&p->stores.beside));
    NN_TRY(nn_graph_create(&g));
    (void)p->task->build(p->task->ctx, g, &p->stores, nn_max(p->task->granule, 1), false);
    if (p->task->declare) p->task->declare(p->task->ctx, g, &p->stores);
    const nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    NN_TRY(nn_params_alloc(p->stores.trained, p->device, true));
    return nn_params_alloc(p->stores.beside, p->device, false);
}

static nn_status plan_pass(planned *p)
{
    const plan_setting *s = p->setting;
    const int64_t passes = s->passes * s->ranks;
    nn_graph *g;
    NN_TRY(nn_graph_create(&p->graph[PASS]));
    g = p->graph[PASS];
    nn_graph_training(g);
    nn_graph_compute(g, nn_device_storage(p->device));
    nn_tensor *loss = p->task->build(p->task->ctx, g, &p->stores, s->batch, s->recompute);
    nn_keep(loss);
    nn_backward(g, loss, 1.0 / (double)passes, passes > 1);
    return nn_plan_create(g, p->device, NULL, &p->plan[PASS]);
}

/* The moving average begins as a copy of the weights, which only a device with memory can make. */
static nn_status make_optimizer(planned *p)
{
    const nn_adamw_options options = NN_ADAMW_DEFAULTS;
    nn_params *trained = p->stores.trained;
    const int64_t n =
        is_sharded(p) ? plan_part_elems(trained->n_elems, p->setting->ranks) : trained->n_elems;
    NN_TRY(nn_optimizer_create_part(trained, &options, 0, n, &p->optimizer));
    if (!p->task->average) return NN_OK;
    NN_NEED(p->optimizer->ema = p->device->backend->alloc(p->device, n * (int64_t)sizeof(float)));
    return NN_OK;
}

static nn_status plan_update(planned *p)
{
    NN_TRY(make_optimizer(p));
    if (is_sharded(p)) {
        NN_TRY(nn_graph_create(&p->graph[NORM]));
        nn_optimizer_add_norm(p->optimizer, p->graph[NORM]);
        NN_TRY(nn_plan_create(p->graph[NORM], p->device, NULL, &p->plan[NORM]));
    }
    NN_TRY(nn_graph_create(&p->graph[UPDATE]));
    nn_optimizer_add(p->optimizer, p->graph[UPDATE]);
    return nn_plan_create(p->graph[UPDATE], p->device, NULL, &p->plan[UPDATE]);
}

static nn_status plan_validation(planned *p)
{
    if (!p->task->validates) return NN_OK;
    NN_TRY(nn_graph_create(&p->graph[VALIDATION]));
    nn_graph *g = p->graph[VALIDATION];
    nn_graph_compute(g, nn_device_storage(p->device));
    nn_keep(p->task->build(p->task->ctx, g, &p->stores, p->setting->batch, false));
    return nn_plan_create(g, p->device, NULL, &p->plan[VALIDATION]);
}

/* -- counting ---------------------------------------------------------------------------------- */

static void count_work(const nn_plan *plan, const plan_rates *rates, plan_work *out)
{
    for (int64_t i = 0; plan && i < nn_plan_n_steps(plan); i++) {
        const nn_plan_step s = nn_plan_step_at(plan, i);
        out->flops += s.flops;
        out->moved_bytes += s.moved_bytes;
        out->seconds +=
            fmax(s.flops / rates->flops, s.moved_bytes / rates->bytes) / rates->efficiency;
        out->n_launches++;
    }
}

static int64_t store_bytes(const nn_params *p)
{
    const int64_t full = (int64_t)sizeof(float), half = (int64_t)sizeof(uint16_t);
    return p->n_elems * ((p->values ? full : 0) + (p->grads ? full : 0) + (p->half ? half : 0)) +
           p->n_vector_elems * full;
}

static void count(const planned *p, const plan_rates *rates, plan_result *out)
{
    const nn_optimizer *o = p->optimizer;
    out->n_parameters = nn_params_count(p->stores.trained);
    out->n_elems = p->stores.trained->n_elems;
    out->state_bytes =
        store_bytes(p->stores.trained) + o->n * (int64_t)sizeof(float) * (o->ema ? 3 : 2);
    out->beside_bytes = p->stores.beside->n ? store_bytes(p->stores.beside) : 0;
    for (int i = 0; i < GRAPHS; i++) {
        if (!p->plan[i]) continue;
        const nn_plan_stats s = nn_plan_stats_of(p->plan[i]);
        out->activation_bytes += s.activation_bytes;
        out->workspace_bytes += s.workspace_bytes;
    }
    count_work(p->plan[PASS], rates, &out->pass);
    count_work(p->plan[NORM], rates, &out->update);
    count_work(p->plan[UPDATE], rates, &out->update);
    if (p->device->backend->host_memory)
        out->host_bytes = p->setting->batch * p->task->sample_bytes;
}

static void close(planned *p)
{
    for (int i = 0; i < GRAPHS; i++) {
        nn_plan_destroy(p->plan[i]);
        nn_graph_destroy(p->graph[i]);
    }
    nn_optimizer_destroy(p->optimizer);
    nn_params_destroy(p->stores.trained);
    nn_params_destroy(p->stores.beside);
}

nn_status plan_training(const plan_task *task, nn_device *device, const plan_setting *setting,
                        const plan_rates *rates, plan_result *out)
{
    planned p = { .task = task, .setting = setting, .device = device };
    const int64_t resident = nn_clock_rss_bytes();
    *out = (plan_result){ 0 };
    nn_status status = declare(&p);
    if (status == NN_OK) status = plan_pass(&p);
    if (status == NN_OK) status = plan_update(&p);
    if (status == NN_OK) status = plan_validation(&p);
    if (status == NN_OK) {
        count(&p, rates, out);
        if (device->backend->host_memory)
            out->program_bytes = nn_max(nn_clock_rss_bytes() - resident, 0);
    }
    close(&p);
    return status;
}

int64_t plan_bytes(const plan_result *r)
{
    return r->state_bytes + r->beside_bytes + r->activation_bytes + r->workspace_bytes +
           r->program_bytes + r->host_bytes;
}
