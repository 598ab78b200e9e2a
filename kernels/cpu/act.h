/* Activations on vectors, and their slopes: what activation, geglu and groupnorm share. */
#ifndef KERNELS_CPU_ACT_H
#define KERNELS_CPU_ACT_H

#include "kernels/cpu/simd.h"

NN_INLINE nn_vf nn_vsilu(nn_vf x)
{
    return x / (1.0f + nn_vexp(-x));
}

NN_INLINE nn_vf nn_vsilu_slope(nn_vf x)
{
    nn_vf s = nn_vsigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

/* The standard normal distribution function, by erf. */
NN_INLINE nn_vf nn_vnormal_cdf(nn_vf x)
{
    return 0.5f + 0.5f * nn_verf(x * 0.70710678f);
}

NN_INLINE nn_vf nn_vgelu(nn_vf x)
{
    return x * nn_vnormal_cdf(x);
}

NN_INLINE nn_vf nn_vgelu_slope(nn_vf x, nn_vf cdf)
{
    return cdf + x * (0.39894228f * nn_vexp(-0.5f * x * x));
}

#endif
