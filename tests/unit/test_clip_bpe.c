/* CLIP's tokenizer on the vectors of the reference implementations.
 *
 * tests/golden/clip_bpe holds those merges of the published vocabulary that the vectors need, under
 * their published ids. With RECAP_VOCAB (see tools/dev/vocab) the whole vocabulary is tested. */
#include "tests/unit/scratch.h"

#include "data/clip_bpe.h"
#include "data/json.h"
#include "engine/base/alloc.h"

#define GOLDEN "tests/golden/clip_bpe"

static const struct {
    const char *text;
    int n;
    int32_t ids[24];
} vectors[] = {
    { "a photo of a cat", 5, { 320, 1125, 539, 320, 2368 } },
    { "A red cube on top of a blue sphere",
      9,
      { 320, 736, 11353, 525, 1253, 539, 320, 1746, 6987 } },
    { "two dogs playing in the snow.", 7, { 1237, 3255, 1629, 530, 518, 2583, 269 } },
    { "a   photograph of an astronaut riding a horse",
      8,
      { 320, 8853, 539, 550, 18376, 6765, 320, 4558 } },
    { "don't I'll we've it's you're he'd",
      12,
      { 847, 713, 328, 1342, 649, 1200, 585, 568, 592, 982, 797, 1896 } },
    { "2023 was 42% better!!! (really)",
      13,
      { 273, 271, 273, 274, 739, 275, 273, 260, 1539, 995, 263, 1414, 264 } },
    { "caf\xc3\xa9 na\xc3\xafve \xc3\x9c"
      "ber",
      6,
      { 15304, 1097, 35689, 563, 6522, 1516 } },
    { "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 4, { 39121, 44353, 34002, 508 } },
    { "\xf0\x9f\x98\x80 smile", 2, { 7334, 3490 } },
    { "supercalifragilisticexpialidocious",
      9,
      { 1642, 2857, 13093, 2076, 5868, 26850, 835, 639, 38466 } },
    { "3.14159, foo_bar; x-y",
      15,
      { 274, 269, 272, 275, 272, 276, 280, 267, 23435, 318, 2411, 282, 343, 268, 344 } },
    { "a\tb\nc", 3, { 320, 321, 322 } },
    { "I\xe2\x80\x99m", 4, { 328, 728, 503, 332 } },
    { "", 0, { 0 } },
    { " \t\xc2\xa0\xe3\x80\x80\xc2\x85 ", 0, { 0 } },
    { "x <|endoftext|>x<|startoftext|>", 4, { 343, 49407, 343, 49406 } },
};

static nn_clip_bpe open_golden(void)
{
    nn_clip_bpe bpe;
    if (nn_clip_bpe_open(GOLDEN, &bpe) != NN_OK) fail_msg("%s", nn_error_message());
    return bpe;
}

static void expect_ids(const nn_clip_bpe *bpe, const char *text, const int32_t *ids, int n)
{
    nn_tokens t = { 0 };
    assert_int_equal(nn_clip_bpe_encode(bpe, text, &t), NN_OK);
    for (int i = 0; i < n && i < t.n; i++)
        if (t.ids[i] != ids[i])
            fail_msg("'%s': id %d is %d, expected %d", text, i, t.ids[i], ids[i]);
    if (t.n != n) fail_msg("'%s': %d ids, expected %d", text, t.n, n);
    nn_tokens_free(&t);
}

static void check_vectors(const nn_clip_bpe *bpe)
{
    for (int i = 0; i < NN_COUNT(vectors); i++)
        expect_ids(bpe, vectors[i].text, vectors[i].ids, vectors[i].n);
    assert_int_equal(bpe->start, 49406);
    assert_int_equal(bpe->end, 49407);
}

static void encodes(void **state)
{
    nn_clip_bpe bpe = open_golden();
    (void)state;
    check_vectors(&bpe);
    nn_clip_bpe_close(&bpe);
}

/* Capitals, final sigma and the dotted I are folded one code point at a time; the special tokens
 * are special in lower case only. */
static void cleans(void **state)
{
    nn_clip_bpe bpe = open_golden();
    nn_codes codes = { 0 };
    nn_tokens a = { 0 }, b = { 0 };
    static const int32_t expected[] = { 0x3c3, 0x3b1, 0x3c3, ' ', 'i', 0x307, ' ', 0xe9 };
    static const char raw[] = "\xce\xa3\xce\x91\xce\xa3 \t\xc4\xb0\xc2\x85"
                              "e\xcc\x81";
    (void)state;
    assert_int_equal(nn_clip_clean_text(NN_CLIP_CLEAN_FAST, raw, (int64_t)sizeof(raw) - 1, &codes),
                     NN_OK);
    assert_int_equal(codes.n, NN_COUNT(expected));
    assert_memory_equal(codes.code, expected, sizeof(expected));
    nn_codes_free(&codes);

    assert_int_equal(nn_clip_bpe_encode(&bpe, "<|ENDOFTEXT|>!", &a), NN_OK);
    for (int i = 0; i < a.n; i++) assert_true(a.ids[i] < 49406);
    assert_int_equal(nn_clip_bpe_encode(&bpe, "<| endoftext |> !", &b), NN_OK);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.ids, b.ids, (size_t)a.n * sizeof(*a.ids));
    nn_tokens_free(&a);
    nn_tokens_free(&b);
    nn_clip_bpe_close(&bpe);
}

static void cleans_as_openai(void **state)
{
    nn_clip_bpe bpe = open_golden();
    static const int32_t with[] = { 3306, 261, 1002, 49407, 343 };
    nn_tokens straight = { 0 }, curly = { 0 };
    (void)state;
    bpe.clean = NN_CLIP_CLEAN_OPENAI;
    expect_ids(&bpe, "hello&amp;world <|ENDOFTEXT|> x", with, 5);
    expect_ids(&bpe, "hello&amp;amp;world <|endoftext|> x", with, 5);
    expect_ids(&bpe, "hello&#38;world <|endoftext|> &#x78;", with, 5);
    bpe.clean = NN_CLIP_CLEAN_FTFY;
    assert_int_equal(nn_clip_bpe_encode(&bpe, "I'm \"fine\" ffi 42% (a)", &straight), NN_OK);
    assert_int_equal(nn_clip_bpe_encode(&bpe,
                                        "I\xe2\x80\x99m \xe2\x80\x9c\xef\xac\x81ne\xe2\x80\x9d\x07 "
                                        "\xef\xac\x83 \xef\xbc\x94\xef\xbc\x92\xef\xbc\x85 (a)",
                                        &curly),
                     NN_OK);
    assert_int_equal(straight.n, curly.n);
    assert_memory_equal(straight.ids, curly.ids, (size_t)curly.n * sizeof(*curly.ids));
    nn_tokens_free(&straight);
    nn_tokens_free(&curly);
    nn_clip_bpe_close(&bpe);
}

static void assembles(void **state)
{
    nn_clip_bpe bpe = open_golden();
    nn_tokens t = { 0 };
    char text[400] = "";
    (void)state;
    assert_int_equal(
        nn_clip_bpe_encode_padded(&bpe, "", NN_CLIP_LENGTH, bpe.end, NN_OVERLONG_TRUNCATE, &t),
        NN_OK);
    assert_int_equal(t.n, 77);
    assert_int_equal(t.ids[0], 49406);
    for (int i = 1; i < 77; i++) assert_int_equal(t.ids[i], 49407);
    assert_int_equal(
        nn_clip_bpe_encode_padded(&bpe, "a photo of a cat", 16, 0, NN_OVERLONG_TRUNCATE, &t),
        NN_OK);
    static const int32_t owl[16] = { 49406, 320, 1125, 539, 320, 2368, 49407 };
    assert_int_equal(t.n, 16);
    assert_memory_equal(t.ids, owl, sizeof(owl));

    for (int i = 0; i < 75; i++) memcpy(text + 2 * i, "a ", 3);
    assert_int_equal(nn_clip_bpe_encode_padded(&bpe, text, 77, bpe.end, NN_OVERLONG_DROP, &t),
                     NN_OK);
    assert_false(t.truncated);
    assert_true(t.n == 77 && t.ids[75] == 320 && t.ids[76] == 49407);
    memcpy(text + 150, "cat", 4);
    assert_int_equal(nn_clip_bpe_encode_padded(&bpe, text, 77, bpe.end, NN_OVERLONG_TRUNCATE, &t),
                     NN_OK);
    assert_true(t.truncated);
    assert_true(t.n == 77 && t.ids[75] == 320 && t.ids[76] == 49407);
    assert_int_equal(nn_clip_bpe_encode_padded(&bpe, text, 77, bpe.end, NN_OVERLONG_DROP, &t),
                     NN_OK);
    assert_true(t.truncated);
    assert_int_equal(t.n, 0);
    nn_tokens_free(&t);
    nn_clip_bpe_close(&bpe);
}

static void decodes(void **state)
{
    nn_clip_bpe bpe = open_golden();
    nn_tokens t = { 0 };
    nn_text text = { 0 };
    (void)state;
    assert_int_equal(nn_clip_bpe_encode_padded(&bpe, "Caf\xc3\xa9 \xf0\x9f\x98\x80, you're 42%", 77,
                                               bpe.end, NN_OVERLONG_TRUNCATE, &t),
                     NN_OK);
    assert_int_equal(nn_clip_bpe_decode(&bpe, t.ids, t.n, &text), NN_OK);
    assert_string_equal(text.text, "caf\xc3\xa9 \xf0\x9f\x98\x80, you 're 4 2 %");
    static const int32_t half[] = { 320, 161,
                                    320 }; /* byte 0xe5 opens a character and nothing follows */
    nn_text_clear(&text);
    assert_int_equal(nn_clip_bpe_decode(&bpe, half, 3, &text), NN_OK);
    assert_string_equal(text.text, "a \xef\xbf\xbd"
                                   "a");
    nn_text_clear(&text);
    assert_int_equal(nn_clip_bpe_decode(&bpe, half, 0, &text), NN_OK);
    assert_int_equal(text.length, 0);
    static const int32_t unknown[] = { 49408 };
    expect_failure(nn_clip_bpe_decode(&bpe, unknown, 1, &text), NN_ARGUMENT, "id 49408");
    nn_tokens_free(&t);
    nn_text_free(&text);
    nn_clip_bpe_close(&bpe);
}

static void reads_tokenizer_json(void **state)
{
    static const char file[] =
        "{\"added_tokens\":[{\"id\":5,\"content\":\"<|startoftext|>\"},"
        "{\"id\":6,\"content\":\"<|endoftext|>\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,"
        "\"b</w>\":1,\"ab</w>\":2,\"a</w>\":3,\"aab</w>\":4,\"<|endoftext|>\":6},"
        "\"merges\":[\"a b</w>\",[\"a\",\"ab</w>\"]]}}";
    nn_clip_bpe bpe;
    static const int32_t ids[] = { 2, 4, 3, 6 };
    (void)state;
    scratch_write("tokenizer.json", file, (int64_t)sizeof(file) - 1);
    assert_int_equal(nn_clip_bpe_open(scratch_path, &bpe), NN_OK);
    assert_true(bpe.start == 5 && bpe.end == 6);
    expect_ids(&bpe, "ab aab a z", ids, 4); /* a byte without token is the end token */
    nn_clip_bpe_close(&bpe);
    remove(scratch("tokenizer.json"));
}

static void rejects_files(void **state)
{
    nn_clip_bpe bpe;
    (void)state;
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_NOT_FOUND, "no vocab.json");
    scratch_write("vocab.json", "{\"a\":0,\"b\":0}", 13);
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_FORMAT, "both have id 0");
    scratch_write("vocab.json", "{\"a\":99999999}", 14);
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_FORMAT, "has id 99999999");
    scratch_write("vocab.json", "{\"a\":\"b\"}", 9);
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_FORMAT, "no integer");
    scratch_write("vocab.json", "{\"a\":0}", 7);
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_NOT_FOUND, "merges.txt");
    scratch_write("merges.txt", "#version: 0.2\na b\n", 18);
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_FORMAT, "not in the vocabulary");
    scratch_write("merges.txt", "ab\n", 3);
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_FORMAT, "is no merge");
    scratch_write("merges.txt", "#version: 0.2\n", 14);
    expect_failure(nn_clip_bpe_open(scratch_path, &bpe), NN_FORMAT, "<|startoftext|>");
    expect_failure(nn_clip_bpe_open(scratch_write("bpe.txt", "\x1f\x8b\x08", 3), &bpe), NN_FORMAT,
                   "gzip");
    remove(scratch("vocab.json"));
    remove(scratch("merges.txt"));
}

static const char *const corpus[] = {
    "a red cube on a blue cube",   "two red cubes and a blue sphere", "the red cube is \"red\"",
    "a blue sphere on a red cube", "caf\xc3\xa9 \\ caf\xc3\xa9",      "x",
};

static void trains(void **state)
{
    nn_clip_bpe bpe;
    nn_tokens t = { 0 };
    nn_text text = { 0 };
    char *first[2], *second[2];
    int64_t n;
    (void)state;
    assert_int_equal(nn_clip_bpe_train(corpus, NN_COUNT(corpus), 530, scratch_path), NN_OK);
    assert_int_equal(nn_file_read(scratch("vocab.json"), 1 << 20, &first[0], &n), NN_OK);
    assert_int_equal(nn_file_read(scratch("merges.txt"), 1 << 20, &first[1], &n), NN_OK);
    /* "cu", "ub", "re" and "ed" occur five times each: the smallest ids go first. */
    assert_true(nn_starts_with(first[1], "#version: 0.2\nc u\n"));
    assert_int_equal(nn_clip_bpe_train(corpus, NN_COUNT(corpus), 530, scratch_path), NN_OK);
    assert_int_equal(nn_file_read(scratch("vocab.json"), 1 << 20, &second[0], &n), NN_OK);
    assert_int_equal(nn_file_read(scratch("merges.txt"), 1 << 20, &second[1], &n), NN_OK);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(first[i], second[i]);
        nn_free(first[i]);
        nn_free(second[i]);
    }

    assert_int_equal(nn_clip_bpe_open(scratch_path, &bpe), NN_OK);
    assert_int_equal(bpe.vocab.n, 530);
    assert_int_equal(bpe.start, 528);
    assert_int_equal(bpe.end, 529);
    for (int i = 0; i < NN_COUNT(corpus); i++) {
        nn_text_clear(&text);
        assert_int_equal(nn_clip_bpe_encode(&bpe, corpus[i], &t), NN_OK);
        assert_int_equal(nn_clip_bpe_decode(&bpe, t.ids, t.n, &text), NN_OK);
        if (!strchr(corpus[i], '"')) assert_string_equal(text.text, corpus[i]);
    }
    assert_int_equal(nn_clip_bpe_encode(&bpe, "red cube", &t), NN_OK);
    assert_int_equal(t.n, 2);
    nn_clip_bpe_close(&bpe);

    /* A small corpus is used up before the size is reached. */
    assert_int_equal(nn_clip_bpe_train(corpus, NN_COUNT(corpus), 5000, scratch_path), NN_OK);
    assert_int_equal(nn_clip_bpe_open(scratch_path, &bpe), NN_OK);
    assert_in_range(bpe.vocab.n, 531, 700);
    nn_clip_bpe_close(&bpe);
    expect_failure(nn_clip_bpe_train(corpus, 1, 513, scratch_path), NN_ARGUMENT, "514");
    nn_tokens_free(&t);
    nn_text_free(&text);
    remove(scratch("vocab.json"));
    remove(scratch("merges.txt"));
}

static void survives_failing_memory(void **state)
{
    nn_clip_bpe bpe = open_golden();
    nn_status status = NN_MEMORY;
    (void)state;
    for (int64_t k = 1; status != NN_OK; k++) {
        nn_tokens t = { 0 };
        assert_in_range(k, 1, 1000);
        nn_alloc_fail_at(k);
        status = nn_clip_bpe_encode_padded(&bpe, "Caf\xc3\xa9 <|endoftext|> sphere", 77, 0,
                                           NN_OVERLONG_TRUNCATE, &t);
        nn_alloc_fail_at(0);
        assert_true(status == NN_OK || status == NN_MEMORY);
        nn_tokens_free(&t);
    }
    nn_clip_bpe_close(&bpe);
    status = NN_MEMORY;
    for (int64_t k = 1; status != NN_OK; k += 7) {
        assert_in_range(k, 1, 20000);
        nn_alloc_fail_at(k);
        status = nn_clip_bpe_open(GOLDEN, &bpe);
        nn_alloc_fail_at(0);
        assert_true(status == NN_OK || status == NN_MEMORY);
    }
    nn_clip_bpe_close(&bpe);
}

static void whole_vocabulary(void **state)
{
    const char *dir = getenv("RECAP_VOCAB");
    nn_clip_bpe bpe;
    (void)state;
    if (!dir) {
        print_message("RECAP_VOCAB is not set: tools/dev/vocab fetches the vocabularies\n");
        skip();
    }
    if (nn_clip_bpe_open(dir, &bpe) != NN_OK) fail_msg("%s", nn_error_message());
    assert_int_equal(bpe.vocab.n, 49408);
    assert_int_equal(bpe.n_merges, 48894);
    assert_string_equal(nn_vocab_token(&bpe.vocab, 512), "in");
    assert_string_equal(nn_vocab_token(&bpe.vocab, 514), "an");
    assert_string_equal(nn_vocab_token(&bpe.vocab, 49405), "jekyll</w>");
    check_vectors(&bpe);
    nn_clip_bpe_close(&bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes),
        cmocka_unit_test(cleans),
        cmocka_unit_test(cleans_as_openai),
        cmocka_unit_test(assembles),
        cmocka_unit_test(decodes),
        cmocka_unit_test(reads_tokenizer_json),
        cmocka_unit_test(rejects_files),
        cmocka_unit_test(trains),
        cmocka_unit_test(survives_failing_memory),
        cmocka_unit_test(whole_vocabulary),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
