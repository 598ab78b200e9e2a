/* XXH64 against values of its authors' program, and in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/status.h"

static void known_values(void **state)
{
    static const struct {
        const char *text;
        uint64_t sum;
    } cases[] = {
        { "", 0xef46db3751d8e999 },
        { "a", 0xd24ec4f1a98c6e5b },
        { "abc", 0x44bc2cf5ad770999 },
        { "checkpoint", 0xd37c6da831e8da8f },
        { "0123456789abcdef0123456789abcdef", 0x642a94958e71e6c5 },
        { "The quick brown fox jumps over the lazy dog, then over 42 more.", 0xf09965a3672924d6 },
    };
    (void)state;
    for (int i = 0; i < NN_COUNT(cases); i++)
        assert_true(nn_checksum_of(cases[i].text, (int64_t)strlen(cases[i].text)) == cases[i].sum);
}

static void pieces_are_the_whole(void **state)
{
    unsigned char bytes[200];
    (void)state;
    for (int i = 0; i < NN_COUNT(bytes); i++) bytes[i] = (unsigned char)(i * 7 + 3);
    const uint64_t whole = nn_checksum_of(bytes, sizeof(bytes));
    for (int size = 1; size < NN_COUNT(bytes); size++) {
        nn_checksum c;
        nn_checksum_start(&c);
        for (int at = 0; at < NN_COUNT(bytes); at += size)
            nn_checksum_add(&c, bytes + at, nn_min(size, NN_COUNT(bytes) - at));
        nn_checksum_add(&c, bytes, 0);
        assert_true(nn_checksum_end(&c) == whole);
    }
}

static void every_bit_counts(void **state)
{
    unsigned char bytes[77] = { 0 };
    (void)state;
    const uint64_t whole = nn_checksum_of(bytes, sizeof(bytes));
    for (int i = 0; i < 8 * NN_COUNT(bytes); i++) {
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_true(nn_checksum_of(bytes, sizeof(bytes)) != whole);
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(pieces_are_the_whole),
        cmocka_unit_test(every_bit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
