/* Attention, forward: attention_f32_flash. See attention_flash.h. */
#include "kernels/cpu/attention_bf16.h"
#include "kernels/cpu/attention_decode.h"
#include "kernels/cpu/attention_flash.h"

/* Turn n rows of scores into 2^(score - largest), and scale down what was summed under a smaller
 * maximum. */
static void softmax_block(const nn_attn_group *g, int64_t n, int64_t depth, float *scores)
{
    for (int v = 0; v < g->vecs; v++) {
        float *column = scores + v * NN_LANES;
        nn_vf before = nn_load(g->largest + v * NN_LANES), largest = before, sum = nn_set(0);
        for (int64_t j = 0; j < n; j++)
            largest = nn_vmax(largest, nn_load(column + j * NN_ATTN_COLUMNS));
        for (int64_t j = 0; j < n; j++) {
            nn_vf p = nn_attn_exp2(nn_load(column + j * NN_ATTN_COLUMNS) - largest);
            sum += p;
            nn_store(column + j * NN_ATTN_COLUMNS, p);
        }
        nn_attn_rescale(g, v, depth, largest, nn_attn_exp2(before - largest), sum);
    }
}

static void add(const nn_attn_head *at, const nn_attn_group *g, int64_t key, int64_t n,
                float *scores)
{
    nn_attn_dot(nn_attn_rows_from(at->k, key), n, g->panel, at->depth, g->vecs, scores);
    NN_CPU_NAME(attention_hide)(at, g, key, n, scores);
    softmax_block(g, n, at->depth, scores);
    nn_attn_sum(nn_attn_rows_from(at->v, key), n, scores, at->depth, g->vecs, g->acc);
}

/* Scores come out to base 2. */
static void pack(const nn_attn_head *at, const nn_attn_group *g)
{
    nn_attn_pack(nn_attn_rows_from(at->q, g->first), g->n, at->depth,
                 (float)at->p->scale * NN_ATTN_LOG2_E, g->panel);
}

static nn_status run(const nn_call *c)
{
    static const nn_attn_way f32 = { pack, add };
    NN_CPU_NAME(attention_flash_run)(c, &f32);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(attention)[] = {
    { .name = "attention_f32_decode",
      .accepts = NN_CPU_NAME(attention_decode_accepts),
      .run = NN_CPU_NAME(attention_decode_run),
      .workspace = NN_CPU_NAME(attention_decode_workspace) },
#ifdef NN_CPU_BF16
    { .name = "attention_bf16_flash",
      .accepts = NN_CPU_NAME(attention_bf16_accepts),
      .run = NN_CPU_NAME(attention_bf16_run),
      .workspace = NN_CPU_NAME(attention_bf16_workspace) },
#endif
    { .name = "attention_f32_flash",
      .accepts = NN_CPU_NAME(attention_flash_accepts),
      .run = run,
      .workspace = NN_CPU_NAME(attention_flash_workspace) },
    { 0 }
};
