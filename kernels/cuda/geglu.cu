/* geglu and its gradient: y = value * gelu(gate), value and gate being the halves of the last
 * dimension of x. Traffic: every operand and result once. */
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/rows.cuh"

/* How many pieces make a row of the half, and how far apart rows are. */
struct geglu_layout {
    uint32_t pieces, n;        /* of a row, of all rows */
    int64_t x_pitch, dy_pitch; /* elements */
    int64_t half;              /* elements of a half */
};

/* A thread owns 16 bytes of y. */
template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS) geglu_rows(const geglu_layout l, const T *x, T *y)
{
    constexpr int W = nn_wide<T>;
    const uint32_t i = blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= l.n) return;
    const uint32_t row = i / l.pieces, piece = i - row * l.pieces;
    const T *from = x + row * l.x_pitch + piece * W;
    const nn_vec<T, W> value = nn_load<W>(from), gate = nn_load<W>(from + l.half);
    nn_vec<T, W> out;
#pragma unroll
    for (int k = 0; k < W; k++)
        out.at[k] =
            nn_from<T>(nn_float(value.at[k]) * nn_act_value<NN_ACT_GELU>(nn_float(gate.at[k])));
    nn_store(y + (int64_t)i * W, out);
}

/* A thread owns 16 bytes of each half of dx. */
template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    geglu_bwd_rows(const geglu_layout l, const T *dy, const T *x, T *dx)
{
    constexpr int W = nn_wide<T>;
    const uint32_t i = blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= l.n) return;
    const uint32_t row = i / l.pieces, piece = i - row * l.pieces;
    const T *from = x + row * l.x_pitch + piece * W;
    const nn_vec<T, W> value = nn_load<W>(from), gate = nn_load<W>(from + l.half);
    const nn_vec<T, W> d = nn_load<W>(dy + row * l.dy_pitch + piece * W);
    nn_vec<T, W> dvalue, dgate;
#pragma unroll
    for (int k = 0; k < W; k++) {
        const float g = nn_float(gate.at[k]), slope = nn_float(d.at[k]), cdf = nn_normal_cdf(g);
        dvalue.at[k] = nn_from<T>(slope * g * cdf);
        dgate.at[k] = nn_from<T>(slope * nn_float(value.at[k]) * nn_gelu_slope(g));
    }
    T *to = dx + row * 2 * l.half + piece * W;
    nn_store(to, dvalue);
    nn_store(to + l.half, dgate);
}

/* A thread owns one element of any strides; views: y, value, gate. */
template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    geglu_steps(const T *value, const T *gate, T *y, const nn_steps<3> steps)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= steps.n) return;
    int64_t at[3];
    nn_offsets(steps, i, at);
    y[at[0]] =
        nn_from<T>(nn_float(value[at[1]]) * nn_act_value<NN_ACT_GELU>(nn_float(gate[at[2]])));
}

/* The same for dx; views: a half of dx, dy, a half of x. */
template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    geglu_bwd_steps(const T *dy, const T *value, const T *gate, T *dvalue, T *dgate,
                    const nn_steps<3> steps)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= steps.n) return;
    int64_t at[3];
    nn_offsets(steps, i, at);
    const float g = nn_float(gate[at[2]]), d = nn_float(dy[at[1]]);
    dvalue[at[0]] = nn_from<T>(d * nn_act_value<NN_ACT_GELU>(g));
    dgate[at[0]] = nn_from<T>(d * nn_float(value[at[2]]) * nn_act_slope<NN_ACT_GELU>(g));
}

static nn_view half_of(const nn_view *v)
{
    nn_view half = *v;
    half.dim[v->rank - 1] /= 2;
    return half;
}

static int64_t step_to_gate(const nn_view *v)
{
    return nn_last(v, 0) / 2 * v->stride[v->rank - 1];
}

static bool same_types(const nn_call *c)
{
    bool fit = nn_is_float(&c->out[0]);
    for (int k = 0; k < c->n_in; k++) fit = fit && c->in[k].dtype == c->out[0].dtype;
    return fit;
}

/* x [rows, 2 half], and dy [rows, half] if it is given. */
static bool layout_of(const nn_view *x, const nn_view *dy, geglu_layout *l)
{
    nn_rows rows, dy_rows = {};
    if (!nn_rows_wide(x, &rows) || (dy && !nn_rows_wide(dy, &dy_rows))) return false;
    const int64_t wide = 16 / nn_dtype_bytes(x->dtype), half = rows.width / 2;
    const int64_t n = rows.rows * half / wide;
    *l = { (uint32_t)(half / wide), (uint32_t)n, rows.pitch, dy_rows.pitch, half };
    return half % wide == 0 && n < INT32_MAX;
}

static bool accepts_rows(const nn_call *c)
{
    geglu_layout l;
    return same_types(c) && layout_of(&c->in[0], NULL, &l) && nn_view_contiguous(&c->out[0]) &&
           nn_aligned16(&c->out[0]);
}

static bool accepts_bwd_rows(const nn_call *c)
{
    geglu_layout l;
    return same_types(c) && layout_of(&c->in[1], &c->in[0], &l) && nn_view_contiguous(&c->out[0]) &&
           nn_aligned16(&c->out[0]);
}

static nn_status run_rows(const nn_call *c)
{
    geglu_layout l;
    if (!layout_of(&c->in[0], NULL, &l) || !l.n) return NN_OK;
    NN_DISPATCH(c->out[0].dtype, T,
                return NN_LAUNCH(geglu_rows<T>, (unsigned)nn_ceil_div(l.n, NN_MAP_THREADS),
                                 NN_MAP_THREADS, 0, c, l, static_cast<const T *>(c->in[0].data),
                                 static_cast<T *>(c->out[0].data)));
}

static nn_status run_bwd_rows(const nn_call *c)
{
    geglu_layout l;
    if (!layout_of(&c->in[1], &c->in[0], &l) || !l.n) return NN_OK;
    NN_DISPATCH(c->out[0].dtype, T,
                return NN_LAUNCH(geglu_bwd_rows<T>, (unsigned)nn_ceil_div(l.n, NN_MAP_THREADS),
                                 NN_MAP_THREADS, 0, c, l, static_cast<const T *>(c->in[0].data),
                                 static_cast<const T *>(c->in[1].data),
                                 static_cast<T *>(c->out[0].data)));
}

template <class T> static nn_status run_steps_as(const nn_call *c)
{
    const nn_view half = half_of(&c->in[0]), *const views[3] = { &c->out[0], &half, &half };
    const nn_steps<3> steps = nn_steps_of(&half, views);
    const T *x = static_cast<const T *>(c->in[0].data);
    if (!steps.n) return NN_OK;
    return NN_LAUNCH(geglu_steps<T>, (unsigned)nn_ceil_div(steps.n, NN_MAP_THREADS), NN_MAP_THREADS,
                     0, c, x, x + step_to_gate(&c->in[0]), static_cast<T *>(c->out[0].data), steps);
}

template <class T> static nn_status run_bwd_steps_as(const nn_call *c)
{
    const nn_view to = half_of(&c->out[0]), from = half_of(&c->in[1]);
    const nn_view *const views[3] = { &to, &c->in[0], &from };
    const nn_steps<3> steps = nn_steps_of(&to, views);
    const T *x = static_cast<const T *>(c->in[1].data);
    T *dx = static_cast<T *>(c->out[0].data);
    if (!steps.n) return NN_OK;
    return NN_LAUNCH(geglu_bwd_steps<T>, (unsigned)nn_ceil_div(steps.n, NN_MAP_THREADS),
                     NN_MAP_THREADS, 0, c, static_cast<const T *>(c->in[0].data), x,
                     x + step_to_gate(&c->in[1]), dx, dx + step_to_gate(&c->out[0]), steps);
}

static nn_status run_steps(const nn_call *c)
{
    NN_DISPATCH(c->out[0].dtype, T, return run_steps_as<T>(c));
}

static nn_status run_bwd_steps(const nn_call *c)
{
    NN_DISPATCH(c->out[0].dtype, T, return run_bwd_steps_as<T>(c));
}

extern "C" const nn_kernel nn_cuda_geglu[] = {
    { .name = "geglu_rows", .accepts = accepts_rows, .run = run_rows },
    { .name = "geglu_steps", .accepts = same_types, .run = run_steps },
    {}
};
extern "C" const nn_kernel nn_cuda_geglu_bwd[] = {
    { .name = "geglu_bwd_rows", .accepts = accepts_bwd_rows, .run = run_bwd_rows },
    { .name = "geglu_bwd_steps", .accepts = same_types, .run = run_bwd_steps },
    {}
};
