/* Winograd's F(4x4, 3x3): a tile of 4 x 4 results of a convolution by 3 x 3 weights from 36
 * products for each pair of channels, in place of 144 (Lavin and Gray 2015, "Fast algorithms for
 * convolutional neural networks"):
 *     y = A^T [ (G w G^T) * (B^T x B) ] A     * place by place, then summed over channels in
 * Lanes are channels. The six rows of the matrices belong to the points 0, infinity, 1, -1, 2 and
 * -2, in this order, so that rows of G that share sums stand side by side. */
#ifndef KERNELS_CPU_WINOGRAD_H
#define KERNELS_CPU_WINOGRAD_H

#include "kernels/cpu/simd.h"

enum {
    NN_WINO_OUT = 4,                      /* side of a tile of results */
    NN_WINO_IN = 6,                       /* side of the tile of x under it */
    NN_WINO_PLACES = 36,                  /* products */
    NN_WINO_VECS = 3,                     /* of channels out that are worked on together */
    NN_WINO_ROWS = NN_LANES == 16 ? 8 : 4 /* tiles that are: 24 sums of 32 registers, 12 of 16 */
};

/* Two rows of G times w[0 .. 2]: those of 0 and infinity, 1 and -1, 2 and -2. */
NN_INLINE void nn_wino_g(int pair, const nn_vf w[3], nn_vf *first, nn_vf *second)
{
    nn_vf even, odd;
    if (pair == 0) {
        *first = w[0] * 0.25f;
        *second = w[2];
        return;
    }
    if (pair == 1) {
        even = (w[0] + w[2]) * (-1.0f / 6);
        odd = w[1] * (-1.0f / 6);
    } else {
        even = w[0] * (1.0f / 24) + w[2] * (1.0f / 6);
        odd = w[1] * (1.0f / 12);
    }
    *first = even + odd;
    *second = even - odd;
}

/* to[i * step] = row i of B^T times x[0 .. 5]. */
NN_INLINE void nn_wino_b(const nn_vf x[NN_WINO_IN], nn_vf *to, int step)
{
    nn_vf even = x[4] - 4.0f * x[2], odd = x[3] - 4.0f * x[1];
    nn_vf even2 = x[4] - x[2], odd2 = 2.0f * (x[3] - x[1]);
    to[0] = 4.0f * x[0] - 5.0f * x[2] + x[4];
    to[step] = 4.0f * x[1] - 5.0f * x[3] + x[5];
    to[2 * step] = even + odd;
    to[3 * step] = even - odd;
    to[4 * step] = even2 + odd2;
    to[5 * step] = even2 - odd2;
}

/* The same of A^T, four results. */
NN_INLINE void nn_wino_a(const nn_vf m[NN_WINO_IN], nn_vf *to, int step)
{
    nn_vf sum = m[2] + m[3], difference = m[2] - m[3];
    nn_vf sum2 = m[4] + m[5], difference2 = m[4] - m[5];
    to[0] = m[0] + sum + sum2;
    to[step] = difference + 2.0f * difference2;
    to[2 * step] = sum + 4.0f * sum2;
    to[3 * step] = difference + 8.0f * difference2 + m[1];
}

/* m[t][o] = sum over d < depth of v[t][d] * u[d][o], of which `more` continues the sums that m
 * holds. Rows of v are v_stride floats apart, those of u and m NN_WINO_VECS vectors. */
NN_INLINE void nn_wino_tile(int rows, int vecs, const float *v, int64_t v_stride, const float *u,
                            int64_t depth, float *m, bool more)
{
    enum { STRIDE = NN_WINO_VECS * NN_LANES };
    nn_vf sum[NN_WINO_ROWS][NN_WINO_VECS];
    for (int t = 0; t < rows; t++)
        for (int o = 0; o < vecs; o++)
            sum[t][o] = more ? nn_load(m + t * STRIDE + o * NN_LANES) : nn_set(0);
    for (int64_t d = 0; d < depth; d++) {
        nn_vf w[NN_WINO_VECS];
        __builtin_prefetch(v + rows * (v_stride + d), 0, 3);
        for (int o = 0; o < vecs; o++) w[o] = nn_load(u + d * STRIDE + o * NN_LANES);
        for (int t = 0; t < rows; t++) {
            nn_vf x = nn_set(v[t * v_stride + d]);
            for (int o = 0; o < vecs; o++) sum[t][o] += x * w[o];
        }
    }
    for (int t = 0; t < rows; t++)
        for (int o = 0; o < vecs; o++) nn_store(m + t * STRIDE + o * NN_LANES, sum[t][o]);
}

#endif
