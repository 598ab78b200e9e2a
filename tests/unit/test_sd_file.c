/* Stable Diffusion as a single file: what the shapes say, where the vocabulary comes from. */
#include "tests/unit/sample_check.h"

#include "tools/convert.h"

/* What shapes do not show (heads of the UNet, groups, heads 64 wide) is as published. */
static const small_sd published = {
    "{\"block_out_channels\": [32, 64], \"layers_per_block\": 1, \"cross_attention_dim\": 64,"
    " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"],"
    " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"]}",
    "{\"vocab_size\": 600, \"hidden_size\": 64, \"intermediate_size\": 16, \"num_hidden_layers\": "
    "2,"
    " \"num_attention_heads\": 1, \"max_position_embeddings\": 8, \"hidden_act\": \"quick_gelu\","
    " \"embedding_init_std\": 0.5}",
    "{\"block_out_channels\": [32, 32], \"layers_per_block\": 1}",
    "{\"_class_name\": \"PNDMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
    " \"beta_schedule\": \"scaled_linear\", \"set_alpha_to_one\": false, \"steps_offset\": 1,"
    " \"skip_prk_steps\": true}"
};

static void write_file(const char *in, const char *out)
{
    convert_model m;
    OK(convert_open(in, NULL, false, &m));
    OK(convert_write_file(&m, CONVERT_KEEP, true, out));
    convert_close(&m);
}

static uint64_t draw_from(const char *model, const char *tokenizer)
{
    sample_settings s = settings();
    s.model = model;
    s.tokenizer = tokenizer;
    s.steps = 2;
    s.height = s.width = SIDE;
    return draw(s);
}

static void test_the_picture_of_the_folder(void **state)
{
    (void)state;
    const uint64_t of_folder = draw_from(at("sd"), NULL);
    assert_true(draw_from(at("sd.safetensors"), at("sd/tokenizer")) == of_folder);
    assert_true(draw_from(at("sd.safetensors"), at("sd/tokenizer/vocab.json")) == of_folder);
}

static void test_the_vocabulary_beside_the_file(void **state)
{
    (void)state;
    sample_settings s = settings();
    s.model = at("sd.safetensors");
    s.output = at("one.png");
    expect_failure(run(&s), NN_NOT_FOUND, "--tokenizer");
    OK(nn_file_make_dir(at("beside")));
    assert_int_equal(rename(at("sd.safetensors"), at("beside/sd.safetensors")), 0);
    assert_int_equal(rename(at("sd/tokenizer"), at("beside/tokenizer")), 0);
    const uint64_t in_folder = draw_from(at("beside/sd.safetensors"), NULL);
    static const char *const names[] = { "vocab.json", "merges.txt" };
    for (int i = 0; i < NN_COUNT(names); i++) {
        char *from = nn_format("%s/%s", at("beside/tokenizer"), names[i]);
        char *to = nn_format("%s/%s", at("beside"), names[i]);
        assert_int_equal(rename(from, to), 0);
        nn_free(from);
        nn_free(to);
    }
    assert_true(draw_from(at("beside/sd.safetensors"), NULL) == in_folder);
    small_sd_remove_flat(at("beside/tokenizer"));
    small_sd_remove_flat(at("beside"));
}

static void test_a_file_of_one_network(void **state)
{
    (void)state;
    sample_settings s = settings();
    s.model = at("sd/unet/diffusion_pytorch_model.safetensors");
    s.tokenizer = at("sd/tokenizer");
    s.output = at("one.png");
    expect_failure(run(&s), NN_NOT_FOUND, "vae");
}

static int make_file(void **state)
{
    nn_device *d;
    if (scratch_make(state) != 0) return -1;
    nn_cli_quiet(true);
    OK(nn_device_open("ref", 1, &d));
    small_sd_write_as(at("sd"), &published, d);
    nn_device_close(d);
    write_file(at("sd"), at("sd.safetensors"));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_picture_of_the_folder),
        cmocka_unit_test(test_a_file_of_one_network),
        cmocka_unit_test(test_the_vocabulary_beside_the_file), /* takes them away */
    };
    return cmocka_run_group_tests(tests, make_file, close_all);
}
