/* The JSON reader of builds without libraries, held against jansson on the same texts. */
#include "tests/unit/scratch.h"

#include "data/plain/jansson.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/rng.h"
#include "engine/base/str.h"

/* Of the library itself, whose values are opaque here. */
#undef json_loadb
json_t *json_loadb(const char *bytes, size_t n, size_t flags, json_error_t *error);
char *json_dumps(const json_t *json, size_t flags);
void json_delete(json_t *json);

enum { COMPACT_ANY = 0x20 | 0x200 };

static void dump(const json_t *v, nn_text *out);

static void dump_list(const json_t *v, nn_text *out)
{
    size_t i;
    json_t *item;
    assert_int_equal(nn_text_add(out, "["), NN_OK);
    json_array_foreach(v, i, item)
    {
        if (i) assert_int_equal(nn_text_add(out, ","), NN_OK);
        dump(item, out);
    }
    assert_int_equal(nn_text_add(out, "]"), NN_OK);
}

/* As jansson writes it. */
static void dump_string(const char *text, nn_text *out)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    assert_int_equal(nn_text_add(out, "\""), NN_OK);
    for (const char *p = text; *p; p++) {
        const char *found = strchr(escaped, *p);
        nn_status status = found ? nn_text_add(out, "\\%c", letters[found - escaped])
                           : (unsigned char)*p < 0x20 ? nn_text_add(out, "\\u%04X", (unsigned)*p)
                                                      : nn_text_add_bytes(out, p, 1);
        assert_int_equal(status, NN_OK);
    }
    assert_int_equal(nn_text_add(out, "\""), NN_OK);
}

static void dump_object(const json_t *v, nn_text *out)
{
    const char *key, *comma = "";
    json_t *item;
    assert_int_equal(nn_text_add(out, "{"), NN_OK);
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        assert_ptr_equal(json_object_get(v, key), item);
        assert_int_equal(nn_text_add(out, "%s", comma), NN_OK);
        dump_string(key, out);
        assert_int_equal(nn_text_add(out, ":"), NN_OK);
        dump(item, out);
        comma = ",";
    }
    assert_int_equal(nn_text_add(out, "}"), NN_OK);
}

static void dump_real(double x, nn_text *out)
{
    char text[64];
    snprintf(text, sizeof(text), "%.17g", x);
    const char *point = strpbrk(text, ".e") ? "" : ".0";
    char *power = strchr(text, 'e'), *digits = power ? power + strspn(power, "e+-0") : NULL;
    if (power) {
        power += power[1] == '-' ? 2 : 1;
        memmove(power, digits, strlen(digits) + 1);
    }
    assert_int_equal(nn_text_add(out, "%s%s", text, point), NN_OK);
}

static void dump(const json_t *v, nn_text *out)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        dump_object(v, out);
        break;
    case JSON_ARRAY:
        dump_list(v, out);
        break;
    case JSON_STRING:
        dump_string(json_string_value(v), out);
        break;
    case JSON_REAL:
        assert_true(json_number_value(v) == json_real_value(v));
        dump_real(json_real_value(v), out);
        break;
    case JSON_INTEGER:
        assert_int_equal(nn_text_add(out, "%lld", json_integer_value(v)), NN_OK);
        break;
    default:
        assert_int_equal(nn_text_add(out, "%s",
                                     json_is_null(v)   ? "null"
                                     : json_is_true(v) ? "true"
                                                       : "false"),
                         NN_OK);
    }
}

/* Both take the text or neither does, and what they read is the same; returns whether they do. */
static bool agree(const char *text, size_t n, size_t flags)
{
    json_error_t error = { 0 }, theirs_error = { 0 };
    json_t *ours = nn_plain_json_loadb(text, n, flags, &error);
    json_t *theirs = json_loadb(text, n, flags, &theirs_error);
    if (!ours != !theirs)
        fail_msg("'%.*s': ours says '%s', jansson '%s'", (int)n, text, error.text,
                 theirs_error.text);
    if (!ours) {
        assert_true(error.line >= 1);
        assert_true(error.text[0]);
        return false;
    }
    nn_text got = { 0 };
    char *want = json_dumps(theirs, COMPACT_ANY);
    dump(ours, &got);
    assert_string_equal(got.text, want);
    nn_text_free(&got);
    free(want);
    json_delete(theirs);
    json_decref(ours);
    return true;
}

static const char *const texts[] = {
    "{}",
    "[]",
    " [ ] ",
    "{\"a\":1}",
    "[1,2,3]",
    "[1,]",
    "[,1]",
    "{\"a\":1,}",
    "{\"a\"}",
    "{a:1}",
    "{\"a\":1 \"b\":2}",
    "[1 2]",
    "[",
    "{",
    "[[]",
    "[]]",
    "[]x",
    "",
    " ",
    "nul",
    "null",
    "true",
    "\"x\"",
    "1",
    "[null,true,false]",
    "[nulL]",
    "[truex]",
    "[0,-0,00]",
    "[01]",
    "[-]",
    "[-1]",
    "[+1]",
    "[.5]",
    "[5.]",
    "[0.5,1e5,1E+5,1e-5,1.25e2]",
    "[1e]",
    "[1e+]",
    "[1.e5]",
    "[-0.0]",
    "[9223372036854775807,-9223372036854775808]",
    "[9223372036854775808]",
    "[-9223372036854775809]",
    "[1e308]",
    "[1e309]",
    "[-1e309]",
    "[1e-400]",
    "[0x10]",
    "[NaN]",
    "[Infinity]",
    "[\"\"]",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
    "[\"\\x\"]",
    "[\"\\u0041\\u00e9\"]",
    "[\"\\u20ac\\uD83D\\uDE00\"]",
    "[\"\\ud83d\"]",
    "[\"\\ude00\"]",
    "[\"\\ud83d\\u0041\"]",
    "[\"\\ud83dx\"]",
    "[\"\\u0000\"]",
    "[\"\\u00g0\"]",
    "[\"\\u12\"]",
    "[\"a\nb\"]",
    "[\"a\tb\"]",
    "[\"\x7f\"]",
    "[\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"]",
    "[\"\xc0\x80\"]",
    "[\"\xc3\"]",
    "[\"\xe2\x82\"]",
    "[\"\xed\xa0\x80\"]",
    "[\"\xf4\x90\x80\x80\"]",
    "[\"\xff\"]",
    "[\"abc",
    "[\"a\\",
    "[\"a\\\"",
    "\xef\xbb\xbf[]",
    "{\"a\":{\"b\":[{\"c\":null}]}}",
    "{\"a\":1,\"b\":2,\"a\":3}",
    "{\"\":0}",
    "{\"a\":[1,\n2,\n,3]}",
    "[1] // no",
    "{1:2}",
    "{\"a\":}",
    "{:1}",
    "{,}",
    "[\v1]",
    "{\"k1\":1,\"k2\":2,\"k3\":3,\"k4\":4,\"k5\":5,\"k6\":6,\"k7\":7,\"k8\":8,\"k9\":9,\"k1\":0}",
};

static void agrees_on_texts(void **state)
{
    int taken = 0;
    (void)state;
    for (int i = 0; i < NN_COUNT(texts); i++)
        for (size_t flags = 0; flags < 8; flags++)
            if ((flags & ~(size_t)(JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)) == 0)
                taken += agree(texts[i], strlen(texts[i]), flags);
    assert_in_range(taken, NN_COUNT(texts), 3 * NN_COUNT(texts));
    assert_false(agree("[1]\0", 4, 0));
    assert_false(agree("[\"a\0b\"]", 7, 0));
    assert_false(agree("[\0]", 3, 0));
}

/* Every text cut short at every place, and with one byte changed. */
static void agrees_on_damage(void **state)
{
    static const char text[] =
        "{\"n\\u00e9\": [1, -2.5e3, \"\xe2\x82\xac\\n\"], \"b\": {\"c\": null}}";
    nn_rng rng = nn_rng_make(1, "damage", 0);
    (void)state;
    for (size_t n = 0; n < sizeof(text) - 1; n++) (void)agree(text, n, 0);
    for (int i = 0; i < 20000; i++) {
        char copy[sizeof(text)];
        memcpy(copy, text, sizeof(text));
        copy[nn_rng_below(&rng, sizeof(text) - 1)] = (char)nn_rng_below(&rng, 256);
        (void)agree(copy, sizeof(text) - 1, 0);
    }
}

static void agrees_on_depth(void **state)
{
    char text[8192];
    (void)state;
    for (size_t depth = 2046; depth <= 2050; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(agree(text, 2 * depth, 0), depth <= 2048);
    }
    memset(text, '[', sizeof(text));
    assert_false(agree(text, sizeof(text), 0));
}

static void agrees_on_files(void **state)
{
    static const char *const paths[] = { "tests/golden/selftest.json",
                                         "tools/demo/captioner/config.json",
                                         "tools/demo/diffusion/unet/config.json" };
    (void)state;
    for (int i = 0; i < NN_COUNT(paths); i++) {
        char *bytes;
        int64_t n;
        json_error_t error;
        assert_int_equal(nn_file_read(paths[i], 1 << 26, &bytes, &n), NN_OK);
        assert_true(agree(bytes, (size_t)n, JSON_REJECT_DUPLICATES));
        nn_free(bytes);
        json_t *root = json_load_file(paths[i], JSON_REJECT_DUPLICATES, &error);
        assert_true(json_is_object(root));
        json_decref(root);
    }
    json_error_t error;
    assert_null(json_load_file("tests/golden/no such file", 0, &error));
    assert_non_null(strstr(error.text, "no such file"));
}

static void answers_other_types(void **state)
{
    static const char text[] = "{\"s\":\"x\",\"i\":3,\"r\":0.5,\"l\":[7]}";
    json_t *root = nn_plain_json_loadb(text, sizeof(text) - 1, 0, NULL);
    const json_t *l = json_object_get(root, "l");
    (void)state;
    assert_null(json_object_get(root, "none"));
    assert_null(json_object_get(NULL, "s"));
    assert_null(json_object_get(l, "s"));
    assert_null(json_string_value(l));
    assert_null(json_array_get(l, 1));
    assert_null(json_array_get(root, 0));
    assert_int_equal(json_integer_value(json_object_get(root, "r")), 0);
    assert_true(json_real_value(json_object_get(root, "i")) == 0);
    assert_true(json_number_value(json_object_get(root, "i")) == 3);
    assert_true(json_number_value(json_object_get(root, "s")) == 0);
    assert_int_equal(json_object_size(root), 4);
    assert_int_equal(json_array_size(l), 1);
    assert_int_equal(json_array_size(root), 0);
    json_decref(root);
    json_decref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_texts),     cmocka_unit_test(agrees_on_damage),
        cmocka_unit_test(agrees_on_depth),     cmocka_unit_test(agrees_on_files),
        cmocka_unit_test(answers_other_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
