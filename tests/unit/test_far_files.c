/* Weight files and checkpoints that are larger than what the host may hold of them. */
#include "tests/unit/far.h"
#include "tests/unit/scratch.h"

#include "data/safetensors.h"
#include "engine/checkpoint.h"
#include "engine/optim.h"
#include "engine/weights.h"

enum { WIDE = NN_SAFETENSORS_PIECE / sizeof(float) };

static nn_params *wide_store(nn_device *d, bool with_grads)
{
    nn_params *p;
    nn_param *unused;
    OK(nn_params_create(&p));
    OK(nn_params_declare(p, "wide", NN_NORMAL(1), 2, (int64_t[]){ 2, WIDE + 3 }, &unused));
    OK(nn_params_declare(p, "narrow", NN_NORMAL(1), 1, (int64_t[]){ 5 }, &unused));
    OK(nn_params_alloc(p, d, with_grads));
    return p;
}

static void test_checkpoint_in_pieces(void **unused)
{
    const nn_adamw_options options = NN_ADAMW_DEFAULTS;
    nn_device *d = open_one(true, NN_F32);
    nn_params *p = wide_store(d, true);
    nn_optimizer *o;
    nn_checkpoint state = { .step = 1, .config = (char *)"" };
    bool found;
    (void)unused;
    OK(nn_params_init(p, 1));
    OK(nn_optimizer_create(p, &options, &o));
    OK(nn_device_convert(d, p->n_elems, NN_F32, p->values, NN_F32, o->v));
    uint64_t hash = hash_of(p);
    far_state.most_read = 0;
    OK(nn_checkpoint_save(scratch_path, 1, &state, o));
    assert_int_equal(far_state.most_read, NN_SAFETENSORS_PIECE);
    OK(nn_params_init(p, 2));
    OK(nn_device_convert(d, p->n_elems, NN_F32, o->m, NN_F32, o->v));
    OK(nn_checkpoint_resume(scratch_path, &state, o, &found));
    assert_true(found && hash_of(p) == hash);
    OK(nn_device_convert(d, p->n_elems, NN_F32, o->v, NN_F32, p->values));
    assert_true(hash_of(p) == hash);
    nn_free(state.config);
    nn_optimizer_destroy(o);
    nn_params_destroy(p);
    nn_device_close(d);
}

static void test_weights_in_pieces(void **unused)
{
    static const nn_dtype dtypes[] = { NN_F32, NN_BF16, NN_F16 };
    nn_device *d = open_one(true, NN_F32), *half = open_one(true, NN_BF16);
    nn_params *p = wide_store(d, false), *q = wide_store(d, false), *r = wide_store(half, false);
    (void)unused;
    OK(nn_params_init(p, 1));
    for (int k = 0; k < NN_COUNT(dtypes); k++) {
        far_state.most_read = far_state.most_written = 0;
        OK(nn_params_save(p, scratch("w.safetensors"), NULL, 0, dtypes[k]));
        OK(nn_params_load(q, scratch("w.safetensors"), NULL, 0, NULL));
        OK(nn_params_load(r, scratch("w.safetensors"), NULL, 0, NULL));
        assert_true(far_state.most_read <= 2 * NN_SAFETENSORS_PIECE);
        assert_true(far_state.most_written <= NN_SAFETENSORS_PIECE);
        assert_int_equal(hash_of(p) == hash_of(q), dtypes[k] == NN_F32);
        if (dtypes[k] == NN_BF16) assert_true(hash_of(q) == hash_of(r)); /* vectors too */
    }
    nn_params_destroy(p);
    nn_params_destroy(q);
    nn_params_destroy(r);
    nn_device_close(d);
    nn_device_close(half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_checkpoint_in_pieces, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(test_weights_in_pieces, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
