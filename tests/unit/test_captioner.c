/* The captioner: rows and their labels, the folder on disk, learning, decoding against teacher
 * forcing. */
#include "tests/unit/engine_check.h"
#include "tests/unit/scratch.h"

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/optim.h"
#include "models/captioner_folder.h"

static const char *const captions[] = {
    "two cats on gray",   "a dog above a car",  "a tree",           "three balls on blue",
    "a cat below a tree", "four dogs on black", "a car and a ball", "a house on pink",
};
enum { SAMPLES = NN_COUNT(captions), LENGTH = 20, SIDE = 16, PIXELS = SIDE * SIDE * 3 };

static const char config_json[] =
    "{\"vision_config\": {\"image_size\": 16, \"patch_size\": 8, \"hidden_size\": 32,"
    " \"intermediate_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 2,"
    " \"position_init_std\": 0.5},"
    " \"text_config\": {\"hidden_size\": 32, \"intermediate_size\": 64, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 2, \"max_position_embeddings\": 24, \"tie_word_embeddings\": true},"
    " \"caption_columns\": [\"short\"], \"caption_prefixes\": [\"say:\"],"
    " \"caption_cleaning\": \"none\"}";

static int make_folder(void **state)
{
    if (scratch_make(state)) return -1;
    OK(nn_clip_bpe_train(captions, SAMPLES, 560, scratch_path));
    scratch_write("config.json", config_json, (int64_t)strlen(config_json));
    return 0;
}

static void test_cleaning(void **state)
{
    static const struct {
        caption_cleaning how;
        int most_words;
        const char *text, *clean;
    } cases[] = {
        { CAPTION_CLEAN_BLIP, 0, "  A man's \"Best\" friend: a dog.\n",
          "a man's best friend a dog" },
        { CAPTION_CLEAN_BLIP, 3, "One, two (three) four", "one, two three" },
        { CAPTION_CLEAN_BLIP, 0, "...", "" },
        { CAPTION_CLEAN_NONE, 0, " A cat.  A dog. ", "A cat. A dog." },
    };
    (void)state;
    for (int i = 0; i < NN_COUNT(cases); i++) {
        nn_text out = { 0 };
        OK(caption_clean(cases[i].how, cases[i].text, cases[i].most_words, &out));
        assert_string_equal(out.text, cases[i].clean);
        nn_text_free(&out);
    }
}

static void test_rows_mask_prefix_and_padding(void **state)
{
    caption_words w;
    nn_tokens prompt = { 0 };
    nn_text text = { 0 };
    int32_t ids[LENGTH], labels[LENGTH];
    int used;
    bool overlong;
    (void)state;
    OK(caption_words_open(scratch_path, &w));
    OK(caption_prompt(&w, "say:", &prompt));
    assert_int_equal(prompt.ids[0], w.bos);
    assert_true(prompt.n > 1);
    OK(caption_row(&w, "say:", "a dog. a car", LENGTH, NN_OVERLONG_DROP, ids, labels, &used,
                   &overlong));
    assert_false(overlong);
    assert_true(used > prompt.n + 1 && used < LENGTH);
    assert_memory_equal(ids, prompt.ids, (size_t)prompt.n * sizeof(*ids));
    assert_int_equal(ids[used - 1], w.eos);
    for (int i = 0; i < LENGTH; i++) {
        if (i < prompt.n || i >= used)
            assert_int_equal(labels[i], CAPTION_IGNORED);
        else
            assert_int_equal(labels[i], ids[i]);
        if (i >= used) assert_int_equal(ids[i], w.pad);
    }
    OK(caption_detokenize(&w, ids + prompt.n, LENGTH - prompt.n, &text));
    assert_string_equal(text.text, "a dog. a car");
    nn_text_free(&text);
    nn_tokens_free(&prompt);
    caption_words_close(&w);
}

/* transformers 5 writes tokenizer.json alone; its model says which kind it is. */
static void test_tokenizer_json_alone(void **state)
{
    caption_words w;
    (void)state;
    OK(caption_words_open("tests/golden/wordpiece", &w));
    assert_true(w.is_wordpiece);
    assert_int_equal(w.eos, w.wordpiece.sep);
    caption_words_close(&w);
}

static void test_overlong_rows(void **state)
{
    caption_words w;
    int32_t ids[8], labels[8];
    int used;
    bool overlong;
    (void)state;
    OK(caption_words_open(scratch_path, &w));
    const char *text = "zzzzzzzzzzzzzzzz";
    OK(caption_row(&w, "a", text, 8, NN_OVERLONG_TRUNCATE, ids, labels, &used, &overlong));
    assert_true(overlong);
    assert_int_equal(used, 8);
    assert_int_equal(ids[7], w.eos);
    OK(caption_row(&w, "a", text, 8, NN_OVERLONG_DROP, ids, labels, &used, &overlong));
    assert_true(overlong);
    assert_int_equal(used, 0);
    expect_failure(
        caption_row(&w, "zzzzzzzzzz", "a", 8, NN_OVERLONG_DROP, ids, labels, &used, &overlong),
        NN_ARGUMENT, "leave no room");
    caption_words_close(&w);
}

static void test_styles(void **state)
{
    captioner_styles s = { 0 };
    (void)state;
    OK(captioner_styles_parse("short=a short caption:;long=tell, all:;alt=", &s));
    assert_int_equal(s.n, 3);
    assert_string_equal(captioner_style(&s, "long"), "tell, all:");
    assert_string_equal(captioner_style(&s, "alt"), "");
    assert_null(captioner_style(&s, "lon"));
    OK(captioner_styles_parse("short=brief:", &s));
    assert_int_equal(s.n, 3);
    assert_string_equal(captioner_style(&s, "short"), "brief:");
    expect_failure(captioner_styles_parse("short", &s), NN_ARGUMENT, "column=prefix");
}

static void remove_folder(char *dir)
{
    char **names;
    int64_t n;
    OK(nn_file_list(dir, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        char *path = nn_format("%s/%s", dir, names[i]);
        OK(nn_file_remove(path));
        nn_free(path);
    }
    nn_file_list_free(names, n);
    rmdir(dir);
    nn_free(dir);
}

/* transformers 5 refuses an integer where it wants a float, and ties the matrices by what the top
 * level says. */
static void expect_in_config(const char *dir, const char *words)
{
    char *path = nn_format("%s/config.json", dir), *text;
    int64_t n;
    OK(nn_file_read(path, 1 << 16, &text, &n));
    assert_non_null(strstr(text, words));
    nn_free(text);
    nn_free(path);
}

static void test_folder_survives_saving(void **state)
{
    nn_device *d = open_device("cpu", 1);
    captioner_folder drawn, loaded;
    char *copy = nn_format("%s/copy", scratch_path);
    (void)state;
    OK(captioner_folder_draw(scratch_path, scratch_path, d, 3, &drawn));
    OK(captioner_folder_save(&drawn, copy));
    OK(captioner_folder_open(copy, d, false, &loaded));
    uint64_t before, after;
    OK(nn_params_hash(drawn.params, &before));
    OK(nn_params_hash(loaded.params, &after));
    assert_true(before == after);
    assert_string_equal(captioner_style(&loaded.styles, "short"), "say:");
    assert_int_equal(loaded.cleaning, CAPTION_CLEAN_NONE);
    assert_memory_equal(&loaded.config, &drawn.config, sizeof(drawn.config));
    expect_in_config(copy, "\n  \"tie_word_embeddings\": true");
    expect_in_config(copy, "\"label_smoothing\": 0.0,");
    captioner_folder_close(&loaded);
    captioner_folder_close(&drawn);
    remove_folder(copy);
    nn_device_close(d);
}

static uint64_t hash_and_save(captioner_folder *f, const char *dir)
{
    uint64_t hash;
    OK(nn_params_hash(f->params, &hash));
    if (dir) OK(captioner_folder_save(f, dir));
    captioner_folder_close(f);
    return hash;
}

/* What training starts from and leaves has not been through bf16, whatever the device computes
 * in; what only captions has. */
static void test_bf16_rounds_no_file(void **state)
{
    nn_device *d = open_device("ref", 1);
    captioner_folder f;
    char *copy = nn_format("%s/copy", scratch_path);
    (void)state;
    OK(captioner_folder_draw(scratch_path, scratch_path, d, 3, &f));
    uint64_t drawn = hash_and_save(&f, copy);
    OK(nn_device_compute(d, NN_BF16));
    OK(captioner_folder_open(copy, d, false, &f));
    assert_true(hash_and_save(&f, NULL) != drawn);
    OK(captioner_folder_draw(scratch_path, scratch_path, d, 3, &f));
    assert_true(hash_and_save(&f, NULL) == drawn);
    OK(captioner_folder_open(copy, d, true, &f));
    assert_true(hash_and_save(&f, copy) == drawn);
    OK(captioner_folder_open(copy, d, true, &f));
    assert_true(hash_and_save(&f, NULL) == drawn);
    remove_folder(copy);
    nn_device_close(d);
}

/* A captioner that learns the eight captions by heart. */
typedef struct lesson {
    nn_device *device;
    captioner_folder model;
    nn_graph *g;
    nn_plan *plan;
    nn_optimizer *optimizer;
    nn_tensor *pixels, *ids, *labels, *seen, *loss, *logits;
    float pixels_now[SAMPLES * PIXELS];
    int32_t ids_now[SAMPLES * LENGTH], labels_now[SAMPLES * LENGTH], seen_now[SAMPLES * LENGTH];
    int used[SAMPLES];
} lesson;

static void prepare(lesson *l)
{
    nn_rng rng = nn_rng_make(1, "pictures", 0);
    nn_rng_normal_fill(&rng, l->pixels_now, SAMPLES * PIXELS);
    for (int i = 0; i < SAMPLES; i++) {
        bool overlong;
        OK(caption_row(&l->model.words, "say:", captions[i], LENGTH, NN_OVERLONG_DROP,
                       l->ids_now + i * LENGTH, l->labels_now + i * LENGTH, &l->used[i],
                       &overlong));
        for (int k = 0; k < LENGTH; k++) l->seen_now[i * LENGTH + k] = k < l->used[i];
    }
}

static void make_plan(lesson *l)
{
    const captioner_config *c = &l->model.config;
    l->pixels = nn_input(l->g, "pixels", NN_F32, NN_DIMS(SAMPLES, SIDE, SIDE, 3));
    l->ids = nn_input(l->g, "ids", NN_I32, NN_DIMS(SAMPLES, LENGTH));
    l->labels = nn_input(l->g, "labels", NN_I32, NN_DIMS(SAMPLES, LENGTH));
    l->seen = nn_input(l->g, "seen", NN_I32, NN_DIMS(SAMPLES, LENGTH));
    nn_scope s = nn_root(l->g, l->model.params, "");
    nn_tensor *image = captioner_encode(s, c, l->pixels);
    l->logits = captioner_logits(s, c, image, l->ids, l->seen);
    l->loss = captioner_text_loss(s, c, image, l->ids, l->seen, l->labels);
    nn_keep(l->logits);
    nn_keep(l->loss);
}

static float step(lesson *l, double lr)
{
    float loss, norm;
    OK(nn_plan_write(l->plan, l->pixels, l->pixels_now));
    OK(nn_plan_write(l->plan, l->ids, l->ids_now));
    OK(nn_plan_write(l->plan, l->labels, l->labels_now));
    OK(nn_plan_write(l->plan, l->seen, l->seen_now));
    OK(nn_optimizer_begin(l->optimizer, l->plan, lr));
    OK(nn_plan_run(l->plan, 0));
    OK(nn_optimizer_end(l->optimizer, l->plan, &norm));
    OK(nn_plan_read(l->plan, l->loss, &loss));
    return loss;
}

static void begin(lesson *l)
{
    const nn_adamw_options options = NN_ADAMW_DEFAULTS;
    nn_params *drawn;
    l->device = open_device("cpu", 1);
    OK(captioner_folder_draw(scratch_path, scratch_path, l->device, 3, &l->model));
    drawn = l->model.params; /* without gradients: the same again, with them */
    OK(nn_params_create(&l->model.params));
    OK(nn_graph_create(&l->g));
    make_plan(l);
    OK(nn_graph_status(l->g));
    nn_graph_destroy(l->g);
    OK(nn_params_alloc(l->model.params, l->device, true));
    OK(nn_params_init(l->model.params, 3));
    assert_int_equal(nn_params_count(l->model.params), nn_params_count(drawn));
    nn_params_destroy(drawn);
    OK(nn_optimizer_create(l->model.params, &options, &l->optimizer));
    OK(nn_graph_create(&l->g));
    nn_graph_training(l->g);
    make_plan(l);
    nn_backward(l->g, l->loss, 1, false);
    nn_optimizer_add(l->optimizer, l->g);
    OK(nn_plan_create(l->g, l->device, NULL, &l->plan));
    assert_int_equal(nn_plan_stats_of(l->plan).n_fallbacks, 0);
    prepare(l);
}

static void end(lesson *l)
{
    nn_plan_destroy(l->plan);
    nn_graph_destroy(l->g);
    nn_optimizer_destroy(l->optimizer);
    captioner_folder_close(&l->model);
    nn_device_close(l->device);
}

/* What teacher forcing finds most likely behind position `at` of a row. */
static int32_t likeliest(const float *logits, int64_t vocab, int row, int at)
{
    const float *x = logits + ((int64_t)row * LENGTH + at) * vocab;
    int32_t best = 0;
    for (int32_t v = 1; v < vocab; v++)
        if (x[v] > x[best]) best = v;
    return best;
}

static void decode_all(lesson *l, const nn_tokens *prompt, int32_t *ids, nn_decoded *out)
{
    captioner_session *s;
    int32_t prompts[SAMPLES * LENGTH];
    nn_decode_options o = nn_decode_defaults();
    o.method = NN_DECODE_GREEDY;
    o.max_length = LENGTH;
    o.min_length = 0;
    o.eos = l->model.words.eos;
    for (int i = 0; i < SAMPLES; i++)
        memcpy(prompts + i * prompt->n, prompt->ids, (size_t)prompt->n * sizeof(int32_t));
    nn_decode_input in = { .step = captioner_session_step,
                           .n_images = SAMPLES,
                           .vocab = (int)l->model.config.text.vocab_size,
                           .n_prompt = prompt->n,
                           .prompt = prompts };
    OK(captioner_session_create(&l->model.config, l->model.params, l->device, SAMPLES, 1, LENGTH,
                                &s));
    OK(captioner_session_look(s, l->pixels_now));
    in.ctx = s;
    OK(nn_decode(&o, &in, ids, out));
    captioner_session_destroy(s);
}

static void test_learns_and_decodes_by_heart(void **state)
{
    static lesson l;
    nn_tokens prompt = { 0 };
    int32_t ids[SAMPLES * LENGTH];
    nn_decoded out[SAMPLES];
    (void)state;
    begin(&l);
    float first = step(&l, 3e-3), last = first;
    for (int i = 0; i < 200; i++) last = step(&l, i < 190 ? 3e-3 : 0);
    assert_true(first > 4);
    assert_true(last < 0.05f);

    int64_t vocab = l.model.config.text.vocab_size;
    float *logits = nn_alloc(SAMPLES * LENGTH * vocab, sizeof(*logits));
    OK(nn_plan_read(l.plan, l.logits, logits));
    OK(caption_prompt(&l.model.words, "say:", &prompt));
    decode_all(&l, &prompt, ids, out);
    for (int i = 0; i < SAMPLES; i++) {
        nn_text text = { 0 };
        assert_true(out[i].ended);
        for (int k = prompt.n; k < out[i].length; k++)
            assert_int_equal(ids[i * LENGTH + k], likeliest(logits, vocab, i, k - 1));
        OK(caption_detokenize(&l.model.words, ids + i * LENGTH + prompt.n, out[i].length - prompt.n,
                              &text));
        assert_string_equal(text.text, captions[i]);
        nn_text_free(&text);
    }
    nn_free(logits);
    nn_tokens_free(&prompt);
    end(&l);
}

/* The loss does not see the ids of prefix and padding as targets: other labels there change
 * nothing, another caption does. */
static void test_loss_counts_the_caption_only(void **state)
{
    static lesson l;
    (void)state;
    begin(&l);
    float loss = step(&l, 0);
    for (int i = 0; i < SAMPLES; i++) /* what pads are must not matter */
        for (int k = l.used[i]; k < LENGTH; k++) l.ids_now[i * LENGTH + k] = 7;
    assert_float_equal(step(&l, 0), loss, 1e-6);
    l.labels_now[l.used[0] - 1] = 7;
    assert_true(step(&l, 0) != loss);
    end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cleaning),
        cmocka_unit_test(test_rows_mask_prefix_and_padding),
        cmocka_unit_test(test_tokenizer_json_alone),
        cmocka_unit_test(test_overlong_rows),
        cmocka_unit_test(test_styles),
        cmocka_unit_test(test_folder_survives_saving),
        cmocka_unit_test(test_bf16_rounds_no_file),
        cmocka_unit_test(test_learns_and_decodes_by_heart),
        cmocka_unit_test(test_loss_counts_the_caption_only),
    };
    return cmocka_run_group_tests(tests, make_folder, scratch_remove);
}
