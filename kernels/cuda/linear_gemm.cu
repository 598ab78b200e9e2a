/* linear and its gradients as convolutions of single pixels: a row is a pixel, and a 1 x 1 filter
 * is a matrix. What conv2d's products ask of an image they ask of a matrix: rows whose addresses or
 * lengths are no multiples of 16 bytes are copied into such rows first, filled up with zeros, so
 * that tensor cores take any matrix. Bias and residual are added in f32. */
#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/linear.cuh"

/* Sizes of images stand in these for the engine alone; the products do not read them. */
static const nn_conv2d_params single_pixels = { .stride = 1, .kh = 1, .kw = 1 };

/* Views whose rows step together, as images of one shape: rows along samples, height and width, the
 * last dim as channels. False where three dims are too few. */
template <int N>
static bool images_of(const nn_view *const (&views)[N], nn_view *const (&images)[N])
{
    nn_view rows = *views[0];
    rows.dim[rows.rank - 1] = 1;
    const nn_steps<N> steps = nn_steps_of(&rows, views);
    if (steps.rank > 3) return false;
    for (int k = 1; k < N; k++) {
        if (views[k]->rank != rows.rank) return false;
        for (int d = 0; d < rows.rank - 1; d++)
            if (views[k]->dim[d] != rows.dim[d]) return false;
    }
    for (int k = 0; k < N; k++) {
        const int64_t dims[4] = { 1, 1, 1, nn_last(views[k], 0) };
        nn_view *image = images[k];
        *image = nn_view_make(views[k]->dtype, 4, dims);
        image->data = views[k]->data;
        image->stride[3] = views[k]->stride[views[k]->rank - 1];
        for (int d = 0; d < steps.rank; d++) {
            image->dim[d] = steps.dim[d];
            image->stride[d] = steps.stride[k][d];
        }
    }
    return true;
}

/* A matrix [O, I] as a filter. */
static nn_view filter_of(const nn_view *w)
{
    nn_view filter = *w;
    filter.rank = 4;
    filter.dim[2] = filter.dim[3] = filter.stride[2] = filter.stride[3] = 1;
    return filter;
}

/* The convolution that computes the call. */
template <linear_kind KIND> static bool conv_of(const nn_call *c, nn_call *conv)
{
    *conv = *c;
    conv->params = &single_pixels;
    if (KIND == LINEAR_BWD_W) {
        conv->out[0] = filter_of(&c->out[0]);
        return images_of<2>({ &c->in[0], &c->in[1] }, { &conv->in[0], &conv->in[1] });
    }
    const nn_view *residual = linear_added<KIND>(c, LINEAR_RESIDUAL);
    conv->in[CONV2D_W] = filter_of(&c->in[1]);
    if (!residual) return images_of<2>({ &c->in[0], &c->out[0] }, { &conv->in[0], &conv->out[0] });
    conv->in[CONV2D_SHIFT] = {};
    return images_of<3>({ &c->in[0], &c->out[0], residual },
                        { &conv->in[0], &conv->out[0], &conv->in[CONV2D_RESIDUAL] });
}

/* The kernel of conv2d that computes it. */
template <linear_kind KIND> static nn_kernel conv_kernel(void)
{
    if (KIND == LINEAR_BWD_W)
        return { .accepts = conv2d_bwd_w_gemm_accepts,
                 .run = conv2d_bwd_w_gemm_run,
                 .workspace = conv2d_bwd_w_gemm_workspace };
    if (KIND == LINEAR_BWD_X)
        return { .accepts = conv2d_bwd_x_gemm_accepts,
                 .run = conv2d_bwd_x_gemm_run,
                 .workspace = conv2d_bwd_x_gemm_workspace,
                 .prepare = conv2d_bwd_x_gemm_prepare };
    return { .accepts = conv2d_gemm_accepts,
             .run = conv2d_gemm_run,
             .workspace = conv2d_gemm_workspace,
             .prepare = conv2d_gemm_prepare };
}

template <linear_kind KIND> bool linear_gemm_accepts(const nn_call *c)
{
    nn_call conv;
    return conv_of<KIND>(c, &conv) && conv_kernel<KIND>().accepts(&conv);
}

template <linear_kind KIND> nn_status linear_gemm_prepare(nn_call *c)
{
    nn_call conv;
    NN_ASSERT(conv_of<KIND>(c, &conv));
    c->workspace_bytes = conv_kernel<KIND>().workspace(&conv);
    if (!conv_kernel<KIND>().prepare) return NN_OK;
    NN_TRY(conv_kernel<KIND>().prepare(&conv));
    c->packed_bytes = conv.packed_bytes;
    return NN_OK;
}

template <linear_kind KIND> nn_status linear_gemm_run(const nn_call *c)
{
    nn_call conv;
    NN_ASSERT(conv_of<KIND>(c, &conv));
    return conv_kernel<KIND>().run(&conv);
}

#define EACH(KIND)                                                                                 \
    template bool linear_gemm_accepts<KIND>(const nn_call *c);                                     \
    template nn_status linear_gemm_prepare<KIND>(nn_call * c);                                     \
    template nn_status linear_gemm_run<KIND>(const nn_call *c);
EACH(LINEAR_FORWARD)
EACH(LINEAR_BWD_X)
EACH(LINEAR_BWD_W)
