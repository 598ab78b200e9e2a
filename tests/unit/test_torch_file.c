/* Files of torch.save: tensors where they lie, every rule that is violated, and what is left out.
 */
#include "tests/unit/torch_archive.h"

#include "data/torch_file.h"
#include "engine/base/alloc.h"

static const torch_tensor plain = { "FloatStorage", "0", 6, 0, 2, 2, { 2, 3 }, { 3, 1 } };
static const float numbers[6] = { 0, 1, 2, 3, 4, 5 };

/* An archive around a pickle, with one storage "0" of six floats. */
static const char *write_archive(const char *name, const nn_text *pickle, const char *order,
                                 const char *also)
{
    archive a = { 0 };
    archive_add(&a, "archive/data.pkl", pickle->text, pickle->length);
    if (order) archive_add(&a, "archive/byteorder", order, (int64_t)strlen(order));
    archive_add(&a, "archive/data/0", numbers, sizeof(numbers));
    if (also) archive_add(&a, also, "x", 1);
    archive_end(&a, true);
    const char *path = scratch_write(name, a.bytes.text, a.bytes.length);
    nn_text_free(&a.bytes);
    return path;
}

static void opens(const char *path, nn_weight_file *file)
{
    if (nn_weight_file_open(path, file) != NN_OK) fail_msg("%s", nn_error_message());
}

/* {"w": tensor} */
static nn_text dict_of(const torch_tensor *t)
{
    nn_text p = { 0 };
    PUT(&p, "\x80\x02}");
    put_text(&p, "w");
    put_tensor(&p, t);
    PUT(&p, "s.");
    return p;
}

static void refuses_pickle(nn_text pickle, nn_status code, const char *message)
{
    nn_weight_file file;
    const char *path = write_archive("bad.pt", &pickle, "little", NULL);
    expect_failure(nn_weight_file_open(path, &file), code, message);
    nn_text_free(&pickle);
}

static void refuses(torch_tensor t, nn_status code, const char *message)
{
    refuses_pickle(dict_of(&t), code, message);
}

static nn_text bytes_of(const char *bytes, int64_t n)
{
    nn_text t = { 0 };
    put_bytes(&t, bytes, n);
    return t;
}

#define BYTES(literal) bytes_of(literal, (int64_t)sizeof(literal) - 1)

static void reads(void **state)
{
    nn_weight_file file;
    nn_text p = dict_of(&plain);
    (void)state;
    opens(write_archive("a.pt", &p, "little", NULL), &file);
    assert_ptr_equal(file.format, &nn_torch_file);
    assert_int_equal(file.n, 1);
    const nn_weight *w = nn_weight_file_find(&file, "w");
    assert_non_null(w);
    assert_int_equal(w->dtype, NN_ST_F32);
    assert_int_equal(w->rank, 2);
    assert_int_equal(w->bytes, 24);
    assert_memory_equal(w->data, numbers, sizeof(numbers));
    const unsigned char *data = w->data; /* where it lies, not a copy */
    assert_true(data > file.map.data && data < file.map.data + file.map.size);
    nn_weight_file_close(&file);
    nn_text_free(&p);
}

/* Several tensors in one storage, one of them transposed, one a parameter, one empty, one scalar.
 */
static void shares_storages(void **state)
{
    static const float turned[6] = { 0, 3, 1, 4, 2, 5 };
    const torch_tensor across = { "FloatStorage", "0", 6, 0, 2, 2, { 3, 2 }, { 1, 3 } };
    const torch_tensor tail = { "FloatStorage", "0", 6, 4, 1, 1, { 2 }, { 1 } };
    const torch_tensor empty = { "FloatStorage", "0", 6, 6, 2, 2, { 0, 7 }, { 7, 1 } };
    const torch_tensor scalar = { "FloatStorage", "0", 6, 5, 0, 0, { 0 }, { 0 } };
    nn_weight_file file;
    nn_text p = { 0 };
    (void)state;
    PUT(&p, "\x80\x02(");
    put_text(&p, "across");
    put_tensor(&p, &across);
    put_text(&p, "tail");
    PUT(&p, "ctorch._utils\n_rebuild_parameter\n(");
    put_tensor(&p, &tail);
    PUT(&p, "\x88"
            "ccollections\nOrderedDict\n)RtR");
    put_text(&p, "empty");
    put_tensor(&p, &empty);
    put_text(&p, "scalar");
    put_tensor(&p, &scalar);
    PUT(&p, "d.");
    opens(write_archive("a.pt", &p, NULL, NULL), &file);
    assert_int_equal(file.n, 4);
    assert_memory_equal(nn_weight_file_find(&file, "across")->data, turned, sizeof(turned));
    assert_memory_equal(nn_weight_file_find(&file, "tail")->data, numbers + 4, 8);
    assert_int_equal(nn_weight_file_find(&file, "empty")->bytes, 0);
    assert_int_equal(nn_weight_file_find(&file, "scalar")->rank, 0);
    assert_memory_equal(nn_weight_file_find(&file, "scalar")->data, numbers + 5, 4);
    nn_weight_file_close(&file);
    nn_text_free(&p);
}

/* A checkpoint of Lightning: the state dict, numbers that tell about it, and objects of classes
 * that are nobody's business. */
static void leaves_out_the_rest(void **state)
{
    static const char *const keys[] = { "state_dict", "model" };
    (void)state;
    for (int i = 0; i < 2; i++) {
        nn_weight_file file;
        nn_text p = { 0 };
        PUT(&p, "\x80\x02}(");
        put_text(&p, "callbacks");
        PUT(&p, "}cos\nsystem\nU\4true\x85RK\1s");
        put_text(&p, "global_step");
        put_int(&p, 470000);
        put_text(&p, "version");
        put_text(&p, "1.4.2");
        put_text(&p, keys[i]);
        PUT(&p, "ccollections\nOrderedDict\n)R(");
        put_text(&p, "w");
        put_tensor(&p, &plain);
        put_text(&p, "note");
        put_int(&p, 3);
        PUT(&p, "u}U\1aK\1sbu.");
        opens(write_archive("a.ckpt", &p, NULL, NULL), &file);
        assert_int_equal(file.n, 1);
        assert_string_equal(file.tensor[0].name, "w");
        assert_string_equal(nn_weight_file_metadata(&file, "global_step"), "470000");
        assert_string_equal(nn_weight_file_metadata(&file, "version"), "1.4.2");
        assert_null(nn_weight_file_metadata(&file, "callbacks"));
        nn_weight_file_close(&file);
        nn_text_free(&p);
    }
}

static void dtypes(void **state)
{
    static const struct {
        const char *class;
        nn_st_dtype dtype;
        int bytes;
    } all[] = { { "FloatStorage", NN_ST_F32, 4 },     { "HalfStorage", NN_ST_F16, 2 },
                { "BFloat16Storage", NN_ST_BF16, 2 }, { "DoubleStorage", NN_ST_F64, 8 },
                { "LongStorage", NN_ST_I64, 8 },      { "IntStorage", NN_ST_I32, 4 },
                { "ShortStorage", NN_ST_I16, 2 },     { "CharStorage", NN_ST_I8, 1 },
                { "ByteStorage", NN_ST_U8, 1 },       { "BoolStorage", NN_ST_BOOL, 1 } };
    (void)state;
    for (int i = 0; i < NN_COUNT(all); i++) {
        const torch_tensor t = { all[i].class, "0", 24 / all[i].bytes, 1, 1, 1, { 2 }, { 1 } };
        nn_weight_file file;
        nn_text p = dict_of(&t);
        opens(write_archive("a.pt", &p, NULL, NULL), &file);
        assert_int_equal(file.tensor->dtype, all[i].dtype);
        assert_int_equal(file.tensor->bytes, 2 * all[i].bytes);
        assert_memory_equal(file.tensor->data, (const char *)numbers + all[i].bytes,
                            2 * (size_t)all[i].bytes);
        nn_weight_file_close(&file);
        nn_text_free(&p);
    }
    refuses((torch_tensor){ "ComplexFloatStorage", "0", 1, 0, 1, 1, { 1 }, { 1 } }, NN_UNSUPPORTED,
            "class 'torch ComplexFloatStorage'");
}

static void places(void **state)
{
    torch_tensor t;
    (void)state;
#define WITH(change, code, message) t = plain, t.change, refuses(t, code, message)
    WITH(numel = 7, NN_FORMAT, "has 7 elements of F32, its entry 24 bytes");
    WITH(numel = -1, NN_FORMAT, "has no storage");
    WITH(key = "1", NN_FORMAT, "data/1, which is not there");
    WITH(key = "../../0", NN_FORMAT, "which is not there");
    WITH(offset = 1, NN_FORMAT, "reaches beyond the 6 elements");
    WITH(offset = -1, NN_FORMAT, "reaches beyond");
    WITH(numel = 5, NN_FORMAT, "reaches beyond the 5 elements");
    WITH(dim[0] = 3, NN_FORMAT, "reaches beyond");
    WITH(dim[0] = -1, NN_FORMAT, "no tuple of up to 8 integers of 0 or more");
    WITH(stride[0] = -3, NN_FORMAT, "the stride of tensor 'w'");
    WITH(stride[1] = (int64_t)1 << 62, NN_FORMAT, "reaches beyond");
    WITH(dim[0] = (int64_t)1 << 62, NN_FORMAT, "reaches beyond");
    WITH(n_strides = 1, NN_FORMAT, "2 dimensions and 1 strides");
    WITH(rank = 9, NN_FORMAT, "no tuple of up to 8");
#undef WITH
    t = (torch_tensor){ "FloatStorage", "0", 6, 0, 1, 1, { 1000000000 }, { 0 } };
    refuses(t, NN_FORMAT, "share their place");
    t = (torch_tensor){ "FloatStorage", "0", 6, 9, 1, 1, { 0 }, { 1 } };
    refuses(t, NN_FORMAT, "reaches beyond");
}

/* Views of one storage would be put in order as often as the file has names for them. */
static void bounds_copies(void **state)
{
    const torch_tensor across = { "FloatStorage", "0", 6, 0, 2, 2, { 3, 2 }, { 1, 3 } };
    nn_text p = { 0 };
    (void)state;
    PUT(&p, "\x80\x02}");
    put_tensor(&p, &across);
    PUT(&p, "q\0"
            "0(");
    for (int i = 0; i < 1000; i++) {
        char name[8];
        snprintf(name, sizeof(name), "%d", i);
        put_text(&p, name);
        PUT(&p, "h\0");
    }
    PUT(&p, "u.");
    refuses_pickle(p, NN_FORMAT, "share storages");
}

static void descriptions(void **state)
{
    nn_text p;
    (void)state;
    refuses_pickle(BYTES("\x80\x02K\1."), NN_UNSUPPORTED, "holds an integer");
    refuses_pickle(BYTES("\x80\x02}."), NN_UNSUPPORTED, "no tensors at the top");
    refuses_pickle(BYTES("\x80\x02}"), NN_FORMAT, "data.pkl: byte 3: the pickle is cut off");
    refuses_pickle(BYTES("\x80\x02(U\1wctorch._utils\n_rebuild_tensor_v2\n)Rd."), NN_FORMAT,
                   "has no offset");
    refuses_pickle(BYTES("\x80\x02(U\1wctorch._utils\n_rebuild_parameter\n)Rd."), NN_FORMAT,
                   "holds no tensor");
    p = dict_of(&plain);
    for (int64_t i = 0; i + 7 < p.length; i++)
        if (memcmp(p.text + i, "storage", 7) == 0) p.text[i] = 'S';
    refuses_pickle(p, NN_FORMAT, "has no storage");
    p = (nn_text){ 0 };
    PUT(&p, "\x80\x02(");
    for (int i = 0; i < 2; i++) {
        put_text(&p, "w");
        put_tensor(&p, &plain);
    }
    PUT(&p, "d.");
    refuses_pickle(p, NN_FORMAT, "two tensors are called 'w'");
    p = (nn_text){ 0 };
    PUT(&p, "\x80\x02}U\1\xff");
    put_tensor(&p, &plain);
    PUT(&p, "s.");
    refuses_pickle(p, NN_FORMAT, "no UTF-8");
}

static void archives(void **state)
{
    nn_weight_file file;
    nn_text p = dict_of(&plain);
    (void)state;
    expect_failure(nn_weight_file_open(write_archive("b", &p, "big", NULL), &file), NN_UNSUPPORTED,
                   "big-endian");
    expect_failure(
        nn_weight_file_open(write_archive("b", &p, NULL, "archive/constants.pkl"), &file),
        NN_UNSUPPORTED, "TorchScript");
    expect_failure(nn_weight_file_open(write_archive("b", &p, NULL, "other/data.pkl"), &file),
                   NN_FORMAT, "has both");
    nn_text_free(&p);
    archive a = { 0 };
    archive_add(&a, "archive/readme", "1234", 4);
    archive_end(&a, false);
    scratch_write("b", a.bytes.text, a.bytes.length);
    nn_text_free(&a.bytes);
    expect_failure(nn_weight_file_open(scratch("b"), &file), NN_FORMAT, "without data.pkl");
    scratch_write("b", "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    expect_failure(nn_weight_file_open(scratch("b"), &file), NN_UNSUPPORTED, "torch before 1.6");
    scratch_write("b", "\x80\x02}q\0.", 6);
    expect_failure(nn_weight_file_open(scratch("b"), &file), NN_UNSUPPORTED, "bare pickle");
    char tar[512] = "sys_info";
    memcpy(tar + 257, "ustar", 5);
    scratch_write("b", tar, sizeof(tar));
    expect_failure(nn_weight_file_open(scratch("b"), &file), NN_UNSUPPORTED, "tar archive");
    scratch_write("b", "hello", 5);
    expect_failure(nn_weight_file_open(scratch("b"), &file), NN_FORMAT, "safetensors");
}

/* -- files that torch wrote (tools/dev/convert_peer.py --fixtures) */

static void holds(const nn_weight_file *file, const char *name, nn_st_dtype dtype, int rank,
                  const int64_t *dim, const float *values)
{
    float out[16];
    const nn_weight *t = nn_weight_file_find(file, name);
    if (!t) {
        fail_msg("no tensor %s", name);
        return;
    }
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->rank, rank);
    if (rank) assert_memory_equal(t->dim, dim, (size_t)rank * sizeof(*dim));
    if (!values) return;
    assert_int_equal(nn_weight_to_f32(t, out), NN_OK);
    assert_memory_equal(out, values, (size_t)nn_weight_elements(t) * sizeof(*out));
}

#define DIMS(...) ((const int64_t[]){ __VA_ARGS__ })

static void reads_what_torch_writes(void **state)
{
    static const float x[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
    static const float turned[12] = { 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11 };
    static const float image[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    nn_weight_file f;
    (void)state;
    opens("tests/golden/torch/tensors.pt", &f);
    assert_int_equal(f.n, 13);
    holds(&f, "plain", NN_ST_F32, 2, DIMS(3, 4), x);
    holds(&f, "turned", NN_ST_F32, 2, DIMS(4, 3), turned);
    holds(&f, "part", NN_ST_F32, 2, DIMS(2, 2), (const float[]){ 6, 7, 10, 11 });
    holds(&f, "row", NN_ST_F32, 1, DIMS(4), x + 8);
    holds(&f, "half", NN_ST_F16, 2, DIMS(3, 4), x);
    holds(&f, "brain", NN_ST_BF16, 2, DIMS(3, 4), x);
    holds(&f, "double", NN_ST_F64, 2, DIMS(3, 4), x);
    holds(&f, "whole", NN_ST_I64, 2, DIMS(3, 4), NULL);
    holds(&f, "truth", NN_ST_BOOL, 2, DIMS(3, 4), NULL);
    holds(&f, "scalar", NN_ST_F32, 0, NULL, (const float[]){ 7 });
    holds(&f, "none", NN_ST_F32, 2, DIMS(0, 3), NULL);
    holds(&f, "image", NN_ST_F32, 4, DIMS(1, 2, 2, 4), image); /* channels last in the file */
    holds(&f, "parameter", NN_ST_F32, 1, DIMS(4), x);
    nn_weight_file_close(&f);
}

static void reads_checkpoints_of_torch(void **state)
{
    static const char *const paths[] = { "tests/golden/torch/module.pt",
                                         "tests/golden/torch/lightning.ckpt" };
    (void)state;
    for (int i = 0; i < NN_COUNT(paths); i++) {
        nn_weight_file f;
        opens(paths[i], &f);
        assert_int_equal(f.n, 2);
        holds(&f, "weight", NN_ST_F32, 2, DIMS(1, 2), (const float[]){ 1.5f, -2 });
        holds(&f, "bias", NN_ST_F32, 1, DIMS(1), (const float[]){ 0.25f });
        if (i) assert_string_equal(nn_weight_file_metadata(&f, "global_step"), "1000");
        if (i)
            assert_string_equal(nn_weight_file_metadata(&f, "pytorch-lightning_version"), "1.4.2");
        assert_null(nn_weight_file_metadata(&f, "hyper"));
        nn_weight_file_close(&f);
    }
}

/* Cut off anywhere, or with any byte changed: refused or read, and nothing else. */
static void survives_damage(void **state)
{
    char *bytes;
    int64_t n;
    (void)state;
    assert_int_equal(nn_file_read("tests/golden/torch/lightning.ckpt", 1 << 20, &bytes, &n), NN_OK);
    for (int64_t at = 0; at < n; at += 7) {
        nn_weight_file f;
        const char *path = scratch_write("cut.pt", bytes, at);
        assert_int_not_equal(nn_weight_file_open(path, &f), NN_OK);
        bytes[at] ^= 0x41;
        if (nn_weight_file_open(scratch_write("changed.pt", bytes, n), &f) == NN_OK)
            nn_weight_file_close(&f);
        bytes[at] ^= 0x41;
    }
    nn_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(shares_storages),
        cmocka_unit_test(leaves_out_the_rest),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(places),
        cmocka_unit_test(bounds_copies),
        cmocka_unit_test(descriptions),
        cmocka_unit_test(archives),
        cmocka_unit_test(reads_what_torch_writes),
        cmocka_unit_test(reads_checkpoints_of_torch),
        cmocka_unit_test(survives_damage),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
