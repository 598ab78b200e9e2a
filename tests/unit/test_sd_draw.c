/* Drawing with Stable Diffusion: text once, batches, pictures to start from, masks. */
#include "tests/unit/small_sd.h"

#include <math.h>

#include "engine/base/alloc.h"
#include "models/sd_draw.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

enum { H = 4, W = 6, ELEMS = H * W * 4, MOST = 8 };

static nn_device *ref, *cpu;
static sd_model on_ref, on_cpu;

static sd_session *open_session(const sd_model *m, nn_device *d, int batch, int windows)
{
    sd_session *s;
    OK(sd_session_create(m, d,
                         &(sd_session_options){ .batch = batch,
                                                .latent_height = H,
                                                .latent_width = W,
                                                .windows = windows,
                                                .guided = true },
                         &s));
    return s;
}

/* The same prompt for the whole batch. */
static void tell(sd_session *s, const char *text, const char *negative)
{
    const sd_model *m = sd_session_model(s);
    const sd_session_options *o = sd_session_options_of(s);
    const sd_prompt_rules rules = { .weights = true, .windows = o->windows };
    sd_prompt with, without;
    const sd_prompt *all[MOST], *none[MOST];
    OK(sd_prompt_make(m, text, &rules, &with));
    OK(sd_prompt_make(m, negative, &rules, &without));
    OK(sd_prompt_widen(m, &with, o->windows));
    OK(sd_prompt_widen(m, &without, o->windows));
    for (int i = 0; i < MOST; i++) {
        all[i] = &with;
        none[i] = &without;
    }
    OK(sd_session_prompts(s, all, none));
    sd_prompt_free(&with);
    sd_prompt_free(&without);
}

static void noise_fill(const char *what, float *out, int64_t n)
{
    nn_rng rng = nn_rng_make(3, what, 0);
    nn_rng_normal_fill(&rng, out, n);
}

static double distance(const float *a, const float *b, int64_t n)
{
    double off = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        off = fmax(off, fabs((double)(a[i] - b[i])));
        most = fmax(most, fabs((double)a[i]));
    }
    return off / most;
}

/* -- text -- */

/* The whole UNet with its context inside, as training builds it. */
static void predict_whole(const sd_model *m, nn_device *d, const int32_t *ids, const float *x,
                          float *out)
{
    nn_graph *g;
    nn_plan *plan;
    const float t[2] = { 321, 321 };
    float both[2 * ELEMS];
    OK(nn_graph_create(&g));
    nn_tensor *in = nn_input(g, "ids", NN_I32, NN_DIMS(2, m->text.max_positions));
    nn_tensor *latent = nn_input(g, "latent", NN_F32, NN_DIMS(2, H, W, 4));
    nn_tensor *time = nn_input(g, "t", NN_F32, NN_DIMS(2));
    nn_tensor *y = sd_unet(m, g, latent, time, sd_text(m, g, in, false), false);
    nn_keep(y);
    OK(nn_plan_create(g, d, NULL, &plan));
    memcpy(both, x, ELEMS * sizeof(float));
    memcpy(both + ELEMS, x, ELEMS * sizeof(float));
    OK(nn_plan_write(plan, in, ids));
    OK(nn_plan_write(plan, latent, both));
    OK(nn_plan_write(plan, time, t));
    OK(nn_plan_run(plan, 0));
    OK(nn_plan_read(plan, y, both));
    for (int i = 0; i < ELEMS; i++) out[i] = both[i] + 7.5f * (both[ELEMS + i] - both[i]);
    nn_plan_destroy(plan);
    nn_graph_destroy(g);
}

static void test_keys_and_values_once(void **state)
{
    (void)state;
    const sd_prompt_rules rules = { .windows = 1 };
    sd_session *s = open_session(&on_ref, ref, 1, 1);
    sd_prompt with, without;
    int32_t ids[16];
    float x[ELEMS], want[ELEMS], got[ELEMS], other[ELEMS];
    OK(sd_prompt_make(&on_ref, "a red cube", &rules, &with));
    OK(sd_prompt_make(&on_ref, "", &rules, &without));
    memcpy(ids, without.ids, 8 * sizeof(*ids));
    memcpy(ids + 8, with.ids, 8 * sizeof(*ids));
    noise_fill("x", x, ELEMS);
    predict_whole(&on_ref, ref, ids, x, want);
    OK(sd_session_prompts(s, (const sd_prompt *[]){ &with }, (const sd_prompt *[]){ &without }));
    for (int again = 0; again < 2; again++) { /* what the step was given stays */
        OK(sd_session_predict(s, x, 321, 7.5, 0, got));
        assert_memory_equal(got, want, sizeof(got));
    }
    tell(s, "two blue spheres", "");
    OK(sd_session_predict(s, x, 321, 7.5, 0, other));
    assert_true(distance(want, other, ELEMS) > 1e-3);
    assert_int_equal(sd_session_encoded(s), 3); /* "", and two prompts */
    sd_prompt_free(&with);
    sd_prompt_free(&without);
    sd_session_destroy(s);
}

static void test_equal_prompts_are_encoded_once(void **state)
{
    (void)state;
    sd_session *s = open_session(&on_cpu, cpu, 4, 1);
    tell(s, "a red cube", "a blue sphere");
    assert_int_equal(sd_session_encoded(s), 2);
    tell(s, "a (red) cube", "a blue sphere"); /* the same ids with other weights */
    assert_int_equal(sd_session_encoded(s), 3);
    tell(s, "a (red) cube", "a blue sphere");
    assert_int_equal(sd_session_encoded(s), 3);
    sd_session_destroy(s);
}

static void test_windows(void **state)
{
    (void)state;
    sd_session *one = open_session(&on_cpu, cpu, 1, 1), *two = open_session(&on_cpu, cpu, 1, 2);
    float x[ELEMS], a[ELEMS], b[ELEMS];
    noise_fill("x", x, ELEMS);
    const char *lengthy = "red red red red red red blue blue blue";
    tell(one, lengthy, "");
    tell(two, lengthy, "");
    OK(sd_session_predict(one, x, 500, 7.5, 0, a));
    OK(sd_session_predict(two, x, 500, 7.5, 0, b));
    assert_true(distance(a, b, ELEMS) > 1e-3); /* the second window is heard */
    tell(two, "red red red red red red green green green", "");
    OK(sd_session_predict(two, x, 500, 7.5, 0, a));
    assert_true(distance(a, b, ELEMS) > 1e-3);
    sd_session_destroy(one);
    sd_session_destroy(two);
}

static void test_clip_skip(void **state)
{
    (void)state;
    sd_session_options o = { .batch = 1, .latent_height = H, .latent_width = W, .windows = 1 };
    float x[ELEMS], out[2][ELEMS];
    noise_fill("x", x, ELEMS);
    for (o.clip_skip = 0; o.clip_skip < 2; o.clip_skip++) {
        sd_session *s;
        OK(sd_session_create(&on_cpu, cpu, &o, &s));
        tell(s, "a red cube", "");
        OK(sd_session_predict(s, x, 500, 7.5, 0, out[o.clip_skip]));
        sd_session_destroy(s);
    }
    assert_true(distance(out[0], out[1], ELEMS) > 1e-3);
    sd_session *s;
    expect_failure(sd_session_create(&on_cpu, cpu, &o, &s), NN_ARGUMENT, "2 layers");
    assert_null(s);
}

/* -- prompts -- */

static void test_prompt_windows(void **state)
{
    (void)state;
    const sd_prompt_rules cut = { .windows = 1 }, wide = { .windows = 3, .weights = true };
    const int32_t start = on_ref.tokenizer.start, end = on_ref.tokenizer.end;
    sd_prompt p;
    OK(sd_prompt_make(&on_ref, "a red cube", &cut, &p));
    assert_int_equal(p.n_windows, 1);
    assert_int_equal(p.ids[0], start);
    assert_int_equal(p.ids[4], end);
    assert_int_equal(p.ids[7], end);
    assert_null(p.cut);
    sd_prompt_free(&p);
    OK(sd_prompt_make(&on_ref, "", &cut, &p));
    assert_int_equal(p.ids[1], end);
    sd_prompt_free(&p);
    OK(sd_prompt_make(&on_ref, "red red red red red red blue blue", &cut, &p));
    assert_string_equal(p.cut, "blue blue");
    assert_int_equal(p.ids[6], p.ids[1]);
    assert_int_equal(p.ids[7], end);
    sd_prompt_free(&p);
    OK(sd_prompt_make(&on_ref, "red red red red red red blue blue", &wide, &p));
    assert_int_equal(p.n_windows, 2);
    assert_null(p.cut);
    assert_int_equal(p.ids[8], start);
    assert_int_equal(p.ids[9], p.ids[10]);
    assert_int_equal(p.ids[11], end);
    assert_false(p.weighted);
    sd_prompt_free(&p);
    OK(sd_prompt_make(&on_ref, "red BREAK (blue:1.5)", &wide, &p));
    assert_int_equal(p.n_windows, 2);
    assert_true(p.weighted);
    assert_true(p.weight[9] == 1.5f && p.weight[8] == 1 && p.weight[10] == 1);
    OK(sd_prompt_widen(&on_ref, &p, 3));
    assert_int_equal(p.ids[16], start);
    assert_int_equal(p.ids[17], end);
    sd_prompt_free(&p);
    OK(sd_prompt_make(&on_ref, "(red:2)", &(sd_prompt_rules){ .windows = 1 }, &p));
    assert_false(p.weighted); /* text, unless it is asked for */
    sd_prompt_free(&p);
}

static void test_emphasis(void **state)
{
    (void)state;
    float weight[] = { 1, 2, 1 }, x[] = { 1, 3, 2, 2, 4, 0 };
    const sd_prompt p = { .n_windows = 1, .length = 3, .weight = weight, .weighted = true };
    sd_prompt_emphasise(&p, 0, 2, x); /* sums: 12 before, 16 after */
    static const float want[] = { 0.75f, 2.25f, 3, 3, 3, 0 };
    for (int i = 0; i < 6; i++) assert_true(fabsf(x[i] - want[i]) < 1e-6f);
}

/* -- drawing -- */

static const sd_draw_options plain = {
    .scheduler = "euler_ancestral", .n_steps = 6, .guidance = 5, .rng = SD_RNG_TORCH_CPU
};

/* A picture by itself is the one that it is in a batch of 8, for every generator and sampler; and
 * every seed is another picture. */
static double batch_differs(const sd_model *m, nn_device *d)
{
    static float all[MOST * ELEMS];
    static const uint64_t seeds[MOST] = { 5, 6, 7, 8, 9, 10, 11, 12 };
    sd_session *one = open_session(m, d, 1, 1), *eight = open_session(m, d, MOST, 1);
    const char *name;
    double most = 0;
    tell(one, "a red cube", "");
    tell(eight, "a red cube", "");
    for (int k = 0; (name = nn_sampler_name(k)); k++) {
        sd_draw_options o = plain;
        o.scheduler = name;
        o.n_steps = 3;
        o.rng = (sd_rng)(k % 3);
        OK(sd_draw(eight, &o, MOST, seeds, NULL, NULL, all));
        for (int i = 0; i < MOST; i += 3) {
            float x[ELEMS];
            OK(sd_draw(one, &o, 1, &seeds[i], NULL, NULL, x));
            most = fmax(most, distance(x, all + i * ELEMS, ELEMS));
        }
        assert_true(distance(all, all + ELEMS, ELEMS) > 0.05);
    }
    sd_session_destroy(one);
    sd_session_destroy(eight);
    return most;
}

static void test_batches(void **state)
{
    (void)state;
    assert_true(batch_differs(&on_ref, ref) == 0);
    double most = batch_differs(&on_cpu, cpu);
    if (most > 1e-4) fail_msg("%g", most);
}

static void test_part_of_a_batch(void **state)
{
    (void)state;
    const uint64_t seeds[] = { 3, 4 };
    sd_session *s = open_session(&on_cpu, cpu, 4, 1);
    float two[2 * ELEMS], again[2 * ELEMS];
    tell(s, "a red cube", "");
    OK(sd_draw(s, &plain, 2, seeds, NULL, NULL, two));
    OK(sd_draw(s, &plain, 2, seeds, NULL, NULL, again));
    assert_memory_equal(two, again, sizeof(two));
    sd_session_destroy(s);
}

typedef struct seen {
    int calls, pictures, stop_at;
} seen;

static nn_status look(void *ctx, int done, int n_calls, const float *x0)
{
    seen *it = ctx;
    assert_int_equal(done, it->calls);
    assert_int_equal(n_calls, 6);
    it->calls++;
    it->pictures += x0 != NULL;
    return done == it->stop_at ? nn_fail(NN_INTERRUPTED, "stop") : NN_OK;
}

static void test_watching(void **state)
{
    (void)state;
    const uint64_t seed = 1;
    float watched[ELEMS], alone[ELEMS];
    sd_session *s = open_session(&on_cpu, cpu, 1, 1);
    seen it = { .stop_at = -1 };
    tell(s, "a red cube", "");
    OK(sd_draw(s, &plain, 1, &seed, NULL, NULL, alone));
    OK(sd_draw(s, &plain, 1, &seed, NULL, &(sd_watch){ look, &it, 2 }, watched));
    assert_memory_equal(watched, alone, sizeof(alone));
    assert_int_equal(it.calls, 6);
    assert_int_equal(it.pictures, 2); /* after calls 2 and 4; the sixth gives the picture itself */
    it = (seen){ .stop_at = 3 };
    assert_int_equal(sd_draw(s, &plain, 1, &seed, NULL, &(sd_watch){ look, &it, 0 }, watched),
                     NN_INTERRUPTED);
    assert_int_equal(it.calls, 4);
    assert_int_equal(it.pictures, 0);
    sd_session_destroy(s);
}

/* -- pictures to start from -- */

static float moments[H * W * 8];
static uint8_t mask[H * W];

static void make_canvas(void)
{
    noise_fill("moments", moments, NN_COUNT(moments));
    for (int p = 0; p < H * W; p++) {
        for (int k = 4; k < 8; k++) moments[p * 8 + k] = -30; /* the distribution is a point */
        mask[p] = p % W >= 2 && p % W < 5;
    }
}

static void test_strength(void **state)
{
    (void)state;
    const uint64_t seed = 7;
    sd_session *s = open_session(&on_cpu, cpu, 1, 1);
    float start[ELEMS], x[ELEMS];
    double last = 0;
    const char *name;
    make_canvas();
    tell(s, "a red cube", "");
    sd_latent(&on_cpu.vae, H * W, moments, NULL, start);
    for (int k = 0; (name = nn_sampler_name(k)); k++) {
        sd_draw_options o = plain;
        o.scheduler = name;
        o.n_steps = 20;
        o.guidance = 1;
        last = 0;
        for (int percent = 10; percent < 100; percent += 40) {
            const double strength = percent / 100.0;
            OK(sd_draw(s, &o, 1, &seed, &(sd_canvas){ moments, NULL, strength, NULL }, NULL, x));
            const double off = distance(start, x, ELEMS);
            if (!(off > last))
                fail_msg("%s: %g at strength %g, %g before", name, off, strength, last);
            last = off;
        }
    }
    expect_failure(sd_draw(s, &plain, 1, &seed, &(sd_canvas){ moments, NULL, 0.1, NULL }, NULL, x),
                   NN_ARGUMENT, "strength 0.1");
    sd_session_destroy(s);
}

/* What the mask keeps is the canvas (up to the 3e-7 that its distribution spreads), whatever the
 * sampler; the rest is not. */
static void test_mask(void **state)
{
    (void)state;
    const uint64_t seed = 7;
    sd_session *s = open_session(&on_cpu, cpu, 1, 1);
    float start[ELEMS], x[ELEMS];
    const char *name;
    make_canvas();
    tell(s, "a red cube", "");
    sd_latent(&on_cpu.vae, H * W, moments, NULL, start);
    for (int k = 0; (name = nn_sampler_name(k)); k++)
        for (int halves = 1; halves <= 2; halves++) {
            const double strength = halves / 2.0;
            sd_draw_options o = plain;
            o.scheduler = name;
            OK(sd_draw(s, &o, 1, &seed, &(sd_canvas){ moments, mask, strength, NULL }, NULL, x));
            for (int p = 0; p < H * W; p++)
                for (int c = 0; c < 4; c++) {
                    const int e = p * 4 + c;
                    assert_true(fabsf(x[e] - start[e]) <= (mask[p] ? 1e9f : 1e-5f));
                }
            double off = 0;
            for (int p = 0; p < H * W; p++)
                if (mask[p]) off = fmax(off, fabs((double)(x[p * 4] - start[p * 4])));
            assert_true(off > 0.05);
        }
    sd_session_destroy(s);
}

/* -- UNets that fill in -- */

static float grey[H * W * 8];

static void fill(sd_session *s, double strength, float *x)
{
    const uint64_t seeds[] = { 7, 7 };
    const sd_canvas canvas = { moments, mask, strength, grey };
    OK(sd_draw(s, &plain, sd_session_options_of(s)->batch, seeds, &canvas, NULL, x));
}

/* The picture is what mask and surroundings make it; what is behind the mask is seen at strengths
 * below 1 alone. */
static void test_filling_in(void **state)
{
    (void)state;
    const uint64_t seed = 7;
    sd_model m;
    float x[ELEMS], y[ELEMS], two[2 * ELEMS];
    small_sd_write_filler(scratch("fill"), ref);
    OK(sd_model_open(scratch("fill"), ref, SD_LOAD, 0, false, &m));
    assert_true(sd_fills_in(&m) && !sd_fills_in(&on_ref));
    sd_session *s = open_session(&m, ref, 1, 1), *both = open_session(&m, ref, 2, 1);
    make_canvas();
    noise_fill("grey", grey, NN_COUNT(grey));
    tell(s, "a red cube", "");
    tell(both, "a red cube", "");
    fill(s, 1, x);
    fill(both, 1, two);
    assert_memory_equal(two, x, sizeof(x));
    assert_memory_equal(two + ELEMS, x, sizeof(x));
    moments[0] += 1;
    fill(s, 1, y);
    assert_memory_equal(y, x, sizeof(x));
    fill(s, 0.5, x);
    moments[0] += 1;
    fill(s, 0.5, y);
    assert_true(distance(x, y, ELEMS) > 1e-3);
    grey[0] += 1;
    fill(s, 0.5, x);
    assert_true(distance(y, x, ELEMS) > 1e-3);
    mask[0] = !mask[0];
    fill(s, 0.5, y);
    assert_true(distance(x, y, ELEMS) > 1e-3);
    expect_failure(sd_draw(s, &plain, 1, &seed, &(sd_canvas){ moments, mask, 1, NULL }, NULL, x),
                   NN_ARGUMENT, "9 channels");
    expect_failure(sd_draw(s, &plain, 1, &seed, NULL, NULL, x), NN_ARGUMENT, "fills in");
    sd_session_destroy(s);
    sd_session_destroy(both);
    sd_model_close(&m);
    small_sd_remove(scratch("fill"));
}

static int open_all(void **state)
{
    if (scratch_make(state) != 0) return -1;
    OK(nn_device_open("ref", 1, &ref));
    OK(nn_device_open("cpu", 1, &cpu));
    small_sd_write(scratch("sd"), "{\"beta_schedule\": \"scaled_linear\"}", ref);
    OK(sd_model_open(scratch("sd"), ref, SD_LOAD, 0, false, &on_ref));
    OK(sd_model_open(scratch("sd"), cpu, SD_LOAD, 0, false, &on_cpu));
    return 0;
}

static int close_all(void **state)
{
    sd_model_close(&on_ref);
    sd_model_close(&on_cpu);
    nn_device_close(ref);
    nn_device_close(cpu);
    small_sd_remove(scratch("sd"));
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_and_values_once),
        cmocka_unit_test(test_equal_prompts_are_encoded_once),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_clip_skip),
        cmocka_unit_test(test_prompt_windows),
        cmocka_unit_test(test_emphasis),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_part_of_a_batch),
        cmocka_unit_test(test_watching),
        cmocka_unit_test(test_strength),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_filling_in),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
