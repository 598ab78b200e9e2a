/* Shapes to configurations. */
#include "models/published.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"

enum { HEAD_WIDTH = 64 }; /* of CLIP's and BLIP's transformers; shapes do not show it */

const char published_schedule[] =
    "{\n  \"_class_name\": \"PNDMScheduler\",\n  \"beta_start\": 0.00085,\n"
    "  \"beta_end\": 0.012,\n  \"beta_schedule\": \"scaled_linear\",\n"
    "  \"num_train_timesteps\": 1000,\n  \"set_alpha_to_one\": false,\n"
    "  \"skip_prk_steps\": true,\n  \"steps_offset\": 1,\n  \"trained_betas\": null,\n"
    "  \"clip_sample\": false\n}\n";

/* -- from shapes -- */

/* Dimension i of the tensor whose name has the number in it; 0 = there is none. */
__attribute__((format(printf, 3, 4))) static int64_t dim_of(const nn_weights *w, int i,
                                                            const char *fmt, ...)
{
    char name[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    const nn_weight *t = nn_weights_find(w, name);
    return t && i < t->rank ? t->dim[i] : 0;
}

static void infer_unet(const nn_weights *w, unet_config *c)
{
    int n = 0;
    for (; n < UNET_MAX_BLOCKS; n++) {
        int64_t width = dim_of(w, 0, "down_blocks.%d.resnets.0.conv1.weight", n);
        if (!width) break;
        c->block_out_channels[n] = width;
        c->heads[n] = c->heads[0];
        c->down_cross[n] = dim_of(w, 0, "down_blocks.%d.attentions.0.norm.weight", n) != 0;
        c->up_cross[n] = dim_of(w, 0, "up_blocks.%d.attentions.0.norm.weight", n) != 0;
    }
    c->n_blocks = n ? n : c->n_blocks;
    c->layers_per_block = 0;
    while (dim_of(w, 0, "down_blocks.0.resnets.%d.conv1.weight", c->layers_per_block))
        c->layers_per_block++;
    c->in_channels = dim_of(w, 1, "conv_in.weight");
    c->out_channels = dim_of(w, 0, "conv_out.weight");
    c->cross_attention_dim =
        dim_of(w, 1, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight");
}

static void infer_vae(const nn_weights *w, vae_config *c)
{
    int n = 0;
    for (; n < VAE_MAX_BLOCKS; n++) {
        int64_t width = dim_of(w, 0, "encoder.down_blocks.%d.resnets.0.conv1.weight", n);
        if (!width) break;
        c->block_out_channels[n] = width;
    }
    c->n_blocks = n ? n : c->n_blocks;
    c->layers_per_block = 0;
    while (dim_of(w, 0, "encoder.down_blocks.0.resnets.%d.conv1.weight", c->layers_per_block))
        c->layers_per_block++;
    c->latent_channels = dim_of(w, 0, "post_quant_conv.weight");
}

static void infer_text(const nn_weights *w, clip_text_config *c)
{
    c->vocab_size = dim_of(w, 0, "text_model.embeddings.token_embedding.weight");
    c->hidden_size = dim_of(w, 1, "text_model.embeddings.token_embedding.weight");
    c->max_positions = dim_of(w, 0, "text_model.embeddings.position_embedding.weight");
    c->intermediate_size = dim_of(w, 0, "text_model.encoder.layers.0.mlp.fc1.weight");
    for (c->n_layers = 0; dim_of(w, 0, "text_model.encoder.layers.%d.mlp.fc1.weight", c->n_layers);)
        c->n_layers++;
    c->heads = (int)nn_max(1, c->hidden_size / HEAD_WIDTH);
}

static void infer_vision(const nn_weights *w, vit_config *c)
{
    c->hidden_size = dim_of(w, 0, "vision_model.embeddings.patch_embedding.weight");
    c->patch_size = dim_of(w, 2, "vision_model.embeddings.patch_embedding.weight");
    int64_t tokens = dim_of(w, 1, "vision_model.embeddings.position_embedding");
    c->image_size = c->patch_size * (int64_t)lround(sqrt((double)nn_max(0, tokens - 1)));
    c->intermediate_size = dim_of(w, 0, "vision_model.encoder.layers.0.mlp.fc1.weight");
    for (c->n_layers = 0;
         dim_of(w, 0, "vision_model.encoder.layers.%d.mlp.fc1.weight", c->n_layers);)
        c->n_layers++;
    c->heads = (int)nn_max(1, c->hidden_size / HEAD_WIDTH);
}

#define BERT "text_decoder.bert."

static bool same_bytes(const nn_weight *a, const nn_weight *b)
{
    return a && b && a->bytes == b->bytes && a->dtype == b->dtype &&
           (a->data == b->data || memcmp(a->data, b->data, (size_t)a->bytes) == 0);
}

static void infer_decoder(const nn_weights *w, text_decoder_config *c)
{
    const nn_network_names *names = &nn_names_of[NN_NETWORK_BLIP];
    c->vocab_size = dim_of(w, 0, BERT "embeddings.word_embeddings.weight");
    c->hidden_size = dim_of(w, 1, BERT "embeddings.word_embeddings.weight");
    c->max_positions = dim_of(w, 0, BERT "embeddings.position_embeddings.weight");
    c->intermediate_size = dim_of(w, 0, BERT "encoder.layer.0.intermediate.dense.weight");
    c->encoder_width = dim_of(w, 1, BERT "encoder.layer.0.crossattention.self.key.weight");
    for (c->n_layers = 0;
         dim_of(w, 0, BERT "encoder.layer.%d.intermediate.dense.weight", c->n_layers);)
        c->n_layers++;
    c->heads = (int)nn_max(1, c->hidden_size / HEAD_WIDTH);
    c->tied = same_bytes(nn_weights_find(w, names->tied), nn_weights_find(w, names->same_as));
}

/* -- as JSON -- */

static nn_status add_list(nn_text *out, const char *key, const int64_t *values, int n)
{
    NN_TRY(nn_text_add(out, "  \"%s\": [", key));
    for (int i = 0; i < n; i++)
        NN_TRY(nn_text_add(out, "%s%lld", i ? ", " : "", (long long)values[i]));
    return nn_text_add(out, "],\n");
}

static nn_status add_blocks(nn_text *out, const char *key, const char *with, const char *without,
                            const bool *cross, int n)
{
    NN_TRY(nn_text_add(out, "  \"%s\": [", key));
    for (int i = 0; i < n; i++)
        NN_TRY(nn_text_add(out, "%s\"%s\"", i ? ", " : "", !cross || cross[i] ? with : without));
    return nn_text_add(out, "],\n");
}

static nn_status describe_unet(const unet_config *c, nn_text *out)
{
    char eps[NN_JSON_REAL];
    NN_TRY(nn_text_add(out,
                       "{\n  \"_class_name\": \"UNet2DConditionModel\",\n"
                       "  \"in_channels\": %lld,\n  \"out_channels\": %lld,\n"
                       "  \"sample_size\": %lld,\n  \"cross_attention_dim\": %lld,\n"
                       "  \"attention_head_dim\": %d,\n  \"layers_per_block\": %d,\n"
                       "  \"norm_num_groups\": %d,\n  \"norm_eps\": %s,\n",
                       (long long)c->in_channels, (long long)c->out_channels,
                       (long long)c->sample_size, (long long)c->cross_attention_dim, c->heads[0],
                       c->layers_per_block, c->norm_num_groups, nn_json_real(c->norm_eps, eps)));
    NN_TRY(add_list(out, "block_out_channels", c->block_out_channels, c->n_blocks));
    NN_TRY(add_blocks(out, "down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", c->down_cross,
                      c->n_blocks));
    NN_TRY(add_blocks(out, "up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", c->up_cross,
                      c->n_blocks));
    return nn_text_add(out, "  \"act_fn\": \"silu\",\n  \"flip_sin_to_cos\": true,\n"
                            "  \"freq_shift\": 0\n}\n");
}

static nn_status describe_vae(const vae_config *c, nn_text *out)
{
    char scaling_factor[NN_JSON_REAL];
    NN_TRY(nn_text_add(out,
                       "{\n  \"_class_name\": \"AutoencoderKL\",\n"
                       "  \"in_channels\": %lld,\n  \"out_channels\": %lld,\n"
                       "  \"latent_channels\": %lld,\n  \"layers_per_block\": %d,\n"
                       "  \"norm_num_groups\": %d,\n  \"scaling_factor\": %s,\n",
                       (long long)c->in_channels, (long long)c->out_channels,
                       (long long)c->latent_channels, c->layers_per_block, c->norm_num_groups,
                       nn_json_real(c->scaling_factor, scaling_factor)));
    NN_TRY(add_list(out, "block_out_channels", c->block_out_channels, c->n_blocks));
    NN_TRY(add_blocks(out, "down_block_types", "DownEncoderBlock2D", NULL, NULL, c->n_blocks));
    NN_TRY(add_blocks(out, "up_block_types", "UpDecoderBlock2D", NULL, NULL, c->n_blocks));
    return nn_text_add(out, "  \"act_fn\": \"silu\",\n  \"sample_size\": 512\n}\n");
}

static nn_status describe_text(const clip_text_config *c, nn_text *out)
{
    char eps[NN_JSON_REAL];
    return nn_text_add(
        out,
        "{\n  \"architectures\": [\"CLIPTextModel\"],\n  \"model_type\": \"clip_text_model\",\n"
        "  \"vocab_size\": %lld,\n  \"hidden_size\": %lld,\n  \"intermediate_size\": %lld,\n"
        "  \"max_position_embeddings\": %lld,\n  \"num_hidden_layers\": %d,\n"
        "  \"num_attention_heads\": %d,\n  \"hidden_act\": \"quick_gelu\",\n"
        "  \"layer_norm_eps\": %s,\n  \"projection_dim\": %lld,\n  \"bos_token_id\": 0,\n"
        "  \"eos_token_id\": 2,\n  \"pad_token_id\": 1\n}\n",
        (long long)c->vocab_size, (long long)c->hidden_size, (long long)c->intermediate_size,
        (long long)c->max_positions, c->n_layers, c->heads, nn_json_real(c->eps, eps),
        (long long)c->hidden_size);
}

static nn_status describe_blip(const captioner_config *c, nn_text *out)
{
    NN_TRY(nn_text_add(out, "{\n  \"architectures\": [\"BlipForConditionalGeneration\"],\n"));
    NN_TRY(captioner_config_write(c, out));
    return nn_text_add(out, "  \"model_type\": \"blip\"\n}\n");
}

/* -- both -- */

nn_status published_config(const nn_weights *w, nn_network network, nn_text *json)
{
    unet_config u = unet_config_sd14();
    vae_config v = vae_config_sd14();
    clip_text_config t = clip_text_config_sd14();
    captioner_config b = captioner_config_blip_base();
    switch (network) {
    case NN_NETWORK_UNET:
        infer_unet(w, &u);
        return describe_unet(&u, json);
    case NN_NETWORK_VAE:
        infer_vae(w, &v);
        return describe_vae(&v, json);
    case NN_NETWORK_TEXT:
        infer_text(w, &t);
        return describe_text(&t, json);
    default:
        infer_vision(w, &b.vision);
        infer_decoder(w, &b.text);
        return describe_blip(&b, json);
    }
}
