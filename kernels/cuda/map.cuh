/* y = f(x_0, x_1, ...) element by element, over views of one shape or broadcast to it.
 *
 * f is a struct with `float operator()(const float (&x)[ARITY]) const` on the device; its members
 * are arguments of the launch, and its name, like that of a kernel, begins with that of its op: all
 * files share one name space. Operands have one type T, the result has type U; arithmetic is f32.
 *
 * nn_map_packed: a thread owns 16 bytes of the result, and the last one the rest; one load or store
 * of 16 bytes per operand. nn_map_steps: a thread owns one element of any strides. Both are
 * deterministic, use no shared memory and move each byte once. */
#ifndef KERNELS_CUDA_MAP_CUH
#define KERNELS_CUDA_MAP_CUH

#include "kernels/cuda/cuda.cuh"

constexpr int NN_MAP_THREADS = 256;

template <class T, int ARITY> struct nn_operands {
    const T *x[ARITY];
};

template <class U, class F, class T, int ARITY>
__device__ __forceinline__ U nn_map_one(const F &f, const nn_operands<T, ARITY> &in,
                                        const int64_t (&at)[ARITY])
{
    float x[ARITY];
#pragma unroll
    for (int k = 0; k < ARITY; k++) x[k] = nn_float(in.x[k][at[k]]);
    return nn_from<U>(f(x));
}

template <class T, class U>
constexpr int nn_map_width = nn_wide<T> < nn_wide<U> ? nn_wide<T> : nn_wide<U>;

template <class F, class T, class U, int ARITY>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    nn_map_packed(const F f, const nn_operands<T, ARITY> in, U *y, int64_t n)
{
    constexpr int W = nn_map_width<T, U>;
    const int64_t i = ((int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x) * W;
    if (i + W <= n) {
        nn_vec<T, W> v[ARITY];
        nn_vec<U, W> out;
#pragma unroll
        for (int k = 0; k < ARITY; k++) v[k] = nn_load<W>(in.x[k] + i);
#pragma unroll
        for (int j = 0; j < W; j++) {
            float x[ARITY];
#pragma unroll
            for (int k = 0; k < ARITY; k++) x[k] = nn_float(v[k].at[j]);
            out.at[j] = nn_from<U>(f(x));
        }
        nn_store(y + i, out);
        return;
    }
    for (int64_t j = i; j < n; j++) {
        int64_t at[ARITY];
#pragma unroll
        for (int k = 0; k < ARITY; k++) at[k] = j;
        y[j] = nn_map_one<U>(f, in, at);
    }
}

/* How VIEWS views step together through one shape: neighbouring dims over which all of them step
 * evenly are merged. */
template <int VIEWS> struct nn_steps {
    int rank;
    int64_t n; /* elements */
    int64_t dim[NN_MAX_RANK];
    int64_t stride[VIEWS][NN_MAX_RANK];
};

/* Step of a view along dim d of a shape of `rank` dims: views of lower rank are aligned at the last
 * dim, and where they have size 1 they stand still. */
static inline int64_t nn_step_of(const nn_view *v, int d, int rank)
{
    const int own = d - (rank - v->rank);
    return own < 0 || v->dim[own] == 1 ? 0 : v->stride[own];
}

template <int VIEWS>
static inline nn_steps<VIEWS> nn_steps_of(const nn_view *shape, const nn_view *const (&v)[VIEWS])
{
    nn_steps<VIEWS> s = { .n = nn_view_elems(shape) };
    for (int d = 0; d < shape->rank; d++) {
        if (shape->dim[d] == 1) continue;
        bool merge = s.rank > 0;
        for (int k = 0; merge && k < VIEWS; k++)
            merge = s.stride[k][s.rank - 1] == nn_step_of(v[k], d, shape->rank) * shape->dim[d];
        if (!merge) s.dim[s.rank++] = 1;
        s.dim[s.rank - 1] *= shape->dim[d];
        for (int k = 0; k < VIEWS; k++) s.stride[k][s.rank - 1] = nn_step_of(v[k], d, shape->rank);
    }
    return s;
}

/* Offsets of element i, for each view. Divides in 32 bits where the shape allows it. */
template <int VIEWS>
__device__ __forceinline__ void nn_offsets(const nn_steps<VIEWS> &s, int64_t i,
                                           int64_t (&at)[VIEWS])
{
#pragma unroll
    for (int k = 0; k < VIEWS; k++) at[k] = 0;
#pragma unroll
    for (int d = NN_MAX_RANK - 1; d >= 0; d--) {
        if (d >= s.rank) continue;
        const int64_t next =
            s.n <= INT32_MAX ? (int64_t)((uint32_t)i / (uint32_t)s.dim[d]) : i / s.dim[d];
        const int64_t index = i - next * s.dim[d];
#pragma unroll
        for (int k = 0; k < VIEWS; k++) at[k] += index * s.stride[k][d];
        i = next;
    }
}

/* View 0 is the result. */
template <class F, class T, class U, int ARITY>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    nn_map_steps(const F f, const nn_operands<T, ARITY> in, U *y, const nn_steps<ARITY + 1> steps)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= steps.n) return;
    int64_t at[ARITY + 1], from[ARITY];
    nn_offsets(steps, i, at);
#pragma unroll
    for (int k = 0; k < ARITY; k++) from[k] = at[k + 1];
    y[at[0]] = nn_map_one<U>(f, in, from);
}

/* The first ARITY operands of a call and its result are packed alike, 16-byte aligned, of one type.
 */
template <int ARITY> static inline bool nn_map_accepts_packed(const nn_call *c)
{
    const nn_view *y = &c->out[0];
    bool fit = nn_is_float(y) && nn_view_contiguous(y) && nn_aligned16(y);
    for (int k = 0; k < ARITY; k++)
        fit = fit && c->in[k].dtype == y->dtype && nn_view_same_shape(&c->in[k], y) &&
              nn_view_contiguous(&c->in[k]) && nn_aligned16(&c->in[k]);
    return fit;
}

template <int ARITY> static inline bool nn_map_accepts_steps(const nn_call *c)
{
    bool fit = nn_is_float(&c->out[0]);
    for (int k = 0; k < ARITY; k++) fit = fit && c->in[k].dtype == c->out[0].dtype;
    return fit;
}

template <class T, int ARITY> static inline nn_operands<T, ARITY> nn_operands_of(const nn_call *c)
{
    nn_operands<T, ARITY> in;
    for (int k = 0; k < ARITY; k++) in.x[k] = static_cast<const T *>(c->in[k].data);
    return in;
}

template <class T, class U, int ARITY, class F>
static inline nn_status nn_map_run_packed_as(const nn_call *c, F f)
{
    const int64_t n = nn_view_elems(&c->out[0]);
    const int64_t blocks = nn_ceil_div(n, NN_MAP_THREADS * nn_map_width<T, U>);
    if (!n) return NN_OK;
    return NN_LAUNCH((nn_map_packed<F, T, U, ARITY>), (unsigned)blocks, NN_MAP_THREADS, 0, c, f,
                     (nn_operands_of<T, ARITY>(c)), static_cast<U *>(c->out[0].data), n);
}

template <class T, class U, int ARITY, class F>
static inline nn_status nn_map_run_steps_as(const nn_call *c, F f)
{
    const nn_view *views[ARITY + 1];
    for (int k = 0; k <= ARITY; k++) views[k] = k ? &c->in[k - 1] : &c->out[0];
    const nn_steps<ARITY + 1> steps = nn_steps_of(&c->out[0], views);
    const int64_t blocks = nn_ceil_div(steps.n, NN_MAP_THREADS);
    if (!steps.n) return NN_OK;
    return NN_LAUNCH((nn_map_steps<F, T, U, ARITY>), (unsigned)blocks, NN_MAP_THREADS, 0, c, f,
                     (nn_operands_of<T, ARITY>(c)), static_cast<U *>(c->out[0].data), steps);
}

/* Operands and result of the result's type. */
template <int ARITY, class F> static inline nn_status nn_map_run_packed(const nn_call *c, F f)
{
    NN_DISPATCH(c->out[0].dtype, T, return (nn_map_run_packed_as<T, T, ARITY>(c, f)));
}

template <int ARITY, class F> static inline nn_status nn_map_run_steps(const nn_call *c, F f)
{
    NN_DISPATCH(c->out[0].dtype, T, return (nn_map_run_steps_as<T, T, ARITY>(c, f)));
}

/* The element as it is: copies and casts. */
struct nn_map_same {
    __device__ float operator()(const float (&x)[1]) const { return x[0]; }
};

#endif
