/* A Stable Diffusion folder of a few kilobytes with random weights, in the scratch directory. */
#ifndef TESTS_UNIT_SMALL_SD_H
#define TESTS_UNIT_SMALL_SD_H

#include "tests/unit/scratch.h"

#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "models/stable_diffusion.h"

/* Latents have half (SMALL_SD_STRIDE) of the picture's sides; a window has 6 words. */
enum { SMALL_SD_STRIDE = 2, SMALL_SD_WORDS = 6 };

static const char small_sd_unet[] =
    "{\"sample_size\": 8, \"in_channels\": 4, \"out_channels\": 4, \"block_out_channels\": [8, 16],"
    " \"layers_per_block\": 1, \"attention_head_dim\": 2, \"cross_attention_dim\": 8,"
    " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"],"
    " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"], \"norm_num_groups\": 4}";
static const char small_sd_text[] =
    "{\"vocab_size\": 600, \"hidden_size\": 8, \"intermediate_size\": 16, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 2, \"max_position_embeddings\": 8, \"hidden_act\": \"quick_gelu\","
    " \"embedding_init_std\": 0.5}";
static const char small_sd_vae[] =
    "{\"in_channels\": 3, \"out_channels\": 3, \"latent_channels\": 4,"
    " \"block_out_channels\": [8, 8], \"layers_per_block\": 1, \"norm_num_groups\": 4}";
static const char *const small_sd_folders[] = { "unet",      "text_encoder", "vae",
                                                "scheduler", "tokenizer",    "" };

static inline char *small_sd_path(const char *dir, const char *name)
{
    char *path = nn_format("%s/%s", dir, name);
    assert_non_null(path);
    return path;
}

static inline void small_sd_file(const char *dir, const char *name, const char *text)
{
    char *path = small_sd_path(dir, name);
    assert_int_equal(nn_file_write(path, text, (int64_t)strlen(text)), NN_OK);
    nn_free(path);
}

static inline void small_sd_codec(const char *dir, nn_device *device)
{
    sd_model m = { 0 };
    nn_graph *g;
    char *path = small_sd_path(dir, "vae/diffusion_pytorch_model.safetensors");
    assert_int_equal(sd_model_configure(dir, dir, &m), NN_OK);
    assert_int_equal(nn_params_create(&m.vae_params), NN_OK);
    assert_int_equal(nn_graph_create(&g), NN_OK);
    nn_scope root = nn_root(g, m.vae_params, "");
    vae_encode(root, &m.vae, nn_input(g, "image", NN_F32, NN_DIMS(1, 8, 8, 3)));
    vae_decode(root, &m.vae, nn_input(g, "latent", NN_F32, NN_DIMS(1, 4, 4, 4)));
    assert_int_equal(nn_graph_status(g), NN_OK);
    nn_graph_destroy(g);
    assert_int_equal(nn_params_alloc(m.vae_params, device, false), NN_OK);
    assert_int_equal(nn_params_init(m.vae_params, 2), NN_OK);
    assert_int_equal(nn_params_save(m.vae_params, path, NULL, 0, NN_F32), NN_OK);
    nn_free(path);
    sd_model_close(&m);
}

/* The config.json of each network, and scheduler_config.json. */
typedef struct small_sd {
    const char *unet, *text, *vae, *scheduler;
} small_sd;

/* Write the folder. The device computes in f32. */
static inline void small_sd_write_as(const char *dir, const small_sd *as, nn_device *device)
{
    static const char *const texts[] = { "a red cube",       "a red cube", "two blue spheres",
                                         "two blue spheres", "green",      "green" };
    char *path;
    sd_model m;
    for (int i = 0; i < NN_COUNT(small_sd_folders); i++) {
        path = small_sd_path(dir, small_sd_folders[i]);
        assert_int_equal(nn_file_make_dir(path), NN_OK);
        nn_free(path);
    }
    small_sd_file(dir, "unet/config.json", as->unet);
    small_sd_file(dir, "text_encoder/config.json", as->text);
    small_sd_file(dir, "vae/config.json", as->vae);
    small_sd_file(dir, "scheduler/scheduler_config.json", as->scheduler);
    path = small_sd_path(dir, "tokenizer");
    assert_int_equal(nn_clip_bpe_train(texts, NN_COUNT(texts), 600, path), NN_OK);
    nn_free(path);
    small_sd_codec(dir, device);
    assert_int_equal(sd_model_open(dir, device, SD_SCRATCH, 1, false, &m), NN_OK);
    assert_int_equal(sd_model_save(&m, dir, dir), NN_OK);
    sd_model_close(&m);
}

static inline void small_sd_write(const char *dir, const char *scheduler, nn_device *device)
{
    const small_sd as = { small_sd_unet, small_sd_text, small_sd_vae, scheduler };
    small_sd_write_as(dir, &as, device);
}

/* One whose UNet fills in pictures: 9 channels. */
static inline void small_sd_write_filler(const char *dir, nn_device *device)
{
    char unet[sizeof(small_sd_unet)];
    memcpy(unet, small_sd_unet, sizeof(unet));
    char *channels = strstr(unet, "\"in_channels\": 4");
    assert_non_null(channels);
    channels[strlen("\"in_channels\": ")] = '9';
    const small_sd as = { unet, small_sd_text, small_sd_vae,
                          "{\"beta_schedule\": \"scaled_linear\"}" };
    small_sd_write_as(dir, &as, device);
}

/* Remove the files of a folder, and it. */
static inline void small_sd_remove_flat(const char *path)
{
    char **names;
    int64_t n;
    if (nn_file_list(path, &names, &n) != NN_OK) return;
    for (int64_t i = 0; i < n; i++) {
        char *file = small_sd_path(path, names[i]);
        remove(file);
        nn_free(file);
    }
    nn_file_list_free(names, n);
    rmdir(path);
}

static inline void small_sd_remove(const char *dir)
{
    for (int i = 0; i < NN_COUNT(small_sd_folders); i++) {
        char *path = small_sd_path(dir, small_sd_folders[i]);
        small_sd_remove_flat(path);
        nn_free(path);
    }
}

#endif
