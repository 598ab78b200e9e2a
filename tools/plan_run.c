/* A cluster and a run on it, as formulas. */
#include <math.h>
#include <string.h>

#include "tools/plan_report.h"

/* NVIDIA's data sheets: H100 (SXM5, PCIe), H200, A100 (80 GB and 40 GB SXM4), L40S, L4, and the
 * white papers of Ada (RTX 4090) and Ampere GA102 (RTX 3090). Products: bf16, dense, sums in f32.
 * peer: NVLink, or PCIe x16 of the card's generation; half of the sum of both directions. */
static const plan_card cards[] = {
    { "h100", 989.4e12, 3.35e12, 80e9, 450e9, 8 },
    { "h100-pcie", 756e12, 2.0e12, 80e9, 64e9, 8 },
    { "h200", 989.4e12, 4.8e12, 141e9, 450e9, 8 },
    { "a100-80", 312e12, 2.039e12, 80e9, 300e9, 8 },
    { "a100-40", 312e12, 1.555e12, 40e9, 300e9, 8 },
    { "l40s", 362e12, 0.864e12, 48e9, 32e9, 8 },
    { "l4", 121e12, 0.3e12, 24e9, 32e9, 8 },
    { "rtx4090", 165.2e12, 1.008e12, 24e9, 32e9, 8 },
    { "rtx3090", 71e12, 0.936e12, 24e9, 32e9, 8 },
};

const plan_card *plan_card_at(int i)
{
    return i < NN_COUNT(cards) ? &cards[i] : NULL;
}

nn_status plan_card_find(const char *name, const plan_card **out)
{
    nn_text names = { 0 };
    nn_status status = NN_OK;
    for (int i = 0; i < NN_COUNT(cards); i++) {
        if (!strcmp(cards[i].name, name)) {
            *out = &cards[i];
            nn_text_free(&names);
            return NN_OK;
        }
        if (status == NN_OK) status = nn_text_add(&names, "%s%s", i ? ", " : "", cards[i].name);
    }
    if (status == NN_OK)
        status = nn_fail(NN_ARGUMENT, "--card is '%s'; known are %s", name, names.text);
    nn_text_free(&names);
    return status;
}

double plan_usual_seconds(const plan_result *r, const plan_rates *rates)
{
    const double moved = (double)PLAN_USUAL_MOVED * (double)r->n_elems;
    return r->pass.seconds + moved / rates->bytes / rates->efficiency;
}

/* Bytes a second around the ring. */
static double ring_rate(const plan_cluster *c)
{
    const double slowest = c->gpus > c->of_node ? fmin(c->peer, c->link) : c->peer;
    return slowest * c->link_efficiency;
}

void plan_run(const plan_cluster *c, const plan_setting *s, const plan_result *r,
              double model_flops, double peak, int64_t steps, plan_times *out)
{
    const double n = c->gpus, buffer = (double)r->n_elems * sizeof(float);
    const double images = (double)s->batch * (double)s->passes * n;
    *out = (plan_times){ 0 };
    out->passes = (double)s->passes * r->pass.seconds;
    out->update = r->update.seconds;
    if (c->gpus > 1) {
        out->exchanged_bytes = 2 * (n - 1) / n * buffer;
        out->exchange = out->exchanged_bytes / ring_rate(c) + 2 * (n - 1) * c->step_latency;
    }
    out->waiting = out->exchange - fmin(c->overlap * out->exchange, r->pass.seconds);
    out->step = out->passes + out->update + out->waiting;
    out->run = out->step * (double)steps;
    out->gpu_hours = out->run * n / 3600;
    out->images_per_second = images / out->step;
    if (peak > 0) out->utilisation = (double)s->passes * model_flops / (out->step * peak);
}
