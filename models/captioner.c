/* The captioner as a graph: configuration, teacher forcing, loss. */
#include "models/captioner.h"

captioner_config captioner_config_blip_base(void)
{
    return (captioner_config){ vit_config_blip_base(), text_decoder_config_blip_base() };
}

nn_status captioner_config_parse(const nn_json *json, captioner_config *out)
{
    nn_json vision, text;
    NN_TRY(nn_json_child(json, "vision_config", &vision));
    NN_TRY(vit_config_parse(&vision, &out->vision));
    NN_TRY(nn_json_child(json, "text_config", &text));
    NN_TRY(text_decoder_config_parse(&text, &out->text));
    if (!nn_json_has(&text, "encoder_hidden_size"))
        out->text.encoder_width = out->vision.hidden_size;
    return NN_OK;
}

nn_tensor *captioner_encode(nn_scope s, const captioner_config *c, nn_tensor *pixels)
{
    return vit(nn_at(s, "vision_model"), &c->vision, pixels);
}

nn_tensor *captioner_logits(nn_scope s, const captioner_config *c, nn_tensor *image, nn_tensor *ids,
                            nn_tensor *key_mask)
{
    return text_decoder(nn_at(s, "text_decoder"), &c->text, ids, key_mask, image);
}

/* The last position predicts nothing and the first is predicted by nothing: both are cut off. */
nn_tensor *captioner_text_loss(nn_scope s, const captioner_config *c, nn_tensor *image,
                               nn_tensor *ids, nn_tensor *key_mask, nn_tensor *labels)
{
    int64_t t = ids->view.dim[1];
    nn_tensor *logits = captioner_logits(s, c, image, ids, key_mask); /* [B, T, V] */
    nn_enter(s);
    logits = nn_slice(s.g, logits, 1, 0, t - 1);
    nn_tensor *next = nn_contiguous(s.g, nn_slice(s.g, labels, 1, 1, t)); /* [B, T-1] */
    return nn_softmax_xent(s.g, logits, next, c->text.label_smoothing);
}

nn_tensor *captioner_loss(nn_scope s, const captioner_config *c, nn_tensor *pixels, nn_tensor *ids,
                          nn_tensor *key_mask, nn_tensor *labels)
{
    return captioner_text_loss(s, c, captioner_encode(s, c, pixels), ids, key_mask, labels);
}
