/* Oracle of groupnorm and its gradient. */
#include <math.h>

#include "kernels/ref/ref.h"

/* x restricted to one sample and one group (or one channel): a shape to walk and where it begins.
 */
typedef struct part {
    nn_view shape;
    int64_t sample, channel; /* the first */
} part;

static part part_of(const nn_view *x, int64_t sample, int64_t channel, int64_t channels)
{
    part p = { .shape = *x, .sample = sample, .channel = channel };
    p.shape.dim[0] = 1;
    p.shape.dim[x->rank - 1] = channels;
    return p;
}

static int64_t at(const nn_view *v, const part *p, const nn_ref_index *i)
{
    int64_t offset = p->sample * v->stride[0] + p->channel * v->stride[v->rank - 1];
    for (int d = 0; d < i->rank; d++) offset += i->at[d] * v->stride[d];
    return offset;
}

static int64_t channel(const part *p, const nn_ref_index *i)
{
    return p->channel + i->at[i->rank - 1];
}

static double vector_at(const nn_view *v, int64_t k)
{
    return nn_ref_get(v, k * v->stride[0]);
}

static void forward_group(const nn_call *c, int64_t sample, int64_t group)
{
    const nn_groupnorm_params *p = c->params;
    const nn_view *x = &c->in[0], *y = &c->out[0], *mean_of = &c->out[1], *rstd_of = &c->out[2];
    int64_t wide = nn_last(x, 0) / p->groups;
    part g = part_of(x, sample, group * wide, wide);
    double n = (double)nn_view_elems(&g.shape), mean = 0, var = 0;
    NN_REF_EACH(i, &g.shape) mean += nn_ref_get(x, at(x, &g, &i)) / n;
    NN_REF_EACH(i, &g.shape) var += pow(nn_ref_get(x, at(x, &g, &i)) - mean, 2) / n;
    double rstd = 1 / sqrt(var + p->eps);
    nn_ref_put(mean_of, sample * mean_of->stride[0] + group * mean_of->stride[1], mean);
    nn_ref_put(rstd_of, sample * rstd_of->stride[0] + group * rstd_of->stride[1], rstd);
    NN_REF_EACH(i, &g.shape)
    {
        double z =
            (nn_ref_get(x, at(x, &g, &i)) - mean) * rstd * vector_at(&c->in[1], channel(&g, &i)) +
            vector_at(&c->in[2], channel(&g, &i));
        nn_ref_put(y, at(y, &g, &i), p->silu ? z / (1 + exp(-z)) : z);
    }
}

static nn_status run(const nn_call *c)
{
    const nn_groupnorm_params *p = c->params;
    for (int64_t sample = 0; sample < c->in[0].dim[0]; sample++)
        for (int64_t group = 0; group < p->groups; group++) forward_group(c, sample, group);
    return NN_OK;
}

typedef struct place { /* one element as backward sees it */
    double hat, slope; /* normalised x; gradient before gamma and beta */
    double scaled;     /* slope times gamma */
    double rstd;
} place;

static place place_at(const nn_call *c, const part *g, const nn_ref_index *i)
{
    const nn_groupnorm_params *p = c->params;
    const nn_view *dy = &c->in[0], *x = &c->in[1], *mean = &c->in[4], *rstd = &c->in[5];
    int64_t k = channel(g, i), group = k / (nn_last(x, 0) / p->groups);
    double gamma = vector_at(&c->in[2], k);
    place e = { .slope = nn_ref_get(dy, at(dy, g, i)),
                .rstd = nn_ref_get(rstd, g->sample * rstd->stride[0] + group * rstd->stride[1]) };
    e.hat = (nn_ref_get(x, at(x, g, i)) -
             nn_ref_get(mean, g->sample * mean->stride[0] + group * mean->stride[1])) *
            e.rstd;
    if (p->silu) {
        double z = e.hat * gamma + vector_at(&c->in[3], k), s = 1 / (1 + exp(-z));
        e.slope *= s * (1 + z * (1 - s));
    }
    e.scaled = e.slope * gamma;
    return e;
}

static void backward_group(const nn_call *c, int64_t sample, int64_t group)
{
    const nn_groupnorm_params *p = c->params;
    const nn_view *x = &c->in[1], *dx = &c->out[0];
    int64_t wide = nn_last(x, 0) / p->groups;
    part g = part_of(x, sample, group * wide, wide);
    double n = (double)nn_view_elems(&g.shape), mean_e = 0, mean_eh = 0;
    NN_REF_EACH(i, &g.shape)
    {
        place e = place_at(c, &g, &i);
        mean_e += e.scaled / n;
        mean_eh += e.scaled * e.hat / n;
    }
    NN_REF_EACH(i, &g.shape)
    {
        place e = place_at(c, &g, &i);
        nn_ref_put(dx, at(dx, &g, &i), e.rstd * (e.scaled - mean_e - e.hat * mean_eh));
    }
}

static void backward_channel(const nn_call *c, int64_t k)
{
    const nn_view *x = &c->in[1];
    double sum = 0, sum_h = 0;
    for (int64_t sample = 0; sample < x->dim[0]; sample++) {
        part g = part_of(x, sample, k, 1);
        NN_REF_EACH(i, &g.shape)
        {
            place e = place_at(c, &g, &i);
            sum += e.slope;
            sum_h += e.slope * e.hat;
        }
    }
    nn_ref_put(&c->out[1], k * c->out[1].stride[0], sum_h);
    nn_ref_put(&c->out[2], k * c->out[2].stride[0], sum);
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_groupnorm_params *p = c->params;
    const nn_view *x = &c->in[1];
    for (int64_t sample = 0; sample < x->dim[0]; sample++)
        for (int64_t group = 0; group < p->groups; group++) backward_group(c, sample, group);
    for (int64_t k = 0; k < nn_last(x, 0); k++) backward_channel(c, k);
    return NN_OK;
}

const nn_kernel nn_ref_groupnorm[] = { { .name = "groupnorm_any", .run = run }, { 0 } };
const nn_kernel nn_ref_groupnorm_bwd[] = { { .name = "groupnorm_bwd_any", .run = run_bwd }, { 0 } };
