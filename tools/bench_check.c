/* Whether what is timed is right. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/half.h"
#include "tools/bench.h"

/* What ref computes in a moment; a larger case is shrunk. */
static const double most_flops = 2e7, most_bytes = 16e6;

/* The tensor as the device has it, in whole words of 8 bytes. Owner: nn_free. */
static nn_status read_raw(nn_plan *plan, const nn_tensor *t, uint64_t **out)
{
    *out = nn_alloc(nn_view_bytes(&t->view) / 8 + 1, sizeof(**out));
    NN_NEED(*out);
    nn_status status = nn_plan_read(plan, t, *out);
    if (status != NN_OK) nn_free(*out);
    return status;
}

static nn_status read_floats(nn_plan *plan, const nn_tensor *t, float **out)
{
    int64_t n = nn_view_elems(&t->view);
    uint64_t *raw;
    NN_TRY(read_raw(plan, t, &raw));
    const uint16_t *half = (const uint16_t *)raw;
    const int32_t *whole = (const int32_t *)raw;
    const float *exact = (const float *)raw;
    *out = nn_alloc(nn_max(n, 1), sizeof(float));
    for (int64_t i = 0; *out && i < n; i++)
        (*out)[i] = t->view.dtype == NN_BF16  ? nn_bf16_to_f32(half[i])
                    : t->view.dtype == NN_I32 ? (float)whole[i]
                                              : exact[i];
    nn_free(raw);
    NN_NEED(*out);
    return NN_OK;
}

/* An exponent of ones is an infinity or a NaN. */
static bool all_finite(const nn_view *v, const void *raw)
{
    const uint16_t *half = raw;
    const uint32_t *exact = raw;
    int64_t n = nn_view_elems(v), bad = 0;
    if (v->dtype == NN_BF16)
        for (int64_t i = 0; i < n; i++) bad += (half[i] & 0x7f80) == 0x7f80;
    if (v->dtype == NN_F32)
        for (int64_t i = 0; i < n; i++) bad += (exact[i] & 0x7f800000) == 0x7f800000;
    return !bad;
}

static nn_status look_at(nn_plan *plan, const nn_tensor *t, bool *finite, uint64_t *hash)
{
    uint64_t *raw;
    NN_TRY(read_raw(plan, t, &raw));
    for (int64_t i = 0; i <= nn_view_bytes(&t->view) / 8; i++)
        *hash = (*hash ^ raw[i]) * 0x100000001b3u + (*hash >> 32);
    *finite = *finite && all_finite(&t->view, raw);
    nn_free(raw);
    return NN_OK;
}

nn_status bench_look(const bench_case *c, const bench_copy *copy, bool *finite, uint64_t *hash)
{
    *finite = true;
    *hash = 0;
    if (!c->measure && c->optimize != BENCH_ONLY_UPDATE)
        return look_at(copy->plan, copy->out, finite, hash);
    for (int64_t i = 0; i < nn_plan_n_steps(copy->plan); i++) {
        const nn_node *n = nn_plan_step_at(copy->plan, i).node;
        for (int k = 0; bench_measures(c, n) && k < n->n_out; k++)
            if (!n->out[k]->root->external) NN_TRY(look_at(copy->plan, n->out[k], finite, hash));
    }
    return NN_OK;
}

/* Largest deviation over the largest value. */
static double deviation(const float *got, const float *want, int64_t n)
{
    double most = 1e-30, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        most = fmax(most, fabs((double)want[i]));
        worst = isnan(d) ? INFINITY : fmax(worst, d);
    }
    return worst / most;
}

static nn_status compare(const bench_copy *ours, const bench_copy *theirs, const nn_node *a,
                         const nn_node *b, double *worst)
{
    for (int k = 0; k < a->n_out; k++) {
        float *got, *want;
        if (a->out[k]->root->external) continue;
        NN_TRY(read_floats(ours->plan, a->out[k], &got));
        nn_status status = read_floats(theirs->plan, b->out[k], &want);
        if (status == NN_OK) {
            *worst = fmax(*worst, deviation(got, want, nn_view_elems(&a->out[k]->view)));
            nn_free(want);
        }
        nn_free(got);
        NN_TRY(status);
    }
    return NN_OK;
}

/* The plan's step for the k-th measured node, or -1. */
static int64_t measured_step(const bench_case *c, const nn_plan *plan, int64_t k)
{
    for (int64_t i = 0; i < nn_plan_n_steps(plan); i++)
        if (bench_measures(c, nn_plan_step_at(plan, i).node) && k-- == 0) return i;
    return -1;
}

static nn_status compare_all(const bench_case *c, const bench_copy *ours, const bench_copy *theirs,
                             double allowed, char *text, size_t size, bool *ok)
{
    for (int64_t k = 0;; k++) {
        int64_t i = measured_step(c, ours->plan, k), j = measured_step(c, theirs->plan, k);
        double worst = 0;
        if (i < 0 || j < 0) return NN_OK;
        nn_plan_step a = nn_plan_step_at(ours->plan, i), b = nn_plan_step_at(theirs->plan, j);
        NN_TRY(compare(ours, theirs, a.node, b.node, &worst));
        if (worst <= allowed) continue;
        snprintf(text, size, "WRONG: %s is off by %.2g", a.kernel, worst);
        *ok = false;
        return NN_OK;
    }
}

static void compare_kernels(const bench_case *c, const nn_plan *full, const nn_plan *small,
                            char *text, size_t size)
{
    for (int64_t k = 0;; k++) {
        int64_t i = measured_step(c, full, k), j = measured_step(c, small, k);
        if (i < 0 || j < 0) return;
        const char *other = nn_plan_step_at(small, j).kernel;
        if (strcmp(nn_plan_step_at(full, i).kernel, other) == 0) continue;
        snprintf(text, size, "ref, small (%s)", other);
        return;
    }
}

static nn_status run_both(const bench_case *c, nn_device *device, nn_device *ref,
                          const nn_plan *full, char *text, size_t size, bool *ok)
{
    bench_copy ours, theirs = { 0 };
    double allowed = nn_device_storage(device) == NN_BF16 ? 0x1p-5 : 2e-4;
    NN_TRY(bench_copy_open(c, device, false, &ours));
    nn_status status = bench_copy_open(c, ref, false, &theirs);
    if (status == NN_OK) status = nn_plan_run(ours.plan, 1);
    if (status == NN_OK) status = nn_plan_run(theirs.plan, 1);
    if (status == NN_OK) {
        snprintf(text, size, "ref");
        compare_kernels(c, full, ours.plan, text, size);
        status = compare_all(c, &ours, &theirs, allowed, text, size, ok);
    }
    bench_copy_close(&theirs);
    bench_copy_close(&ours);
    return status;
}

nn_status bench_check(const bench_case *c, nn_device *device, const nn_plan *full, char *text,
                      size_t size, bool *ok)
{
    nn_device *ref;
    nn_plan_stats s = nn_plan_stats_of(full);
    bench_case small = *c;
    bool large = s.flops > most_flops || s.bytes > most_bytes;
    *ok = true;
    text[0] = 0;
    if (!c->measure || c->optimize || (large && !c->shrink)) return NN_OK;
    if (large) c->shrink(small.dim);
    NN_TRY(nn_device_open("ref", 0, &ref));
    nn_status status = nn_device_compute(ref, nn_device_storage(device));
    if (status == NN_OK) status = run_both(&small, device, ref, full, text, size, ok);
    nn_device_close(ref);
    return status;
}
