/* BERT's tokenizer on vectors of the reference implementation.
 *
 * tests/golden/wordpiece holds the tokens that the vectors need, under their published ids. With
 * RECAP_VOCAB (see tools/dev/vocab) the whole vocabulary is tested, from both kinds of file. */
#include "tests/unit/scratch.h"

#include "data/wordpiece.h"
#include "engine/base/alloc.h"

#define GOLDEN "tests/golden/wordpiece"

static const struct {
    const char *text, *decoded;
    int n;
    int32_t ids[28];
} vectors[] = {
    { "a picture of", "a picture of", 3, { 1037, 3861, 1997 } },
    { "a woman sitting on the beach with her dog",
      "a woman sitting on the beach with her dog",
      9,
      { 1037, 2450, 3564, 2006, 1996, 3509, 2007, 2014, 3899 } },
    { "Caf\xc3\xa9 Na\xc3\xafve \xc3\x9c"
      "BER e\xcc\x81lan",
      "cafe naive uber elan",
      5,
      { 7668, 15743, 19169, 3449, 2319 } },
    { "don't stop, won't you? it's Bob's! we've they're i'm",
      "don't stop, won't you? it's bob's! we've they're i'm",
      26,
      { 2123, 1005, 1056, 2644, 1010, 2180, 1005, 1056, 2017, 1029, 2009, 1005, 1055,
        3960, 1005, 1055, 999,  2057, 1005, 2310, 2027, 1005, 2128, 1045, 1005, 1049 } },
    { "unaffable embeddings",
      "unaffable embeddings",
      7,
      { 14477, 20961, 3468, 7861, 8270, 4667, 2015 } },
    { "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e \xe6\x9d\xb1\xe4\xba\xac",
      "\xe6\x97\xa5 \xe6\x9c\xac \xe8\xaa\x9e \xe6\x9d\xb1 \xe4\xba\xac",
      5,
      { 1864, 1876, 1950, 1879, 1755 } },
    { "hello world . ' s ' m n ' t",
      "hello world.'s'mn't",
      10,
      { 7592, 2088, 1012, 1005, 1055, 1005, 1049, 1050, 1005, 1056 } },
    { "a  tab\tnew\nline\xef\xbf\xbd", "a tab new line", 4, { 1037, 21628, 2047, 2240 } },
    { "supercalifragilistic",
      "supercalifragilistic",
      6,
      { 3565, 9289, 10128, 29181, 24411, 4588 } },
    { "photo -- of (two) cats' & dogs #1 2023 @ x_y [SEP] [MASK] [sep]",
      "photo - - of ( two ) cats'& dogs # 1 2023 @ x _ y [ sep ]",
      24,
      { 6302, 1011,  1011, 1997, 1006, 2048, 1007, 8870, 1005, 1004, 6077,  1001,
        1015, 16798, 2509, 1030, 1060, 1035, 1061, 102,  103,  1031, 19802, 1033 } },
    { "I\xe2\x80\x99m \xe2\x80\x9chere\xe2\x80\x9d \xe2\x80\x93 now\xe2\x80\xa6",
      "i \xe2\x80\x99 m \xe2\x80\x9c here \xe2\x80\x9d \xe2\x80\x93 now \xe2\x80\xa6",
      9,
      { 1045, 1521, 1049, 1523, 2182, 1524, 1516, 2085, 1529 } },
    { "\xf0\x9f\x98\x80", "", 1, { 100 } },
    { "", "", 0, { 0 } },
};

static nn_wordpiece open_golden(void)
{
    nn_wordpiece wp;
    if (nn_wordpiece_open(GOLDEN, &wp) != NN_OK) fail_msg("%s", nn_error_message());
    return wp;
}

static void check_vectors(const nn_wordpiece *wp)
{
    nn_tokens t = { 0 };
    nn_text text = { 0 };
    for (int i = 0; i < NN_COUNT(vectors); i++) {
        nn_text_clear(&text);
        assert_int_equal(nn_wordpiece_encode(wp, vectors[i].text, &t), NN_OK);
        if (t.n != vectors[i].n) fail_msg("'%s': %d ids", vectors[i].text, t.n);
        for (int k = 0; k < t.n; k++)
            if (t.ids[k] != vectors[i].ids[k])
                fail_msg("'%s': id %d is %d", vectors[i].text, k, t.ids[k]);
        assert_int_equal(nn_wordpiece_decode(wp, t.ids, t.n, &text), NN_OK);
        assert_string_equal(text.text, vectors[i].decoded);
    }
    nn_tokens_free(&t);
    nn_text_free(&text);
}

static void encodes_and_decodes(void **state)
{
    nn_wordpiece wp = open_golden();
    (void)state;
    check_vectors(&wp);
    assert_int_equal(wp.pad, 0);
    assert_int_equal(wp.unk, 100);
    assert_int_equal(wp.cls, 101);
    assert_int_equal(wp.sep, 102);
    assert_int_equal(wp.mask, 103);
    assert_int_equal(wp.dec, -1);
    nn_wordpiece_close(&wp);
}

static void long_words_are_unknown(void **state)
{
    nn_wordpiece wp = open_golden();
    nn_tokens t = { 0 };
    char text[512] = "";
    (void)state;
    memset(text, 'a', 101);
    assert_int_equal(nn_wordpiece_encode(&wp, text, &t), NN_OK);
    assert_true(t.n == 1 && t.ids[0] == 100);
    text[101] = '.';
    assert_int_equal(nn_wordpiece_encode(&wp, text, &t), NN_OK);
    assert_true(t.n == 2 && t.ids[0] == 100 && t.ids[1] == 1012);
    for (int i = 0; i < 100; i++) memcpy(text + 4 * i, "\xf0\x9f\x98\x80", 5); /* of four bytes */
    assert_int_equal(nn_wordpiece_encode(&wp, text, &t), NN_OK);
    assert_true(t.n == 1 && t.ids[0] == 100);
    nn_tokens_free(&t);
    nn_wordpiece_close(&wp);
}

static void frames(void **state)
{
    nn_wordpiece wp = open_golden();
    nn_tokens t = { 0 };
    static const int32_t whole[] = { 101, 1037, 3861, 1997, 102 }, cut[] = { 101, 1037, 3861, 102 };
    (void)state;
    assert_int_equal(
        nn_wordpiece_encode_framed(&wp, "a picture of", wp.cls, 5, NN_OVERLONG_DROP, &t), NN_OK);
    assert_true(t.n == 5 && !t.truncated);
    assert_memory_equal(t.ids, whole, sizeof(whole));
    assert_int_equal(
        nn_wordpiece_encode_framed(&wp, "a picture of", wp.cls, 4, NN_OVERLONG_TRUNCATE, &t),
        NN_OK);
    assert_true(t.n == 4 && t.truncated);
    assert_memory_equal(t.ids, cut, sizeof(cut));
    assert_int_equal(
        nn_wordpiece_encode_framed(&wp, "a picture of", wp.cls, 4, NN_OVERLONG_DROP, &t), NN_OK);
    assert_true(t.n == 0 && t.truncated);
    nn_tokens_free(&t);
    nn_wordpiece_close(&wp);
}

static void reads_vocab_txt_and_adds_blip(void **state)
{
    static const char file[] = "[PAD]\r\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n.";
    nn_wordpiece wp;
    nn_tokens t = { 0 };
    nn_text text = { 0 };
    static const int32_t expected[] = { 8, 5, 6, 6, 7, 9, 3 };
    (void)state;
    scratch_write("vocab.txt", file, (int64_t)sizeof(file) - 1);
    assert_int_equal(nn_wordpiece_open(scratch_path, &wp), NN_OK);
    assert_int_equal(nn_wordpiece_add_blip(&wp), NN_OK);
    assert_int_equal(nn_wordpiece_add_blip(&wp), NN_OK);
    assert_true(wp.dec == 8 && wp.enc == 9 && wp.vocab.n == 10);
    assert_int_equal(
        nn_wordpiece_encode_framed(&wp, "abb. [ENC]", wp.dec, 40, NN_OVERLONG_TRUNCATE, &t), NN_OK);
    assert_int_equal(t.n, 7);
    assert_memory_equal(t.ids, expected, sizeof(expected));
    assert_int_equal(nn_wordpiece_decode(&wp, t.ids, t.n, &text), NN_OK);
    assert_string_equal(text.text, "abb.");
    static const int32_t unknown[] = { 10 };
    expect_failure(nn_wordpiece_decode(&wp, unknown, 1, &text), NN_ARGUMENT, "id 10");
    nn_tokens_free(&t);
    nn_text_free(&text);
    nn_wordpiece_close(&wp);
    remove(scratch("vocab.txt"));
}

static void rejects_files(void **state)
{
    nn_wordpiece wp;
    (void)state;
    expect_failure(nn_wordpiece_open(scratch_path, &wp), NN_NOT_FOUND, "vocab.txt");
    expect_failure(nn_wordpiece_open(scratch_write("v.txt", "a\na\n", 4), &wp), NN_FORMAT,
                   "two ids");
    expect_failure(nn_wordpiece_open(scratch_write("v.txt", "a\n\nb\n", 5), &wp), NN_FORMAT,
                   "empty");
    expect_failure(nn_wordpiece_open(scratch_write("v.txt", "a\nb\n", 4), &wp), NN_FORMAT,
                   "no [PAD]");
    expect_failure(
        nn_wordpiece_open(scratch_write("t.json", "{\"model\":{\"type\":\"BPE\"}}", 24), &wp),
        NN_FORMAT, "WordPiece was expected");
    expect_failure(nn_wordpiece_open("tests/golden/clip_bpe/vocab.json", &wp), NN_FORMAT,
                   "\"model\"");
}

static void survives_failing_memory(void **state)
{
    nn_wordpiece wp;
    nn_status status = NN_MEMORY;
    (void)state;
    for (int64_t k = 1; status != NN_OK; k++) {
        nn_tokens t = { 0 };
        assert_in_range(k, 1, 1000);
        nn_alloc_fail_at(k);
        status = nn_wordpiece_open(GOLDEN, &wp);
        if (status == NN_OK) {
            status = nn_wordpiece_encode(&wp, "Caf\xc3\xa9 [SEP] dog", &t);
            nn_tokens_free(&t);
            nn_wordpiece_close(&wp);
        }
        nn_alloc_fail_at(0);
        assert_true(status == NN_OK || status == NN_MEMORY);
    }
}

static void whole_vocabulary(void **state)
{
    const char *dir = getenv("RECAP_VOCAB");
    static const char *const names[] = { "vocab.txt", "tokenizer.json" };
    (void)state;
    if (!dir) {
        print_message("RECAP_VOCAB is not set: tools/dev/vocab fetches the vocabularies\n");
        skip();
    }
    for (int i = 0; i < NN_COUNT(names); i++) {
        char path[512];
        nn_wordpiece wp;
        snprintf(path, sizeof(path), "%s/bert/%s", dir, names[i]);
        if (nn_wordpiece_open(path, &wp) != NN_OK) fail_msg("%s", nn_error_message());
        assert_int_equal(wp.vocab.n, 30522);
        check_vectors(&wp);
        assert_int_equal(nn_wordpiece_add_blip(&wp), NN_OK);
        assert_true(wp.dec == 30522 && wp.enc == 30523);
        nn_wordpiece_close(&wp);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_and_decodes),
        cmocka_unit_test(long_words_are_unknown),
        cmocka_unit_test(frames),
        cmocka_unit_test(reads_vocab_txt_and_adds_blip),
        cmocka_unit_test(rejects_files),
        cmocka_unit_test(survives_failing_memory),
        cmocka_unit_test(whole_vocabulary),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
