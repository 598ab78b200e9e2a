/* Names of the published networks in every layout, both ways, at full size and at others; and files
 * in one layout read back as another. */
#include <string.h>

#include "tests/unit/engine_check.h"
#include "tests/unit/scratch.h"

#include "data/safetensors.h"
#include "data/weights.h"
#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"

/* The parameters of a network, declared by a graph that nobody runs. */
typedef struct network {
    nn_network kind;
    nn_graph *g;
    nn_params *params;
    nn_net_size size;
} network;

static network begin(nn_network kind)
{
    network n = { .kind = kind };
    OK(nn_params_create(&n.params));
    OK(nn_graph_create(&n.g));
    return n;
}

static network make_unet(const unet_config *c)
{
    network n = begin(NN_NETWORK_UNET);
    int64_t side = 1 << (c->n_blocks - 1);
    unet(nn_root(n.g, n.params, ""), c,
         nn_input(n.g, "x", NN_F32, NN_DIMS(1, side, side, c->in_channels)),
         nn_input(n.g, "t", NN_F32, NN_DIMS(1)),
         nn_input(n.g, "context", NN_F32, NN_DIMS(1, 7, c->cross_attention_dim)), false);
    n.size = (nn_net_size){ .blocks = c->n_blocks, .layers = c->layers_per_block };
    for (int b = 0; b < c->n_blocks; b++) n.size.attends |= (unsigned)c->up_cross[b] << b;
    return n;
}

static network make_vae(const vae_config *c)
{
    network n = begin(NN_NETWORK_VAE);
    nn_scope root = nn_root(n.g, n.params, "");
    int64_t side = vae_stride(c);
    vae_encode(root, c, nn_input(n.g, "image", NN_F32, NN_DIMS(1, side, side, 3)));
    vae_decode(root, c, nn_input(n.g, "latent", NN_F32, NN_DIMS(1, 1, 1, c->latent_channels)));
    n.size = (nn_net_size){ .blocks = c->n_blocks, .layers = c->layers_per_block };
    return n;
}

static network make_text(const clip_text_config *c)
{
    network n = begin(NN_NETWORK_TEXT);
    nn_tensor *ids = nn_input(n.g, "ids", NN_I32, NN_DIMS(1, c->max_positions));
    clip_text(nn_root(n.g, n.params, "text_model"), c, ids, false);
    n.size.blocks = 1;
    return n;
}

static network make_blip(const captioner_config *c)
{
    network n = begin(NN_NETWORK_BLIP);
    nn_scope root = nn_root(n.g, n.params, "");
    int64_t side = c->vision.image_size;
    nn_tensor *image =
        captioner_encode(root, c, nn_input(n.g, "pixels", NN_F32, NN_DIMS(1, side, side, 3)));
    captioner_logits(root, c, image, nn_input(n.g, "ids", NN_I32, NN_DIMS(1, 4)), NULL);
    n.size.blocks = 1;
    return n;
}

static void end(network *n)
{
    nn_graph_destroy(n->g);
    nn_params_destroy(n->params);
}

/* -- small ones -- */

static unet_config small_unet(int blocks, int layers)
{
    unet_config c = unet_config_sd14();
    c.n_blocks = blocks;
    c.layers_per_block = layers;
    c.norm_num_groups = 2;
    c.cross_attention_dim = 6;
    for (int b = 0; b < blocks; b++) {
        c.block_out_channels[b] = 4 + 4 * (b > 0);
        c.heads[b] = 2;
        c.down_cross[b] = b != blocks - 1;
        c.up_cross[b] = b != 0;
    }
    return c;
}

static vae_config small_vae(int blocks, int layers)
{
    vae_config c = vae_config_sd14();
    c.n_blocks = blocks;
    c.layers_per_block = layers;
    c.norm_num_groups = 2;
    for (int b = 0; b < blocks; b++) c.block_out_channels[b] = 4 + 4 * (b > 0);
    return c;
}

static clip_text_config small_text(void)
{
    clip_text_config c = clip_text_config_sd14();
    c.vocab_size = 12;
    c.hidden_size = 6;
    c.intermediate_size = 10;
    c.max_positions = 7;
    c.n_layers = 2;
    c.heads = 2;
    return c;
}

static captioner_config small_blip(bool tied)
{
    captioner_config c = captioner_config_blip_base();
    c.vision.image_size = 8;
    c.vision.patch_size = 4;
    c.vision.hidden_size = c.text.encoder_width = 6;
    c.vision.intermediate_size = 8;
    c.vision.n_layers = c.text.n_layers = 2;
    c.vision.heads = c.text.heads = 2;
    c.text.vocab_size = 11;
    c.text.hidden_size = 4;
    c.text.intermediate_size = 8;
    c.text.max_positions = 9;
    c.text.tied = tied;
    return c;
}

/* -- names -- */

static void names_return(network n)
{
    OK(nn_graph_status(n.g));
    for (int i = 0; i < nn_layout_count; i++) {
        const nn_layout *l = &nn_layouts[i];
        nn_text theirs = { 0 }, ours = { 0 };
        for (int64_t p = 0; p < n.params->n && l->network == n.kind; p++) {
            int rank;
            bool found;
            nn_text_clear(&theirs);
            nn_text_clear(&ours);
            OK(nn_layout_theirs(l, &n.size, n.params->items[p]->name, &theirs, &rank, &found));
            if (!found) fail_msg("%s: no name for %s", l->name, n.params->items[p]->name);
            OK(nn_layout_ours(l, &n.size, theirs.text, &ours, &found));
            if (!found || strcmp(ours.text, n.params->items[p]->name) != 0)
                fail_msg("%s: %s became %s, and that %s", l->name, n.params->items[p]->name,
                         theirs.text, found ? ours.text : "nothing");
        }
        nn_text_free(&theirs);
        nn_text_free(&ours);
    }
    end(&n);
}

static void test_names_return(void **state)
{
    (void)state;
    const unet_config unet14 = unet_config_sd14();
    const vae_config vae14 = vae_config_sd14();
    const clip_text_config text14 = clip_text_config_sd14();
    const captioner_config blip = captioner_config_blip_base();
    names_return(make_unet(&unet14));
    names_return(make_vae(&vae14));
    names_return(make_text(&text14));
    names_return(make_blip(&blip));
    for (int blocks = 1; blocks <= 5; blocks++)
        for (int layers = 1; layers <= 3; layers++) {
            const unet_config u = small_unet(blocks, layers);
            const vae_config v = small_vae(blocks, layers);
            names_return(make_unet(&u));
            names_return(make_vae(&v));
        }
}

/* As CompVis' and Salesforce's code has them. */
static const struct {
    const char *layout;
    nn_network network;
    const char *theirs, *ours;
} known[] = {
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.time_embed.2.bias",
      "time_embedding.linear_2.bias" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.input_blocks.0.0.weight", "conv_in.weight" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.input_blocks.4.0.skip_connection.bias",
      "down_blocks.1.resnets.0.conv_shortcut.bias" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.input_blocks.9.0.op.weight",
      "down_blocks.2.downsamplers.0.conv.weight" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.input_blocks.11.0.in_layers.2.weight",
      "down_blocks.3.resnets.1.conv1.weight" },
    { "ldm", NN_NETWORK_UNET,
      "model.diffusion_model.input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight",
      "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.middle_block.1.proj_in.weight",
      "mid_block.attentions.0.proj_in.weight" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.middle_block.2.emb_layers.1.bias",
      "mid_block.resnets.1.time_emb_proj.bias" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.output_blocks.2.1.conv.weight",
      "up_blocks.0.upsamplers.0.conv.weight" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.output_blocks.5.2.conv.weight",
      "up_blocks.1.upsamplers.0.conv.weight" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.output_blocks.8.1.proj_out.bias",
      "up_blocks.2.attentions.2.proj_out.bias" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.output_blocks.11.0.out_layers.3.weight",
      "up_blocks.3.resnets.2.conv2.weight" },
    { "ldm", NN_NETWORK_UNET, "model.diffusion_model.out.2.weight", "conv_out.weight" },
    { "ldm", NN_NETWORK_VAE, "first_stage_model.decoder.up.3.block.0.norm1.weight",
      "decoder.up_blocks.0.resnets.0.norm1.weight" },
    { "ldm", NN_NETWORK_VAE, "first_stage_model.decoder.up.1.upsample.conv.bias",
      "decoder.up_blocks.2.upsamplers.0.conv.bias" },
    { "ldm", NN_NETWORK_VAE, "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight",
      "encoder.down_blocks.1.resnets.0.conv_shortcut.weight" },
    { "ldm", NN_NETWORK_VAE, "first_stage_model.encoder.mid.attn_1.proj_out.weight",
      "encoder.mid_block.attentions.0.to_out.0.weight" },
    { "ldm", NN_NETWORK_VAE, "first_stage_model.decoder.mid.attn_1.norm.bias",
      "decoder.mid_block.attentions.0.group_norm.bias" },
    { "diffusers (old)", NN_NETWORK_VAE, "decoder.mid_block.attentions.0.proj_attn.weight",
      "decoder.mid_block.attentions.0.to_out.0.weight" },
    { "ldm", NN_NETWORK_TEXT, "cond_stage_model.transformer.text_model.final_layer_norm.weight",
      "text_model.final_layer_norm.weight" },
    { "transformers 5", NN_NETWORK_TEXT, "encoder.layers.3.mlp.fc1.bias",
      "text_model.encoder.layers.3.mlp.fc1.bias" },
    { "salesforce", NN_NETWORK_BLIP, "visual_encoder.cls_token",
      "vision_model.embeddings.class_embedding" },
    { "salesforce", NN_NETWORK_BLIP, "visual_encoder.blocks.11.attn.proj.bias",
      "vision_model.encoder.layers.11.self_attn.projection.bias" },
    { "salesforce", NN_NETWORK_BLIP, "visual_encoder.blocks.0.mlp.fc1.weight",
      "vision_model.encoder.layers.0.mlp.fc1.weight" },
    { "salesforce", NN_NETWORK_BLIP, "visual_encoder.norm.weight",
      "vision_model.post_layernorm.weight" },
    { "salesforce", NN_NETWORK_BLIP, "text_decoder.cls.predictions.bias",
      "text_decoder.cls.predictions.bias" },
};

static void test_known_names(void **state)
{
    const nn_net_size sd14 = { .blocks = 4, .layers = 2, .attends = 14 };
    (void)state;
    for (int i = 0; i < NN_COUNT(known); i++) {
        const nn_layout *l = nn_layout_find(known[i].layout, known[i].network);
        nn_text name = { 0 };
        int rank;
        bool found;
        assert_non_null(l);
        OK(nn_layout_theirs(l, &sd14, known[i].ours, &name, &rank, &found));
        assert_true(found);
        assert_string_equal(name.text, known[i].theirs);
        nn_text_clear(&name);
        OK(nn_layout_ours(l, &sd14, known[i].theirs, &name, &found));
        assert_true(found);
        assert_string_equal(name.text, known[i].ours);
        nn_text_free(&name);
    }
}

/* -- files -- */

static const char *const *names_of(const network *n)
{
    const char **names = nn_alloc(n->params->n, sizeof(*names));
    assert_non_null(names);
    for (int64_t i = 0; i < n->params->n; i++) names[i] = n->params->items[i]->name;
    return names;
}

/* Write the weights of `from` to a file in a layout. */
static void write_as(const network *n, const nn_weights *from, const nn_layout *layout,
                     const char *path)
{
    nn_arena arena = { 0 };
    const char *const *names = names_of(n);
    nn_weight *out = nn_alloc(n->params->n, sizeof(*out));
    assert_non_null(out);
    OK(nn_weights_export(from, names, n->params->n, layout, &arena, out));
    OK(nn_safetensors_write(path, out, n->params->n, NULL, 0));
    nn_free((void *)(uintptr_t)names);
    nn_free(out);
    nn_arena_free(&arena);
}

static void same_values(const nn_weights *a, const nn_weights *b)
{
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++) {
        const nn_weight *x = a->tensor[i], *y = b->tensor[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->dim, y->dim, (size_t)x->rank * sizeof(*x->dim));
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, (size_t)x->bytes);
    }
}

/* Through every layout and back, bit for bit; and the store is filled from each. */
static void files_return(network n)
{
    nn_device *device;
    nn_weights first;
    uint64_t drawn, loaded;
    OK(nn_graph_status(n.g));
    OK(nn_device_open("ref", 1, &device));
    OK(nn_params_alloc(n.params, device, false));
    OK(nn_params_init(n.params, 5));
    OK(nn_params_hash(n.params, &drawn));
    OK(nn_params_save(n.params, scratch("ours.safetensors"), NULL, 0, NN_F32));
    OK(nn_weights_open_network(scratch("ours.safetensors"), n.kind, &first));
    for (int i = 0; i < nn_layout_count; i++) {
        nn_weights back;
        if (nn_layouts[i].network != n.kind) continue;
        write_as(&n, &first, &nn_layouts[i], scratch("theirs.safetensors"));
        OK(nn_weights_open_network(scratch("theirs.safetensors"), n.kind, &back));
        assert_ptr_equal(back.layout, &nn_layouts[i]);
        assert_int_equal(back.n_left, 0);
        same_values(&first, &back);
        nn_weights_close(&back);
        OK(nn_params_init(n.params, 6));
        OK(nn_params_load_network(n.params, scratch("theirs.safetensors"), n.kind, NULL));
        OK(nn_params_hash(n.params, &loaded));
        assert_true(drawn == loaded);
    }
    nn_weights_close(&first);
    end(&n);
    nn_device_close(device);
}

static void test_files_return(void **state)
{
    const clip_text_config text = small_text();
    const captioner_config apart = small_blip(false);
    (void)state;
    for (int blocks = 1; blocks <= 4; blocks++) {
        const unet_config u = small_unet(blocks, 1 + blocks % 3);
        const vae_config v = small_vae(blocks, 1 + blocks % 3);
        files_return(make_unet(&u));
        files_return(make_vae(&v));
    }
    files_return(make_text(&text));
    files_return(make_blip(&apart));
}

/* -- what files of other people have and lack -- */

static void draw_blip(bool tied, network *n, nn_device **device)
{
    const captioner_config c = small_blip(tied);
    *n = make_blip(&c);
    OK(nn_device_open("ref", 1, device));
    OK(nn_params_alloc(n->params, *device, false));
    OK(nn_params_init(n->params, 5));
}

/* A file without the output matrix: it is the word embedding. And one with tensors of no use. */
static void test_blip_tied_and_idle(void **state)
{
    static const int64_t ids[4] = { 0, 1, 2, 3 };
    network tied, apart;
    nn_device *device, *other;
    nn_weights w;
    int64_t extra;
    (void)state;
    draw_blip(true, &tied, &device);
    OK(nn_params_save(tied.params, scratch("tied.safetensors"), NULL, 0, NN_F32));
    OK(nn_weights_open_network(scratch("tied.safetensors"), NN_NETWORK_BLIP, &w));
    const nn_weight *out = nn_weights_find(&w, "text_decoder.cls.predictions.decoder.weight");
    assert_non_null(out);
    assert_ptr_equal(
        out->data,
        nn_weights_find(&w, "text_decoder.bert.embeddings.word_embeddings.weight")->data);
    draw_blip(false, &apart, &other);
    OK(nn_params_load_from(apart.params, &w, NULL, 0, &extra));
    assert_int_equal(extra, 0);

    nn_weight *more = nn_alloc(w.n + 3, sizeof(*more));
    int64_t n = 0;
    assert_non_null(more);
    for (; n < w.n; n++) more[n] = *w.tensor[n];
    const nn_weight *bias = nn_weights_find(&w, "text_decoder.cls.predictions.bias");
    more[n] = *bias;
    more[n++].name = "text_decoder.cls.predictions.decoder.bias";
    more[n++] = (nn_weight){
        "text_decoder.bert.embeddings.position_ids", NN_ST_I64, 2, { 1, 4 }, ids, sizeof(ids)
    };
    more[n++] = (nn_weight){ "queue", NN_ST_I64, 1, { 4 }, ids, sizeof(ids) };
    OK(nn_safetensors_write(scratch("more.safetensors"), more, n, NULL, 0));
    nn_weights_close(&w);
    OK(nn_weights_open_network(scratch("more.safetensors"), NN_NETWORK_BLIP, &w));
    OK(nn_params_load_from(apart.params, &w, NULL, 0, &extra));
    assert_int_equal(extra, 1); /* the queue */
    nn_free(more);
    nn_weights_close(&w);
    end(&tied);
    end(&apart);
    nn_device_close(device);
    nn_device_close(other);
}

/* The moving averages that LDM keeps beside the UNet. */
static void test_averages(void **state)
{
    const unet_config c = small_unet(2, 1);
    network n = make_unet(&c);
    nn_device *device;
    nn_weights raw, w;
    nn_arena arena = { 0 };
    (void)state;
    OK(nn_device_open("ref", 1, &device));
    OK(nn_params_alloc(n.params, device, false));
    OK(nn_params_init(n.params, 5));
    OK(nn_params_save(n.params, scratch("ours.safetensors"), NULL, 0, NN_F32));
    OK(nn_weights_open_network(scratch("ours.safetensors"), NN_NETWORK_UNET, &raw));
    int64_t count = n.params->n;
    const char *const *names = names_of(&n);
    nn_weight *both = nn_alloc(2 * count, sizeof(*both));
    assert_non_null(both);
    OK(nn_weights_export(&raw, names, count, nn_layout_find("ldm", NN_NETWORK_UNET), &arena, both));
    float *zeros = nn_alloc(nn_params_count(n.params), sizeof(*zeros));
    assert_non_null(zeros);
    for (int64_t i = 0; i < count; i++) { /* zeros, and the weights as their averages */
        char *name = nn_arena_format(&arena, "model_ema.%s", both[i].name + strlen("model.")), *to;
        assert_non_null(name);
        char *from = to = name + strlen("model_ema.");
        for (; *from; from++)
            if (*from != '.') *to++ = *from;
        *to = 0;
        both[count + i] = both[i];
        both[count + i].name = name;
        both[i].data = zeros;
    }
    OK(nn_safetensors_write(scratch("ema.safetensors"), both, 2 * count, NULL, 0));
    OK(nn_weights_open(scratch("ema.safetensors"), &w));
    OK(nn_weights_select(&w, NN_NETWORK_UNET, true));
    same_values(&raw, &w);
    nn_weights_close(&w);
    OK(nn_weights_open(scratch("ema.safetensors"), &w));
    OK(nn_weights_select(&w, NN_NETWORK_UNET, false));
    assert_memory_equal(w.tensor[0]->data, zeros, 4);
    nn_weights_close(&w);
    OK(nn_safetensors_write(scratch("ema.safetensors"), both, 2 * count - 1, NULL, 0));
    OK(nn_weights_open(scratch("ema.safetensors"), &w));
    expect_failure(nn_weights_select(&w, NN_NETWORK_UNET, true), NN_NOT_FOUND, "no moving average");
    nn_weights_close(&w);
    nn_weights_close(&raw);
    nn_free((void *)(uintptr_t)names);
    nn_free(both);
    nn_free(zeros);
    nn_arena_free(&arena);
    end(&n);
    nn_device_close(device);
}

static void test_errors(void **state)
{
    static const float f[12] = { 0 };
    const nn_weight wrong[] = {
        { "text_model.embeddings.token_embedding.weight", NN_ST_F32, 2, { 2, 6 }, f, 48 },
        { "encoder.odd", NN_ST_F32, 1, { 1 }, f, 4 },
    };
    const clip_text_config c = small_text();
    network n = make_text(&c);
    nn_weights w;
    (void)state;
    OK(nn_safetensors_write(scratch("w.safetensors"), wrong, 2, NULL, 0));
    OK(nn_weights_open_network(scratch("w.safetensors"), NN_NETWORK_TEXT, &w));
    expect_failure(nn_params_check(n.params, &w, NULL, 0, NULL), NN_SHAPE,
                   "'text_model.embeddings.token_embedding.weight' is [2,6], the model expects "
                   "[12,6]");
    nn_weights_close(&w);
    expect_failure(nn_weights_open_network(scratch("w.safetensors"), NN_NETWORK_UNET, &w),
                   NN_NOT_FOUND, "holds no unet, but 2 tensors of text encoder");
    OK(nn_safetensors_write(scratch("w.safetensors"), wrong + 1, 1, NULL, 0));
    expect_failure(nn_weights_open_network(scratch("w.safetensors"), NN_NETWORK_VAE, &w),
                   NN_NOT_FOUND, "no network that is known");
    OK(nn_weights_open(scratch("w.safetensors"), &w));
    expect_failure(nn_params_check(n.params, &w, NULL, 0, NULL), NN_NOT_FOUND,
                   "has no tensor 'text_model.embeddings.token_embedding.weight' [12,6]");
    nn_weights_close(&w);
    end(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_return), cmocka_unit_test(test_known_names),
        cmocka_unit_test(test_files_return), cmocka_unit_test(test_blip_tied_and_idle),
        cmocka_unit_test(test_averages),     cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
