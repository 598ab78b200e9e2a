/* The published networks at full size: as many tensors and parameters as their weight files hold,
 * under the names that stand there. No memory is reserved. */
#include <string.h>

#include "tests/unit/engine_check.h"

#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"

typedef struct network {
    nn_graph *g;
    nn_params *params;
    nn_scope root;
} network;

static network open_network(const char *root)
{
    network n;
    OK(nn_params_create(&n.params));
    OK(nn_graph_create(&n.g));
    n.root = nn_root(n.g, n.params, root);
    return n;
}

static void close_network(network *n, int64_t tensors, int64_t elements)
{
    OK(nn_graph_status(n->g));
    assert_int_equal(n->params->n, tensors);
    assert_int_equal(nn_params_count(n->params), elements);
    nn_graph_destroy(n->g);
    nn_params_destroy(n->params);
}

static void has(const network *n, const char *name, int rank, const int64_t *dim)
{
    const nn_param *p = nn_params_find(n->params, name);
    if (!p) {
        fail_msg("no tensor %s", name);
        return;
    }
    assert_int_equal(p->view.rank, rank);
    assert_memory_equal(p->view.dim, dim, (size_t)rank * sizeof(*dim));
}

static void test_unet(void **state)
{
    (void)state;
    network n = open_network("");
    unet_config c = unet_config_sd14();
    unet(n.root, &c, nn_input(n.g, "x", NN_F32, NN_DIMS(1, 64, 64, 4)),
         nn_input(n.g, "t", NN_F32, NN_DIMS(1)),
         nn_input(n.g, "context", NN_F32, NN_DIMS(1, 77, 768)), false);
    has(&n, "conv_in.weight", NN_DIMS(320, 4, 3, 3));
    has(&n, "time_embedding.linear_1.weight", NN_DIMS(1280, 320));
    has(&n, "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", NN_DIMS(640, 768));
    has(&n, "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
        NN_DIMS(2560, 320));
    has(&n, "mid_block.attentions.0.proj_in.weight", NN_DIMS(1280, 1280, 1, 1));
    has(&n, "up_blocks.3.resnets.0.conv_shortcut.weight", NN_DIMS(320, 960, 1, 1));
    close_network(&n, 686, 859520964);
}

static void test_vae(void **state)
{
    (void)state;
    network n = open_network("");
    vae_config c = vae_config_sd14();
    vae_encode(n.root, &c, nn_input(n.g, "image", NN_F32, NN_DIMS(1, 64, 64, 3)));
    vae_decode(n.root, &c, nn_input(n.g, "latent", NN_F32, NN_DIMS(1, 8, 8, 4)));
    has(&n, "encoder.conv_out.weight", NN_DIMS(8, 512, 3, 3));
    has(&n, "quant_conv.weight", NN_DIMS(8, 8, 1, 1));
    has(&n, "decoder.conv_in.weight", NN_DIMS(512, 4, 3, 3));
    close_network(&n, 248, 83653863);
}

static void test_clip_text(void **state)
{
    (void)state;
    network n = open_network("text_model");
    clip_text_config c = clip_text_config_sd14();
    clip_text(n.root, &c, nn_input(n.g, "ids", NN_I32, NN_DIMS(1, 77)), false);
    has(&n, "text_model.embeddings.token_embedding.weight", NN_DIMS(49408, 768));
    has(&n, "text_model.embeddings.position_embedding.weight", NN_DIMS(77, 768));
    has(&n, "text_model.encoder.layers.11.mlp.fc1.weight", NN_DIMS(3072, 768));
    close_network(&n, 196, 123060480);
}

static void build_blip(network *n, bool tied)
{
    captioner_config c = captioner_config_blip_base();
    c.text.tied = tied;
    nn_tensor *image =
        captioner_encode(n->root, &c, nn_input(n->g, "pixels", NN_F32, NN_DIMS(1, 384, 384, 3)));
    captioner_logits(n->root, &c, image, nn_input(n->g, "ids", NN_I32, NN_DIMS(1, 20)), NULL);
    has(n, "vision_model.embeddings.patch_embedding.weight", NN_DIMS(768, 3, 16, 16));
    has(n, "vision_model.embeddings.position_embedding", NN_DIMS(1, 577, 768));
    has(n, "text_decoder.bert.encoder.layer.11.crossattention.self.key.weight", NN_DIMS(768, 768));
}

static void test_blip(void **state)
{
    (void)state;
    network n = open_network("");
    build_blip(&n, false);
    has(&n, "text_decoder.cls.predictions.decoder.weight", NN_DIMS(30524, 768));
    close_network(&n, 472, 247414076);
    n = open_network(""); /* tied: the output matrix is the word embedding */
    build_blip(&n, true);
    close_network(&n, 471, 247414076 - 30524 * 768);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unet),
        cmocka_unit_test(test_vae),
        cmocka_unit_test(test_clip_text),
        cmocka_unit_test(test_blip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
