/* recap-relabel: columns are added, the rest is kept, and a run in pieces gives the same bytes. */
#include "tests/unit/scratch.h"

#include "data/captions.h"
#include "engine/base/alloc.h"
#include "models/captioner_folder.h"
#include "tools/relabel.h"

static const nn_command commands[] = { { .options = relabel_options, .run = relabel }, { 0 } };
static const nn_program program = { "recap-relabel", "", commands };

enum { SHARDS = 2, PER_SHARD = 5, SIDE = 16, MOST_WORDS = 32 };

static const char config_json[] =
    "{\"vision_config\": {\"image_size\": 16, \"patch_size\": 8, \"hidden_size\": 32,"
    " \"intermediate_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 2},"
    " \"text_config\": {\"hidden_size\": 32, \"intermediate_size\": 64, \"num_hidden_layers\": 1,"
    " \"num_attention_heads\": 2, \"max_position_embeddings\": 24, \"tie_word_embeddings\": true},"
    " \"caption_columns\": [\"short\", \"long\"], \"caption_prefixes\": [\"a\", \"b\"],"
    " \"caption_cleaning\": \"none\"}";

/* The exit code of a command line; a word "@name" is a path in the scratch directory. Options keep
 * their values from call to call, as the tables are static. */
static int call(const char *line)
{
    static char words[1024], paths[8][160];
    char *argv[MOST_WORDS + 1] = { NULL };
    int argc = 0, n_paths = 0;
    snprintf(words, sizeof(words), "recap-relabel %s --quiet --threads 2", line);
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (*w == '@') {
            snprintf(paths[n_paths], sizeof(paths[0]), "%s/%s", scratch_path, w + 1);
            w = paths[n_paths++];
        }
        argv[argc++] = w;
    }
    return nn_cli_main(&program, argc, argv);
}

static void add_sample(nn_shard_writer *w, int number)
{
    nn_image image;
    nn_text png = { 0 };
    char key[16], json[128];
    snprintf(key, sizeof(key), "%06d", number);
    snprintf(json, sizeof(json), "{\"captions\": {\"alt\": \"alt %d\"}, \"scene\": {\"n\": %d}}",
             number, number);
    assert_int_equal(nn_image_create(SIDE, SIDE, &image), NN_OK);
    for (int i = 0; i < SIDE * SIDE * 3; i++) image.rgb[i] = (uint8_t)(i * (7 + 13 * number));
    assert_int_equal(nn_image_encode_png(&image, NULL, 0, &png), NN_OK);
    if (number == 3) png.length /= 2; /* cannot be decoded */
    nn_sample s = { .key = key,
                    .format = "png",
                    .image = { png.text, png.length },
                    .json = { json, (int64_t)strlen(json) } };
    assert_int_equal(nn_shard_writer_add(w, &s), NN_OK);
    nn_text_free(&png);
    nn_image_free(&image);
}

static int make_world(void **state)
{
    static const char *const texts[] = { "a cat", "b dog" };
    nn_device *device;
    captioner_folder drawn;
    nn_shard_writer *w;
    if (scratch_make(state)) return -1;
    assert_int_equal(nn_clip_bpe_train(texts, 2, 520, scratch_path), NN_OK);
    scratch_write("config.json", config_json, (int64_t)strlen(config_json));
    assert_int_equal(nn_device_open("cpu", 1, &device), NN_OK);
    assert_int_equal(captioner_folder_draw(scratch_path, scratch_path, device, 3, &drawn), NN_OK);
    assert_int_equal(captioner_folder_save(&drawn, scratch_path), NN_OK);
    captioner_folder_close(&drawn);
    nn_device_close(device);
    assert_int_equal(nn_shard_writer_open(scratch("in"), PER_SHARD, &w), NN_OK);
    for (int i = 0; i < SHARDS * PER_SHARD; i++) add_sample(w, i);
    return nn_shard_writer_close(w) == NN_OK ? 0 : -1;
}

/* Removes the files of a directory in the scratch directory, and itself. */
static void remove_directory(const char *name)
{
    char **names;
    int64_t n;
    const char *dir = scratch(name);
    assert_int_equal(nn_file_list(dir, &names, &n), NN_OK);
    for (int64_t i = 0; i < n; i++) {
        char *path = nn_format("%s/%s", dir, names[i]);
        assert_int_equal(nn_file_remove(path), NN_OK);
        nn_free(path);
    }
    nn_file_list_free(names, n);
    assert_int_equal(rmdir(dir), 0);
}

static void expect_same_files(const char *a, const char *b)
{
    char **left, **right;
    int64_t n, m;
    assert_int_equal(nn_file_list(scratch(a), &left, &n), NN_OK);
    assert_int_equal(nn_file_list(scratch(b), &right, &m), NN_OK);
    assert_int_equal(n, m);
    for (int64_t i = 0; i < n; i++) {
        char path[256], *x, *y;
        int64_t nx, ny;
        assert_string_equal(left[i], right[i]);
        snprintf(path, sizeof(path), "%s/%s", a, left[i]);
        assert_int_equal(nn_file_read(scratch(path), 1 << 20, &x, &nx), NN_OK);
        snprintf(path, sizeof(path), "%s/%s", b, left[i]);
        assert_int_equal(nn_file_read(scratch(path), 1 << 20, &y, &ny), NN_OK);
        assert_int_equal(nx, ny);
        assert_memory_equal(x, y, (size_t)nx);
        nn_free(x);
        nn_free(y);
    }
    nn_file_list_free(left, n);
    nn_file_list_free(right, m);
}

#define COMMON "--input @in-{000000..000001}.tar --model @. --base-model @. --batch-size 4 "

static void test_adds_columns_and_keeps_the_rest(void **state)
{
    nn_shards *shards;
    nn_shard_report report = { .strict = true };
    (void)state;
    assert_int_equal(call(COMMON "--output @whole"), 0);
    assert_int_equal(nn_shards_open(scratch("whole/in-000000.tar"), NULL, &report, &shards), NN_OK);
    assert_int_equal(nn_shards_count(shards), PER_SHARD);
    for (int i = 0; i < PER_SHARD; i++) {
        nn_captions *c;
        char text[64];
        assert_int_equal(nn_captions_parse(nn_shards_at(shards, i), &c), NN_OK);
        snprintf(text, sizeof(text), "alt %d", i);
        assert_string_equal(nn_captions_get(c, "alt"), text);
        char *scene = nn_captions_field(c, "scene"), *info = nn_captions_field(c, "caption_info");
        assert_non_null(strstr(scene, "\"n\""));
        if (i == 3) { /* recorded, never captioned */
            assert_null(info);
        } else {
            assert_non_null(strstr(info, "\"short\""));
            assert_non_null(strstr(info, "\"long\""));
            assert_non_null(strstr(info, "\"base\""));
            assert_non_null(strstr(info, "\"logprob\""));
            assert_non_null(strstr(info, "\"model\""));
        }
        nn_free(scene);
        nn_free(info);
        nn_captions_free(c);
    }
    nn_shards_close(shards);
    assert_true(nn_file_exists(scratch("whole/in-000000.tar.errors.jsonl")));
    assert_false(nn_file_exists(scratch("whole/in-000001.tar.errors.jsonl")));
}

static void test_pieces_equal_the_whole(void **state)
{
    (void)state;
    assert_int_equal(call(COMMON "--output @pieces --max-shards 1"), 0);
    assert_true(nn_file_exists(scratch("pieces/in-000000.tar")));
    assert_false(nn_file_exists(scratch("pieces/in-000001.tar")));
    /* what a killed run leaves: a shard that was not put in its place */
    scratch_write("pieces/in-000001.tar.part-1", "half", 4);
    assert_int_equal(call(COMMON "--output @pieces --max-shards 0"), 0);
    expect_same_files("whole", "pieces");
}

static void test_refuses_other_options(void **state)
{
    (void)state;
    assert_int_equal(call(COMMON "--output @pieces --max-new-tokens 7"), NN_EXIT_USAGE);
    assert_int_equal(call(COMMON "--output @. --max-new-tokens 64"), NN_EXIT_USAGE);
    assert_int_equal(call(COMMON "--output @other --columns tall"), NN_EXIT_USAGE);
    assert_false(nn_file_exists(scratch("other")));
}

static int remove_world(void **state)
{
    remove_directory("whole");
    remove_directory("pieces");
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adds_columns_and_keeps_the_rest),
        cmocka_unit_test(test_pieces_equal_the_whole),
        cmocka_unit_test(test_refuses_other_options),
    };
    return cmocka_run_group_tests(tests, make_world, remove_world);
}
