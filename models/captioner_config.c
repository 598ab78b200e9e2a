/* BLIP's configuration as JSON. */
#include "models/block/config.h"
#include "models/captioner.h"

static nn_status write_vision(const vit_config *v, nn_text *out)
{
    char eps[NN_JSON_REAL], position_std[NN_JSON_REAL];
    return nn_text_add(out,
                       "  \"vision_config\": {\n"
                       "    \"model_type\": \"blip_vision_model\",\n"
                       "    \"image_size\": %lld,\n"
                       "    \"patch_size\": %lld,\n"
                       "    \"hidden_size\": %lld,\n"
                       "    \"intermediate_size\": %lld,\n"
                       "    \"num_hidden_layers\": %d,\n"
                       "    \"num_attention_heads\": %d,\n"
                       "    \"hidden_act\": \"%s\",\n"
                       "    \"layer_norm_eps\": %s,\n"
                       "    \"position_init_std\": %s\n"
                       "  },\n",
                       (long long)v->image_size, (long long)v->patch_size,
                       (long long)v->hidden_size, (long long)v->intermediate_size, v->n_layers,
                       v->heads, config_activation_name(v->act), nn_json_real(v->eps, eps),
                       nn_json_real(v->position_std, position_std));
}

static nn_status write_text(const text_decoder_config *t, nn_text *out)
{
    char eps[NN_JSON_REAL], dropout[NN_JSON_REAL], smoothing[NN_JSON_REAL];
    return nn_text_add(
        out,
        "  \"text_config\": {\n"
        "    \"model_type\": \"blip_text_model\",\n"
        "    \"vocab_size\": %lld,\n"
        "    \"hidden_size\": %lld,\n"
        "    \"intermediate_size\": %lld,\n"
        "    \"encoder_hidden_size\": %lld,\n"
        "    \"max_position_embeddings\": %lld,\n"
        "    \"num_hidden_layers\": %d,\n"
        "    \"num_attention_heads\": %d,\n"
        "    \"hidden_act\": \"%s\",\n"
        "    \"layer_norm_eps\": %s,\n"
        "    \"hidden_dropout_prob\": %s,\n"
        "    \"label_smoothing\": %s,\n"
        "    \"bos_token_id\": %d,\n"
        "    \"sep_token_id\": %d,\n"
        "    \"pad_token_id\": %d,\n"
        "    \"tie_word_embeddings\": %s\n"
        "  },\n",
        (long long)t->vocab_size, (long long)t->hidden_size, (long long)t->intermediate_size,
        (long long)t->encoder_width, (long long)t->max_positions, t->n_layers, t->heads,
        config_activation_name(t->act), nn_json_real(t->eps, eps),
        nn_json_real(t->dropout, dropout), nn_json_real(t->label_smoothing, smoothing), t->bos,
        t->eos, t->pad, t->tied ? "true" : "false");
}

nn_status captioner_config_write(const captioner_config *c, nn_text *out)
{
    NN_TRY(write_vision(&c->vision, out));
    NN_TRY(write_text(&c->text, out));
    return nn_text_add(out, "  \"tie_word_embeddings\": %s,\n", c->text.tied ? "true" : "false");
}
