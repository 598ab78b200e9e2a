/* Oracle of softmax_xent and its gradient, row by row. */
#include <math.h>

#include "kernels/ref/ref.h"

/* Element k of the row that starts at offset row. */
static double at(const nn_view *v, int64_t row, int64_t k)
{
    return nn_ref_get(v, row + k * v->stride[v->rank - 1]);
}

static double log_sum_exp(const nn_view *logits, int64_t row)
{
    int64_t n = nn_last(logits, 0);
    double max = -INFINITY, sum = 0;
    for (int64_t k = 0; k < n; k++) max = fmax(max, at(logits, row, k));
    for (int64_t k = 0; k < n; k++) sum += exp(at(logits, row, k) - max);
    return max + log(sum);
}

/* (1 - s) * -lp[y] + s * mean of -lp */
static double row_loss(const nn_view *logits, int64_t row, int64_t label, double lse, double s)
{
    int64_t n = nn_last(logits, 0);
    double mean = 0;
    for (int64_t k = 0; s > 0 && k < n; k++) mean += at(logits, row, k) / (double)n;
    return lse - (1 - s) * at(logits, row, label) - s * mean;
}

static nn_status run(const nn_call *c)
{
    const nn_softmax_xent_params *p = c->params;
    const nn_view *logits = &c->in[0], *labels = &c->in[1], *lse = &c->out[1];
    double loss = 0, count = 0;
    NN_REF_EACH(i, labels)
    {
        int64_t label = (int64_t)nn_ref_get(labels, nn_ref_offset(labels, &i));
        int64_t row = nn_ref_offset(logits, &i), n = nn_last(logits, 0);
        if (label >= n)
            return nn_fail(NN_ARGUMENT, "label %lld, but there are %lld logits", (long long)label,
                           (long long)n);
        double value = label < 0 ? 0 : log_sum_exp(logits, row);
        nn_ref_put(lse, nn_ref_offset(lse, &i), value);
        if (label < 0) continue;
        loss += row_loss(logits, row, label, value, p->smoothing);
        count++;
    }
    nn_ref_put(&c->out[0], 0, count > 0 ? loss / count : 0);
    nn_ref_put(&c->out[2], 0, count);
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_softmax_xent_params *p = c->params;
    const nn_view *logits = &c->in[1], *labels = &c->in[2], *lse = &c->in[3], *dx = &c->out[0];
    double dy = nn_ref_get(&c->in[0], 0), count = nn_ref_get(&c->in[4], 0);
    int64_t n = nn_last(logits, 0);
    NN_REF_EACH(i, labels)
    {
        int64_t label = (int64_t)nn_ref_get(labels, nn_ref_offset(labels, &i));
        int64_t row = nn_ref_offset(logits, &i), to = nn_ref_offset(dx, &i);
        double total = nn_ref_get(lse, nn_ref_offset(lse, &i));
        for (int64_t k = 0; k < n; k++) {
            double target = (k == label ? 1 - p->smoothing : 0) + p->smoothing / (double)n;
            double d = label < 0 ? 0 : dy / count * (exp(at(logits, row, k) - total) - target);
            nn_ref_put(dx, to + k * dx->stride[dx->rank - 1], d);
        }
    }
    return NN_OK;
}

const nn_kernel nn_ref_softmax_xent[] = { { .name = "softmax_xent_any", .run = run }, { 0 } };
const nn_kernel nn_ref_softmax_xent_bwd[] = { { .name = "softmax_xent_bwd_any", .run = run_bwd },
                                              { 0 } };
