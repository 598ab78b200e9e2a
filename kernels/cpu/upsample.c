/* upsample on the cpu: whole pixels are copied, or added, a row of the result per item. */
#include <string.h>

#include "kernels/cpu/cpu.h"

static bool accepts(const nn_call *c)
{
    const nn_view *x = &c->in[0];
    return x->dtype == NN_F32 && nn_view_packed_from(x, 3) && nn_view_contiguous(&c->out[0]);
}

static const float *row_of(const nn_view *v, int64_t n, int64_t h)
{
    return (const float *)v->data + n * v->stride[0] + h * v->stride[1];
}

static void copy_rows(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const nn_call *c = ctx;
    const nn_view *x = &c->in[0], *y = &c->out[0];
    int64_t channels = y->dim[3], width = y->dim[2];
    for (int64_t i = begin; i < end; i++) {
        int64_t h = nn_upsample_source(i % y->dim[1], x->dim[1], y->dim[1]);
        const float *from = row_of(x, i / y->dim[1], h);
        float *to = (float *)y->data + i * width * channels;
        for (int64_t w = 0; w < width; w++)
            memcpy(to + w * channels, from + nn_upsample_source(w, x->dim[2], width) * x->stride[2],
                   (size_t)channels * sizeof(*to));
    }
}

static nn_status run(const nn_call *c)
{
    const nn_view *y = &c->out[0];
    nn_pool_for(c->pool, y->dim[0] * y->dim[1], 1, copy_rows, (void *)c);
    return NN_OK;
}

/* The first place whose source is not before `src`: sources never decrease. */
static int64_t first_place(int64_t src, int64_t in, int64_t out)
{
    int64_t dst = src * out / in;
    while (dst > 0 && nn_upsample_source(dst - 1, in, out) >= src) dst--;
    while (dst < out && nn_upsample_source(dst, in, out) < src) dst++;
    return dst;
}

static void add_row(float *to, const float *from, const nn_view *dy, const nn_view *dx)
{
    int64_t channels = dx->dim[3];
    for (int64_t w = 0; w < dy->dim[2]; w++) {
        float *sum = to + nn_upsample_source(w, dx->dim[2], dy->dim[2]) * channels;
        const float *more = from + w * dy->stride[2];
        for (int64_t i = 0; i < channels; i++) sum[i] += more[i];
    }
}

static void sum_rows(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const nn_call *c = ctx;
    const nn_view *dy = &c->in[0], *dx = &c->out[0];
    int64_t row = dx->dim[2] * dx->dim[3];
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / dx->dim[1], h = i % dx->dim[1];
        int64_t last = first_place(h + 1, dx->dim[1], dy->dim[1]);
        float *to = (float *)dx->data + i * row;
        memset(to, 0, (size_t)row * sizeof(*to));
        for (int64_t k = first_place(h, dx->dim[1], dy->dim[1]); k < last; k++)
            add_row(to, row_of(dy, n, k), dy, dx);
    }
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *dx = &c->out[0];
    nn_pool_for(c->pool, dx->dim[0] * dx->dim[1], 1, sum_rows, (void *)c);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(upsample)[] = {
    { .name = "upsample_f32_pixels", .accepts = accepts, .run = run }, { 0 }
};
const nn_kernel NN_CPU_NAME(upsample_bwd)[] = {
    { .name = "upsample_bwd_f32_pixels", .accepts = accepts, .run = run_bwd }, { 0 }
};
