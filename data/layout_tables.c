/* The tables: their name on the left, ours on the right. */
#include "data/layout.h"

#include "engine/base/status.h"

#define RULE(their_name, our_name, ...)                                                            \
    {                                                                                              \
        .theirs = (their_name), .ours = (our_name), __VA_ARGS__                                    \
    }

/* -- Stable Diffusion's UNet in files of LDM (CompVis). Attention has the same names inside. */

static const nn_name_rule unet_resnet[] = {
    RULE("in_layers.0.", "norm1."),
    RULE("in_layers.2.", "conv1."),
    RULE("emb_layers.1.", "time_emb_proj."),
    RULE("out_layers.0.", "norm2."),
    RULE("out_layers.3.", "conv2."),
    RULE("skip_connection.", "conv_shortcut."),
    { 0 },
};

static const nn_name_rule ldm_unet[] = {
    RULE("time_embed.0.", "time_embedding.linear_1."),
    RULE("time_embed.2.", "time_embedding.linear_2."),
    RULE("input_blocks.0.0.", "conv_in."),
    RULE("input_blocks.{i}.0.op.", "down_blocks.{b}.downsamplers.0.conv."),
    RULE("input_blocks.{i}.0.", "down_blocks.{b}.resnets.{j}.", .inside = unet_resnet),
    RULE("input_blocks.{i}.1.", "down_blocks.{b}.attentions.{j}."),
    RULE("middle_block.0.", "mid_block.resnets.0.", .inside = unet_resnet),
    RULE("middle_block.1.", "mid_block.attentions.0."),
    RULE("middle_block.2.", "mid_block.resnets.1.", .inside = unet_resnet),
    RULE("output_blocks.{o}.2.conv.", "up_blocks.{b}.upsamplers.0.conv.", .when = NN_RULE_ATTENDS),
    RULE("output_blocks.{o}.1.conv.", "up_blocks.{b}.upsamplers.0.conv.", .when = NN_RULE_PLAIN),
    RULE("output_blocks.{o}.0.", "up_blocks.{b}.resnets.{j}.", .inside = unet_resnet),
    RULE("output_blocks.{o}.1.", "up_blocks.{b}.attentions.{j}."),
    RULE("out.0.", "conv_norm_out."),
    RULE("out.2.", "conv_out."),
    { 0 },
};

/* -- its autoencoder */

static const nn_name_rule vae_resnet[] = { RULE("nin_shortcut.", "conv_shortcut."), { 0 } };

static const nn_name_rule vae_attention[] = {
    RULE("norm.", "group_norm."),
    RULE("q.", "to_q.", .rank = 4),
    RULE("k.", "to_k.", .rank = 4),
    RULE("v.", "to_v.", .rank = 4),
    RULE("proj_out.", "to_out.0.", .rank = 4),
    { 0 },
};

static const nn_name_rule ldm_vae[] = {
    RULE("encoder.conv_in.", "encoder.conv_in."),
    RULE("encoder.down.{b}.block.{j}.", "encoder.down_blocks.{b}.resnets.{j}.",
         .inside = vae_resnet),
    RULE("encoder.down.{b}.downsample.conv.", "encoder.down_blocks.{b}.downsamplers.0.conv."),
    RULE("encoder.mid.block_1.", "encoder.mid_block.resnets.0.", .inside = vae_resnet),
    RULE("encoder.mid.attn_1.", "encoder.mid_block.attentions.0.", .inside = vae_attention),
    RULE("encoder.mid.block_2.", "encoder.mid_block.resnets.1.", .inside = vae_resnet),
    RULE("encoder.norm_out.", "encoder.conv_norm_out."),
    RULE("encoder.conv_out.", "encoder.conv_out."),
    RULE("quant_conv.", "quant_conv."),
    RULE("post_quant_conv.", "post_quant_conv."),
    RULE("decoder.conv_in.", "decoder.conv_in."),
    RULE("decoder.mid.block_1.", "decoder.mid_block.resnets.0.", .inside = vae_resnet),
    RULE("decoder.mid.attn_1.", "decoder.mid_block.attentions.0.", .inside = vae_attention),
    RULE("decoder.mid.block_2.", "decoder.mid_block.resnets.1.", .inside = vae_resnet),
    RULE("decoder.up.{r}.block.{j}.", "decoder.up_blocks.{b}.resnets.{j}.", .inside = vae_resnet),
    RULE("decoder.up.{r}.upsample.conv.", "decoder.up_blocks.{b}.upsamplers.0.conv."),
    RULE("decoder.norm_out.", "decoder.conv_norm_out."),
    RULE("decoder.conv_out.", "decoder.conv_out."),
    { 0 },
};

/* Attention as diffusers named it until 2023. */
static const nn_name_rule old_attention[] = {
    RULE("query.", "to_q."),
    RULE("key.", "to_k."),
    RULE("value.", "to_v."),
    RULE("proj_attn.", "to_out.0."),
    { 0 },
};

static const nn_name_rule old_vae[] = {
    RULE("encoder.mid_block.attentions.0.", "encoder.mid_block.attentions.0.",
         .inside = old_attention),
    RULE("decoder.mid_block.attentions.0.", "decoder.mid_block.attentions.0.",
         .inside = old_attention),
    RULE("", ""),
    { 0 },
};

/* -- CLIP's text encoder as transformers 5 holds it in memory */

static const nn_name_rule bare_text[] = { RULE("", "text_model."), { 0 } };

/* -- BLIP in the files of its authors (Salesforce) */

static const nn_name_rule vit_block[] = {
    RULE("attn.qkv.", "self_attn.qkv."),
    RULE("attn.proj.", "self_attn.projection."),
    RULE("norm1.", "layer_norm1."),
    RULE("norm2.", "layer_norm2."),
    { 0 },
};

static const nn_name_rule salesforce_blip[] = {
    RULE("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    RULE("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
    RULE("visual_encoder.patch_embed.proj.", "vision_model.embeddings.patch_embedding."),
    RULE("visual_encoder.blocks.{b}.", "vision_model.encoder.layers.{b}.", .inside = vit_block),
    RULE("visual_encoder.norm.", "vision_model.post_layernorm."),
    RULE("text_decoder.", "text_decoder."),
    { 0 },
};

#define TEXT_SIGN "embeddings.token_embedding.weight"
#define LDM_TEXT  "cond_stage_model.transformer."

const nn_layout nn_layouts[] = {
    { "diffusers", NN_NETWORK_UNET, "", "time_embedding.linear_1.weight", NULL },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.", "time_embed.0.weight", ldm_unet },
    { "diffusers (old)", NN_NETWORK_VAE, "", "decoder.mid_block.attentions.0.query.weight",
      old_vae },
    { "diffusers", NN_NETWORK_VAE, "", "decoder.mid_block.attentions.0.to_q.weight", NULL },
    { "ldm", NN_NETWORK_VAE, "first_stage_model.", "decoder.mid.attn_1.q.weight", ldm_vae },
    { "ldm (alone)", NN_NETWORK_VAE, "", "decoder.mid.attn_1.q.weight", ldm_vae },
    { "transformers", NN_NETWORK_TEXT, "", "text_model." TEXT_SIGN, NULL },
    { "transformers 5", NN_NETWORK_TEXT, "", TEXT_SIGN, bare_text },
    { "ldm", NN_NETWORK_TEXT, LDM_TEXT, "text_model." TEXT_SIGN, NULL },
    { "ldm (bare)", NN_NETWORK_TEXT, LDM_TEXT, TEXT_SIGN, bare_text },
    { "transformers", NN_NETWORK_BLIP, "", "vision_model.encoder.layers.0.self_attn.qkv.weight",
      NULL },
    { "salesforce", NN_NETWORK_BLIP, "", "visual_encoder.blocks.0.attn.qkv.weight",
      salesforce_blip },
};
const int nn_layout_count = NN_COUNT(nn_layouts);

const nn_network_names nn_names_of[NN_NETWORK_COUNT] = {
    [NN_NETWORK_UNET] = { .layer = "down_blocks.0.resnets.%d.norm1.weight",
                          .step = "down_blocks.%d.downsamplers.0.conv.weight",
                          .attention = "up_blocks.%d.attentions.0.norm.weight",
                          .rank = { { ".proj_in.weight", 4 }, { ".proj_out.weight", 4 } } },
    [NN_NETWORK_VAE] = { .layer = "encoder.down_blocks.0.resnets.%d.norm1.weight",
                         .step = "encoder.down_blocks.%d.downsamplers.0.conv.weight",
                         .rank = { { ".to_q.weight", 2 },
                                   { ".to_k.weight", 2 },
                                   { ".to_v.weight", 2 },
                                   { ".to_out.0.weight", 2 } } },
    [NN_NETWORK_TEXT] = { .idle = { ".position_ids" } },
    [NN_NETWORK_BLIP] = { .tied = "text_decoder.cls.predictions.decoder.weight",
                          .same_as = "text_decoder.bert.embeddings.word_embeddings.weight",
                          .twin = "text_decoder.cls.predictions.decoder.bias",
                          .twin_of = "text_decoder.cls.predictions.bias",
                          .idle = { ".position_ids" } },
};
