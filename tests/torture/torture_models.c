/* Folders of models, and a corpus as latents, while memory and files fail. */
#include "tests/torture/torture.h"

#include "data/clip_bpe.h"
#include "engine/weights.h"
#include "models/captioner_folder.h"
#include "models/stable_diffusion.h"
#include "tools/cli_internal.h"
#include "tools/latents.h"

enum { PIXELS = 8, PICTURES = 3 };

static nn_device *device;
static sd_model model;
static captioner_folder captioner;

/* -- Stable Diffusion */

static nn_status open_model(void)
{
    sd_model m;
    uint64_t saved, loaded;
    NN_TRY(nn_params_hash(model.params, &saved));
    NN_TRY(sd_model_open(scratch("sd"), device, SD_LOAD, 1, true, &m));
    nn_status status = nn_params_hash(m.params, &loaded);
    sd_model_close(&m);
    NN_TRY(status);
    return loaded == saved ? NN_OK : nn_fail(NN_FORMAT, "other weights than those that were saved");
}

static nn_status draw_model(void)
{
    sd_model m;
    NN_TRY(sd_model_open(scratch("sd"), device, SD_SCRATCH, 1, false, &m));
    sd_model_close(&m);
    return NN_OK;
}

static nn_status save_model(void)
{
    return sd_model_save(&model, scratch("sd"), scratch("saved"));
}

static const char *const folders[] = { "unet", "text_encoder", "vae", "scheduler", "tokenizer" };

/* What is there is whole: weights open, and copies have the size of the original. */
static void look_at_part(const char *part)
{
    char **names;
    int64_t n;
    char folder[128], path[256], original[256];
    snprintf(folder, sizeof(folder), "%s/%s", scratch("saved"), part);
    torture_no_leftovers(folder);
    if (nn_file_list(folder, &names, &n) != NN_OK) return;
    for (int64_t i = 0; i < n; i++) {
        nn_map copy, from;
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        snprintf(original, sizeof(original), "%s/%s/%s", scratch("sd"), part, names[i]);
        assert_int_equal(nn_map_open(path, &copy), NN_OK);
        assert_int_equal(nn_map_open(original, &from), NN_OK);
        assert_int_equal(copy.size, from.size);
        assert_memory_equal(copy.data, from.data, (size_t)copy.size);
        nn_map_close(&copy);
        nn_map_close(&from);
        assert_int_equal(nn_file_remove(path), NN_OK);
    }
    nn_file_list_free(names, n);
}

static void look_at_saved(void)
{
    for (int i = 0; i < NN_COUNT(folders); i++) look_at_part(folders[i]);
}

/* -- latents */

static nn_status use_latents(void)
{
    static const trainer_ranks alone = { .n = 1 };
    nn_shard_report report = { 0 };
    nn_shards *shards = NULL;
    nn_status status = nn_shards_open(scratch("pictures.tar"), NULL, &report, &shards);
    for (int i = 0; i < 2 && status == NN_OK; i++) { /* computed, then from the file */
        nn_cache *latents;
        status = latents_of_shards(&model, device, shards, PIXELS, scratch("latents"), &alone,
                                   &report, &latents);
        if (status != NN_OK) break;
        if (nn_cache_count(latents) != PICTURES) status = nn_fail(NN_FORMAT, "latents are missing");
        nn_cache_close(latents);
    }
    nn_shards_close(shards);
    nn_shard_report_free(&report);
    return status;
}

static void look_at_latents(void)
{
    if (!nn_file_exists(scratch("latents"))) return;
    assert_int_equal(use_latents(), NN_OK);
    assert_int_equal(nn_file_remove(scratch("latents")), NN_OK);
}

/* -- the captioner */

static nn_status open_captioner(void)
{
    captioner_folder f;
    NN_TRY(captioner_folder_open(scratch("captioner"), device, false, &f));
    captioner_folder_close(&f);
    NN_TRY(captioner_folder_draw(scratch("captioner"), scratch("sd/tokenizer"), device, 1, &f));
    captioner_folder_close(&f);
    return NN_OK;
}

static nn_status save_captioner(void)
{
    return captioner_folder_save(&captioner, scratch("again"));
}

static void remove_files(const char *folder)
{
    char **names, path[512];
    int64_t n;
    if (nn_file_list(folder, &names, &n) != NN_OK) return;
    for (int64_t i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        remove(path);
    }
    nn_file_list_free(names, n);
    rmdir(folder);
}

static void look_at_captioner(void)
{
    captioner_folder f;
    torture_no_leftovers(scratch("again"));
    if (nn_file_exists(scratch("again/model.safetensors"))) { /* it is written last */
        assert_int_equal(captioner_folder_open(scratch("again"), device, false, &f), NN_OK);
        captioner_folder_close(&f);
    }
    remove_files(scratch("again"));
}

/* -- the tests */

static const torture opening[] = { { open_model, NULL },
                                   { draw_model, NULL },
                                   { open_captioner, NULL } };
static const torture writing[] = { { save_model, look_at_saved },
                                   { save_captioner, look_at_captioner },
                                   { use_latents, look_at_latents } };

static void allocation_fails(void **state)
{
    (void)state;
    for (int i = 0; i < NN_COUNT(opening); i++) torture_all(&opening[i], NN_FAULT_NONE, 50);
    for (int i = 0; i < NN_COUNT(writing); i++) torture_all(&writing[i], NN_FAULT_NONE, 10);
}

static void reading_fails(void **state)
{
    (void)state;
    for (int i = 0; i < NN_COUNT(opening); i++) torture_all(&opening[i], NN_FAULT_READ, 4);
    for (int i = 0; i < NN_COUNT(writing); i++) torture_all(&writing[i], NN_FAULT_READ, 1);
}

static void writing_fails(void **state)
{
    (void)state;
    for (int i = 0; i < NN_COUNT(writing); i++) {
        torture_all(&writing[i], NN_FAULT_WRITE, 1);
        torture_all(&writing[i], NN_FAULT_RENAME, 1);
    }
}

/* -- what is there at first */

static const char unet_json[] =
    "{\"sample_size\": 4, \"in_channels\": 4, \"out_channels\": 4, \"block_out_channels\": [8],"
    " \"layers_per_block\": 1, \"down_block_types\": [\"CrossAttnDownBlock2D\"],"
    " \"up_block_types\": [\"CrossAttnUpBlock2D\"], \"attention_head_dim\": 2,"
    " \"cross_attention_dim\": 8, \"norm_num_groups\": 4}";
static const char text_json[] =
    "{\"vocab_size\": 520, \"hidden_size\": 8, \"intermediate_size\": 8, \"num_hidden_layers\": 1,"
    " \"num_attention_heads\": 2, \"max_position_embeddings\": 8, \"hidden_act\": \"quick_gelu\"}";
static const char vae_json[] =
    "{\"in_channels\": 3, \"out_channels\": 3, \"latent_channels\": 4,"
    " \"block_out_channels\": [8, 8], \"layers_per_block\": 1, \"norm_num_groups\": 4,"
    " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
    " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}";
static const char noise_json[] = "{\"beta_schedule\": \"scaled_linear\"}";
static const char captioner_json[] =
    "{\"model_type\": \"blip\", \"caption_columns\": [\"alt\"], \"caption_prefixes\": [\"a\"],"
    " \"vision_config\": {\"image_size\": 8, \"patch_size\": 4, \"hidden_size\": 8,"
    "  \"intermediate_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 2},"
    " \"text_config\": {\"hidden_size\": 8, \"intermediate_size\": 8, \"num_hidden_layers\": 1,"
    "  \"num_attention_heads\": 2, \"max_position_embeddings\": 16}}";

static nn_status write_text(const char *name, const char *text)
{
    return nn_file_write(scratch(name), text, (int64_t)strlen(text));
}

/* The codec's weights, which must be there before a model can be drawn. */
static nn_status write_codec(void)
{
    sd_model m = { 0 };
    nn_graph *g;
    nn_params *params;
    NN_TRY(sd_model_configure(scratch("sd"), scratch("sd"), &m));
    NN_TRY(nn_params_create(&params));
    NN_TRY(nn_graph_create(&g));
    nn_scope root = nn_root(g, params, "");
    vae_encode(root, &m.vae, nn_input(g, "image", NN_F32, NN_DIMS(1, PIXELS, PIXELS, 3)));
    vae_decode(root, &m.vae, nn_input(g, "latent", NN_F32, NN_DIMS(1, 1, 1, 4)));
    NN_TRY(nn_graph_status(g));
    nn_graph_destroy(g);
    NN_TRY(nn_params_alloc(params, device, false));
    NN_TRY(nn_params_init(params, 1));
    NN_TRY(nn_params_save(params, scratch("sd/vae/diffusion_pytorch_model.safetensors"), NULL, 0,
                          NN_F32));
    nn_params_destroy(params);
    sd_model_close(&m);
    return NN_OK;
}

static nn_status write_pictures(void)
{
    nn_shard_writer *w;
    NN_TRY(nn_shard_writer_open_file(scratch("pictures.tar"), &w));
    for (int i = 0; i < PICTURES; i++) {
        nn_image image;
        nn_text png = { 0 };
        char key[8];
        snprintf(key, sizeof(key), "%d", i);
        NN_TRY(nn_image_create(PIXELS + i, PIXELS, &image)); /* the second is resized */
        NN_TRY(nn_image_encode_png(&image, NULL, 0, &png));
        NN_TRY(nn_shard_writer_add(w, &(nn_sample){ .key = key,
                                                    .format = "png",
                                                    .image = { png.text, png.length },
                                                    .alt = { "a", 1 } }));
        nn_text_free(&png);
        nn_image_free(&image);
    }
    return nn_shard_writer_close(w);
}

static nn_status make_all(void)
{
    static const char *const texts[] = { "a red cube", "two red cubes", "a blue sphere" };
    NN_TRY(nn_device_open("cpu", 1, &device));
    for (int i = 0; i < NN_COUNT(folders); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", scratch("sd"), folders[i]);
        NN_TRY(nn_file_make_dir(path));
    }
    NN_TRY(nn_file_make_dir(scratch("captioner")));
    NN_TRY(write_text("sd/unet/config.json", unet_json));
    NN_TRY(write_text("sd/text_encoder/config.json", text_json));
    NN_TRY(write_text("sd/vae/config.json", vae_json));
    NN_TRY(write_text("sd/scheduler/scheduler_config.json", noise_json));
    NN_TRY(write_text("captioner/config.json", captioner_json));
    NN_TRY(nn_clip_bpe_train(texts, NN_COUNT(texts), 520, scratch("sd/tokenizer")));
    NN_TRY(write_codec());
    NN_TRY(write_pictures());
    NN_TRY(sd_model_open(scratch("sd"), device, SD_SCRATCH, 1, false, &model));
    NN_TRY(sd_model_save(&model, scratch("sd"), scratch("sd")));
    NN_TRY(captioner_folder_draw(scratch("captioner"), scratch("sd/tokenizer"), device, 1,
                                 &captioner));
    return captioner_folder_save(&captioner, scratch("captioner"));
}

static int open_all(void **state)
{
    if (torture_make(state) != 0) return -1;
    nn_cli_quiet(true);
    if (make_all() != NN_OK) fail_msg("%s", nn_error_message());
    return 0;
}

static int close_all(void **state)
{
    sd_model_close(&model);
    captioner_folder_close(&captioner);
    nn_device_close(device);
    for (int i = 0; i < NN_COUNT(folders); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", scratch("sd"), folders[i]);
        remove_files(path);
        snprintf(path, sizeof(path), "%s/%s", scratch("saved"), folders[i]);
        remove_files(path);
    }
    remove_files(scratch("captioner"));
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_fails),
        cmocka_unit_test(reading_fails),
        cmocka_unit_test(writing_fails),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
