/* Every rule of the zip reader, each with its own message. */
#include "tests/unit/torch_archive.h"

#include "data/zip.h"

static nn_status read_bytes(nn_text *bytes, nn_arena *arena, nn_zip *zip)
{
    nn_map map = { (const unsigned char *)bytes->text, bytes->length };
    return nn_zip_read("a.zip", &map, arena, zip);
}

/* Ends the archive and expects it to be refused. */
static void refuses(archive *a, nn_status code, const char *message)
{
    nn_arena arena = { 0 };
    nn_zip zip;
    archive_end(a, false);
    expect_failure(read_bytes(&a->bytes, &arena, &zip), code, message);
    nn_arena_free(&arena);
    nn_text_free(&a->bytes);
}

static archive one(const char *name)
{
    archive a = { 0 };
    archive_add(&a, name, "1234", 4);
    return a;
}

static void reads(void **state)
{
    (void)state;
    for (int zip64 = 0; zip64 < 2; zip64++) {
        archive a = { 0 };
        nn_arena arena = { 0 };
        nn_zip zip;
        archive_add(&a, "r/b", "world", 5);
        archive_add(&a, "r/a", "hello!", 6);
        archive_add(&a, "r/none", "", 0);
        archive_end(&a, zip64);
        assert_int_equal(read_bytes(&a.bytes, &arena, &zip), NN_OK);
        assert_int_equal(zip.n, 3);
        assert_string_equal(zip.entry[0].name, "r/a");
        const nn_zip_entry *b = nn_zip_find(&zip, "r/b");
        assert_non_null(b);
        assert_int_equal(b->bytes, 5);
        assert_memory_equal(b->data, "world", 5);
        assert_int_equal(nn_zip_find(&zip, "r/none")->bytes, 0);
        assert_null(nn_zip_find(&zip, "r/c"));
        nn_arena_free(&arena);
        nn_text_free(&a.bytes);
    }
}

/* Sizes in Zip64's extra field, behind another field. */
static void reads_large_entries(void **state)
{
    static const char extra[] = "\7\0\2\0xx\1\0\20\0\4\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0";
    (void)state;
    archive a = { .odd = { .size = UINT32_MAX,
                           .packed = UINT32_MAX,
                           .extra = extra,
                           .n_extra = sizeof(extra) - 1 } };
    nn_arena arena = { 0 };
    nn_zip zip;
    archive_add(&a, "r/a", "1234", 4);
    archive_end(&a, true);
    assert_int_equal(read_bytes(&a.bytes, &arena, &zip), NN_OK);
    assert_int_equal(zip.entry[0].bytes, 4);
    nn_arena_free(&arena);
    nn_text_free(&a.bytes);
    a = (archive){ .odd = { .size = UINT32_MAX,
                            .packed = UINT32_MAX,
                            .extra = extra,
                            .n_extra = sizeof(extra) - 9 } };
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_FORMAT, "no Zip64 field");
}

static void names(void **state)
{
    archive a;
    char longest[2000];
    (void)state;
    static const char *const ways_out[] = { "..", "../a", "r/../a", "r/..", "/a", "r\\a" };
    for (int i = 0; i < NN_COUNT(ways_out); i++) {
        a = one(ways_out[i]);
        refuses(&a, NN_FORMAT, "leads out of its folder");
    }
    a = one("r/\xff");
    refuses(&a, NN_FORMAT, "not valid UTF-8");
    a = one("");
    refuses(&a, NN_FORMAT, "has 0 bytes");
    memset(longest, 'a', sizeof(longest));
    longest[1999] = 0;
    a = one(longest);
    refuses(&a, NN_FORMAT, "1 to 1024 are read");
    a = one("r/a");
    archive_add(&a, "r/a", "5678", 4);
    refuses(&a, NN_FORMAT, "two entries are called 'r/a'");
    a = (archive){ .odd = { .inner_name = "r/b" } };
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_FORMAT, "another name in its own header");
}

static void entries(void **state)
{
    archive a = { .odd = { .flags = 1 } };
    (void)state;
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_UNSUPPORTED, "is encrypted");
    a = (archive){ .odd = { .method = 8 } };
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_UNSUPPORTED, "is compressed");
    a = (archive){ .odd = { .size = 3 } };
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_UNSUPPORTED, "is compressed");
    a = (archive){ .odd = { .size = 5, .packed = 5 } };
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_FORMAT, "has 5 bytes, only 4 are there");
    a = (archive){ .odd = { .local = 7 } };
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_FORMAT, "has no header at 7");
    a = (archive){ .odd = { .local = 1 << 30 } };
    archive_add(&a, "r/a", "1234", 4);
    refuses(&a, NN_FORMAT, "has no header at");
    a = (archive){ .odd = { .size = 30, .packed = 30 } };
    archive_add(&a, "r/a", "1234", 4);
    archive_add(&a, "r/b", "1234", 4);
    refuses(&a, NN_FORMAT, "'r/a' and 'r/b' overlap");
}

static void refuses_changed(int64_t from_end, char value, bool zip64, const char *message)
{
    archive a = one("r/a");
    nn_arena arena = { 0 };
    nn_zip zip;
    archive_end(&a, zip64);
    a.bytes.text[a.bytes.length - from_end] = value;
    expect_failure(read_bytes(&a.bytes, &arena, &zip), NN_FORMAT, message);
    nn_arena_free(&arena);
    nn_text_free(&a.bytes);
}

static void directory(void **state)
{
    (void)state;
    refuses_changed(22, 'X', false, "no end record");
    refuses_changed(2, 1, false, "no end record");              /* a comment that is not there */
    refuses_changed(18, 1, false, "a divided archive");         /* number of this part */
    refuses_changed(12, 9, false, "a divided archive");         /* entries in it */
    refuses_changed(6, 1, false, "what follows it begins at");  /* place of the directory */
    refuses_changed(10, 1, false, "what follows it begins at"); /* its size */
    refuses_changed(22 + 49, 'X', false, "has no entry at");
    refuses_changed(22 + 20 - 4, 1, true, "a divided archive");
    refuses_changed(22 + 20 - 8, 1, true, "points to no Zip64");
    refuses_changed(22 + 20 + 56 - 16, 1, true, "a divided archive");
    nn_text empty = { 0 };
    nn_arena arena = { 0 };
    nn_zip zip;
    PUT(&empty, "PK\5\6");
    expect_failure(read_bytes(&empty, &arena, &zip), NN_FORMAT, "at least 22");
    nn_text_free(&empty);
    archive a = one("r/a");
    a.n = 9;
    refuses(&a, NN_FORMAT, "room for 1");
    a = one("r/a");
    a.n = 2; /* more than the directory has */
    PUT(&a.directory, "PK\1\2");
    put_number(&a.directory, 0, 42);
    a.directory.text[a.directory.length - 46 + 28] = 99; /* bytes of its name */
    refuses(&a, NN_FORMAT, "longer than the directory");
    a = one("r/a");
    PUT(&a.directory, "more");
    refuses(&a, NN_FORMAT, "4 bytes follow the last entry");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),   cmocka_unit_test(reads_large_entries), cmocka_unit_test(names),
        cmocka_unit_test(entries), cmocka_unit_test(directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
