/* Classifier-free guidance. */
#include <math.h>

#include "models/sampler.h"

/* Unbiased standard deviation. */
static double deviation(const float *x, int64_t n)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += (double)x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean);
    return n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}

void nn_guide(const float *uncond, const float *cond, double scale, double rescale, int n_samples,
              int64_t n_elems, float *out)
{
    const float g = (float)scale;
    for (int k = 0; k < n_samples; k++, uncond += n_elems, cond += n_elems, out += n_elems) {
        const double wanted = rescale > 0 ? deviation(cond, n_elems) : 0;
        for (int64_t i = 0; i < n_elems; i++) out[i] = uncond[i] + g * (cond[i] - uncond[i]);
        if (rescale <= 0) continue;
        const double found = deviation(out, n_elems);
        if (found <= 0) continue; /* a constant has nothing to rescale */
        const float factor = (float)(rescale * wanted / found + 1 - rescale);
        for (int64_t i = 0; i < n_elems; i++) out[i] *= factor;
    }
}
