/* activation and its gradient: maps (map.cuh) with one function per kind. Traffic: every operand
 * and the result once. */
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/map.cuh"

template <nn_act KIND> struct activation_value {
    __device__ float operator()(const float (&x)[1]) const { return nn_act_value<KIND>(x[0]); }
};

template <nn_act KIND> struct activation_slope { /* dy, x */
    __device__ float operator()(const float (&v)[2]) const
    {
        return v[0] * nn_act_slope<KIND>(v[1]);
    }
};

/* Runs CASE(kind) for the kind of the call. */
#define EACH_KIND(kind, CASE)                                                                      \
    switch (kind) {                                                                                \
        CASE(NN_ACT_RELU)                                                                          \
        CASE(NN_ACT_SILU)                                                                          \
        CASE(NN_ACT_GELU)                                                                          \
        CASE(NN_ACT_GELU_TANH)                                                                     \
        CASE(NN_ACT_QUICK_GELU)                                                                    \
        CASE(NN_ACT_SIGMOID)                                                                       \
        CASE(NN_ACT_TANH)                                                                          \
        CASE(NN_ACT_EXP)                                                                           \
        CASE(NN_ACT_ABS)                                                                           \
        CASE(NN_ACT_SQUARE)                                                                        \
    }

static nn_act kind_of(const nn_call *c)
{
    return static_cast<const nn_activation_params *>(c->params)->kind;
}

static nn_status unknown(const nn_call *c)
{
    return nn_fail(NN_UNSUPPORTED, "cuda: activation of kind %d", (int)kind_of(c));
}

static nn_status run_packed(const nn_call *c)
{
#define CASE(kind)                                                                                 \
    case kind:                                                                                     \
        return nn_map_run_packed<1>(c, activation_value<kind>{});
    EACH_KIND(kind_of(c), CASE)
#undef CASE
    return unknown(c);
}

static nn_status run_steps(const nn_call *c)
{
#define CASE(kind)                                                                                 \
    case kind:                                                                                     \
        return nn_map_run_steps<1>(c, activation_value<kind>{});
    EACH_KIND(kind_of(c), CASE)
#undef CASE
    return unknown(c);
}

static nn_status run_bwd_packed(const nn_call *c)
{
#define CASE(kind)                                                                                 \
    case kind:                                                                                     \
        return nn_map_run_packed<2>(c, activation_slope<kind>{});
    EACH_KIND(kind_of(c), CASE)
#undef CASE
    return unknown(c);
}

static nn_status run_bwd_steps(const nn_call *c)
{
#define CASE(kind)                                                                                 \
    case kind:                                                                                     \
        return nn_map_run_steps<2>(c, activation_slope<kind>{});
    EACH_KIND(kind_of(c), CASE)
#undef CASE
    return unknown(c);
}

extern "C" const nn_kernel nn_cuda_activation[] = {
    { .name = "activation_packed", .accepts = nn_map_accepts_packed<1>, .run = run_packed },
    { .name = "activation_steps", .accepts = nn_map_accepts_steps<1>, .run = run_steps },
    {}
};
extern "C" const nn_kernel nn_cuda_activation_bwd[] = {
    { .name = "activation_bwd_packed", .accepts = nn_map_accepts_packed<2>, .run = run_bwd_packed },
    { .name = "activation_bwd_steps", .accepts = nn_map_accepts_steps<2>, .run = run_bwd_steps },
    {}
};
