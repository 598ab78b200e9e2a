/* The pickle reader: what every opcode gives, and every rule that is violated. */
#include "tests/unit/scratch.h"

#include "data/pickle.h"
#include "engine/base/alloc.h"

static nn_arena arena;

#define READ(bytes) read_it((const unsigned char *)(bytes), (int64_t)sizeof(bytes) - 1)
#define REFUSES(bytes, text)                                                                       \
    refuses_it((const unsigned char *)(bytes), (int64_t)sizeof(bytes) - 1, text)

static const nn_pickle *read_it(const unsigned char *bytes, int64_t n)
{
    const nn_pickle *value = NULL;
    if (nn_pickle_read("p", bytes, n, &arena, &value) != NN_OK) fail_msg("%s", nn_error_message());
    assert_non_null(value);
    return value;
}

static void refuses_it(const unsigned char *bytes, int64_t n, const char *text)
{
    const nn_pickle *value;
    nn_status status = nn_pickle_read("p", bytes, n, &arena, &value);
    if (status == NN_OK || !strstr(nn_error_message(), text))
        fail_msg("status %d, message '%s'; '...%s...' was expected", (int)status,
                 nn_error_message(), text);
}

static void int_is(const nn_pickle *value, int64_t expected)
{
    assert_int_equal(value->kind, NN_PICKLE_INT);
    assert_int_equal(value->integer, expected);
}

static void scalars(void **state)
{
    (void)state;
    assert_int_equal(READ("\x80\x02N.")->kind, NN_PICKLE_NONE);
    assert_int_equal(READ("\x88.")->integer, 1);
    assert_int_equal(READ("\x89.")->integer, 0);
    int_is(READ("K\xff."), 255);
    int_is(READ("M\1\2."), 513);
    int_is(READ("J\xfe\xff\xff\xff."), -2);
    int_is(READ("\x8a\0."), 0);
    int_is(READ("\x8a\1\x80."), -128);
    int_is(READ("\x8a\5\0\0\0\0\1."), (int64_t)1 << 32);
    assert_int_equal(READ("\x8a\x09"
                          "123456789.")
                         ->kind,
                     NN_PICKLE_BIG);
    assert_true(READ("G\x3f\xf8\0\0\0\0\0\0.")->real == 1.5);
    assert_true(nn_pickle_is_text(READ("X\3\0\0\0abc."), "abc"));
    assert_true(nn_pickle_is_text(READ("\x8c\2hi."), "hi"));
    assert_true(nn_pickle_is_text(READ("T\1\0\0\0a."), "a"));
    assert_true(nn_pickle_is_text(READ("U\0."), ""));
    assert_false(nn_pickle_is_text(READ("U\2ab."), "a"));
    assert_int_equal(READ("\x95\0\0\0\0\0\0\0\0N.")->kind, NN_PICKLE_NONE);
}

static void containers(void **state)
{
    (void)state;
    assert_int_equal(READ(").")->n, 0);
    int_is(READ("K\1\x85.")->values[0], 1);
    int_is(READ("K\1K\2\x86.")->values[1], 2);
    int_is(READ("K\1K\2K\3\x87.")->values[2], 3);
    const nn_pickle *v = READ("(K\1K\2K\3K\4t.");
    assert_int_equal(v->kind, NN_PICKLE_TUPLE);
    assert_int_equal(v->n, 4);
    v = READ("]K\7a(K\1K\2e.");
    assert_int_equal(v->kind, NN_PICKLE_LIST);
    assert_int_equal(v->n, 3);
    int_is(v->values[2], 2);
    assert_int_equal(READ("(K\1K\2l.")->n, 2);
    v = READ("}U\1aK\1s(U\1bK\2U\1aK\3u.");
    assert_int_equal(v->n, 6);
    int_is(nn_pickle_get(v, "a"), 3); /* the last of several */
    int_is(nn_pickle_get(v, "b"), 2);
    assert_null(nn_pickle_get(v, "c"));
    int_is(nn_pickle_get(READ("(U\1aK\1d."), "a"), 1);
    int_is(READ("K\1K\2"
                "0."),
           1);
    int_is(READ("K\1(K\2K\3"
                "1."),
           1);
    int_is(READ("K\1(0."), 1); /* a mark is taken off too */
}

static void memo(void **state)
{
    (void)state;
    const nn_pickle *v = READ("]q\0h\0"
                              "a."); /* a list that holds itself */
    assert_ptr_equal(v->values[0], v);
    v = READ("K\5q\7"
             "0h\7h\7\x86.");
    assert_ptr_equal(v->values[0], v->values[1]);
    v = READ("K\5\x94K\6\x94"
             "00h\1j\0\0\0\0\x86.");
    int_is(v->values[0], 6);
    int_is(v->values[1], 5);
    int_is(READ("K\4r\2\0\0\0"
                "0h\2."),
           4);
    REFUSES("K\1"
            "0h\0.",
            "an empty place");
    REFUSES("K\1q\1h\0.", "an empty place");
    REFUSES("K\1r\xff\xff\xff\x7f.", "beyond the length");
    REFUSES("K\1r\xff\xff\xff\xff.", "beyond the length");
    REFUSES("q\0.", "the stack is empty");
}

/* Nothing is called: every object is a record of what was asked for. */
static void objects(void **state)
{
    (void)state;
    const nn_pickle *v = READ("cos\nsystem\nU\4true\x85R.");
    assert_int_equal(v->kind, NN_PICKLE_CALL);
    assert_true(nn_pickle_calls(v, "os system"));
    assert_false(nn_pickle_calls(v, "os"));
    assert_true(nn_pickle_is_text(v->call.arguments->values[0], "true"));
    assert_true(nn_pickle_calls(READ("U\2osU\6system\x93)\x81."), "os system"));
    v = READ("cx\nY\n)\x81}U\1aK\1sb."); /* its state is not kept */
    assert_true(nn_pickle_calls(v, "x Y"));
    assert_null(v->call.filled);
    v = READ("ccollections\nOrderedDict\n)R(U\1aK\1u}b.");
    int_is(nn_pickle_get(nn_pickle_dict(v), "a"), 1);
    assert_int_equal(nn_pickle_dict(READ("ccollections\nOrderedDict\n)R."))->n, 0);
    assert_null(nn_pickle_dict(READ("cx\nY\n)R(U\1aK\1u.")));
    assert_int_equal(READ("cx\nY\n)R(K\1e.")->call.filled->n, 1);
    v = READ("(U\1xK\1tQ.");
    assert_int_equal(v->kind, NN_PICKLE_PERSISTENT);
    int_is(v->id->values[1], 1);
    assert_string_equal(nn_pickle_kind_name(v), "a persistent id");
}

static void broken(void **state)
{
    (void)state;
    REFUSES("", "cut off");
    REFUSES("\x80", "cut off");
    REFUSES("K", "cut off");
    REFUSES("N", "cut off");
    REFUSES("X\xff\xff\xff\xff"
            "abc.",
            "cut off");
    REFUSES("X\4\0\0\0abc", "cut off");
    REFUSES("cos\nsystem", "cut off");
    REFUSES("\x80\x06N.", "protocol above 5");
    REFUSES(".", "the stack is empty");
    REFUSES("0.", "the stack is empty");
    REFUSES("K\1\x86.", "the stack is empty");
    REFUSES("(\x85.", "the stack is empty"); /* what lies below a mark is out of reach */
    REFUSES("K\1(\x85.", "the stack is empty");
    REFUSES("t.", "no mark");
    REFUSES("K\1"
            "1.",
            "no mark");
    REFUSES("]e.", "no mark");
    REFUSES("K\1K\2"
            "a.",
            "what is no list");
    REFUSES("}K\2"
            "a.",
            "what is no list");
    REFUSES("]K\1K\2s.", "what is no dict");
    REFUSES("}(K\1u.", "a key without a value");
    REFUSES("(K\1d.", "a key without a value");
    REFUSES("cx\nY\n)R(K\1e(K\1K\2u.", "what is no dict");
    REFUSES("K\1K\2\x93.", "the name of a global");
    REFUSES("cx\nY\nK\1R.", "arguments that are no tuple");
}

/* Opcodes of Python's that no weight file needs. */
static void unknown_opcodes(void **state)
{
    static const char codes[] = "2BCFILPSVgiop\x82\x83\x84\x8b\x8d\x8e\x8f\x90\x91\x92\x96\x97\x98";
    (void)state;
    for (const char *c = codes; *c; c++) {
        const nn_pickle *value;
        unsigned char bytes[] = { 'N', (unsigned char)*c, '.' };
        expect_failure(nn_pickle_read("p", bytes, 3, &arena, &value), NN_UNSUPPORTED,
                       "is not read");
    }
}

static void bounds(void **state)
{
    const int64_t n = NN_PICKLE_VALUES + 2;
    const nn_pickle *value;
    (void)state;
    unsigned char *bytes = nn_alloc(n, 1);
    assert_non_null(bytes);
    memset(bytes, 'N', (size_t)n);
    expect_failure(nn_pickle_read("p", bytes, n, &arena, &value), NN_FORMAT, "more values");
    expect_failure(nn_pickle_read("p", bytes, (int64_t)NN_PICKLE_BYTES + 1, &arena, &value),
                   NN_FORMAT, "at most");
    nn_free(bytes);
}

static int close_arena(void **state)
{
    (void)state;
    nn_arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars), cmocka_unit_test(containers), cmocka_unit_test(memo),
        cmocka_unit_test(objects), cmocka_unit_test(broken),     cmocka_unit_test(unknown_opcodes),
        cmocka_unit_test(bounds),
    };
    return cmocka_run_group_tests(tests, NULL, close_arena);
}
