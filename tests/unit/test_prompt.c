/* The attention syntax of prompts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "data/prompt.h"
#include "engine/base/alloc.h"

/* What a prompt must be cut into; text NULL ends the list. A text that begins with "|" has a BREAK
 * in front. */
typedef struct piece {
    const char *text;
    double weight;
} piece;

static void check(const char *prompt, const piece *want)
{
    nn_prompt p;
    assert_int_equal(nn_prompt_parse(prompt, &p), NN_OK);
    int64_t i = 0;
    for (; want[i].text; i++) {
        const bool new_window = want[i].text[0] == '|';
        if (i >= p.n) fail_msg("'%s' has %d parts only", prompt, (int)p.n);
        assert_string_equal(p.parts[i].text.text ? p.parts[i].text.text : "",
                            want[i].text + new_window);
        if (fabs(p.parts[i].weight - want[i].weight) > 1e-12)
            fail_msg("'%s': part %d counts %g, not %g", prompt, (int)i, p.parts[i].weight,
                     want[i].weight);
        assert_int_equal(p.parts[i].new_window, new_window);
    }
    if (i != p.n) fail_msg("'%s' has %d parts, not %d", prompt, (int)p.n, (int)i);
    nn_prompt_free(&p);
}
#define CHECK(prompt, ...) check(prompt, (const piece[]){ __VA_ARGS__, { NULL, 0 } })

/* The examples in the comment of the web UI's parser. */
static void test_published(void **state)
{
    (void)state;
    check("", (const piece[]){ { NULL, 0 } });
    CHECK("normal text", { "normal text", 1 });
    CHECK("an (important) word", { "an ", 1 }, { "important", 1.1 }, { " word", 1 });
    CHECK("(unbalanced", { "unbalanced", 1.1 });
    CHECK("\\(literal\\]", { "(literal]", 1 });
    CHECK("(unnecessary)(parens)", { "unnecessaryparens", 1.1 });
    CHECK("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", { "a ", 1 },
          { "house", 1.3 * 1.1 * 1.1 }, { " ", 1.1 }, { "on", 1.1 / 1.1 }, { " a ", 1.1 },
          { "hill", 0.5 * 1.1 }, { ", sun, ", 1.1 }, { "sky", 1.1 * 1.1 * 1.1 * 1.1 },
          { ".", 1.1 });
}

static void test_weights(void **state)
{
    (void)state;
    CHECK("(a:1.5)", { "a", 1.5 });
    CHECK("(a: -0.25 )b", { "a", -0.25 }, { "b", 1 });
    CHECK("(a:+2)", { "a", 2 });
    CHECK("(a:1.2.3)", { "a:1.2.3", 1.1 });
    CHECK("(a:.)", { "a:.", 1.1 });
    CHECK("(ratio 3:2)", { "ratio 3", 2 }); /* as the web UI has it */
    CHECK("at 10:30)", { "at 10:30)", 1 });
    CHECK("a]b", { "a]b", 1 });
    CHECK("[a]", { "a", 1 / 1.1 });
    CHECK("(a:b)", { "a:b", 1.1 });
    CHECK("tail\\", { "tail", 1 });
    CHECK("caf\xc3\xa9 (\xe2\x98\x95:2)", { "caf\xc3\xa9 ", 1 }, { "\xe2\x98\x95", 2 });
}

static void test_breaks(void **state)
{
    (void)state;
    CHECK("a BREAK b", { "a", 1 }, { "|b", 1 });
    CHECK("BREAK", { "", 1 }, { "|", 1 });
    CHECK("BREAKFAST and DAYBREAK", { "BREAKFAST and DAYBREAK", 1 });
    CHECK("(a BREAK b:2) c", { "a", 2 }, { "|b", 2 }, { " c", 1 });
}

static void test_limits(void **state)
{
    (void)state;
    char text[256] = { 0 };
    nn_prompt p;
    memset(text, '(', NN_PROMPT_MAX_DEPTH);
    text[NN_PROMPT_MAX_DEPTH] = 'a';
    assert_int_equal(nn_prompt_parse(text, &p), NN_OK);
    assert_true(fabs(p.parts[0].weight / pow(1.1, NN_PROMPT_MAX_DEPTH) - 1) < 1e-12);
    nn_prompt_free(&p);
    text[NN_PROMPT_MAX_DEPTH] = '(';
    assert_int_equal(nn_prompt_parse(text, &p), NN_ARGUMENT);
    assert_null(p.parts);
    assert_int_equal(nn_prompt_parse("((a:40):40)", &p), NN_ARGUMENT);
    assert_non_null(strstr(nn_error_message(), "1600 times"));
    assert_null(p.parts);
}

static void test_allocations(void **state)
{
    (void)state;
    nn_prompt p = { 0 };
    bool done = false;
    int64_t k = 1;
    for (; !done && k < 100; k++) {
        nn_alloc_fail_at(k);
        nn_status status = nn_prompt_parse("a (b:2) [c] d:e BREAK f", &p);
        nn_alloc_fail_at(0);
        done = status == NN_OK;
        assert_int_equal(status, done ? NN_OK : NN_MEMORY);
        nn_prompt_free(&p);
    }
    assert_in_range(k, 4, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),   cmocka_unit_test(test_weights),
        cmocka_unit_test(test_breaks),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
