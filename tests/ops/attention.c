/* attention: lengths around the lanes, tiles and blocks of the kernels, every way of hiding keys,
 * and operands that are views of one fused projection. */
#include "tests/ops/op_test.h"

enum { BATCH, N_Q, N_K, HEADS, DEPTH, CAUSAL, PREFIX, MASKED, FUSED, SCALE };
enum { NO_MASK, RANDOM_MASK, NOTHING_SEEN };

/* [B, T, n * H * D] as n views [B, T, H, D] */
static void project(op_case *c, int n, int64_t tokens, nn_tensor *out[])
{
    int64_t heads = c->a[HEADS], depth = c->a[DEPTH], batch = c->a[BATCH];
    nn_tensor *all = op_in(c, 3, (int64_t[]){ batch, tokens, n * heads * depth });
    nn_split(c->g, all, n, out);
    for (int i = 0; i < n; i++)
        out[i] = nn_reshape(c->g, out[i], 4, (int64_t[]){ batch, tokens, heads, depth });
}

static nn_tensor *build(op_case *c)
{
    const int64_t *a = c->a;
    int64_t q_dim[] = { a[BATCH], a[N_Q], a[HEADS], a[DEPTH] };
    int64_t k_dim[] = { a[BATCH], a[N_K], a[HEADS], a[DEPTH] };
    nn_tensor *x[3];
    if (a[FUSED] && a[N_Q] == a[N_K]) {
        project(c, 3, a[N_K], x);
    } else {
        x[0] = op_in(c, 4, q_dim);
        if (a[FUSED])
            project(c, 2, a[N_K], x + 1);
        else
            x[1] = op_in(c, 4, k_dim), x[2] = op_in(c, 4, k_dim);
    }
    nn_tensor *mask = NULL;
    double scale = a[DEPTH] % 2 ? 0.7 : (double)a[SCALE];
    if (a[MASKED])
        mask = op_ids(c, 0, a[MASKED] == RANDOM_MASK ? 2 : 1, 2, (int64_t[]){ a[BATCH], a[N_K] });
    return nn_attention(
        c->g, x[0], x[1], x[2], mask,
        (nn_attend){ .scale = scale, .causal = a[CAUSAL] != 0, .prefix = a[PREFIX] });
}

static const int64_t rows[][OP_MAX_ARGS] = {
    /* B, Tq, Tk, H, D, causal, prefix, mask, fused, scale (0 = of D) */
    { 1, 1, 1, 1, 1, 0, 0, NO_MASK, 0 },        { 2, 7, 7, 2, 5, 0, 0, NO_MASK, 1 },
    { 2, 33, 33, 2, 40, 0, 0, NO_MASK, 1 },     { 1, 31, 129, 1, 8, 0, 0, NO_MASK, 1 },
    { 1, 129, 31, 2, 17, 0, 0, NO_MASK, 0 },    { 1, 40, 77, 2, 32, 0, 0, NO_MASK, 1 },
    { 3, 1, 37, 2, 64, 0, 0, NO_MASK, 1 },      { 2, 1, 150, 2, 40, 1, 0, RANDOM_MASK, 0 },
    { 1, 3, 19, 2, 24, 1, 0, RANDOM_MASK, 0 },  { 1, 5, 5, 1, 31, 1, 0, NO_MASK, 0 },
    { 2, 64, 64, 1, 32, 1, 0, NO_MASK, 1 },     { 1, 127, 127, 1, 13, 1, 0, NO_MASK, 0 },
    { 1, 50, 50, 1, 16, 1, 20, NO_MASK, 1 },    { 1, 33, 130, 1, 16, 1, 0, NO_MASK, 0 },
    { 1, 130, 33, 1, 16, 1, 0, NO_MASK, 0 }, /* 97 queries see nothing */
    { 1, 8, 3, 1, 16, 1, 2, NO_MASK, 0 },       { 3, 35, 35, 2, 16, 0, 0, RANDOM_MASK, 0 },
    { 2, 35, 67, 1, 80, 1, 9, RANDOM_MASK, 0 }, { 2, 20, 20, 1, 16, 0, 0, NOTHING_SEEN, 0 },
    { 2, 2, 20, 1, 16, 0, 0, NOTHING_SEEN, 0 }, { 1, 16, 16, 1, 160, 0, 0, NO_MASK, 0 },
    { 1, 17, 18, 1, 96, 0, 0, NO_MASK, 0 },     { 1, 9, 10, 1, 512, 0, 0, NO_MASK, 0 },
    { 1, 45, 250, 2, 24, 0, 0, NO_MASK, 1 },   /* full blocks of keys, of two vectors and of one */
    { 1, 35, 122, 1, 8, 0, 0, NO_MASK, 1, 4 }, /* their scores far above those before them */
};

const op_test nn_test_attention = { .build = build, OP_ROWS(rows), .bf16 = true };
const op_test nn_test_attention_bwd = { .covered_by = "attention" };
