/* Configuration files: defaults, types, messages, unknown keys. */
#include "tests/unit/scratch.h"

#include <stdlib.h>

#include "data/json.h"

static nn_json parse(const char *text)
{
    nn_json json;
    assert_int_equal(nn_json_parse(text, (int64_t)strlen(text), "c.json", &json), NN_OK);
    return json;
}

static void reads_values(void **state)
{
    nn_json json =
        parse("{\"i\":-7,\"big\":5000000000,\"d\":0.5,\"whole\":3,\"b\":true,\"s\":\"x\","
              "\"list\":[1,2],\"names\":[\"p\",\"q\"],\"none\":null,\"o\":{\"k\":1}}");
    int i = 1, n = 9, absent = 42;
    int64_t big = 0, list[3] = { 0 };
    double d = 0, whole = 0;
    bool b = false;
    const char *s = "default", *names[2];
    nn_json child;
    (void)state;
    assert_int_equal(nn_json_int(&json, "i", &i), NN_OK);
    assert_int_equal(i, -7);
    assert_int_equal(nn_json_int64(&json, "big", &big), NN_OK);
    assert_true(big == 5000000000);
    assert_int_equal(nn_json_double(&json, "d", &d), NN_OK);
    assert_int_equal(nn_json_double(&json, "whole", &whole), NN_OK);
    assert_true(d == 0.5 && whole == 3);
    assert_int_equal(nn_json_bool(&json, "b", &b), NN_OK);
    assert_true(b);
    assert_int_equal(nn_json_int(&json, "absent", &absent), NN_OK);
    assert_int_equal(nn_json_int(&json, "none", &absent), NN_OK);
    assert_int_equal(absent, 42);
    assert_int_equal(nn_json_string(&json, "s", &s), NN_OK);
    assert_string_equal(s, "x");
    assert_int_equal(nn_json_ints(&json, "absent", 3, list, &n), NN_OK);
    assert_int_equal(n, 9);
    assert_int_equal(nn_json_ints(&json, "list", 3, list, &n), NN_OK);
    assert_true(n == 2 && list[0] == 1 && list[1] == 2);
    assert_int_equal(nn_json_strings(&json, "names", 2, names, &n), NN_OK);
    assert_string_equal(names[1], "q");
    assert_int_equal(nn_json_child(&json, "o", &child), NN_OK);
    assert_int_equal(nn_json_int(&child, "k", &i), NN_OK);
    assert_int_equal(i, 1);
    assert_int_equal(nn_json_child(&json, "no", &child), NN_OK);
    assert_int_equal(nn_json_int(&child, "k", &i), NN_OK);
    assert_false(nn_json_has(&child, "k"));
    assert_true(nn_json_has(&json, "i"));
    assert_false(nn_json_has(&json, "none"));
    nn_json_close(&json);
}

static void names_the_mistake(void **state)
{
    nn_json json =
        parse("{\"i\":\"7\",\"r\":1.5,\"big\":5000000000,\"list\":[1,\"2\"],\"width\":3}");
    nn_json child;
    int i, n;
    int64_t list[2];
    double d;
    bool b;
    const char *s;
    (void)state;
    expect_failure(nn_json_int(&json, "i", &i), NN_FORMAT, "c.json: \"i\" is a string, an integer");
    expect_failure(nn_json_int(&json, "r", &i), NN_FORMAT, "is a real number");
    expect_failure(nn_json_int(&json, "big", &i), NN_FORMAT, "more than 32 bits");
    expect_failure(nn_json_double(&json, "i", &d), NN_FORMAT, "a number was expected");
    expect_failure(nn_json_bool(&json, "r", &b), NN_FORMAT, "true or false");
    expect_failure(nn_json_string(&json, "r", &s), NN_FORMAT, "a string was expected");
    expect_failure(nn_json_child(&json, "r", &child), NN_FORMAT, "an object was expected");
    expect_failure(nn_json_ints(&json, "list", 2, list, &n), NN_FORMAT, "a list of integers");
    expect_failure(nn_json_ints(&json, "list", 1, list, &n), NN_FORMAT, "at most 1");
    expect_failure(nn_json_ints(&json, "r", 1, list, &n), NN_FORMAT, "a list was expected");
    expect_failure(nn_json_need(&json, "widht"), NN_FORMAT, "\"width\" is near");
    expect_failure(nn_json_need(&json, "something"), NN_FORMAT, "has no \"something\"");
    assert_int_equal(nn_json_need(&json, "width"), NN_OK);
    nn_json_close(&json);
}

static void rejects_files(void **state)
{
    nn_json json;
    (void)state;
    expect_failure(nn_json_open(scratch("absent.json"), 100, &json), NN_NOT_FOUND, "absent.json");
    expect_failure(nn_json_open(scratch_write("j", "{\"a\": 1}", 8), 7, &json), NN_FORMAT,
                   "at most 7");
    expect_failure(nn_json_open(scratch_write("j", "{\"a\":1,\n\"a\":2}", 14), 100, &json),
                   NN_FORMAT, "line 2");
    expect_failure(nn_json_open(scratch_write("j", "[1]", 3), 100, &json), NN_FORMAT, "a list at");
    expect_failure(nn_json_open(scratch_write("j", "", 0), 100, &json), NN_FORMAT, "line 1");
    assert_int_equal(nn_json_open(scratch_write("j", "{}", 2), 2, &json), NN_OK);
    nn_json_close(&json);
}

static void lists_unknown_keys(void **state)
{
    static const char *const known[] = { "hidden_size", "layers" };
    nn_json json = parse("{\"_class_name\":1,\"hiden_size\":2,\"layers\":3,\"dropout_rate\":4}");
    nn_text report = { 0 };
    (void)state;
    assert_int_equal(nn_json_unknown(&json, known, 2, &report), NN_OK);
    assert_string_equal(report.text,
                        "c.json: unknown key \"hiden_size\"; did you mean \"hidden_size\"?\n"
                        "c.json: unknown key \"dropout_rate\"\n");
    nn_text_free(&report);
    nn_json_close(&json);
}

static void writes_strings(void **state)
{
    nn_text out = { 0 };
    (void)state;
    assert_int_equal(nn_json_write_string(&out, "a\"b\\c\nd\xc3\xa9"), NN_OK);
    assert_string_equal(out.text, "\"a\\\"b\\\\c\\u000ad\xc3\xa9\"");
    nn_text_free(&out);
}

static void writes_floats_as_such(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = { { 0, "0.0" },
                  { 1, "1.0" },
                  { -2, "-2.0" },
                  { 0.1, "0.1" },
                  { 1e-12, "1e-12" },
                  { 1e6, "1e+06" },
                  { 1234567, "1234567.0" },
                  { 0.18215, "0.18215" },
                  { 1.0 / 3, "0.3333333333333333" } };
    char out[NN_JSON_REAL];
    (void)state;
    for (int i = 0; i < NN_COUNT(cases); i++) {
        assert_string_equal(nn_json_real(cases[i].value, out), cases[i].text);
        assert_true(strtod(out, NULL) == cases[i].value);
    }
    assert_true(strtod(nn_json_real(-0x1.fffffffffffffp-1022, out), NULL) ==
                -0x1.fffffffffffffp-1022);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values),   cmocka_unit_test(names_the_mistake),
        cmocka_unit_test(rejects_files),  cmocka_unit_test(lists_unknown_keys),
        cmocka_unit_test(writes_strings), cmocka_unit_test(writes_floats_as_such),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
