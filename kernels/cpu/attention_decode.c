/* Attention of few queries, as when text is generated token by token.
 *
 * attention_f32_decode: a thread owns one query of one head. Lanes run along D, so that k and v are
 * read once, in order, and no lane waits for a query that is not there. The row of scores is kept
 * whole. The last vector of a row overlaps the one before where D is not a multiple of the lanes.
 */
#include "kernels/cpu/attention_decode.h"

#include <math.h>

#include "kernels/cpu/attention_tile.h"

enum { Q, K, V, MASK };
enum { Y, LSE };
enum { CHUNK = 4 }; /* vectors of y that are summed at once */

static const float HIDDEN = -1e30f;
static const float LOWEST = -1e20f;
static const float LOG2_E = 1.44269504f, LN_2 = 0.69314718f;

/* Lane i of the result is the sum of the lanes of x[i]: each round adds the halves of two vectors
 * into one. */
NN_INLINE nn_vf sums(nn_vf x[NN_LANES])
{
    for (int half = NN_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            x[i] = nn_zip_low(x[i], x[i + half]) + nn_zip_high(x[i], x[i + half]);
    return x[0];
}

/* The products of q with NN_LANES rows of k; rows beyond the last of n repeat it. */
static nn_vf dots(const float *q, nn_attn_rows k, int64_t n, int64_t depth)
{
    const float *row[NN_LANES];
    nn_vf acc[NN_LANES];
    for (int i = 0; i < NN_LANES; i++) {
        row[i] = k.x + (i < n ? i : n - 1) * k.stride;
        acc[i] = nn_set(0);
    }
    int64_t d = 0;
    for (; d + NN_LANES <= depth; d += NN_LANES) {
        nn_vf x = nn_load(q + d);
        for (int i = 0; i < NN_LANES; i++) acc[i] += x * nn_load(row[i] + d);
    }
    if (d < depth) {
        int64_t last = depth - NN_LANES;
        nn_vf x = nn_load(q + last);
        for (int i = 0; i < d - last; i++) x[i] = 0; /* these have been counted */
        for (int i = 0; i < NN_LANES; i++) acc[i] += x * nn_load(row[i] + last);
    }
    return sums(acc);
}

/* y = factor * sum over n rows of p[row] * v[row] */
static void weigh(const float *p, nn_attn_rows v, int64_t n, int64_t depth, float factor, float *y)
{
    for (int64_t d = 0; d < depth; d += CHUNK * NN_LANES) {
        int64_t at[CHUNK];
        nn_vf acc[CHUNK];
        for (int i = 0; i < CHUNK; i++) {
            at[i] = nn_min(d + i * NN_LANES, depth - NN_LANES);
            acc[i] = nn_set(0);
        }
        for (int64_t j = 0; j < n; j++)
            for (int i = 0; i < CHUNK; i++) acc[i] += p[j] * nn_load(v.x + j * v.stride + at[i]);
        for (int i = 0; i < CHUNK; i++) nn_store(y + at[i], acc[i] * factor);
    }
}

/* Of the first n keys of sample b, those up to the last one that the mask shows: a cache has much
 * room behind what has been written. */
static int64_t shown(const nn_view *mask, int64_t b, int64_t n)
{
    if (!nn_present(mask)) return n;
    const int32_t *row = (const int32_t *)mask->data + b * mask->stride[0];
    while (n > 0 && row[(n - 1) * mask->stride[1]] == 0) n--;
    return n;
}

static void attend_one(const nn_call *c, int64_t b, int64_t h, int64_t i, float *p)
{
    const nn_attention_params *params = c->params;
    const nn_view *q = &c->in[Q], *mask = &c->in[MASK];
    int64_t heads = q->dim[2], depth = q->dim[3];
    nn_attn_rows x = nn_attn_rows_from(nn_attn_rows_at(q, b, h), i);
    nn_attn_rows k = nn_attn_rows_at(&c->in[K], b, h);
    int64_t n = shown(mask, b, nn_attn_reach(params, i, q->dim[1], c->in[K].dim[1]));
    nn_vf largest = nn_set(LOWEST), sum = nn_set(0);
    for (int64_t j = 0; j < n; j += NN_LANES) {
        nn_vf s =
            dots(x.x, nn_attn_rows_from(k, j), n - j, depth) * ((float)params->scale * LOG2_E);
        nn_store(p + j, s);
        for (int64_t l = 0; l < NN_LANES; l++)
            if (j + l >= n ||
                (nn_present(mask) &&
                 ((const int32_t *)mask->data)[b * mask->stride[0] + (j + l) * mask->stride[1]] ==
                     0))
                p[j + l] = HIDDEN;
        largest = nn_vmax(largest, nn_load(p + j));
    }
    float top = nn_hmax(largest);
    for (int64_t j = 0; j < n; j += NN_LANES) {
        nn_vf e = nn_attn_exp2(nn_load(p + j) - top);
        sum += e;
        nn_store(p + j, e);
    }
    float total = nn_hsum(sum);
    weigh(p, nn_attn_rows_at(&c->in[V], b, h), n, depth, total > 0 ? 1 / total : 0,
          (float *)c->out[Y].data + ((b * q->dim[1] + i) * heads + h) * depth);
    ((float *)c->out[LSE].data)[(b * heads + h) * q->dim[1] + i] =
        total > 0 ? top * LN_2 + logf(total) : -INFINITY;
}

static int64_t score_floats(const nn_call *c)
{
    return (c->in[K].dim[1] + 31) / 16 * 16;
}

static void attend_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    int64_t n_q = c->in[Q].dim[1], heads = c->in[Q].dim[2];
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / n_q;
        attend_one(c, head / heads, head % heads, i % n_q,
                   (float *)c->workspace + thread * score_floats(c));
    }
}

bool NN_CPU_NAME(attention_decode_accepts)(const nn_call *c)
{
    const nn_view *q = &c->in[Q];
    return q->dim[1] <= NN_LANES / 2 && q->dim[3] >= NN_LANES && nn_attn_operand(q) &&
           nn_attn_operand(&c->in[K]) && nn_attn_operand(&c->in[V]) &&
           nn_view_contiguous(&c->out[Y]) && nn_view_contiguous(&c->out[LSE]);
}

size_t NN_CPU_NAME(attention_decode_workspace)(const nn_call *c)
{
    return (size_t)(nn_pool_threads(c->pool) * score_floats(c)) * sizeof(float);
}

nn_status NN_CPU_NAME(attention_decode_run)(const nn_call *c)
{
    nn_call call = *c;
    nn_pool_for(c->pool, c->in[Q].dim[0] * c->in[Q].dim[1] * c->in[Q].dim[2], 1, attend_range,
                &call);
    return NN_OK;
}
