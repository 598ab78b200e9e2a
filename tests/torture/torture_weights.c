/* Safetensors, weight files of several parts and parameter stores while memory and files fail. */
#include "tests/torture/torture.h"

#include "data/safetensors.h"
#include "data/weights.h"
#include "engine/nn.h"
#include "engine/weights.h"

enum { WIDE = 5, HIGH = 3 };

static nn_device *device;
static nn_params *params; /* "net.a" [3, 5], "net.b" [5], "other.c" [5], all drawn */

/* -- files */

static nn_status write_two(const char *path, float value)
{
    const float f[2] = { value, 2 };
    const nn_weight t[2] = { { "a", NN_ST_F32, 1, { 2 }, f, 8 },
                             { "b", NN_ST_F16, 1, { 2 }, f, 4 } };
    const nn_st_pair meta[] = { { "format", "pt" }, { "k", "v\n" } };
    return nn_safetensors_write(path, t, 2, meta, 2);
}

static nn_status write_and_read(void)
{
    nn_weight_file file;
    NN_TRY(write_two(scratch("two"), 1));
    NN_TRY(write_two(scratch("two"), 1)); /* over what is there */
    NN_TRY(nn_safetensors_open(scratch("two"), &file));
    NN_ASSERT(file.n == 2 && nn_weight_file_metadata(&file, "k"));
    nn_weight_file_close(&file);
    return NN_OK;
}

static void look_at_two(void)
{
    nn_weight_file file;
    if (!nn_file_exists(scratch("two"))) return;
    assert_int_equal(nn_safetensors_open(scratch("two"), &file), NN_OK);
    assert_int_equal(file.n, 2);
    nn_weight_file_close(&file);
    assert_int_equal(nn_file_remove(scratch("two")), NN_OK);
}

static nn_status open_parts(void)
{
    nn_weights w;
    NN_TRY(nn_weights_open(scratch("model.safetensors.index.json"), &w));
    NN_ASSERT(w.n_files == 2 && nn_weights_find(&w, "b"));
    nn_weights_close(&w);
    return NN_OK;
}

static nn_status open_torch(void)
{
    nn_weight_file f;
    NN_TRY(nn_weight_file_open("tests/golden/torch/tensors.pt", &f));
    NN_ASSERT(f.n == 13);
    nn_weight_file_close(&f);
    return NN_OK;
}

/* A network in another layout, taken in and given out again. */
static nn_status select_and_export(void)
{
    static const char *const names[] = { "text_model.embeddings.token_embedding.weight" };
    nn_arena arena = { 0 };
    nn_weights w;
    nn_weight out;
    NN_TRY(nn_weights_open_network(scratch("bare"), NN_NETWORK_TEXT, &w));
    nn_status status = nn_weights_export(&w, names, 1, w.layout, &arena, &out);
    NN_ASSERT(status != NN_OK || !strcmp(out.name, names[0] + strlen("text_model.")));
    nn_arena_free(&arena);
    nn_weights_close(&w);
    return status;
}

/* -- stores */

static const nn_prefix names[] = { { "net.", "there." } };

static nn_status build(nn_params **out, bool grads)
{
    nn_graph *g;
    NN_TRY(nn_params_create(out));
    NN_TRY(nn_graph_create(&g));
    nn_scope net = nn_root(g, *out, "net"), other = nn_root(g, *out, "other");
    (void)nn_param_at(net, "a", NN_NORMAL(1), NN_DIMS(HIGH, WIDE));
    (void)nn_param_at(net, "b", NN_ONES, NN_DIMS(WIDE));
    (void)nn_param_at(other, "c", NN_UNIFORM(1), NN_DIMS(WIDE));
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    NN_TRY(nn_params_alloc(*out, device, grads));
    return nn_params_init(*out, 1);
}

static nn_status make_store(void)
{
    nn_params *p = NULL;
    nn_status status = build(&p, true);
    if (p) nn_params_destroy(p);
    return status;
}

static nn_status save(void)
{
    NN_TRY(nn_params_save(params, scratch("all"), NULL, 0, NN_F32));
    return nn_params_save(params, scratch("half"), names, 1, NN_F16);
}

static void look_at_saved(void)
{
    static const char *const files[] = { "all", "half" };
    for (int i = 0; i < 2; i++) {
        nn_weight_file file;
        if (!nn_file_exists(scratch(files[i]))) continue;
        assert_int_equal(nn_safetensors_open(scratch(files[i]), &file), NN_OK);
        assert_int_equal(file.n, i ? 2 : 3);
        nn_weight_file_close(&file);
        assert_int_equal(nn_file_remove(scratch(files[i])), NN_OK);
    }
}

/* Everything is checked before the first value changes. */
static nn_status load(void)
{
    nn_param *b = nn_params_find(params, "net.b");
    const float fives[WIDE] = { 5, 5, 5, 5, 5 };
    float now[WIDE];
    int64_t extra;
    NN_TRY(nn_params_write(params, b, fives));
    nn_status status = nn_params_load(params, scratch("there"), names, 1, &extra);
    assert_int_equal(nn_params_read(params, b, now), NN_OK);
    assert_true(now[WIDE - 1] == (status == NN_OK ? 1 : 5));
    return status;
}

/* -- the tests */

static const torture file = { write_and_read, look_at_two };
static const torture parts = { open_parts, NULL };
static const torture torch = { open_torch, NULL };
static const torture network = { select_and_export, NULL };
static const torture store = { make_store, NULL };
static const torture saving = { save, look_at_saved };
static const torture loading = { load, NULL };

static void allocation_fails(void **state)
{
    (void)state;
    torture_all(&file, NN_FAULT_NONE, 5);
    torture_all(&parts, NN_FAULT_NONE, 5);
    torture_all(&torch, NN_FAULT_NONE, 5);
    torture_all(&network, NN_FAULT_NONE, 5);
    torture_all(&store, NN_FAULT_NONE, 5);
    torture_all(&saving, NN_FAULT_NONE, 5);
    torture_all(&loading, NN_FAULT_NONE, 5);
}

static void reading_fails(void **state)
{
    (void)state;
    torture_all(&file, NN_FAULT_READ, 1);
    torture_all(&parts, NN_FAULT_READ, 3);
    torture_all(&torch, NN_FAULT_READ, 1);
    torture_all(&network, NN_FAULT_READ, 1);
    torture_all(&loading, NN_FAULT_READ, 1);
}

static void writing_fails(void **state)
{
    (void)state;
    torture_all(&file, NN_FAULT_WRITE, 4);
    torture_all(&file, NN_FAULT_RENAME, 2);
    torture_all(&saving, NN_FAULT_WRITE, 4);
    torture_all(&saving, NN_FAULT_RENAME, 2);
}

static int open_all(void **state)
{
    static const char index[] =
        "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}}";
    const float f[2] = { 1, 2 };
    const nn_weight bare = { "embeddings.token_embedding.weight", NN_ST_F32, 1, { 2 }, f, 8 };
    if (torture_make(state) != 0) return -1;
    assert_int_equal(nn_safetensors_write(scratch("bare"), &bare, 1, NULL, 0), NN_OK);
    assert_int_equal(nn_device_open("ref", 1, &device), NN_OK);
    assert_int_equal(build(&params, false), NN_OK);
    assert_int_equal(nn_params_save(params, scratch("there"), names, 1, NN_BF16), NN_OK);
    assert_int_equal(write_two(scratch("1.safetensors"), 1), NN_OK);
    assert_int_equal(write_two(scratch("2.safetensors"), 1), NN_OK);
    scratch_write("model.safetensors.index.json", index, sizeof(index) - 1);
    return 0;
}

static int close_all(void **state)
{
    nn_params_destroy(params);
    nn_device_close(device);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_fails),
        cmocka_unit_test(reading_fails),
        cmocka_unit_test(writing_fails),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
