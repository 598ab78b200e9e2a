/* Layers: parameters and the op that uses them. */
#include "models/block/layers.h"

#include <math.h>

static float fan_bound(int64_t fan_in)
{
    return 1.0f / sqrtf((float)nn_max(fan_in, 1));
}

typedef struct linear_params {
    nn_tensor *w, *b; /* b is NULL where there is none */
} linear_params;

static linear_params params_of(nn_scope s, int64_t in, int64_t out, int bias)
{
    nn_enter(s);
    nn_init init = NN_UNIFORM(fan_bound(in));
    linear_params p = { .w = nn_param_at(s, "weight", init, 2, (int64_t[]){ out, in }) };
    if (bias) p.b = nn_param_at(s, "bias", init, 1, (int64_t[]){ out });
    return p;
}

static nn_tensor *product(nn_scope s, nn_tensor *x, int64_t out, int bias, nn_tensor *residual)
{
    linear_params p = params_of(s, nn_last(&x->view, 0), out, bias);
    return nn_linear(s.g, x, p.w, p.b, residual);
}

void linear_split(int n, const nn_scope at[], nn_tensor *x, int64_t out, int bias, nn_tensor *y[])
{
    nn_graph *g = at[0].g;
    nn_tensor *w[LINEAR_MOST], *b[LINEAR_MOST], *all_b = NULL;
    NN_ASSERT(n <= LINEAR_MOST);
    for (int i = 0; i < n; i++) {
        linear_params p = params_of(at[i], nn_last(&x->view, 0), out, bias);
        w[i] = p.w;
        b[i] = p.b;
    }
    nn_enter(at[0]);
    if (bias) all_b = nn_params_joined(g, n, b);
    nn_split(g, nn_linear(g, x, nn_params_joined(g, n, w), all_b, NULL), n, y);
}

nn_tensor *linear(nn_scope s, nn_tensor *x, int64_t out, int bias)
{
    return product(s, x, out, bias, NULL);
}

nn_tensor *linear_onto(nn_scope s, nn_tensor *x, nn_tensor *residual)
{
    return product(s, x, nn_last(&residual->view, 0), BIAS, residual);
}

nn_tensor *conv(nn_scope s, nn_tensor *x, int64_t out, int size, nn_conv how, nn_tensor *shift,
                nn_tensor *residual)
{
    nn_enter(s);
    int64_t in = nn_last(&x->view, 0);
    nn_init init = NN_UNIFORM(fan_bound(in * size * size));
    nn_tensor *w = nn_param_at(s, "weight", init, 4, (int64_t[]){ out, in, size, size });
    nn_tensor *b = nn_param_at(s, "bias", init, 1, (int64_t[]){ out });
    return nn_conv2d(s.g, x, w, b, shift, residual, how);
}

nn_tensor *conv_same(nn_scope s, nn_tensor *x, int64_t out, int size)
{
    int pad = size / 2;
    return conv(s, x, out, size, (nn_conv){ 1, pad, pad, pad, pad }, NULL, NULL);
}

nn_tensor *layernorm(nn_scope s, nn_tensor *x, double eps)
{
    nn_enter(s);
    int64_t width = nn_last(&x->view, 0);
    nn_tensor *gamma = nn_param_at(s, "weight", NN_ONES, 1, &width);
    nn_tensor *beta = nn_param_at(s, "bias", NN_ZEROS, 1, &width);
    return nn_layernorm(s.g, x, gamma, beta, eps);
}

static nn_tensor *group(nn_scope s, nn_tensor *x, int groups, double eps, bool silu)
{
    nn_enter(s);
    int64_t channels = nn_last(&x->view, 0);
    nn_tensor *gamma = nn_param_at(s, "weight", NN_ONES, 1, &channels);
    nn_tensor *beta = nn_param_at(s, "bias", NN_ZEROS, 1, &channels);
    return nn_groupnorm(s.g, x, gamma, beta, groups, eps, silu);
}

nn_tensor *groupnorm(nn_scope s, nn_tensor *x, int groups, double eps)
{
    return group(s, x, groups, eps, false);
}

nn_tensor *groupnorm_silu(nn_scope s, nn_tensor *x, int groups, double eps)
{
    return group(s, x, groups, eps, true);
}

nn_tensor *embedding(nn_scope s, nn_tensor *ids, int64_t rows, int64_t width, double std)
{
    nn_enter(s);
    nn_tensor *table =
        nn_param_at(s, "weight", NN_NORMAL((float)std), 2, (int64_t[]){ rows, width });
    return nn_embedding(s.g, ids, table);
}

nn_tensor *split_heads(nn_graph *g, nn_tensor *x, int heads)
{
    const int64_t *dim = x->view.dim;
    return nn_reshape(g, x, 4, (int64_t[]){ dim[0], dim[1], heads, dim[2] / heads });
}

nn_tensor *join_heads(nn_graph *g, nn_tensor *x)
{
    const int64_t *dim = x->view.dim;
    return nn_reshape(g, x, 3, (int64_t[]){ dim[0], dim[1], dim[2] * dim[3] });
}
