/* dropout. Element i, in row-major order, is dropped if word i % 4 of Philox at counter i / 4 lies
 * below p * 2^32, as on the other devices: no mask is kept. Traffic: operand and result once. The
 * result may take the operand's place. */
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/philox.cuh"

struct dropout_draw {
    nn_philox_key key;
    uint32_t threshold;
    float factor; /* of what is kept */
};

/* A thread owns 16 bytes, and draws once for each four elements. */
template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    dropout_packed(const dropout_draw d, const T *x, T *y, int64_t n)
{
    constexpr int W = nn_wide<T>;
    const int64_t i = ((int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x) * W;
    nn_vec<T, W> v;
    if (i >= n) return;
    const bool whole = i + W <= n;
    if (whole) v = nn_load<W>(x + i);
    const uint64_t key = nn_philox_take(d.key);
#pragma unroll
    for (int j = 0; j < W; j += 4) {
        const nn_philox_words word = nn_philox_at((uint64_t)(i + j) / 4, key);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float factor = word.at[k] >= d.threshold ? d.factor : 0.0f;
            if (whole)
                v.at[j + k] = nn_from<T>(factor > 0 ? nn_float(v.at[j + k]) * factor : 0.0f);
            else if (i + j + k < n)
                y[i + j + k] = nn_from<T>(factor > 0 ? nn_float(x[i + j + k]) * factor : 0.0f);
        }
    }
    if (whole) nn_store(y + i, v);
}

/* A thread owns one element of any strides. View 0 is the result. */
template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    dropout_steps(const dropout_draw d, const T *x, T *y, const nn_steps<2> steps)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= steps.n) return;
    int64_t at[2];
    nn_offsets(steps, i, at);
    const nn_philox_words word = nn_philox_at((uint64_t)i / 4, nn_philox_take(d.key));
    uint32_t drawn = word.at[0];
#pragma unroll
    for (int k = 1; k < 4; k++) drawn = i % 4 == k ? word.at[k] : drawn;
    y[at[0]] = nn_from<T>(drawn >= d.threshold ? nn_float(x[at[1]]) * d.factor : 0.0f);
}

static dropout_draw draw_of(const nn_call *c)
{
    const double p = static_cast<const nn_dropout_params *>(c->params)->p;
    return { nn_philox_key_of(c), (uint32_t)(p * 0x1p32), (float)(1 / (1 - p)) };
}

static nn_status run_packed(const nn_call *c)
{
    const int64_t n = nn_view_elems(&c->out[0]);
    if (!n) return NN_OK;
    NN_DISPATCH(
        c->in[0].dtype, T,
        return NN_LAUNCH(dropout_packed<T>, (unsigned)nn_ceil_div(n, NN_MAP_THREADS * nn_wide<T>),
                         NN_MAP_THREADS, 0, c, draw_of(c), static_cast<const T *>(c->in[0].data),
                         static_cast<T *>(c->out[0].data), n));
}

static nn_status run_steps(const nn_call *c)
{
    const nn_view *const views[2] = { &c->out[0], &c->in[0] };
    const nn_steps<2> steps = nn_steps_of(&c->out[0], views);
    if (!steps.n) return NN_OK;
    NN_DISPATCH(c->in[0].dtype, T,
                return NN_LAUNCH(dropout_steps<T>, (unsigned)nn_ceil_div(steps.n, NN_MAP_THREADS),
                                 NN_MAP_THREADS, 0, c, draw_of(c),
                                 static_cast<const T *>(c->in[0].data),
                                 static_cast<T *>(c->out[0].data), steps));
}

extern "C" const nn_kernel nn_cuda_dropout[] = {
    { .name = "dropout_packed", .accepts = nn_map_accepts_packed<1>, .run = run_packed },
    { .name = "dropout_steps", .accepts = nn_map_accepts_steps<1>, .run = run_steps },
    {}
};
