/* Every rule of the safetensors format, each with its own message; writing; sharded weights. */
#include "tests/unit/scratch.h"

#include <math.h>
#include <sys/stat.h>

#include "data/safetensors.h"
#include "data/weights.h"
#include "engine/base/alloc.h"

static const char *write_raw(const char *name, uint64_t n_said, const char *header,
                             int64_t n_header, int64_t n_data)
{
    unsigned char bytes[4096] = { 0 };
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(n_said >> (8 * i));
    memcpy(bytes + 8, header, (size_t)n_header);
    for (int64_t i = 0; i < n_data; i++) bytes[8 + n_header + i] = (unsigned char)i;
    return scratch_write(name, bytes, 8 + n_header + n_data);
}

static void rejects(const char *header, int64_t n_data, const char *message)
{
    nn_weight_file file;
    int64_t n = (int64_t)strlen(header);
    const char *path = write_raw("bad", (uint64_t)n, header, n, n_data);
    expect_failure(nn_safetensors_open(path, &file), NN_FORMAT, message);
}

#define TENSOR(dtype, shape, begin, end)                                                           \
    "{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

static void lengths(void **state)
{
    nn_weight_file file;
    (void)state;
    expect_failure(nn_safetensors_open(scratch("absent"), &file), NN_NOT_FOUND, "absent");
    expect_failure(nn_safetensors_open(scratch_write("bad", "1234567", 7), &file), NN_FORMAT,
                   "at least 8");
    expect_failure(nn_safetensors_open(scratch_write("bad", "", 0), &file), NN_FORMAT,
                   "at least 8");
    expect_failure(nn_safetensors_open(write_raw("bad", 100000001, "{}", 2, 0), &file), NN_FORMAT,
                   "at most 100000000");
    expect_failure(nn_safetensors_open(write_raw("bad", UINT64_MAX, "{}", 2, 0), &file), NN_FORMAT,
                   "at most 100000000");
    expect_failure(nn_safetensors_open(write_raw("bad", 3, "{}", 2, 0), &file), NN_FORMAT,
                   "cut off");
    expect_failure(nn_safetensors_open(write_raw("bad", 0, "", 0, 0), &file), NN_FORMAT,
                   "begin with '{'");
}

static void header_text(void **state)
{
    (void)state;
    rejects(" {}", 0, "begin with '{'");
    rejects("{\"\xff\":1}", 0, "UTF-8");
    rejects("{\"a\":}", 0, "valid JSON");
    rejects("{} x", 0, "valid JSON");
    rejects("{\"a\":" TENSOR("U8", "1", 0, 1) ",\"a\":" TENSOR("U8", "1", 1, 2) "}", 2,
            "duplicate");
    rejects("{\"__metadata__\":{\"a\":1}}", 0, "is no string");
    rejects("{\"__metadata__\":[]}", 0, "is no object");
}

static void entries(void **state)
{
    (void)state;
    rejects("{\"a\":3}", 0, "'a' has no dtype");
    rejects("{\"a\":" TENSOR("F31", "1", 0, 4) "}", 4, "unknown dtype 'F31'");
    rejects("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no shape");
    rejects("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "no data_offsets");
    rejects("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "no data_offsets");
    rejects("{\"a\":" TENSOR("U8", "-1", 0, 1) "}", 1, "0 or more");
    rejects("{\"a\":" TENSOR("U8", "1.0", 0, 1) "}", 1, "0 or more");
    rejects("{\"a\":" TENSOR("U8", "1,1,1,1,1,1,1,1,1", 0, 1) "}", 1, "9 dimensions");
    rejects("{\"a\":" TENSOR("F32", "4611686018427387904,8", 0, 0) "}", 0, "overflows");
    rejects("{\"a\":" TENSOR("F4", "3", 0, 2) "}", 2, "whole byte");
    rejects("{\"a\":" TENSOR("F32", "2", 0, 4) "}", 4, "its shape needs 8");
    rejects("{\"a\":" TENSOR("U8", "0", 1, 0) "}", 1, "outside");
    rejects("{\"a\":" TENSOR("U8", "9", 0, 9) "}", 8, "outside");
    rejects("{\"a\":" TENSOR("U8", "1", -1, 0) "}", 8, "outside");
}

static void layout(void **state)
{
    (void)state;
    rejects("{\"a\":" TENSOR("U8", "1", 1, 2) "}", 2, "hole");
    rejects("{\"a\":" TENSOR("U8", "2", 0, 2) ",\"b\":" TENSOR("U8", "1", 3, 4) "}", 4, "hole");
    rejects("{\"a\":" TENSOR("U8", "2", 0, 2) ",\"b\":" TENSOR("U8", "2", 1, 3) "}", 3, "inside");
    rejects("{\"a\":" TENSOR("U8", "2", 0, 2) ",\"b\":" TENSOR("U8", "2", 0, 2) "}", 2, "inside");
    rejects("{\"a\":" TENSOR("U8", "2", 0, 2) "}", 3, "1 bytes follow");
    rejects("{}", 1, "1 bytes follow");
}

static void too_much_structure(void **state)
{
    nn_weight_file file;
    (void)state;
    int64_t n = 5000000;
    char *bytes = nn_alloc(n, 1);
    assert_non_null(bytes);
    memset(bytes, ',', (size_t)n);
    for (int i = 0; i < 8; i++) bytes[i] = (char)((n - 8) >> (8 * i) & 0xff);
    bytes[8] = '{';
    const char *path = scratch_write("bad", bytes, n);
    expect_failure(nn_safetensors_open(path, &file), NN_FORMAT, "commas and brackets");
    nn_free(bytes);
}

static void accepts_odd_but_legal(void **state)
{
    static const char header[] =
        "{\"empty\":" TENSOR("F32", "0,5", 1, 1) ",\"b\":" TENSOR("F32", "", 1, 5) ",\"a\":" TENSOR(
            "BOOL", "1", 0, 1) ",\"e\\\"[,\":" TENSOR("F4", "2", 5, 6) "}   ";
    nn_weight_file file;
    (void)state;
    const char *path = write_raw("odd", sizeof(header) - 1, header, sizeof(header) - 1, 6);
    assert_int_equal(nn_safetensors_open(path, &file), NN_OK);
    assert_int_equal(file.n, 4);
    const nn_weight *b = nn_weight_file_find(&file, "b");
    assert_non_null(b);
    assert_int_equal(b->rank, 0);
    assert_int_equal(nn_weight_elements(b), 1);
    assert_memory_equal(b->data, "\1\2\3\4", 4);
    assert_int_equal(nn_weight_file_find(&file, "empty")->bytes, 0);
    assert_int_equal(nn_weight_file_find(&file, "e\"[,")->dtype, NN_ST_F4);
    assert_null(nn_weight_file_find(&file, "c"));
    assert_null(nn_weight_file_metadata(&file, "format"));
    nn_weight_file_close(&file);

    path = write_raw("odd", 2, "{}", 2, 0);
    assert_int_equal(nn_safetensors_open(path, &file), NN_OK);
    assert_int_equal(file.n, 0);
    assert_null(nn_weight_file_find(&file, "a"));
    nn_weight_file_close(&file);
}

static void writes_and_reads(void **state)
{
    static const float f32[6] = { 1, -2, 3.5f, 0, 1e-20f, 7 };
    static const uint16_t f16[3] = { 0x3c00, 0x0001, 0xfc00 }, bf16[2] = { 0x3f80, 0xc040 };
    static const double f64[1] = { 0.25 };
    static const int64_t ids[2] = { 5, 6 };
    const nn_weight tensors[] = {
        { "z.f16", NN_ST_F16, 1, { 3 }, f16, 6 },
        { "w \"quoted\"", NN_ST_F32, 2, { 2, 3 }, f32, 24 },
        { "bf16", NN_ST_BF16, 1, { 2 }, bf16, 4 },
        { "f64", NN_ST_F64, 0, { 0 }, f64, 8 },
        { "ids", NN_ST_I64, 2, { 1, 2 }, ids, 16 },
    };
    nn_weight_file file;
    float out[6];
    (void)state;
    assert_int_equal(nn_safetensors_write(scratch("w"), tensors, 5, NULL, 0), NN_OK);
    assert_int_equal(nn_safetensors_open(scratch("w"), &file), NN_OK);
    assert_string_equal(nn_weight_file_metadata(&file, "format"), "pt");
    assert_int_equal(file.n, 5);
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--) header = header << 8 | file.map.data[i];
    assert_int_equal(header % 8, 0);

    /* On disk: 8-byte dtypes by name, then 4, then 2. */
    const char *data = (const char *)file.map.data + 8 + header;
    assert_ptr_equal(nn_weight_file_find(&file, "f64")->data, data);
    assert_ptr_equal(nn_weight_file_find(&file, "ids")->data, data + 8);
    assert_ptr_equal(nn_weight_file_find(&file, "w \"quoted\"")->data, data + 24);
    assert_ptr_equal(nn_weight_file_find(&file, "bf16")->data, data + 48);
    assert_ptr_equal(nn_weight_file_find(&file, "z.f16")->data, data + 52);

    const nn_weight *w = nn_weight_file_find(&file, "w \"quoted\"");
    assert_int_equal(w->rank, 2);
    assert_int_equal(w->dim[1], 3);
    assert_int_equal(nn_weight_to_f32(w, out), NN_OK);
    assert_memory_equal(out, f32, sizeof(f32));
    assert_int_equal(nn_weight_to_f32(nn_weight_file_find(&file, "z.f16"), out), NN_OK);
    assert_true(out[0] == 1 && out[1] == ldexpf(1, -24) && isinf(out[2]) && out[2] < 0);
    assert_int_equal(nn_weight_to_f32(nn_weight_file_find(&file, "bf16"), out), NN_OK);
    assert_true(out[0] == 1 && out[1] == -3);
    assert_int_equal(nn_weight_to_f32(nn_weight_file_find(&file, "f64"), out), NN_OK);
    assert_true(out[0] == 0.25f);
    expect_failure(nn_weight_to_f32(nn_weight_file_find(&file, "ids"), out), NN_UNSUPPORTED, "I64");
    nn_weight_file_close(&file);
}

static void writer_refuses(void **state)
{
    static const float f[2] = { 1, 2 };
    nn_weight t[2] = { { "a", NN_ST_F32, 1, { 2 }, f, 8 }, { "a", NN_ST_F32, 1, { 2 }, f, 8 } };
    const nn_st_pair pair[] = { { "k", "v\n" }, { "format", "np" } };
    nn_weight_file file;
    (void)state;
    expect_failure(nn_safetensors_write(scratch("r"), t, 2, NULL, 0), NN_ARGUMENT, "two tensors");
    t[0].bytes = 4;
    expect_failure(nn_safetensors_write(scratch("r"), t, 1, NULL, 0), NN_ARGUMENT, "needs 8");
    t[0].bytes = 8;
    t[0].name = "__metadata__";
    expect_failure(nn_safetensors_write(scratch("r"), t, 1, NULL, 0), NN_ARGUMENT, "__metadata__");
    assert_false(nn_file_exists(scratch("r")));

    assert_int_equal(nn_safetensors_write(scratch("r"), t + 1, 1, pair, 2), NN_OK);
    assert_int_equal(nn_safetensors_open(scratch("r"), &file), NN_OK);
    assert_string_equal(nn_weight_file_metadata(&file, "k"), "v\n");
    assert_string_equal(nn_weight_file_metadata(&file, "format"), "np");
    nn_weight_file_close(&file);

    /* A failing write leaves the old file. */
    for (int64_t k = 1; k < 4; k++) {
        nn_file_fail_at(NN_FAULT_WRITE, k);
        assert_int_equal(nn_safetensors_write(scratch("r"), t + 1, 1, NULL, 0), NN_IO);
        nn_file_fail_at(NN_FAULT_NONE, 0);
        assert_int_equal(nn_safetensors_open(scratch("r"), &file), NN_OK);
        assert_string_equal(nn_weight_file_metadata(&file, "format"), "np");
        nn_weight_file_close(&file);
    }
}

static void write_part(const char *name, const char *a, const char *b)
{
    static const float f[2] = { 1, 2 };
    const nn_weight t[2] = { { a, NN_ST_F32, 1, { 1 }, f, 4 },
                             { b, NN_ST_F32, 1, { 1 }, f + 1, 4 } };
    assert_int_equal(nn_safetensors_write(scratch(name), t, 2, NULL, 0), NN_OK);
}

static void write_index(const char *map)
{
    char json[512];
    int n =
        snprintf(json, sizeof(json), "{\"metadata\":{\"total_size\":16},\"weight_map\":%s}", map);
    scratch_write("model.safetensors.index.json", json, n);
}

static void sharded(void **state)
{
    nn_weights w;
    (void)state;
    write_part("m-1.safetensors", "a", "c");
    write_part("m-2.safetensors", "b", "d");
    write_index("{\"d\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}");
    assert_int_equal(nn_weights_open(scratch("model.safetensors.index.json"), &w), NN_OK);
    assert_int_equal(w.n, 3);
    assert_int_equal(w.n_files, 2);
    assert_string_equal(nn_weights_find(&w, "b")->name, "b");
    assert_true(*(const float *)nn_weights_find(&w, "d")->data == 2);
    assert_null(nn_weights_find(&w, "c"));
    nn_weights_close(&w);

    write_index("{\"a\":\"../m-1.safetensors\"}");
    expect_failure(nn_weights_open(scratch_path, &w), NN_FORMAT, "beside the index");
    write_index("{\"a\":7}");
    expect_failure(nn_weights_open(scratch_path, &w), NN_FORMAT, "beside the index");
    write_index("{\"b\":\"m-1.safetensors\"}");
    expect_failure(nn_weights_open(scratch_path, &w), NN_FORMAT, "not in 'm-1.safetensors'");
    write_index("{\"b\":\"m-3.safetensors\"}");
    expect_failure(nn_weights_open(scratch_path, &w), NN_NOT_FOUND, "m-3.safetensors");
    write_index("{}");
    assert_int_equal(nn_weights_open(scratch_path, &w), NN_OK);
    assert_null(nn_weights_find(&w, "a"));
    nn_weights_close(&w);
    remove(scratch("model.safetensors.index.json"));
}

static void component_directory(void **state)
{
    static const char *const names[] = { "model.fp16.safetensors",
                                         "diffusion_pytorch_model.fp16.safetensors",
                                         "model.safetensors",
                                         "diffusion_pytorch_model.safetensors" };
    nn_weights w;
    (void)state;
    expect_failure(nn_weights_open(scratch_path, &w), NN_NOT_FOUND, "model.safetensors");
    for (int i = 0; i < NN_COUNT(names); i++) { /* each one goes before those written so far */
        char tensor[2] = { (char)('p' + i), 0 };
        write_part(names[i], tensor, "other");
        assert_int_equal(nn_weights_open(scratch_path, &w), NN_OK);
        assert_non_null(nn_weights_find(&w, tensor));
        nn_weights_close(&w);
    }
}

static void survives_failing_memory(void **state)
{
    nn_weights w;
    nn_status status = NN_MEMORY;
    (void)state;
    write_part("m.safetensors", "a", "b");
    for (int64_t k = 1; status != NN_OK; k++) {
        assert_in_range(k, 1, 100);
        nn_alloc_fail_at(k);
        status = nn_weights_open(scratch("m.safetensors"), &w);
        nn_alloc_fail_at(0);
        assert_true(status == NN_OK || status == NN_MEMORY);
    }
    nn_weights_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),
        cmocka_unit_test(header_text),
        cmocka_unit_test(entries),
        cmocka_unit_test(layout),
        cmocka_unit_test(too_much_structure),
        cmocka_unit_test(accepts_odd_but_legal),
        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(writer_refuses),
        cmocka_unit_test(sharded),
        cmocka_unit_test(component_directory),
        cmocka_unit_test(survives_failing_memory),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
