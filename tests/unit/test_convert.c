/* recap-convert: folders to single files and back, dtypes, what is refused. */
#include "tests/unit/engine_check.h"
#include "tests/unit/scratch.h"

#include <sys/stat.h>

#include "data/clip_bpe.h"
#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "models/stable_diffusion.h"
#include "tools/convert.h"

static const char unet_json[] =
    "{\"_class_name\": \"UNet2DConditionModel\", \"in_channels\": 4, \"out_channels\": 4,"
    " \"cross_attention_dim\": 8, \"layers_per_block\": 1, \"norm_num_groups\": 4,"
    " \"attention_head_dim\": 2, \"block_out_channels\": [8, 16],"
    " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"],"
    " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"]}";
static const char vae_json[] =
    "{\"_class_name\": \"AutoencoderKL\", \"layers_per_block\": 1, \"norm_num_groups\": 4,"
    " \"block_out_channels\": [8, 8]}";
static const char text_json[] =
    "{\"vocab_size\": 600, \"hidden_size\": 8, \"intermediate_size\": 16,"
    " \"max_position_embeddings\": 12, \"num_hidden_layers\": 2, \"num_attention_heads\": 2}";
static const char noise_json[] =
    "{\"_class_name\": \"DDIMScheduler\", \"beta_schedule\": \"scaled_linear\"}";
static const char blip_json[] =
    "{\"vision_config\": {\"image_size\": 16, \"patch_size\": 8, \"hidden_size\": 64,"
    "  \"intermediate_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 1},"
    " \"text_config\": {\"vocab_size\": 20, \"hidden_size\": 64, \"intermediate_size\": 32,"
    "  \"num_hidden_layers\": 2, \"num_attention_heads\": 1, \"max_position_embeddings\": 16,"
    "  \"tie_word_embeddings\": true}}";

static nn_device *device;

static void write_text(const char *name, const char *text)
{
    OK(nn_file_write(scratch(name), text, (int64_t)strlen(text)));
}

/* -- the models that are converted -- */

static void draw(const char *path, nn_graph *g, nn_params *p)
{
    OK(nn_graph_status(g));
    OK(nn_params_alloc(p, device, false));
    OK(nn_params_init(p, 3));
    OK(nn_params_save(p, path, NULL, 0, NN_F32));
    nn_graph_destroy(g);
    nn_params_destroy(p);
}

static nn_scope begin(nn_graph **g, nn_params **p, const char *root)
{
    OK(nn_params_create(p));
    OK(nn_graph_create(g));
    return nn_root(*g, *p, root);
}

static void make_pipeline(void)
{
    static const char *const folders[] = { "sd/unet", "sd/vae", "sd/text_encoder", "sd/scheduler" };
    static const char *const texts[] = { "a red cube", "two red cubes", "a blue sphere" };
    sd_model m = { 0 };
    nn_graph *g;
    nn_params *p;
    for (int i = 0; i < NN_COUNT(folders); i++) OK(nn_file_make_dir(scratch(folders[i])));
    write_text("sd/unet/config.json", unet_json);
    write_text("sd/vae/config.json", vae_json);
    write_text("sd/text_encoder/config.json", text_json);
    write_text("sd/scheduler/scheduler_config.json", noise_json);
    OK(nn_clip_bpe_train(texts, NN_COUNT(texts), 520, scratch("sd/tokenizer")));
    OK(sd_model_configure(scratch("sd"), scratch("sd"), &m));
    nn_scope s = begin(&g, &p, "");
    unet(s, &m.unet, nn_input(g, "x", NN_F32, NN_DIMS(1, 2, 2, 4)),
         nn_input(g, "t", NN_F32, NN_DIMS(1)), nn_input(g, "c", NN_F32, NN_DIMS(1, 1, 8)), false);
    draw(scratch("sd/unet/diffusion_pytorch_model.safetensors"), g, p);
    s = begin(&g, &p, "");
    vae_encode(s, &m.vae, nn_input(g, "image", NN_F32, NN_DIMS(1, 2, 2, 3)));
    vae_decode(s, &m.vae, nn_input(g, "code", NN_F32, NN_DIMS(1, 1, 1, 4)));
    draw(scratch("sd/vae/diffusion_pytorch_model.safetensors"), g, p);
    s = begin(&g, &p, "text_model");
    clip_text(s, &m.text, nn_input(g, "ids", NN_I32, NN_DIMS(1, 12)), false);
    draw(scratch("sd/text_encoder/model.safetensors"), g, p);
    sd_model_close(&m);
}

static void make_blip(void)
{
    captioner_config c = captioner_config_blip_base();
    nn_json json;
    nn_graph *g;
    nn_params *p;
    OK(nn_file_make_dir(scratch("blip")));
    write_text("blip/config.json", blip_json);
    write_text("blip/vocab.txt", "[PAD]\n");
    OK(nn_json_open_config(scratch("blip"), "config.json", &json));
    OK(captioner_config_parse(&json, &c));
    nn_json_close(&json);
    nn_scope s = begin(&g, &p, "");
    nn_tensor *image =
        captioner_encode(s, &c, nn_input(g, "pixels", NN_F32, NN_DIMS(1, 16, 16, 3)));
    captioner_logits(s, &c, image, nn_input(g, "ids", NN_I32, NN_DIMS(1, 4)), NULL);
    OK(nn_graph_status(g));
    OK(nn_params_alloc(p, device, false));
    OK(nn_params_init(p, 3));
    OK(nn_params_save_network(p, scratch("blip/model.safetensors"), NN_NETWORK_BLIP, NN_F32));
    nn_graph_destroy(g);
    nn_params_destroy(p);
}

/* -- conversions -- */

static nn_status try_convert(const char *in, const char *like, convert_dtype dtype, const char *out)
{
    convert_model m;
    NN_TRY(convert_open(in, like, false, &m));
    nn_status status = nn_ends_with(out, ".safetensors") ? convert_write_file(&m, dtype, true, out)
                                                         : convert_write_folder(&m, dtype, out);
    convert_close(&m);
    return status;
}

static void same_file(const char *a, const char *b)
{
    nn_map x, y;
    OK(nn_map_open(scratch(a), &x));
    OK(nn_map_open(scratch(b), &y));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, (size_t)x.size);
    nn_map_close(&x);
    nn_map_close(&y);
}

static void folder_to_file_to_folder(void **state)
{
    static const char *const files[] = { "unet/diffusion_pytorch_model.safetensors",
                                         "vae/diffusion_pytorch_model.safetensors",
                                         "text_encoder/model.safetensors",
                                         "unet/config.json",
                                         "scheduler/scheduler_config.json",
                                         "tokenizer/vocab.json",
                                         "tokenizer/merges.txt" };
    char *index;
    int64_t n;
    sd_model m;
    (void)state;
    OK(try_convert(scratch("sd"), NULL, CONVERT_KEEP, scratch("sd.safetensors")));
    OK(try_convert(scratch("sd.safetensors"), scratch("sd"), CONVERT_KEEP, scratch("again")));
    for (int i = 0; i < NN_COUNT(files); i++) {
        char a[128], b[128];
        snprintf(a, sizeof(a), "sd/%s", files[i]);
        snprintf(b, sizeof(b), "again/%s", files[i]);
        same_file(a, b);
    }
    OK(nn_file_read(scratch("again/model_index.json"), 1 << 20, &index, &n));
    assert_non_null(strstr(index, "\"scheduler\": [\"diffusers\", \"DDIMScheduler\"]"));
    nn_free(index);
    OK(sd_model_open(scratch("again"), device, SD_LOAD, 0, false, &m));
    sd_model_close(&m);
}

/* diffusers issue 6226: exported attention of the autoencoder had two dimensions, where LDM's
 * loaders want those of a 1x1 convolution. */
static void attention_is_a_convolution_in_ldm(void **state)
{
    static const char *const names[] = { "q", "k", "v", "proj_out" };
    nn_weight_file f;
    (void)state;
    OK(try_convert(scratch("sd"), NULL, CONVERT_KEEP, scratch("sd.safetensors")));
    OK(nn_safetensors_open(scratch("sd.safetensors"), &f));
    for (int i = 0; i < NN_COUNT(names); i++) {
        char name[128];
        snprintf(name, sizeof(name), "first_stage_model.encoder.mid.attn_1.%s.weight", names[i]);
        const nn_weight *t = nn_weight_file_find(&f, name);
        assert_non_null(t);
        assert_int_equal(t->rank, 4);
        assert_int_equal(t->dim[2] * t->dim[3], 1);
    }
    const nn_weight *projection =
        nn_weight_file_find(&f, "model.diffusion_model.input_blocks.1.1.proj_in.weight");
    assert_non_null(projection);
    assert_int_equal(projection->rank, 4);
    nn_weight_file_close(&f);
}

static void dtypes(void **state)
{
    static const convert_dtype dtypes[] = { CONVERT_F32, CONVERT_F16, CONVERT_BF16 };
    static const nn_st_dtype expected[] = { NN_ST_F32, NN_ST_F16, NN_ST_BF16 };
    nn_weight_file from, to;
    (void)state;
    OK(nn_safetensors_open(scratch("sd/vae/diffusion_pytorch_model.safetensors"), &from));
    for (int i = 0; i < NN_COUNT(dtypes); i++) {
        OK(try_convert(scratch("sd/vae"), NULL, dtypes[i], scratch("vae")));
        OK(nn_safetensors_open(scratch("vae/diffusion_pytorch_model.safetensors"), &to));
        assert_int_equal(to.n, from.n);
        for (int64_t k = 0; k < to.n; k++) {
            float wanted[4096];
            int64_t n = nn_min(4096, nn_weight_elements(&from.tensor[k]));
            assert_int_equal(to.tensor[k].dtype, expected[i]);
            OK(nn_weight_convert(&from.tensor[k], 0, n, expected[i], wanted));
            assert_memory_equal(to.tensor[k].data, wanted,
                                (size_t)(n * nn_st_dtype_bits(expected[i]) / 8));
        }
        nn_weight_file_close(&to);
    }
    nn_weight_file_close(&from);
}

/* A 1x1 convolution is a matrix: files have either, whatever the network here calls it. */
static void either_shape(const char *folder, const char *const *ends, int n_ends, int rank)
{
    char file[128];
    nn_weight_file f;
    int changed = 0;
    snprintf(file, sizeof(file), "%s/diffusion_pytorch_model.safetensors", folder);
    OK(nn_safetensors_open(scratch(file), &f));
    for (int64_t i = 0; i < f.n; i++)
        for (int k = 0; k < n_ends; k++) {
            nn_weight *t = &f.tensor[i];
            if (!nn_ends_with(t->name, ends[k])) continue;
            t->rank = rank;
            t->dim[2] = t->dim[3] = 1;
            changed++;
        }
    assert_true(changed >= n_ends);
    OK(nn_safetensors_write(scratch("either.safetensors"), f.tensor, f.n, NULL, 0));
    nn_weight_file_close(&f);
    OK(try_convert(scratch("either.safetensors"), scratch(folder), CONVERT_KEEP, scratch("o")));
    same_file(file, "o/diffusion_pytorch_model.safetensors");
}

static void convolutions_and_matrices(void **state)
{
    static const char *const attention[] = { ".to_q.weight", ".to_k.weight", ".to_v.weight",
                                             ".to_out.0.weight" };
    static const char *const projections[] = { ".proj_in.weight", ".proj_out.weight" };
    (void)state;
    either_shape("sd/vae", attention, 4, 4);
    either_shape("sd/unet", projections, 2, 2);
}

/* Through the weights alone: the configuration is read off their shapes. */
static void blip_by_shapes(void **state)
{
    nn_json json;
    captioner_config c;
    (void)state;
    OK(try_convert(scratch("blip/model.safetensors"), NULL, CONVERT_KEEP, scratch("shapes")));
    same_file("blip/model.safetensors", "shapes/model.safetensors");
    OK(nn_json_open_config(scratch("shapes"), "config.json", &json));
    OK(captioner_config_parse(&json, &c));
    nn_json_close(&json);
    assert_int_equal(c.vision.image_size, 16);
    assert_int_equal(c.vision.n_layers, 2);
    assert_int_equal(c.text.vocab_size, 20);
    assert_int_equal(c.text.encoder_width, 64);
    assert_true(c.text.tied);
    OK(try_convert(scratch("blip"), NULL, CONVERT_KEEP, scratch("copy")));
    same_file("blip/model.safetensors", "copy/model.safetensors");
    same_file("blip/vocab.txt", "copy/vocab.txt");
    assert_true(nn_file_exists(scratch("copy/preprocessor_config.json")));
}

/* transformers wants the bias of the output under two names; where one is missing, it draws it. */
static void bias_is_there_twice(void **state)
{
    nn_weight_file f;
    (void)state;
    OK(nn_safetensors_open(scratch("blip/model.safetensors"), &f));
    const nn_weight *a = nn_weight_file_find(&f, "text_decoder.cls.predictions.bias");
    const nn_weight *b = nn_weight_file_find(&f, "text_decoder.cls.predictions.decoder.bias");
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->bytes, b->bytes);
    assert_memory_equal(a->data, b->data, (size_t)a->bytes);
    nn_weight_file_close(&f);
}

/* A model that transformers 5 has trained untied: it computes with the second name's tensor, and
 * has left the first as it was. */
static void twin_that_differs_wins(void **state)
{
    nn_weight_file f, got;
    static float values[20];
    (void)state;
    for (int i = 0; i < NN_COUNT(values); i++) values[i] = (float)(i + 1);
    OK(nn_safetensors_open(scratch("blip/model.safetensors"), &f));
    nn_weight *twin =
        (nn_weight *)nn_weight_file_find(&f, "text_decoder.cls.predictions.decoder.bias");
    assert_int_equal(twin->bytes, sizeof(values));
    twin->data = values;
    OK(nn_safetensors_write(scratch("trained.safetensors"), f.tensor, f.n, NULL, 0));
    nn_weight_file_close(&f);
    OK(try_convert(scratch("trained.safetensors"), scratch("blip"), CONVERT_KEEP, scratch("o")));
    OK(nn_safetensors_open(scratch("o/model.safetensors"), &got));
    static const char *const names[] = { "text_decoder.cls.predictions.bias",
                                         "text_decoder.cls.predictions.decoder.bias" };
    for (int i = 0; i < NN_COUNT(names); i++)
        assert_memory_equal(nn_weight_file_find(&got, names[i])->data, values, sizeof(values));
    nn_weight_file_close(&got);
}

static void refusals(void **state)
{
    convert_model m;
    (void)state;
    expect_failure(try_convert(scratch("absent"), NULL, CONVERT_KEEP, scratch("o")), NN_NOT_FOUND,
                   "absent");
    expect_failure(try_convert(scratch("blip"), NULL, CONVERT_KEEP, scratch("o.safetensors")),
                   NN_ARGUMENT, "no layout ldm");
    expect_failure(convert_open(scratch("sd"), NULL, true, &m), NN_ARGUMENT, "averages");
    OK(convert_open(scratch("sd"), NULL, false, &m));
    expect_failure(convert_write_file(&m, CONVERT_KEEP, false, scratch("o.safetensors")),
                   NN_ARGUMENT, "holds 3 networks");
    convert_close(&m);
    /* The heads of a small network do not follow from shapes, nor do its groups. */
    OK(try_convert(scratch("sd"), NULL, CONVERT_KEEP, scratch("sd.safetensors")));
    expect_failure(try_convert(scratch("sd.safetensors"), NULL, CONVERT_KEEP, scratch("o")),
                   NN_FORMAT, "cannot be cut into 32 groups");
    /* A configuration of another network. */
    OK(nn_file_make_dir(scratch("wrong")));
    const char *vae = scratch("sd/vae/diffusion_pytorch_model.safetensors");
    write_text("wrong/config.json", "{\"block_out_channels\": [16, 16], \"layers_per_block\": 1,"
                                    " \"norm_num_groups\": 4}");
    expect_failure(try_convert(vae, scratch("wrong"), CONVERT_KEEP, scratch("o")), NN_SHAPE,
                   "is [8,3,3,3], the model expects [16,3,3,3]");
    vae = scratch("sd/vae/diffusion_pytorch_model.safetensors");
    write_text("wrong/config.json", "{\"block_out_channels\": [8, 16], \"layers_per_block\": 1,"
                                    " \"norm_num_groups\": 4}");
    expect_failure(try_convert(vae, scratch("wrong"), CONVERT_KEEP, scratch("o")), NN_NOT_FOUND,
                   "has no tensor 'encoder.down_blocks.1.resnets.0.conv_shortcut.weight' "
                   "[16,8,1,1]");
}

/* A pipeline with parts that are not known here. */
static void other_parts(void **state)
{
    static const char index[] =
        "{\"_class_name\": \"StableDiffusionPipeline\", \"_diffusers_version\": \"0.2.2\","
        " \"safety_checker\": [\"stable_diffusion\", \"StableDiffusionSafetyChecker\"],"
        " \"feature_extractor\": [\"transformers\", \"CLIPImageProcessor\"],"
        " \"image_encoder\": [null, null], \"unet\": [\"diffusers\", \"UNet2DConditionModel\"]}";
    static const char *const expected[] = {
        "\"safety_checker\": [\"stable_diffusion\", \"StableDiffusionSafetyChecker\"]",
        "\"feature_extractor\": [null, null]", /* its folder is not there */
        "\"image_encoder\": [null, null]", "\"requires_safety_checker\": true",
        "\"scheduler\": [\"diffusers\", \"DDIMScheduler\"]"
    };
    char *written;
    int64_t n;
    (void)state;
    OK(nn_file_make_dir(scratch("sd/safety_checker")));
    write_text("sd/model_index.json", index);
    write_text("sd/safety_checker/config.json", "{}");
    write_text("sd/safety_checker/pytorch_model.bin", "not looked at");
    OK(try_convert(scratch("sd"), NULL, CONVERT_F16, scratch("with")));
    same_file("sd/safety_checker/config.json", "with/safety_checker/config.json");
    same_file("sd/safety_checker/pytorch_model.bin", "with/safety_checker/pytorch_model.bin");
    OK(nn_file_read(scratch("with/model_index.json"), 1 << 20, &written, &n));
    for (int i = 0; i < NN_COUNT(expected); i++) assert_non_null(strstr(written, expected[i]));
    nn_free(written);
    /* The same from the folder that lends, and nothing from one without an index. */
    OK(try_convert(scratch("sd"), NULL, CONVERT_KEEP, scratch("sd.safetensors")));
    OK(try_convert(scratch("sd.safetensors"), scratch("sd"), CONVERT_KEEP, scratch("lent")));
    same_file("with/model_index.json", "lent/model_index.json");
    same_file("sd/safety_checker/config.json", "lent/safety_checker/config.json");
    remove(scratch("sd/model_index.json"));
    OK(try_convert(scratch("sd"), NULL, CONVERT_KEEP, scratch("without")));
    assert_false(nn_file_exists(scratch("without/safety_checker")));
    OK(nn_file_read(scratch("without/model_index.json"), 1 << 20, &written, &n));
    assert_non_null(strstr(written, "\"requires_safety_checker\": false"));
    nn_free(written);
}

static int make_all(void **state)
{
    if (scratch_make(state) != 0) return -1;
    OK(nn_device_open("ref", 1, &device));
    make_pipeline();
    make_blip();
    return 0;
}

/* The scratch directory has directories in it. */
static void empty(const char *folder)
{
    char **names, path[600];
    int64_t n;
    OK(nn_file_list(folder, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        struct stat info;
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) empty(path);
        remove(path);
    }
    nn_file_list_free(names, n);
}

static int remove_all(void **state)
{
    empty(scratch_path);
    nn_device_close(device);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder_to_file_to_folder),
        cmocka_unit_test(attention_is_a_convolution_in_ldm),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(convolutions_and_matrices),
        cmocka_unit_test(bias_is_there_twice),
        cmocka_unit_test(twin_that_differs_wins),
        cmocka_unit_test(blip_by_shapes),
        cmocka_unit_test(refusals),
        cmocka_unit_test(other_parts),
    };
    return cmocka_run_group_tests(tests, make_all, remove_all);
}
