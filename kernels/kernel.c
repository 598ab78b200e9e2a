/* Views: shapes, strides, and how they print. */
#include "kernels/kernel.h"

#include <stdio.h>

int64_t nn_dtype_bytes(nn_dtype dtype)
{
    static const int64_t bytes[] = {
        [NN_NONE] = 0, [NN_F32] = 4, [NN_F64] = 8, [NN_BF16] = 2, [NN_F16] = 2, [NN_I32] = 4
    };
    return bytes[dtype];
}

const char *nn_dtype_name(nn_dtype dtype)
{
    static const char *const name[] = { [NN_NONE] = "none", [NN_F32] = "f32", [NN_F64] = "f64",
                                        [NN_BF16] = "bf16", [NN_F16] = "f16", [NN_I32] = "i32" };
    return name[dtype];
}

nn_view nn_view_make(nn_dtype dtype, int rank, const int64_t *dim)
{
    nn_view v = { .dtype = dtype, .rank = rank };
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        v.dim[i] = dim[i];
        v.stride[i] = stride;
        stride *= dim[i];
    }
    return v;
}

int64_t nn_view_elems(const nn_view *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->rank; i++) n *= v->dim[i];
    return n;
}

int64_t nn_view_bytes(const nn_view *v)
{
    return nn_view_elems(v) * nn_dtype_bytes(v->dtype);
}

/* The shortest runs of dims, from i in x and from j in v, that hold the same number of elements:
 * they end before *i and *j. False where one shape ends first. */
static bool equal_runs(const nn_view *x, const nn_view *v, int *i, int *j)
{
    int64_t nx = x->dim[(*i)++], nv = v->dim[(*j)++];
    while (nx != nv) {
        if (nx < nv ? *i == x->rank : *j == v->rank) return false;
        if (nx < nv)
            nx *= x->dim[(*i)++];
        else
            nv *= v->dim[(*j)++];
    }
    return true;
}

bool nn_view_restride(const nn_view *x, nn_view *v)
{
    int i = 0, j = 0;
    while (i < x->rank && j < v->rank) {
        int i0 = i, j0 = j;
        if (!equal_runs(x, v, &i, &j)) return false;
        for (int k = i0; k + 1 < i; k++) /* the run of x must be one arithmetic progression */
            if (x->dim[k] != 1 && x->stride[k] != x->stride[k + 1] * x->dim[k + 1]) return false;
        int64_t stride = x->stride[i - 1];
        for (int k = j - 1; k >= j0; k--) {
            v->stride[k] = stride;
            stride *= v->dim[k];
        }
    }
    for (; i < x->rank; i++)
        if (x->dim[i] != 1) return false;
    for (; j < v->rank; j++) v->stride[j] = 1;
    return true;
}

bool nn_view_packed_from(const nn_view *v, int from)
{
    int64_t stride = 1;
    for (int i = v->rank - 1; i >= from; i--) {
        if (v->dim[i] != 1 && v->stride[i] != stride) return false;
        stride *= v->dim[i];
    }
    return true;
}

bool nn_view_contiguous(const nn_view *v)
{
    return nn_view_packed_from(v, 0);
}

bool nn_view_same_shape(const nn_view *a, const nn_view *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

nn_shape_text nn_view_text(const nn_view *v)
{
    nn_shape_text t;
    int n = snprintf(t.s, sizeof(t.s), "%s [", nn_dtype_name(v->dtype));
    for (int i = 0; i < v->rank && n < (int)sizeof(t.s); i++)
        n += snprintf(t.s + n, sizeof(t.s) - (size_t)n, "%s%lld", i ? "," : "",
                      (long long)v->dim[i]);
    if (n < (int)sizeof(t.s)) snprintf(t.s + n, sizeof(t.s) - (size_t)n, "]");
    return t;
}
