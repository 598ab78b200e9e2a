/* concat. Traffic: operands and result once. */
#include "kernels/cuda/any.cuh"
#include "kernels/cuda/rows.cuh"

/* The result as rows of pieces of 16 bytes; part k fills pieces first[k] .. first[k + 1] - 1. */
struct concat_parts {
    const void *x[NN_MAX_IN];
    int64_t pitch[NN_MAX_IN]; /* pieces */
    uint32_t first[NN_MAX_IN + 1];
    uint32_t n; /* pieces of all rows */
    int parts;
};

/* concat_rows: a thread owns 16 bytes of the result and finds the part they come from. */
__global__ void __launch_bounds__(NN_MAP_THREADS) concat_rows(const concat_parts p, uint32_t *y)
{
    const uint32_t i = blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= p.n) return;
    const uint32_t row = i / p.first[NN_MAX_IN], piece = i - row * p.first[NN_MAX_IN];
    const void *x = p.x[0];
    int64_t at = row * p.pitch[0] + piece;
#pragma unroll
    for (int k = 1; k < NN_MAX_IN; k++) {
        if (k >= p.parts || piece < p.first[k]) continue;
        x = p.x[k];
        at = row * p.pitch[k] + piece - p.first[k];
    }
    nn_store(y + (int64_t)i * 4, nn_load<4>(static_cast<const uint32_t *>(x) + at * 4));
}

struct concat_value {
    __device__ float operator()(const float (&x)[1]) const { return x[0]; }
};

static int axis_of(const nn_call *c)
{
    return static_cast<const nn_concat_params *>(c->params)->axis;
}

static bool accepts_any(const nn_call *c)
{
    bool fit = nn_is_float(&c->out[0]);
    for (int k = 0; k < c->n_in; k++) fit = fit && c->in[k].dtype == c->out[0].dtype;
    return fit;
}

/* v with all from the axis on as one dimension. */
static bool rows_from_axis(const nn_view *v, int axis, nn_rows *r)
{
    nn_view flat = *v;
    if (!nn_view_packed_from(v, axis)) return false;
    flat.rank = axis + 1;
    for (int d = axis + 1; d < v->rank; d++) flat.dim[axis] *= v->dim[d];
    flat.stride[axis] = 1;
    return nn_rows_wide(&flat, r);
}

static bool parts_of(const nn_call *c, concat_parts *p)
{
    const nn_view *y = &c->out[0];
    const int64_t wide = 16 / nn_dtype_bytes(y->dtype);
    int64_t rows = 1, first = 0;
    *p = {};
    p->parts = c->n_in;
    for (int d = 0; d < axis_of(c); d++) rows *= y->dim[d];
    for (int k = 0; k < c->n_in; k++) {
        nn_rows r;
        if (!rows_from_axis(&c->in[k], axis_of(c), &r)) return false;
        p->x[k] = c->in[k].data;
        p->pitch[k] = r.pitch / wide;
        p->first[k] = (uint32_t)first;
        first += r.width / wide;
    }
    p->first[NN_MAX_IN] = (uint32_t)first;
    p->n = (uint32_t)(rows * first);
    return rows * first < INT32_MAX;
}

static bool accepts_rows(const nn_call *c)
{
    concat_parts p;
    return accepts_any(c) && nn_view_contiguous(&c->out[0]) && nn_aligned16(&c->out[0]) &&
           parts_of(c, &p);
}

static nn_status run_rows(const nn_call *c)
{
    concat_parts p;
    if (!parts_of(c, &p) || !p.n) return NN_OK;
    return NN_LAUNCH(concat_rows, (unsigned)nn_ceil_div(p.n, NN_MAP_THREADS), NN_MAP_THREADS, 0, c,
                     p, static_cast<uint32_t *>(c->out[0].data));
}

/* One part after the other, each a map. */
static nn_status run_any(const nn_call *c)
{
    const int axis = axis_of(c);
    nn_view to = c->out[0];
    for (int k = 0; k < c->n_in; k++) {
        const nn_view *const x[1] = { &c->in[k] };
        to.dim[axis] = c->in[k].dim[axis];
        NN_TRY(nn_any_run_map(c, concat_value{}, &to, x));
        to.data = static_cast<char *>(to.data) +
                  to.dim[axis] * to.stride[axis] * nn_dtype_bytes(to.dtype);
    }
    return NN_OK;
}

extern "C" const nn_kernel nn_cuda_concat[] = {
    { .name = "concat_rows", .accepts = accepts_rows, .run = run_rows },
    { .name = "concat_any", .accepts = accepts_any, .run = run_any },
    {}
};
