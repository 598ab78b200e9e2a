/* The functions of kernels/cpu/simd.h against libm in double: the errors that its header states,
 * for every instruction set that this processor runs. The kernels of activation stand for the
 * vector functions; erf is seen through gelu, and in the portable form by itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

enum { N = 4096, PIECES = 50 };

typedef double real_fn(double x);
typedef struct limits {
    double absolute; /* times max(|x|, 1) if `scaled` */
    double ulp;      /* where the result is normal; 0 = not asked */
    bool scaled;
} limits;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double silu(double x)
{
    return x * sigmoid(x);
}

static double gelu(double x)
{
    return 0.5 * x * erfc(-x * M_SQRT1_2);
}

static double ulp_of(double x)
{
    float a = fabsf((float)x);
    return (double)(nextafterf(a, INFINITY) - a);
}

static void check(float x, float y, double want, limits l)
{
    double error = fabs((double)y - want), scale = l.scaled ? fmax(fabs((double)x), 1) : 1;
    if (l.absolute > 0 && !(error <= l.absolute * scale))
        fail_msg("f(%.9g) = %.9g, expected %.9g: error %.3g", (double)x, (double)y, want, error);
    if (l.ulp > 0 && fabs(want) > 0x1p-126 && !(error <= l.ulp * ulp_of(want)))
        fail_msg("f(%.9g) = %.9g, expected %.9g: %.3g ulp", (double)x, (double)y, want,
                 error / ulp_of(want));
}

/* y = kind(x) by the best kernel of an instruction set: 0 = avx512, 1 = avx2, 2 = portable. */
static void run(int level, nn_act kind, float *x, float *y, int64_t n)
{
    const nn_kernel *const *const tables[] = { nn_cpu_avx512_table, nn_cpu_avx2_table,
                                               nn_cpu_portable_table };
    nn_activation_params p = { kind };
    nn_call c = { .n_in = 1, .n_out = 1, .params = &p };
    c.in[0] = c.out[0] = nn_view_make(NN_F32, 1, &n);
    c.in[0].data = x;
    c.out[0].data = y;
    assert_int_equal(tables[level][NN_OP_ACTIVATION][0].run(&c), NN_OK);
}

static void sweep(nn_act kind, real_fn *truth, double low, double high, limits l)
{
    static float x[N], y[N];
    for (int level = nn_cpu_level(); level < 3; level++) {
        for (int piece = 0; piece < PIECES; piece++) {
            for (int i = 0; i < N; i++)
                x[i] = (float)(low + (high - low) * (piece * N + i) / (PIECES * N - 1));
            run(level, kind, x, y, N);
            for (int i = 0; i < N; i++) check(x[i], y[i], truth((double)x[i]), l);
        }
    }
}

static void exp_is_exact_to_an_ulp(void **state)
{
    (void)state;
    sweep(NN_ACT_EXP, exp, -87.3, 88.7, (limits){ .ulp = 1.2 });
    sweep(NN_ACT_EXP, exp, -1, 1, (limits){ .ulp = 1.2 });
}

static void sigmoid_and_silu(void **state)
{
    (void)state;
    sweep(NN_ACT_SIGMOID, sigmoid, -87, 87, (limits){ .absolute = 1e-7, .ulp = 2.5 });
    sweep(NN_ACT_SIGMOID, sigmoid, -8, 8, (limits){ .absolute = 1e-7, .ulp = 2.5 });
    sweep(NN_ACT_SILU, silu, -20, 20, (limits){ .absolute = 1.2e-7, .scaled = true });
}

static void tanh_near_and_far(void **state)
{
    (void)state;
    sweep(NN_ACT_TANH, tanh, -1, 1, (limits){ .absolute = 2e-7, .ulp = 3 });
    sweep(NN_ACT_TANH, tanh, -12, 12, (limits){ .absolute = 2e-7, .ulp = 3 });
    sweep(NN_ACT_TANH, tanh, -1e-4, 1e-4, (limits){ .ulp = 3 });
}

static void gelu_scales_with_x(void **state)
{
    (void)state;
    sweep(NN_ACT_GELU, gelu, -12, 12, (limits){ .absolute = 1.2e-7, .scaled = true });
    sweep(NN_ACT_GELU, gelu, -2, 2, (limits){ .absolute = 1.2e-7, .scaled = true });
}

static void erf_and_exp2_portable(void **state)
{
    (void)state;
    for (int i = -200000; i <= 200000; i++) {
        float x = (float)i * 3e-5f, z = (float)i * 6.2e-4f;
        check(x, nn_verf(nn_set(x))[0], erf((double)x), (limits){ .absolute = 7e-8, .ulp = 1.2 });
        check(z, nn_vexp2(nn_set(z))[0], exp2((double)z), (limits){ .ulp = 1.2 });
    }
}

/* Overflow, underflow, infinities and NaN, with the same answers from every instruction set. */
static void ends_of_the_range(void **state)
{
    (void)state;
    float x[] = { INFINITY, -INFINITY, 100, -120, -104.5f, NAN }, y[6];
    const float e[] = { INFINITY, 0, INFINITY, 0, 0 }, s[] = { 1, 0, 1, 0, 0 };
    const float t[] = { 1, -1, 1, -1, -1 };
    for (int level = nn_cpu_level(); level < 3; level++) {
        run(level, NN_ACT_EXP, x, y, 6);
        for (int i = 0; i < 5; i++) assert_true(y[i] == e[i]);
        assert_true(isnan(y[5]));
        run(level, NN_ACT_SIGMOID, x, y, 6);
        for (int i = 0; i < 5; i++) assert_true(y[i] == s[i]);
        assert_true(isnan(y[5]));
        run(level, NN_ACT_TANH, x, y, 6);
        for (int i = 0; i < 5; i++) assert_true(y[i] == t[i]);
        assert_true(isnan(y[5]));
        run(level, NN_ACT_RELU, x, y, 6);
        assert_true(y[0] > 0 && y[1] == 0 && y[2] == 100 && y[3] == 0 && isnan(y[5]));
        run(level, NN_ACT_GELU, x + 2, y, 4);
        assert_true(y[0] == 100 && y[1] == 0 && isnan(y[3]));
    }
}

/* Loads and stores of a part of a vector touch nothing else. */
static void parts_of_vectors(void **state)
{
    (void)state;
    float x[NN_LANES], y[NN_LANES];
    for (int i = 0; i < NN_LANES; i++) x[i] = (float)(i + 1);
    for (int n = 0; n <= NN_LANES; n++) {
        for (int i = 0; i < NN_LANES; i++) y[i] = -1;
        nn_vf v = nn_load_n(x, n, 7);
        nn_store_n(y, v, n);
        for (int i = 0; i < NN_LANES; i++) {
            assert_true(v[i] == (i < n ? x[i] : 7));
            assert_true(y[i] == (i < n ? x[i] : -1));
        }
    }
}

static void squares_turn(void **state)
{
    (void)state;
    enum { STRIDE = NN_LANES + 3 };
    float x[NN_LANES * STRIDE];
    nn_vf v[NN_LANES];
    for (int i = 0; i < NN_LANES * STRIDE; i++) x[i] = (float)i;
    for (int i = 0; i < NN_LANES; i++) v[i] = nn_load(x + i * STRIDE);
    nn_transpose(v);
    for (int i = 0; i < NN_LANES; i++)
        for (int k = 0; k < NN_LANES; k++) assert_true(v[i][k] == x[k * STRIDE + i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_exact_to_an_ulp), cmocka_unit_test(sigmoid_and_silu),
        cmocka_unit_test(tanh_near_and_far),      cmocka_unit_test(gelu_scales_with_x),
        cmocka_unit_test(erf_and_exp2_portable),  cmocka_unit_test(ends_of_the_range),
        cmocka_unit_test(parts_of_vectors),       cmocka_unit_test(squares_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
