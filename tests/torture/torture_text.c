/* Captions, their cleaning and the tokenizers while memory and files fail. */
#include "tests/torture/torture.h"

#include "data/captions.h"
#include "models/caption_text.h"

static const char text[] = "Caf\xc3\xa9: two  SPHERES, one cube (red) [SEP] of the";

/* -- captions */

static nn_status edit(nn_captions *c)
{
    const nn_caption_info info = { .tokens = 4, .logprob = -1.5, .model = "abc", .flags = 5 };
    NN_TRY(nn_captions_set(c, "short", "a cube", &info));
    NN_TRY(nn_captions_set(c, "alt", text, NULL));
    NN_TRY(nn_captions_set_field(c, "scene", "{\"size\": [1, 2]}"));
    char *scene = nn_captions_field(c, "scene");
    NN_NEED(scene);
    nn_free(scene);
    return NN_OK;
}

static nn_status rewrite(const nn_captions *c)
{
    nn_text out = { 0 };
    nn_captions *again;
    nn_status status = nn_captions_dump(c, &out);
    if (status == NN_OK) {
        const nn_sample s = { .key = "again", .json = { out.text, out.length } };
        status = nn_captions_parse(&s, &again);
        if (status == NN_OK) nn_captions_free(again);
    }
    nn_text_free(&out);
    return status;
}

static nn_status captions(void)
{
    static const char json[] =
        "{\"captions\": {\"alt\": \"IMG 1\", \"long\": \"a caf\\u00e9\"}, \"kept\": 1}";
    const nn_sample s = { .key = "0", .json = { json, sizeof(json) - 1 } };
    nn_captions *c;
    nn_caption_mix mix;
    NN_TRY(nn_caption_mix_parse("alt=1,short=2", 0.1, &mix));
    NN_TRY(nn_captions_parse(&s, &c));
    nn_status status = edit(c);
    if (status == NN_OK) status = rewrite(c);
    nn_captions_free(c);
    NN_TRY(status);
    NN_TRY(nn_captions_create(&c));
    status = edit(c);
    nn_captions_free(c);
    return status;
}

static nn_status clean(void)
{
    nn_text out = { 0 };
    nn_status status = caption_clean(CAPTION_CLEAN_BLIP, text, 5, &out);
    if (status == NN_OK) status = caption_clean(CAPTION_CLEAN_NONE, text, 3, &out);
    nn_text_free(&out);
    return status;
}

/* -- tokenizers */

static nn_status round_trip(const caption_words *words)
{
    enum { LENGTH = 24 };
    int32_t ids[LENGTH], labels[LENGTH];
    int used;
    bool overlong;
    nn_tokens prompt = { 0 };
    nn_text out = { 0 };
    nn_status status = caption_row(words, "a cube", text, LENGTH, NN_OVERLONG_TRUNCATE, ids, labels,
                                   &used, &overlong);
    if (status == NN_OK) status = caption_prompt(words, "two spheres", &prompt);
    if (status == NN_OK) status = caption_detokenize(words, ids, used, &out);
    nn_tokens_free(&prompt);
    nn_text_free(&out);
    return status;
}

static nn_status use_folder(const char *name)
{
    caption_words words;
    NN_TRY(caption_words_open(scratch(name), &words));
    nn_status status = round_trip(&words);
    caption_words_close(&words);
    return status;
}

static nn_status wordpiece(void)
{
    return use_folder("wordpiece");
}

static nn_status clip_bpe(void)
{
    return use_folder("clip");
}

static nn_status wordpiece_json(void)
{
    nn_wordpiece wp;
    nn_tokens tokens = { 0 };
    NN_TRY(nn_wordpiece_open("tests/golden/wordpiece", &wp));
    nn_status status = nn_wordpiece_encode(&wp, text, &tokens);
    nn_tokens_free(&tokens);
    nn_wordpiece_close(&wp);
    return status;
}

static nn_status clip_clean(nn_clip_clean how)
{
    nn_clip_bpe bpe;
    nn_tokens tokens = { 0 };
    NN_TRY(nn_clip_bpe_open(scratch("clip"), &bpe));
    bpe.clean = how;
    nn_status status = nn_clip_bpe_encode_padded(&bpe, "\xe2\x80\x9chi\xe2\x80\x9d &amp;lt; two",
                                                 77, bpe.end, NN_OVERLONG_TRUNCATE, &tokens);
    nn_tokens_free(&tokens);
    nn_clip_bpe_close(&bpe);
    return status;
}

static nn_status clip_cleaned(void)
{
    return clip_clean(NN_CLIP_CLEAN_OPENAI);
}

/* -- a tokenizer is learnt and written */

static nn_status learn(void)
{
    static const char *const texts[] = { "a red cube", "two red cubes", "a blue sphere" };
    return nn_clip_bpe_train(texts, NN_COUNT(texts), 520, scratch("learnt"));
}

static void look_at_learnt(void)
{
    static const char *const names[] = { "learnt/vocab.json", "learnt/merges.txt" };
    nn_clip_bpe bpe;
    torture_no_leftovers(scratch("learnt"));
    if (nn_file_exists(scratch(names[0])) && nn_file_exists(scratch(names[1]))) {
        assert_int_equal(nn_clip_bpe_open(scratch("learnt"), &bpe), NN_OK);
        nn_clip_bpe_close(&bpe);
    }
    for (int i = 0; i < NN_COUNT(names); i++) remove(scratch(names[i]));
}

/* -- the tests */

static const torture reading[] = { { captions, NULL },       { clean, NULL },
                                   { wordpiece, NULL },      { clip_bpe, NULL },
                                   { wordpiece_json, NULL }, { clip_cleaned, NULL } };
static const torture writing = { learn, look_at_learnt };

static void allocation_fails(void **state)
{
    (void)state;
    for (int i = 0; i < NN_COUNT(reading); i++) torture_all(&reading[i], NN_FAULT_NONE, 1);
    torture_all(&writing, NN_FAULT_NONE, 3);
}

static void reading_fails(void **state)
{
    (void)state;
    for (int i = 2; i < NN_COUNT(reading); i++) torture_all(&reading[i], NN_FAULT_READ, 1);
}

static void writing_fails(void **state)
{
    (void)state;
    torture_all(&writing, NN_FAULT_WRITE, 2);
    torture_all(&writing, NN_FAULT_RENAME, 2);
}

static int make_tokenizers(void **state)
{
    static const char vocab[] =
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ntwo\nsphere\n##s\ncube\nof\n";
    static const char *const texts[] = { "a red cube", "two red cubes", "a blue sphere" };
    if (torture_make(state) != 0) return -1;
    assert_int_equal(nn_file_make_dir(scratch("wordpiece")), NN_OK);
    assert_int_equal(nn_file_make_dir(scratch("clip")), NN_OK);
    scratch_write("wordpiece/vocab.txt", vocab, sizeof(vocab) - 1);
    assert_int_equal(nn_clip_bpe_train(texts, NN_COUNT(texts), 520, scratch("clip")), NN_OK);
    return 0;
}

static int remove_tokenizers(void **state)
{
    static const char *const names[] = { "wordpiece/vocab.txt", "clip/vocab.json",
                                         "clip/merges.txt" };
    for (int i = 0; i < NN_COUNT(names); i++) remove(scratch(names[i]));
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_fails),
        cmocka_unit_test(reading_fails),
        cmocka_unit_test(writing_fails),
    };
    return cmocka_run_group_tests(tests, make_tokenizers, remove_tokenizers);
}
