/* Runs the op tests: `op_test [op[:row]] [--device NAME] [--dtype f32|bf16] [--prefer ENDING]
 * [--grad]`; without arguments, everything on every device of the build. --prefer: kernels that are
 * asked first (nn_device_prefer), where a device has them. */
#include "tests/ops/op_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/half.h"
#include "engine/base/rng.h"

#define NN_OP(ID, name) extern const op_test nn_test_##name;
#include "kernels/ops.def"
#undef NN_OP

static const op_test *const tests[NN_OP_COUNT] = {
#define NN_OP(ID, name) &nn_test_##name,
#include "kernels/ops.def"
#undef NN_OP
};

enum { MAX_RESULTS = NN_MAX_OUT + OP_MAX_INPUTS };

typedef struct results { /* outputs, then gradients of the inputs; NULL = none */
    int n;
    int64_t elems[MAX_RESULTS];
    double *values[MAX_RESULTS];
    bool known; /* not computed: the same kernels have been checked */
} results;

static void put(void *data, nn_dtype dtype, int64_t i, double x)
{
    if (dtype == NN_F64)
        ((double *)data)[i] = x;
    else if (dtype == NN_BF16)
        ((uint16_t *)data)[i] = nn_f32_to_bf16((float)x);
    else
        ((float *)data)[i] = (float)x;
}

static double get(const void *data, nn_dtype dtype, int64_t i)
{
    if (dtype == NN_F64) return ((const double *)data)[i];
    if (dtype == NN_I32) return ((const int32_t *)data)[i];
    if (dtype == NN_BF16) return (double)nn_bf16_to_f32(((const uint16_t *)data)[i]);
    return (double)((const float *)data)[i];
}

static double round_to_bf16(double x)
{
    return (double)nn_bf16_to_f32(nn_f32_to_bf16((float)x));
}

/* Random data of input k: the same on every backend, whatever the stride (the margin of a slice is
 * NaN). */
static void fill_input(const op_case *c, int k, void *data, double nudge, int64_t nudged)
{
    const nn_view *wide = &c->inputs[k]->view, *v = &c->seen[k]->view;
    int64_t n = nn_view_elems(wide), row = wide->rank ? nn_last(wide, 0) : 1,
            inner = v->rank ? nn_last(v, 0) : 1;
    int64_t margin = row > inner ? 2 : 0, at = 0;
    nn_rng rng = nn_rng_make(7, "operand", (uint64_t)k);
    for (int64_t i = 0; i < n; i++) {
        int64_t column = i % nn_max(row, 1) - margin;
        bool inside = column >= 0 && column < inner;
        if (wide->dtype == NN_I32) {
            ((int32_t *)data)[i] =
                (int32_t)(c->ids_from[k] + (int64_t)nn_rng_below(&rng, (uint64_t)c->n_ids[k]));
            continue;
        }
        double x = NAN;
        if (inside) x = c->low[k] + (c->high[k] - c->low[k]) * (double)nn_rng_uniform(&rng);
        if (c->rounded && !c->exact[k]) x = round_to_bf16(x);
        if (inside && at++ == nudged) x += nudge;
        put(data, wide->dtype, i, x);
    }
}

static nn_status fill_inputs(const op_case *c, nn_plan *plan, int which, double nudge,
                             int64_t nudged)
{
    for (int k = 0; k < c->n_inputs; k++) {
        void *data = nn_alloc(nn_view_elems(&c->inputs[k]->view), 8);
        NN_NEED(data);
        fill_input(c, k, data, k == which ? nudge : 0, nudged);
        nn_status status = nn_plan_write(plan, c->inputs[k], data);
        nn_free(data);
        NN_TRY(status);
    }
    return NN_OK;
}

static nn_status read_one(results *r, nn_plan *plan, const nn_tensor *t)
{
    int at = r->n++;
    if (!t) return NN_OK;
    int64_t n = nn_view_elems(&t->view);
    void *raw = nn_alloc(n, 8);
    NN_NEED(raw);
    r->values[at] = nn_alloc(n, sizeof(double));
    NN_NEED(r->values[at]);
    r->elems[at] = n;
    nn_status status = nn_plan_read(plan, t, raw);
    for (int64_t i = 0; i < n; i++) r->values[at][i] = get(raw, t->view.dtype, i);
    nn_free(raw);
    return status;
}

static void free_results(results *r)
{
    for (int i = 0; i < r->n; i++) nn_free(r->values[i]);
    *r = (results){ 0 };
}

typedef struct setup {
    const op_test *test;
    op_case c;
    nn_tensor *y, *loss;
    nn_plan *plan;
} setup;

static nn_tensor *weighted_sum(op_case *c, nn_tensor *y)
{
    static const int64_t ones[NN_MAX_RANK] = { 1, 1, 1, 1, 1, 1 };
    nn_tensor *r = op_fixed(c, -1, 1, y->view.rank, y->view.dim);
    return nn_sum(c->g, nn_mul(c->g, y, r), y->view.rank, ones);
}

static nn_status open_setup(setup *s, nn_device *device, const nn_plan_options *options)
{
    NN_TRY(nn_graph_create(&s->c.g));
    nn_graph_training(s->c.g);
    nn_graph_compute(s->c.g, s->c.dtype == NN_BF16 ? NN_BF16 : NN_F32);
    s->y = s->test->build(&s->c);
    NN_TRY(nn_graph_status(s->c.g));
    int n_out = s->y->node ? s->y->node->n_out : 1;
    for (int i = 0; i < n_out; i++) nn_keep(s->y->node ? s->y->node->out[i] : s->y);
    if (!s->test->no_grad) {
        s->loss = weighted_sum(&s->c, s->y);
        nn_keep(s->loss);
        nn_backward(s->c.g, s->loss, 1, false);
        for (int k = 0; k < s->c.n_inputs; k++)
            if (nn_grad_of(s->c.seen[k])) nn_keep(nn_grad_of(s->c.seen[k]));
    }
    return nn_plan_create(s->c.g, device, options, &s->plan);
}

static void close_setup(setup *s)
{
    nn_plan_destroy(s->plan);
    nn_graph_destroy(s->c.g);
}

static nn_status collect(setup *s, results *r)
{
    int n_out = s->y->node ? s->y->node->n_out : 1;
    for (int i = 0; i < n_out; i++)
        NN_TRY(read_one(r, s->plan, s->y->node ? s->y->node->out[i] : s->y));
    for (int k = 0; k < s->c.n_inputs; k++)
        NN_TRY(read_one(r, s->plan, s->c.fixed[k] ? NULL : nn_grad_of(s->c.seen[k])));
    return NN_OK;
}

/* How a case is run. */
typedef struct mode {
    nn_dtype dtype;
    bool rounded, strided, frozen;
    int skip;
} mode;

/* The sets of kernels that have run a case. */
typedef struct kernel_sets {
    int n;
    uint64_t kernels[8];
} kernel_sets;

/* Which kernels run the op and its gradients (of a view: all), and whether they keep packed
 * weights. */
static uint64_t kernels_of(const setup *s, nn_op_id op)
{
    const char *name = nn_op_name(op);
    uint64_t mixed = nn_plan_stats_of(s->plan).packed_bytes > 0;
    for (int64_t i = 0; i < nn_plan_n_steps(s->plan); i++) {
        nn_plan_step step = nn_plan_step_at(s->plan, i);
        if (!nn_op_of(op)->is_view && strncmp(nn_op_name(step.node->op), name, strlen(name)) != 0)
            continue;
        for (const char *k = step.kernel; *k; k++) mixed = (mixed ^ (uint64_t)*k) * 0x100000001b3;
    }
    return mixed;
}

/* False the second time. */
static bool is_new(kernel_sets *t, uint64_t kernels)
{
    for (int i = 0; i < t->n; i++)
        if (t->kernels[i] == kernels) return false;
    NN_ASSERT(t->n < NN_COUNT(t->kernels));
    t->kernels[t->n++] = kernels;
    return true;
}

/* tried: NULL = run whatever ran before. */
static nn_status run_once(nn_op_id op, int row, nn_device *device, mode m, kernel_sets *tried,
                          results *r)
{
    nn_plan_options options = { .frozen = m.frozen, .hostile = true, .skip = m.skip };
    setup s = { .test = tests[op],
                .c = { .dtype = m.dtype, .strided = m.strided, .a = tests[op]->rows[row] } };
    s.c.rounded = m.rounded;
    nn_status status = open_setup(&s, device, &options);
    if (status == NN_OK && tried) r->known = !is_new(tried, kernels_of(&s, op));
    if (status == NN_OK && !r->known) {
        status = fill_inputs(&s.c, s.plan, -1, 0, 0);
        if (status == NN_OK) status = nn_plan_run(s.plan, 1);
        if (status == NN_OK) status = collect(&s, r);
    }
    close_setup(&s);
    return status;
}

static double largest(const results *r, int i)
{
    double most = 1e-30;
    for (int64_t k = 0; k < r->elems[i]; k++)
        if (isfinite(r->values[i][k])) most = fmax(most, fabs(r->values[i][k]));
    return most;
}

/* The largest error of result i. */
static double error_of(const results *truth, const results *got, int i)
{
    double most = 0;
    for (int64_t k = 0; k < truth->elems[i]; k++)
        if (truth->values[i][k] != got->values[i][k])
            most = fmax(most, fabs(truth->values[i][k] - got->values[i][k]));
    return most;
}

/* What result i may be off by. rounded: what ref gets in bf16, or NULL. Where that shows rounding
 * at all, few elements may have been lucky: half a place of the largest value is never too much. */
static double allowance(const results *truth, const results *rounded, int i, double tolerance)
{
    double most = largest(truth, i), allowed = tolerance * most;
    if (!rounded || i >= rounded->n || rounded->elems[i] != truth->elems[i]) return allowed;
    double error = error_of(truth, rounded, i);
    if (error > allowed) error = fmax(error, 0x1p-9 * most);
    return allowed + 2 * error;
}

static bool same(const results *truth, const results *rounded, const results *got, double tolerance,
                 char *why, size_t size)
{
    for (int i = 0; i < truth->n; i++) {
        if (truth->elems[i] != got->elems[i]) {
            snprintf(why, size, "result %d has %lld elements, not %lld", i,
                     (long long)got->elems[i], (long long)truth->elems[i]);
            return false;
        }
        double allowed = allowance(truth, rounded, i, tolerance);
        for (int64_t k = 0; k < truth->elems[i]; k++) {
            double want = truth->values[i][k], have = got->values[i][k];
            if (want == have) continue; /* infinities too */
            if (!(fabs(want - have) <= allowed)) {
                snprintf(why, size, "result %d at %lld: %.9g, expected %.9g (allowed %.2g)", i,
                         (long long)k, have, want, allowed);
                return false;
            }
        }
    }
    return true;
}

typedef struct tally {
    int passed, failed;
} tally;

static void report(tally *t, bool ok, const char *op, int row, const char *how, const char *why)
{
    if (ok) {
        t->passed++;
        return;
    }
    t->failed++;
    printf("FAILED %s:%d %s: %s\n    again: op_test %s:%d %s\n", op, row, how, why, op, row,
           strcmp(how, "gradient") ? "" : "--grad");
}

/* ref in bf16 rounds once where it stores; a graph of a few nodes adds up to this. */
static const double ref_bf16_tolerance = 0x1p-6;

static void compare(tally *t, nn_op_id op, int row, nn_device *device, mode m, kernel_sets *tried,
                    const results *truth, const results *rounded, nn_status status)
{
    const op_test *test = tests[op];
    double tolerance = test->tolerance > 0 ? test->tolerance : 1e-5;
    results got = { 0 };
    char why[1024] = "", name[96];
    snprintf(name, sizeof(name), "%s %s%s%s kernel %d", device->backend->name,
             nn_dtype_name(device->arithmetic == NN_BF16 ? NN_BF16 : m.dtype),
             m.strided ? " strided" : "", m.frozen ? " frozen" : "", m.skip);
    if (status == NN_OK) status = run_once(op, row, device, m, tried, &got);
    if (got.known) return;
    if (m.dtype == NN_BF16 && !rounded) tolerance = fmax(tolerance, ref_bf16_tolerance);
    bool ok = status == NN_OK && same(truth, rounded, &got, tolerance, why, sizeof(why));
    report(t, ok, nn_op_name(op), row, name, status == NN_OK ? why : nn_error_message());
    free_results(&got);
}

/* dtype: in memory. A device that only computes in bf16 may be off by twice what rounding the
 * operands costs. */
static void conform(tally *t, nn_op_id op, int row, nn_device *ref, nn_device *device,
                    nn_dtype dtype)
{
    const op_test *test = tests[op];
    bool half = dtype == NN_BF16, is_ref = device == ref, rounds = device->arithmetic == NN_BF16;
    bool bounded = rounds || (half && !is_ref);
    for (int strided = 0; strided < (test->no_strided ? 1 : 2); strided++) {
        results truth = { 0 }, rounded = { 0 };
        kernel_sets tried = { 0 };
        mode m = { .dtype = NN_F64, .rounded = half, .strided = strided };
        nn_status status = run_once(op, row, ref, m, NULL, &truth);
        mode costly = { rounds ? NN_F64 : dtype, .rounded = true, .strided = strided };
        if (status == NN_OK && bounded) status = run_once(op, row, ref, costly, NULL, &rounded);
        m.dtype = dtype;
        for (int k = 0; k < (is_ref ? 3 : 5); k++) { /* three kernels, two of a frozen plan */
            m.frozen = k >= 3;
            m.skip = k % 3;
            compare(t, op, row, device, m, &tried, &truth, bounded ? &rounded : NULL, status);
        }
        free_results(&truth);
        free_results(&rounded);
    }
}

static nn_status loss_at(setup *s, int which, double nudge, int64_t nudged, double *loss)
{
    NN_TRY(fill_inputs(&s->c, s->plan, which, nudge, nudged));
    NN_TRY(nn_plan_run(s->plan, 1));
    return nn_plan_read(s->plan, s->loss, loss);
}

/* Central differences for up to 24 elements of one input. */
static nn_status check_input(setup *s, int k, const double *gradient, double tolerance, char *why,
                             size_t size)
{
    const double h = 1e-5;
    int64_t n = nn_view_elems(&s->c.seen[k]->view), step = nn_max(n / 24, 1);
    double largest = 1e-3;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(gradient[i]));
    for (int64_t i = 0; i < n; i += step) {
        double up, down;
        NN_TRY(loss_at(s, k, h, i, &up));
        NN_TRY(loss_at(s, k, -h, i, &down));
        double numeric = (up - down) / (2 * h);
        if (!(fabs(numeric - gradient[i]) <= tolerance * largest) && !why[0])
            snprintf(why, size, "input %d at %lld: gradient %.9g, differences give %.9g", k,
                     (long long)i, gradient[i], numeric);
    }
    return NN_OK;
}

static void differentiate(tally *t, nn_op_id op, int row, nn_device *ref)
{
    const op_test *test = tests[op];
    double tolerance = test->grad_tolerance > 0 ? test->grad_tolerance : 1e-6;
    setup s = { .test = test, .c = { .dtype = NN_F64, .a = test->rows[row] } };
    results r = { 0 };
    char why[256] = "";
    nn_status status = open_setup(&s, ref, NULL);
    if (status == NN_OK) status = fill_inputs(&s.c, s.plan, -1, 0, 0);
    if (status == NN_OK) status = nn_plan_run(s.plan, 1);
    if (status == NN_OK) status = collect(&s, &r);
    int n_out = status == NN_OK ? r.n - s.c.n_inputs : 0;
    for (int k = 0; k < s.c.n_inputs && status == NN_OK; k++) {
        if (s.c.fixed[k]) continue;
        if (!r.values[n_out + k])
            snprintf(why, sizeof(why), "input %d gets no gradient", k);
        else
            status = check_input(&s, k, r.values[n_out + k], tolerance, why, sizeof(why));
    }
    report(t, status == NN_OK && !why[0], nn_op_name(op), row, "gradient",
           status == NN_OK ? why : nn_error_message());
    free_results(&r);
    close_setup(&s);
}

typedef struct selection {
    char op[64];
    int row; /* < 0: all */
    const char *device, *dtype, *prefer;
    bool grad_only;
} selection;

static bool wanted(const char *only, const char *name)
{
    return !only || !strcmp(only, name);
}

static void run_row(tally *t, nn_op_id op, int row, const selection *s, nn_device *const *devices,
                    int n)
{
    for (int d = 0; d < n && !s->grad_only; d++) {
        const nn_backend *b = devices[d]->backend;
        if (!wanted(s->device, b->name)) continue;
        if (wanted(s->dtype, "f32")) conform(t, op, row, devices[0], devices[d], NN_F32);
        if (!wanted(s->dtype, "bf16")) continue;
        if (b->stores_bf16)
            conform(t, op, row, devices[0], devices[d], NN_BF16);
        else if (tests[op]->bf16 && nn_device_compute(devices[d], NN_BF16) == NN_OK)
            conform(t, op, row, devices[0], devices[d], NN_F32);
        devices[d]->arithmetic = NN_F32;
    }
    if (!tests[op]->no_grad && !s->device && !s->dtype) differentiate(t, op, row, devices[0]);
}

static void run_op(tally *t, nn_op_id op, const selection *s, nn_device *const *devices, int n)
{
    const op_test *test = tests[op];
    if (test->covered_by) return;
    for (int d = 0; s->prefer && d < n; d++)
        if (nn_device_prefer(devices[d], nn_op_name(op), s->prefer) != NN_OK && s->device &&
            !strcmp(s->device, devices[d]->backend->name))
            report(t, false, nn_op_name(op), 0, "--prefer", nn_error_message());
    if (!test->n_rows) report(t, false, nn_op_name(op), 0, "test", "has no cases");
    for (int row = 0; row < test->n_rows; row++)
        if (s->row < 0 || row == s->row) run_row(t, op, row, s, devices, n);
}

static void parse(int argc, char **argv, selection *s)
{
    *s = (selection){ .row = -1 };
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--grad"))
            s->grad_only = true;
        else if (!strcmp(argv[i], "--device") && i + 1 < argc)
            s->device = argv[++i];
        else if (!strcmp(argv[i], "--dtype") && i + 1 < argc)
            s->dtype = argv[++i];
        else if (!strcmp(argv[i], "--prefer") && i + 1 < argc)
            s->prefer = argv[++i];
        else
            snprintf(s->op, sizeof(s->op), "%s", argv[i]);
    }
    char *colon = strchr(s->op, ':');
    if (!colon) return;
    *colon = 0;
    s->row = (int)strtol(colon + 1, NULL, 10);
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "ref", "cpu", "cuda" };
    nn_device *devices[NN_COUNT(names)];
    selection s;
    tally t = { 0 };
    int n = 0;
    parse(argc, argv, &s);
    if (nn_device_open("ref", 1, &devices[n++]) != NN_OK) return 1;
    for (int i = 1; i < NN_COUNT(names); i++)
        if (nn_device_open(names[i], 2, &devices[n]) == NN_OK)
            n++;
        else if (s.device && !strcmp(s.device, names[i]))
            printf("%s\n", nn_error_message());
    for (int i = 0; i < NN_OP_COUNT; i++)
        if (!s.op[0] || !strcmp(s.op, nn_op_name((nn_op_id)i)))
            run_op(&t, (nn_op_id)i, &s, devices, n);
    for (int d = 0; d < n; d++) nn_device_close(devices[d]);
    printf("%d passed, %d failed\n", t.passed, t.failed);
    return t.failed || !t.passed;
}
