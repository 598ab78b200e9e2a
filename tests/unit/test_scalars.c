/* Tables of numbers over the steps of a training. */
#include "engine/base/alloc.h"
#include "tests/unit/scratch.h"
#include "tools/scalars.h"

static const nn_field numbers[] = { { "loss", 0.1 }, { "norm", 1e300 } };

static void rows(int64_t first, int64_t last)
{
    scalars *s;
    assert_int_equal(scalars_open(scratch_path, first, &s), NN_OK);
    for (int64_t step = first; step <= last; step++) {
        assert_int_equal(scalars_add(s, "train", step, numbers, 2), NN_OK);
        if (step % 2 == 0) assert_int_equal(scalars_add(s, "even", step, numbers, 1), NN_OK);
    }
    scalars_close(s);
}

static void has(const char *name, const char *text)
{
    char *bytes;
    int64_t n;
    assert_int_equal(nn_file_read(scratch(name), 1 << 20, &bytes, &n), NN_OK);
    assert_string_equal(bytes, text);
    nn_free(bytes);
}

static void tables(void **state)
{
    (void)state;
    rows(1, 4);
    has("train.csv", "step,loss,norm\n1,0.1,1e+300\n2,0.1,1e+300\n3,0.1,1e+300\n4,0.1,1e+300\n");
    has("even.csv", "step,loss\n2,0.1\n4,0.1\n");
}

/* The first row of a table may be of a later step than the run's first. */
static void a_late_row(void **state)
{
    scalars *s;
    (void)state;
    rows(1, 3);
    assert_int_equal(scalars_open(scratch_path, 2, &s), NN_OK);
    assert_int_equal(scalars_add(s, "train", 9, numbers, 2), NN_OK);
    scalars_close(s);
    has("train.csv", "step,loss,norm\n1,0.1,1e+300\n9,0.1,1e+300\n");
}

/* A run that was killed after step 4 and whose newest checkpoint is of step 2. */
static void a_run_that_goes_on(void **state)
{
    (void)state;
    rows(1, 4);
    rows(3, 6);
    has("train.csv", "step,loss,norm\n1,0.1,1e+300\n2,0.1,1e+300\n3,0.1,1e+300\n"
                     "4,0.1,1e+300\n5,0.1,1e+300\n6,0.1,1e+300\n");
    has("even.csv", "step,loss\n2,0.1\n4,0.1\n6,0.1\n");
}

/* The process died in the middle of a row. */
static void half_a_row(void **state)
{
    static const char text[] = "step,loss,norm\n1,0.1,1e+300\n2,0.";
    (void)state;
    scratch_write("train.csv", text, (int64_t)strlen(text));
    rows(3, 3);
    has("train.csv", "step,loss,norm\n1,0.1,1e+300\n3,0.1,1e+300\n");
}

static void other_columns(void **state)
{
    static const char text[] = "a,b\n1,2\n";
    scalars *s;
    (void)state;
    scratch_write("train.csv", text, (int64_t)strlen(text));
    assert_int_equal(scalars_open(scratch_path, 1, &s), NN_OK);
    expect_failure(scalars_add(s, "train", 1, numbers, 2), NN_ARGUMENT, "other columns");
    scalars_close(s);
    has("train.csv", text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tables, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_late_row, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_run_that_goes_on, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(half_a_row, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(other_columns, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
