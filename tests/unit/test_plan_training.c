/* Trainings that are planned: they take what the trainers' loop takes, what is chosen fits, and
 * what it costs follows from the formulas. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine_check.h"
#include "tests/unit/scratch.h"
#include "tools/plan_report.h"
#include "tools/trainer_fit.h"

enum { IN = 24, OUT = 5, WIDTH = 2048, BLOCKS = 4, ROWS = 30, BATCH = 8 };

static const plan_rates rates = { 1e12, 1e11, 0.5 };

/* -- a network ----------------------------------------------------------------------------------
 */

typedef struct job {
    int64_t batch;
    nn_tensor *x, *y;
    plan_result want; /* of the loop */
} job;

static nn_tensor *loss_of(nn_graph *g, nn_params *params, int64_t n, bool recompute, job *j)
{
    const nn_scope s = nn_root(g, params, "");
    j->x = nn_input(g, "x", NN_F32, NN_DIMS(n, ROWS, IN));
    j->y = nn_input(g, "y", NN_F32, NN_DIMS(n, ROWS, OUT));
    nn_tensor *h = j->x;
    for (int i = 0; i < BLOCKS; i++) {
        const nn_scope block = nn_at(s, "block.%d", i);
        if (recompute) nn_checkpoint_begin(g);
        nn_tensor *wide = nn_param_at(block, "a", NN_NORMAL(0.3f), NN_DIMS(WIDTH, IN));
        h = nn_activation(g, nn_linear(g, h, wide, NULL, NULL), NN_ACT_SILU);
        nn_tensor *narrow = nn_param_at(block, "b", NN_NORMAL(0.02f), NN_DIMS(IN, WIDTH));
        h = nn_activation(g, nn_linear(g, h, narrow, NULL, NULL), NN_ACT_SILU);
        if (recompute) nn_checkpoint_end(g);
    }
    nn_tensor *last = nn_param_at(s, "last", NN_NORMAL(0.3f), NN_DIMS(OUT, IN));
    return nn_mse(g, nn_linear(g, h, last, NULL, NULL), j->y, NULL);
}

static nn_tensor *build_planned(void *ctx, nn_graph *g, const plan_stores *p, int64_t batch,
                                bool recompute)
{
    job inputs;
    (void)ctx;
    return loss_of(g, p->trained, batch, recompute, &inputs);
}

static const plan_task task = {
    .build = build_planned, .recomputes = true, .average = true, .sample_bytes = 100
};

/* -- against the loop ---------------------------------------------------------------------------
 */

static nn_tensor *build_trained(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    return loss_of(g, params, j->batch, false, j);
}

static nn_status feed(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    static float numbers[BATCH * ROWS * IN];
    job *j = ctx;
    (void)pass;
    NN_TRY(nn_plan_write(plan, j->x, numbers));
    return nn_plan_write(plan, j->y, numbers);
}

static nn_status look(void *ctx, trainer *t, int64_t step)
{
    const nn_plan_stats a = nn_plan_stats_of(t->pass), b = nn_plan_stats_of(t->update);
    job *j = ctx;
    (void)step;
    j->want = (plan_result){ .activation_bytes = a.activation_bytes + b.activation_bytes,
                             .workspace_bytes = a.workspace_bytes + b.workspace_bytes,
                             .state_bytes = 5 * 4 * t->params->n_elems,
                             .pass = { .flops = a.flops, .n_launches = a.n_launches },
                             .update = { .flops = b.flops, .n_launches = b.n_launches } };
    return NN_OK;
}

static void train(nn_device *device, int64_t passes, job *j)
{
    trainer t = { .what = "test",
                  .set = { TRAINER_DEFAULTS, .output = scratch_path, .steps = 1, .lr = 1e-3,
                           .ema_decay = 0.9 },
                  .device = device,
                  .ctx = j,
                  .build = build_trained,
                  .feed = feed,
                  .after = look };
    t.set.batch = j->batch;
    t.set.accumulate = passes;
    OK(trainer_make_params(build_trained, j, device, &t.params));
    OK(nn_params_init(t.params, 1));
    OK(trainer_run(&t));
    nn_params_destroy(t.params);
}

/* Byte for byte, on a device that has no memory. */
static void plans_are_the_loop(void **state)
{
    nn_device *device = open_device("cpu", 1), *absent;
    (void)state;
    OK(nn_device_open_absent(device, &absent));
    for (int64_t passes = 1; passes <= 2; passes++) {
        job j = { .batch = BATCH };
        const plan_setting setting = { .batch = BATCH, .passes = passes, .ranks = 1 };
        plan_result got;
        train(device, passes, &j);
        OK(plan_training(&task, absent, &setting, &rates, &got));
        assert_int_equal(got.state_bytes, j.want.state_bytes);
        assert_int_equal(got.activation_bytes, j.want.activation_bytes);
        assert_int_equal(got.workspace_bytes, j.want.workspace_bytes);
        assert_int_equal(got.pass.n_launches, j.want.pass.n_launches);
        assert_int_equal(got.update.n_launches, j.want.update.n_launches);
        assert_float_equal(got.pass.flops, j.want.pass.flops, 1);
        assert_int_equal(got.host_bytes, BATCH * task.sample_bytes);
    }
    nn_device_close(absent);
    nn_device_close(device);
}

/* -- what fits ----------------------------------------------------------------------------------
 */

static nn_device *open_null(void)
{
    nn_device *d;
    OK(nn_device_open("null", 1, &d));
    return d;
}

static int64_t bytes_of(nn_device *d, plan_setting setting)
{
    plan_result r;
    OK(plan_training(&task, d, &setting, &rates, &r));
    return plan_bytes(&r);
}

static void an_optimizer_in_parts(void **state)
{
    nn_device *d = open_null();
    plan_result whole, part;
    const plan_setting one = { .batch = 1, .passes = 4, .ranks = 4 };
    plan_setting cut = one;
    (void)state;
    cut.shard = true;
    OK(plan_training(&task, d, &one, &rates, &whole));
    OK(plan_training(&task, d, &cut, &rates, &part));
    const int64_t n = plan_part_elems(whole.n_elems, 4);
    assert_true(n >= whole.n_elems / 4 && n < whole.n_elems / 4 + 64);
    assert_int_equal(whole.state_bytes - part.state_bytes, 3 * 4 * (whole.n_elems - n));
    assert_true(part.update.seconds < 0.3 * whole.update.seconds);
    nn_device_close(d);
}

static void a_validation_takes_its_own(void **state)
{
    nn_device *d = open_null();
    const plan_setting setting = { .batch = 8, .passes = 1, .ranks = 1 };
    plan_task watched = task;
    plan_result with, without;
    (void)state;
    watched.validates = true;
    OK(plan_training(&task, d, &setting, &rates, &without));
    OK(plan_training(&watched, d, &setting, &rates, &with));
    assert_true(with.activation_bytes > without.activation_bytes);
    assert_true(with.activation_bytes < 2 * without.activation_bytes);
    assert_float_equal(with.pass.seconds, without.pass.seconds, 1e-12);
    nn_device_close(d);
}

static void choices_fit(void **state)
{
    nn_device *d = open_null();
    const plan_setting all = { .batch = 32, .passes = 1, .ranks = 2 };
    const plan_setting least = {
        .batch = 1, .passes = 32, .ranks = 2, .recompute = true, .shard = true
    };
    const int64_t most = bytes_of(d, all), few = bytes_of(d, least);
    int64_t last = 64;
    (void)state;
    for (int64_t bytes = most; bytes >= few; bytes = bytes * 9 / 10) {
        const plan_limits l = { .bytes = bytes, .samples = 32, .most = 32, .ranks = 2 };
        plan_setting s;
        plan_result r;
        OK(plan_fit(&task, d, &l, &rates, &s, &r));
        assert_true(plan_bytes(&r) <= bytes);
        assert_int_equal(bytes_of(d, s), plan_bytes(&r));
        assert_int_equal(s.batch * s.passes, 32);
        if (bytes == most) assert_true(s.batch == 32 && !s.recompute && !s.shard);
        if (!s.recompute && !s.shard) assert_true(s.batch <= last);
        last = s.recompute || s.shard ? last : s.batch;
    }
    const plan_limits l = { .bytes = few, .samples = 32, .most = 32, .ranks = 2 };
    plan_setting s;
    plan_result r;
    OK(plan_fit(&task, d, &l, &rates, &s, &r));
    assert_true(s.batch == 1 && s.recompute && s.shard);
    nn_device_close(d);
}

/* What was asked for stays; passes are of whole granules. */
static void choices_keep_what_was_asked(void **state)
{
    nn_device *d = open_null();
    plan_task coarse = task;
    plan_setting s;
    plan_result r;
    plan_limits l = {
        .bytes = 1000000000, .samples = 24, .most = 20, .ranks = 2, .recompute = true, .shard = true
    };
    (void)state;
    OK(plan_fit(&task, d, &l, &rates, &s, &r));
    assert_true(s.batch == 12 && s.passes == 2 && s.recompute && s.shard);
    coarse.granule = 8;
    OK(plan_fit(&coarse, d, &l, &rates, &s, &r));
    assert_int_equal(s.batch, 8);
    nn_device_close(d);
}

static void refusals_say_what_would_do(void **state)
{
    nn_device *d = open_null();
    const plan_setting alone = { .batch = 1, .passes = 32, .ranks = 1, .recompute = true };
    plan_setting s;
    plan_result r;
    plan_limits l = { .samples = 32, .most = 32, .ranks = 1 };
    (void)state;
    l.bytes = bytes_of(d, alone) - 1;
    assert_int_equal(plan_fit(&task, d, &l, &rates, &s, &r), NN_MEMORY);
    MESSAGE_HAS("with micro-batch 1, recompute it needs 9 MB");
    MESSAGE_HAS("so would 2 ranks with --shard-optimizer");
    l.bytes = 1000;
    assert_int_equal(plan_fit(&task, d, &l, &rates, &s, &r), NN_MEMORY);
    assert_null(strstr(nn_error_message(), "so would"));
    nn_device_close(d);
}

/* -- ranks --------------------------------------------------------------------------------------
 */

enum { RANKS = 4 };

typedef struct rank {
    trainer_settings set;
    bool recompute;
    nn_status status;
    char message[512];
} rank;

static void *fit_rank(void *ctx)
{
    rank *r = ctx;
    nn_device *d = NULL;
    nn_error_clear();
    r->status = nn_device_open("null", 1, &d);
    if (r->status == NN_OK) r->status = trainer_fit(&r->set, &task, d, &r->recompute);
    snprintf(r->message, sizeof(r->message), "%s", nn_error_message());
    nn_device_close(d);
    nn_comm_close(r->set.ranks.comm);
    return NULL;
}

/* Of a card: what a context takes, and so much more for each rank. */
static void fit_ranks(const int64_t bytes[RANKS], rank ranks[RANKS])
{
    const nn_comm_options options = { .timeout_seconds = 60 };
    static char sizes[RANKS][32];
    nn_comm *comms[RANKS];
    pthread_t threads[RANKS];
    OK(nn_comm_open_threads(RANKS, &options, comms));
    for (int i = 0; i < RANKS; i++) {
        trainer_settings *s = &ranks[i].set;
        const double all = (double)(PLAN_CONTEXT_BYTES + bytes[i]);
        snprintf(sizes[i], sizeof(sizes[i]), "%.6fMB", 1e-6 * all);
        *s = (trainer_settings){ TRAINER_DEFAULTS, .memory = sizes[i] };
        s->batch = 32;
        s->accumulate = 4;
        s->ranks = (trainer_ranks){ .comm = comms[i], .rank = i, .n = RANKS };
        OK(trainer_share(s));
        assert_int_equal(pthread_create(&threads[i], NULL, fit_rank, &ranks[i]), 0);
    }
    for (int i = 0; i < RANKS; i++) pthread_join(threads[i], NULL);
}

/* What the poorest of them can do, and of an update all samples. */
static void ranks_choose_alike(void **state)
{
    static rank ranks[RANKS];
    nn_device *d = open_null();
    const plan_setting whole = { .batch = 32, .passes = 1, .ranks = RANKS };
    const plan_setting cut = { .batch = 4, .passes = 8, .ranks = RANKS };
    const int64_t rich = bytes_of(d, whole) + 1000000, poor = bytes_of(d, cut) + 100000;
    (void)state;
    fit_ranks((int64_t[]){ rich, rich, rich, rich }, ranks);
    for (int i = 0; i < RANKS; i++) {
        if (ranks[i].status != NN_OK) fail_msg("rank %d: %s", i, ranks[i].message);
        assert_true(ranks[i].set.ranks.batch == 32 && !ranks[i].recompute && !ranks[i].set.shard);
    }
    fit_ranks((int64_t[]){ rich, rich, poor, rich }, ranks);
    for (int i = 0; i < RANKS; i++) {
        const trainer_settings *s = &ranks[i].set;
        if (ranks[i].status != NN_OK) fail_msg("rank %d: %s", i, ranks[i].message);
        const plan_setting chosen = { s->ranks.batch, s->ranks.passes, RANKS, ranks[i].recompute,
                                      s->shard };
        assert_true(bytes_of(d, chosen) <= poor);
        assert_int_equal(s->ranks.batch * s->ranks.passes, 32);
        assert_int_equal(s->batch, 32);
        assert_int_equal(s->ranks.batch, ranks[0].set.ranks.batch);
        assert_int_equal(s->shard, ranks[0].set.shard);
        assert_int_equal(ranks[i].recompute, ranks[0].recompute);
    }
    nn_device_close(d);
}

/* -- formulas -----------------------------------------------------------------------------------
 */

static void runs(void **state)
{
    const plan_setting setting = { .batch = 4, .passes = 2, .ranks = 16 };
    const plan_result r = { .n_elems = 250000000,
                            .pass = { .flops = 8e12, .seconds = 0.1 },
                            .update = { .seconds = 0.02 } };
    plan_cluster c = { .gpus = 16,
                       .of_node = 8,
                       .peer = 400e9,
                       .link = 50e9,
                       .link_efficiency = 0.5,
                       .step_latency = 1e-3 };
    plan_times t;
    (void)state;
    plan_run(&c, &setting, &r, 6e12, 1e15, 1000, &t);
    const double sent = 2 * 15 / 16.0 * 1e9; /* bytes */
    assert_float_equal(t.exchanged_bytes, sent, 1);
    assert_float_equal(t.exchange, sent / 25e9 + 0.03, 1e-9);
    assert_float_equal(t.step, 0.22 + t.exchange, 1e-9);
    assert_float_equal(t.run, 1000 * t.step, 1e-6);
    assert_float_equal(t.gpu_hours, 16 * t.run / 3600, 1e-6);
    assert_float_equal(t.images_per_second, 128 / t.step, 1e-6);
    assert_float_equal(t.utilisation, 2 * 6e12 / (t.step * 1e15), 1e-9);
    c.overlap = 0.5;
    plan_run(&c, &setting, &r, 6e12, 1e15, 1000, &t);
    assert_float_equal(t.waiting, 0.5 * t.exchange, 1e-9);
    c.overlap = 1; /* no more than there is to compute beside */
    c.link = 1e9;
    plan_run(&c, &setting, &r, 6e12, 1e15, 1000, &t);
    assert_float_equal(t.waiting, t.exchange - 0.1, 1e-9);
    c.of_node = 16; /* the network is not used */
    c.overlap = 0;
    plan_run(&c, &setting, &r, 6e12, 1e15, 1000, &t);
    assert_float_equal(t.exchange, sent / 200e9 + 0.03, 1e-9);
    c.gpus = 1;
    plan_run(&c, &setting, &r, 6e12, 1e15, 1000, &t);
    assert_float_equal(t.step, 0.22, 1e-9);
}

/* Each kernel takes the longer of its arithmetic and its traffic. */
static void kernels_are_bound(void **state)
{
    static const plan_rates slow[] = { { 1e3, 1e20, 1 }, { 1e20, 1e3, 1 }, { 1e3, 1e20, 0.5 } };
    const plan_setting setting = { .batch = 4, .passes = 1, .ranks = 1 };
    nn_device *d = open_null();
    plan_result r;
    (void)state;
    OK(plan_training(&task, d, &setting, &slow[0], &r));
    assert_float_equal(r.pass.seconds / (r.pass.flops / 1e3), 1, 1e-6);
    OK(plan_training(&task, d, &setting, &slow[1], &r));
    assert_float_equal(r.pass.seconds / (r.pass.moved_bytes / 1e3), 1, 1e-6);
    OK(plan_training(&task, d, &setting, &slow[2], &r));
    assert_float_equal(r.pass.seconds / (r.pass.flops / 1e3), 2, 1e-6);
    nn_device_close(d);
}

static void sizes_and_cards(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes; /* 0 = refused */
    } sizes[] = { { "24GB", 24000000000 },
                  { "1.5", 1500000000 },
                  { "300MB", 300000000 },
                  { "", 0 },
                  { "GB", 0 },
                  { "24GiB", 0 },
                  { "-1GB", 0 },
                  { "0", 0 },
                  { "nan", 0 } };
    const plan_card *card;
    (void)state;
    for (int i = 0; i < NN_COUNT(sizes); i++) {
        int64_t bytes = 0;
        assert_int_equal(plan_memory_parse(sizes[i].text, &bytes),
                         sizes[i].bytes ? NN_OK : NN_ARGUMENT);
        assert_int_equal(bytes, sizes[i].bytes);
    }
    assert_string_equal(plan_size_text(21340000000, true).s, "21.4 GB");
    assert_string_equal(plan_size_text(23690000000, false).s, "23.6 GB");
    assert_string_equal(plan_size_text(999100000, true).s, "1000 MB");
    OK(plan_card_find("a100-40", &card));
    assert_float_equal(card->memory, 40e9, 1);
    assert_int_equal(plan_card_find("h1000", &card), NN_ARGUMENT);
    MESSAGE_HAS("rtx4090");
}

static void measured_rates(void **state)
{
    static const char text[] =
        "{\"rows\": [\n"
        "{\"name\": \"copy_bandwidth\", \"gbytes_per_s\": 2500.5, \"tflops\": 0, \"ok\": true},\n"
        "{\"name\": \"gemm_ceiling_bf16\", \"tflops\": 650, \"ok\": true},\n"
        "{\"name\": \"unet_sd14_train_512\", \"dtype\": \"bf16\", \"batch\": 8, \"seconds\": 0.25}"
        "]}";
    plan_measured m;
    (void)state;
    OK(plan_measured_read(scratch_write("gpu.json", text, (int64_t)strlen(text)), &m));
    assert_float_equal(m.bytes, 2500.5e9, 1e3);
    assert_float_equal(m.flops, 650e12, 1e3);
    assert_float_equal(m.step_seconds, 0.25, 1e-12);
    assert_int_equal(m.batch, 8);
    FAILS(NN_FORMAT, plan_measured_read(scratch_write("none.json", "{\"rows\": []}", 12), &m));
    FAILS(NN_FORMAT, plan_measured_read(scratch_write("bad.json", "[", 1), &m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_the_loop),
        cmocka_unit_test(an_optimizer_in_parts),
        cmocka_unit_test(a_validation_takes_its_own),
        cmocka_unit_test(choices_fit),
        cmocka_unit_test(choices_keep_what_was_asked),
        cmocka_unit_test(refusals_say_what_would_do),
        cmocka_unit_test(ranks_choose_alike),
        cmocka_unit_test(runs),
        cmocka_unit_test(kernels_are_bound),
        cmocka_unit_test(sizes_and_cards),
        cmocka_unit_test(measured_rates),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
