/* Files with checksums: they are what plain files are, and damage to any byte is found and named.
 */
#include "tests/unit/scratch.h"

#include <string.h>

#include "data/safetensors.h"
#include "engine/base/alloc.h"

static const float numbers[6] = { 1, -2, 3.5f, 0, -0.0f, 1e30f };
static const unsigned char letters[4] = "abc";

static const nn_weight tensors[] = {
    { "matrix", NN_ST_F32, 2, { 2, 3 }, numbers, sizeof(numbers) },
    { "nothing", NN_ST_F32, 1, { 0 }, numbers, 0 },
    { "word", NN_ST_U8, 1, { 3 }, letters, 3 },
};
static const nn_st_pair about = { "about", "a test" };

/* The tensors, by themselves or by way of a source. */
static void write_to(const char *path, const nn_st_source *source)
{
    assert_int_equal(
        nn_safetensors_write_sealed(path, tensors, NN_COUNT(tensors), &about, 1, source), NN_OK);
}

static nn_status fetch(void *ctx, const nn_weight *t, int64_t at, int64_t n, void *out)
{
    (void)ctx;
    memcpy(out, (const char *)t->data + at, (size_t)n);
    return NN_OK;
}

static nn_status read_all(const char *path)
{
    nn_weight_file file;
    NN_TRY(nn_safetensors_open(path, &file));
    const nn_status status = nn_safetensors_verify(path, &file);
    nn_weight_file_close(&file);
    return status;
}

static void are_ordinary_files(void **state)
{
    const nn_st_source source = { fetch, NULL };
    char *first, *second;
    int64_t n, m;
    nn_weight_file file;
    (void)state;
    const char *path = scratch("a.safetensors");
    write_to(path, NULL);
    assert_int_equal(read_all(path), NN_OK);
    assert_int_equal(nn_safetensors_open(path, &file), NN_OK);
    assert_int_equal(file.n, NN_COUNT(tensors) + 1);
    assert_memory_equal(nn_weight_file_find(&file, "word")->data, letters, 3);
    assert_string_equal(nn_weight_file_metadata(&file, "about"), "a test");
    nn_weight_file_close(&file);
    assert_int_equal(nn_file_read(path, 4096, &first, &n), NN_OK);
    write_to(path, &source);
    assert_int_equal(nn_file_read(path, 4096, &second, &m), NN_OK);
    assert_int_equal(n, m);
    assert_memory_equal(first, second, (size_t)n);
    nn_free(first);
    nn_free(second);
}

/* Byte `at` of n, as messages call its place. */
static const char *place_of(int64_t at, int64_t n)
{
    const int64_t table = n - 8 * (NN_COUNT(tensors) + 2), word = table - 3, matrix = word - 24;
    if (at >= table) return "its table of checksums";
    if (at >= word) return "tensor 'word'";
    return at >= matrix ? "tensor 'matrix'" : "";
}

static void every_damaged_byte_is_found(void **state)
{
    char *bytes;
    int64_t n;
    (void)state;
    const char *path = scratch("b.safetensors");
    write_to(path, NULL);
    assert_int_equal(nn_file_read(path, 4096, &bytes, &n), NN_OK);
    for (int64_t i = 0; i < 3 * n; i++) {
        const char change = (char)(i % 3 == 0 ? 1 : i % 3 == 1 ? 0x80 : 0x55);
        bytes[i / 3] ^= change;
        assert_int_equal(nn_file_write(path, bytes, n), NN_OK);
        if (read_all(path) != NN_FORMAT) fail_msg("byte %d is damaged unseen", (int)(i / 3));
        if (!strstr(nn_error_message(), path)) fail_msg("no path: %s", nn_error_message());
        if (!strstr(nn_error_message(), place_of(i / 3, n)))
            fail_msg("byte %d: %s", (int)(i / 3), nn_error_message());
        bytes[i / 3] ^= change;
    }
    for (int64_t size = 0; size < n; size++) {
        assert_int_equal(nn_file_write(path, bytes, size), NN_OK);
        assert_int_equal(read_all(path), NN_FORMAT);
    }
    nn_free(bytes);
}

static void others_are_told_apart(void **state)
{
    const nn_weight bad = { NN_SAFETENSORS_CHECKSUMS, NN_ST_U8, 1, { 3 }, letters, 3 };
    (void)state;
    const char *path = scratch("c.safetensors");
    assert_int_equal(nn_safetensors_write(path, tensors, NN_COUNT(tensors), NULL, 0), NN_OK);
    assert_int_equal(read_all(path), NN_FORMAT);
    assert_non_null(strstr(nn_error_message(), "has no checksums"));
    assert_int_equal(nn_safetensors_write(path, &bad, 1, NULL, 0), NN_OK);
    assert_int_equal(read_all(path), NN_FORMAT);
    assert_int_equal(nn_safetensors_write_sealed(path, &bad, 1, NULL, 0, NULL), NN_ARGUMENT);
    assert_int_equal(nn_safetensors_write_sealed(path, NULL, 0, NULL, 0, NULL), NN_OK);
    assert_int_equal(read_all(path), NN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(are_ordinary_files),
        cmocka_unit_test(every_damaged_byte_is_found),
        cmocka_unit_test(others_are_told_apart),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
