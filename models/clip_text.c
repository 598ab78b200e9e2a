/* CLIP's text encoder: a causal transformer with the norms in front. */
#include "models/clip_text.h"

#include "models/block/config.h"
#include "models/block/layers.h"

clip_text_config clip_text_config_sd14(void)
{
    return (clip_text_config){ .vocab_size = 49408,
                               .hidden_size = 768,
                               .intermediate_size = 3072,
                               .max_positions = 77,
                               .n_layers = 12,
                               .heads = 12,
                               .act = NN_ACT_QUICK_GELU,
                               .eps = 1e-5,
                               .embedding_init_std = 0.02 };
}

nn_status clip_text_config_parse(const nn_json *json, clip_text_config *out)
{
    clip_text_config c = clip_text_config_sd14();
    NN_TRY(nn_json_int64(json, "vocab_size", &c.vocab_size));
    NN_TRY(nn_json_int64(json, "hidden_size", &c.hidden_size));
    NN_TRY(nn_json_int64(json, "intermediate_size", &c.intermediate_size));
    NN_TRY(nn_json_int64(json, "max_position_embeddings", &c.max_positions));
    NN_TRY(nn_json_int(json, "num_hidden_layers", &c.n_layers));
    NN_TRY(nn_json_int(json, "num_attention_heads", &c.heads));
    NN_TRY(nn_json_double(json, "layer_norm_eps", &c.eps));
    NN_TRY(nn_json_double(json, "embedding_init_std", &c.embedding_init_std));
    NN_TRY(config_activation(json, "hidden_act", &c.act));
    NN_TRY(config_check_heads(json, c.hidden_size, c.heads));
    *out = c;
    return NN_OK;
}

/* Both add to what they come from. */

static nn_tensor *self_attention(nn_scope s, const clip_text_config *c, nn_tensor *x,
                                 nn_tensor *residual)
{
    const nn_scope at[] = { nn_at(s, "q_proj"), nn_at(s, "k_proj"), nn_at(s, "v_proj") };
    nn_tensor *part[3]; /* [B, T, C] */
    linear_split(3, at, x, c->hidden_size, BIAS, part);
    nn_tensor *y =
        nn_attention(s.g, split_heads(s.g, part[0], c->heads), split_heads(s.g, part[1], c->heads),
                     split_heads(s.g, part[2], c->heads), NULL, (nn_attend){ .causal = true });
    return linear_onto(nn_at(s, "out_proj"), join_heads(s.g, y), residual);
}

static nn_tensor *mlp(nn_scope s, const clip_text_config *c, nn_tensor *x, nn_tensor *residual)
{
    nn_tensor *h = linear(nn_at(s, "fc1"), x, c->intermediate_size, BIAS); /* [B, T, 4C] */
    h = nn_activation(s.g, h, c->act);
    return linear_onto(nn_at(s, "fc2"), h, residual); /* [B, T, C] */
}

nn_tensor *clip_text(nn_scope s, const clip_text_config *c, nn_tensor *ids, bool recompute)
{
    nn_scope e = nn_at(s, "embeddings");
    nn_tensor *x = embedding(nn_at(e, "token_embedding"), ids, c->vocab_size, c->hidden_size,
                             c->embedding_init_std); /* [B, T, C] */
    nn_tensor *positions = nn_param_at(nn_at(e, "position_embedding"), "weight",
                                       NN_NORMAL((float)c->embedding_init_std), 2,
                                       (int64_t[]){ c->max_positions, c->hidden_size });
    x = nn_add(s.g, x, nn_slice(s.g, positions, 0, 0, ids->view.dim[1]));
    for (int i = 0; i < c->n_layers; i++) {
        nn_scope l = nn_at(s, "encoder.layers.%d", i);
        if (recompute) nn_checkpoint_begin(s.g);
        nn_tensor *h = layernorm(nn_at(l, "layer_norm1"), x, c->eps);
        x = self_attention(nn_at(l, "self_attn"), c, h, x);
        h = layernorm(nn_at(l, "layer_norm2"), x, c->eps);
        x = mlp(nn_at(l, "mlp"), c, h, x);
        if (recompute) nn_checkpoint_end(s.g);
    }
    return layernorm(nn_at(s, "final_layer_norm"), x, c->eps);
}
