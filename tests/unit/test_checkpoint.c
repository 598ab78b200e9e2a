/* Checkpoints of training and weight files: what is saved comes back bit for bit; damage, shortage
 * and other models are told apart. */
#include "tests/unit/checkpoint_check.h"

#include <math.h>

#include "data/safetensors.h"
#include "engine/weights.h"

static void test_round_trip(void **unused)
{
    bench b = { 0 };
    nn_checkpoint c = { 0 };
    float before[4][64];
    bool found;
    (void)unused;
    open_bench(&b, 5, true);
    float *buffers[4] = { b.params->values, b.optimizer->m, b.optimizer->v, b.optimizer->ema };
    size_t bytes = (size_t)b.params->n_elems * sizeof(float);
    assert_true(bytes <= sizeof(before[0]));
    b.params->values[1] = -0.0f;
    b.params->values[2] = 1e-42f;
    for (int k = 0; k < 4; k++) memcpy(before[k], buffers[k], bytes);
    b.optimizer->step = 41;
    save(&b, 43, 0);
    for (int k = 0; k < 4; k++) memset(buffers[k], 0, bytes);
    b.optimizer->step = 0;
    uint64_t version = b.params->version;
    OK(nn_checkpoint_resume(b.directory, &c, b.optimizer, &found));
    assert_true(found);
    for (int64_t i = 0; i < b.params->n; i++) {
        const nn_param *p = b.params->items[i];
        for (int k = 0; k < 4; k++)
            assert_memory_equal(buffers[k] + p->offset, before[k] + p->offset,
                                (size_t)nn_view_bytes(&p->view));
    }
    assert_true(b.params->version > version);
    assert_int_equal(b.optimizer->step, 41);
    assert_int_equal(c.step, 43);
    assert_int_equal(c.epoch, 2);
    assert_int_equal(c.position, 17);
    assert_true(c.seed == UINT64_MAX - 5);
    assert_string_equal(c.config, "lr = 1e-4\n\"quoted\" é");
    nn_free(c.config);
    assert_files(&b, "step-00000043.safetensors");
    close_bench(&b);
}

static void test_damaged(void **unused)
{
    bench b = { 0 };
    nn_checkpoint c = { 0 };
    int warnings = 0;
    bool found;
    (void)unused;
    open_bench(&b, 5, false);
    save(&b, 100, 0);
    save(&b, 200, 0);
    save(&b, 300, 0);
    truncate_file(&b, "step-00000300.safetensors");
    nn_log_open(count_warnings, &warnings, NN_LOG_WARN);
    OK(nn_checkpoint_resume(b.directory, &c, b.optimizer, &found));
    assert_true(found);
    assert_int_equal(c.step, 200);
    assert_int_equal(warnings, 1);
    nn_free(c.config);
    truncate_file(&b, "step-00000200.safetensors");
    truncate_file(&b, "step-00000100.safetensors");
    FAILS(NN_FORMAT, nn_checkpoint_resume(b.directory, &c, b.optimizer, &found));
    assert_false(found);
    nn_log_open(NULL, NULL, NN_LOG_WARN);
    close_bench(&b);
}

static void test_none(void **unused)
{
    bench b = { 0 };
    nn_checkpoint c = { 0 };
    bool found = true;
    (void)unused;
    open_bench(&b, 5, false);
    OK(nn_checkpoint_resume(b.directory, &c, b.optimizer, &found));
    assert_false(found);
    OK(nn_checkpoint_resume("/nowhere/at/all", &c, b.optimizer, &found));
    assert_false(found);
    close_bench(&b);
}

static void test_keep(void **unused)
{
    bench b = { 0 };
    (void)unused;
    open_bench(&b, 5, false);
    char *other = path_of(&b, "step-final.safetensors");
    char *leftover = path_of(&b, "step-00000007.safetensors.part-99");
    OK(nn_file_write(other, "x", 1));
    for (int64_t step = 1; step <= 4; step++) save(&b, step, 2);
    assert_files(&b, "step-00000003.safetensors step-00000004.safetensors step-final.safetensors");

    /* Going on from 3 because 4 is damaged: 4 does not count as one of the two. */
    truncate_file(&b, "step-00000004.safetensors");
    OK(nn_file_write(leftover, "x", 1));
    save(&b, 5, 2);
    assert_files(&b, "step-00000003.safetensors step-00000004.safetensors "
                     "step-00000005.safetensors step-final.safetensors");

    /* Those of later steps are left alone. */
    save(&b, 2, 1);
    assert_files(&b, "step-00000002.safetensors step-00000003.safetensors "
                     "step-00000004.safetensors step-00000005.safetensors step-final.safetensors");
    save(&b, 5, 1);
    assert_files(&b, "step-00000005.safetensors step-final.safetensors");
    nn_free(other);
    nn_free(leftover);
    close_bench(&b);
}

static void test_other_model(void **unused)
{
    bench b = { 0 }, wide = { 0 }, average = { 0 };
    nn_checkpoint c = { 0 };
    float before[18];
    bool found;
    (void)unused;
    open_bench(&b, 5, false);
    open_bench(&wide, 6, false);
    open_bench(&average, 5, true);
    save(&b, 1, 0);
    char *path = path_of(&b, "step-00000001.safetensors");
    memcpy(before, wide.params->values, sizeof(before));
    FAILS(NN_SHAPE, nn_checkpoint_load(path, &c, wide.optimizer));
    MESSAGE_HAS("net.weight");
    FAILS(NN_SHAPE, nn_checkpoint_resume(b.directory, &c, wide.optimizer, &found));
    assert_memory_equal(before, wide.params->values, sizeof(before));
    FAILS(NN_NOT_FOUND, nn_checkpoint_load(path, &c, average.optimizer));
    MESSAGE_HAS("ema.net.weight");
    OK(nn_params_save(b.params, path, NULL, 0, NN_F32));
    FAILS(NN_FORMAT, nn_checkpoint_load(path, &c, b.optimizer));
    MESSAGE_HAS("has no checksums");
    nn_free(path);
    close_bench(&b);
    close_bench(&wide);
    close_bench(&average);
}

/* Whatever fails while a checkpoint is saved, the one before can be loaded. */
static void torture(nn_file_fault fault)
{
    bench b = { 0 };
    nn_checkpoint c = { 0 }, next = { 2, 0, 0, 1, (char *)"" };
    bool found, done = false;
    open_bench(&b, 5, true);
    save(&b, 1, 1);
    for (int64_t k = 1; !done; k++) {
        assert_true(k < 1000);
        if (fault == NN_FAULT_NONE)
            nn_alloc_fail_at(k);
        else
            nn_file_fail_at(fault, k);
        nn_status status = nn_checkpoint_save(b.directory, 1, &next, b.optimizer);
        nn_alloc_fail_at(0);
        nn_file_fail_at(NN_FAULT_NONE, 0);
        OK(nn_checkpoint_resume(b.directory, &c, b.optimizer, &found));
        assert_true(found);
        assert_true(c.step == 2 || status != NN_OK);
        nn_free(c.config);
        char **names;
        int64_t n;
        OK(nn_file_list(b.directory, &names, &n));
        done = status == NN_OK && n == 1; /* nothing failed: the older one was removed as well */
        nn_file_list_free(names, n);
    }
    assert_files(&b, "step-00000002.safetensors");
    close_bench(&b);
}

static void test_torture(void **unused)
{
    (void)unused;
    torture(NN_FAULT_NONE);
    torture(NN_FAULT_WRITE);
    torture(NN_FAULT_RENAME);
}

/* The k-th allocation fails while a checkpoint is loaded: nothing has changed. */
static void test_torture_load(void **unused)
{
    bench b = { 0 };
    nn_checkpoint c = { 0 };
    bool found = false;
    (void)unused;
    open_bench(&b, 5, true);
    save(&b, 1, 1);
    fill(b.params->values, b.params->n_elems, 7);
    for (int64_t k = 1; !found; k++) {
        assert_true(k < 1000);
        nn_alloc_fail_at(k);
        nn_status status = nn_checkpoint_resume(b.directory, &c, b.optimizer, &found);
        nn_alloc_fail_at(0);
        assert_true(found == (status == NN_OK));
        if (!found) assert_true(b.params->values[3] == 10.0f);
        if (!found) assert_int_equal(status, NN_MEMORY);
    }
    nn_free(c.config);
    close_bench(&b);
}

static void test_weights(void **unused)
{
    static const nn_dtype dtypes[] = { NN_F32, NN_F16, NN_BF16 };
    static const double allowed[] = { 0, 1.0 / 2048, 1.0 / 256 };
    bench b = { 0 };
    int64_t extra = -1;
    float before[18];
    (void)unused;
    open_bench(&b, 5, false);
    char *path = path_of(&b, "weights.safetensors");
    memcpy(before, b.params->values, sizeof(before));
    for (int k = 0; k < NN_COUNT(dtypes); k++) {
        memcpy(b.params->values, before, sizeof(before));
        OK(nn_params_save(b.params, path, NULL, 0, dtypes[k]));
        memset(b.params->values, 0, sizeof(before));
        OK(nn_params_load(b.params, path, NULL, 0, &extra));
        assert_int_equal(extra, 0);
        for (int i = 0; i < 15; i++) {
            double error = fabs((double)(b.params->values[i] - before[i]));
            assert_true(error <= allowed[k] * fabs((double)before[i]));
        }
    }
    nn_free(path);
    close_bench(&b);
}

static nn_weight tensor_of(const char *name, nn_st_dtype dtype, int rank, int64_t d0, int64_t d1,
                           const void *data)
{
    nn_weight t = { .name = name, .dtype = dtype, .rank = rank, .data = data };
    t.dim[0] = d0;
    t.dim[1] = d1;
    t.bytes = nn_weight_elements(&t) * nn_st_dtype_bits(dtype) / 8;
    return t;
}

static void test_weights_strict(void **unused)
{
    static const nn_prefix prefixes[] = { { "net.", "model.layer." }, { "", "other." } };
    static const int32_t data[64] = { 0 };
    nn_weight tensors[] = {
        tensor_of("model.layer.weight", NN_ST_F32, 2, 3, 5, data),
        tensor_of("model.layer.bias", NN_ST_F32, 1, 3, 1, data),
        tensor_of("model.layer.position_ids", NN_ST_I64, 1, 7, 1, data),
    };
    bench b = { 0 };
    int64_t extra = -1;
    (void)unused;
    open_bench(&b, 5, false);
    char *path = path_of(&b, "weights.safetensors");
    OK(nn_safetensors_write(path, tensors, 3, NULL, 0));
    FAILS(NN_NOT_FOUND, nn_params_load(b.params, path, NULL, 0, NULL));
    MESSAGE_HAS("'net.weight'");
    OK(nn_params_load(b.params, path, prefixes, 2, &extra));
    assert_int_equal(extra, 1);
    assert_true(b.params->values[0] == 0);

    tensors[1].name = "model.layer.bais";
    OK(nn_safetensors_write(path, tensors, 3, NULL, 0));
    b.params->values[0] = 5;
    FAILS(NN_NOT_FOUND, nn_params_load(b.params, path, prefixes, 2, &extra));
    MESSAGE_HAS("the nearest is 'model.layer.bais'");

    tensors[1] = tensor_of("model.layer.bias", NN_ST_F32, 2, 3, 1, data);
    OK(nn_safetensors_write(path, tensors, 3, NULL, 0));
    FAILS(NN_SHAPE, nn_params_load(b.params, path, prefixes, 2, &extra));
    MESSAGE_HAS("'model.layer.bias' is [3,1], the model expects [3]");

    tensors[1] = tensor_of("model.layer.bias", NN_ST_I32, 1, 3, 1, data);
    OK(nn_safetensors_write(path, tensors, 3, NULL, 0));
    FAILS(NN_UNSUPPORTED, nn_params_load(b.params, path, prefixes, 2, &extra));
    assert_true(b.params->values[0] == 5); /* nothing was written */
    nn_free(path);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_none),           cmocka_unit_test(test_keep),
        cmocka_unit_test(test_other_model),    cmocka_unit_test(test_torture),
        cmocka_unit_test(test_torture_load),   cmocka_unit_test(test_weights),
        cmocka_unit_test(test_weights_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
