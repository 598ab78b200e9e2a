/* BLIP's text decoder: BERT with the norms behind, causal, with cross-attention to the image in
 * every layer. Source: transformers BlipTextLMHeadModel. */
#ifndef MODELS_TEXT_DECODER_H
#define MODELS_TEXT_DECODER_H

#include "data/json.h"
#include "engine/nn.h"

enum { TEXT_DECODER_MAX_LAYERS = 48 };

typedef struct text_decoder_config {
    int64_t vocab_size, hidden_size, intermediate_size, encoder_width, max_positions;
    int n_layers, heads;
    nn_act act;
    double eps,
        dropout; /* of embeddings, attention output and feed-forward output, while training */
    double label_smoothing;
    int32_t bos, eos, pad; /* [DEC], [SEP], [PAD] */
    bool tied;             /* the output matrix is the word embedding */
} text_decoder_config;

/* A published text_config; keys that are absent have the values of BLIP base. */
nn_status text_decoder_config_parse(const nn_json *json, text_decoder_config *out) NN_CHECKED;
text_decoder_config text_decoder_config_blip_base(void);

/* Keys and values kept between decoding steps, outside of any graph: per layer self [rows, room, H,
 * D] and cross [images, tokens, H, D]. rows = images * beams. */
typedef struct text_cache {
    int64_t images, beams, room, tokens;
    nn_dtype dtype; /* that the graphs compute in */
    void *self_k[TEXT_DECODER_MAX_LAYERS], *self_v[TEXT_DECODER_MAX_LAYERS];
    void *cross_k[TEXT_DECODER_MAX_LAYERS], *cross_v[TEXT_DECODER_MAX_LAYERS];
} text_cache;

/* All positions at once: ids [B, T], key_mask [B, T] (0 = pad; NULL = none), image [B, S, D] ->
 * logits [B, T, V]. */
nn_tensor *text_decoder(nn_scope s, const text_decoder_config *c, nn_tensor *ids,
                        nn_tensor *key_mask, nn_tensor *image);

/* Write every layer's cross-attention keys and values for image [images, S, D] into the cache. */
void text_decoder_prefill(nn_scope s, const text_decoder_config *c, nn_tensor *image,
                          const text_cache *cache);

/* One position: ids [rows, 1], position [1] (i32), seen [rows, room] (i32, 1 for the positions up
 * to this one) -> logits [rows, V]. Self keys and values are written into the cache at `position`.
 */
nn_tensor *text_decoder_step(nn_scope s, const text_decoder_config *c, nn_tensor *ids,
                             nn_tensor *position, nn_tensor *seen, const text_cache *cache);

#endif
