/* Nothing above the kernels follows a device's addresses: training with a resumption, sampling,
 * captioning and weight files on a device whose memory is out of reach give the bits that ref
 * gives, in f32 and in bf16. */
#include "tests/unit/far.h"
#include "tests/unit/scratch.h"

#include <math.h>

#include "engine/base/rng.h"
#include "engine/checkpoint.h"
#include "engine/optim.h"
#include "engine/weights.h"
#include "models/captioner.h"
#include "models/detector.h"
#include "models/sd_session.h"

enum { BATCH = 2, SIDE = 4, WORDS = 5 };

static float *draw(const char *what, int64_t n)
{
    float *x = nn_alloc(n, sizeof(*x));
    nn_rng rng = nn_rng_make(11, what, 0);
    assert_non_null(x);
    nn_rng_normal_fill(&rng, x, n);
    return x;
}

static sd_model small_model(void)
{
    return (sd_model){ .unet = { .in_channels = 4,
                                 .out_channels = 4,
                                 .sample_size = SIDE,
                                 .cross_attention_dim = 8,
                                 .n_blocks = 2,
                                 .layers_per_block = 1,
                                 .norm_num_groups = 2,
                                 .block_out_channels = { 8, 16 },
                                 .heads = { 2, 2 },
                                 .down_cross = { true, false },
                                 .up_cross = { false, true },
                                 .norm_eps = 1e-5 },
                       .text = { .vocab_size = 16,
                                 .hidden_size = 8,
                                 .intermediate_size = 16,
                                 .max_positions = WORDS,
                                 .n_layers = 1,
                                 .heads = 2,
                                 .act = NN_ACT_QUICK_GELU,
                                 .eps = 1e-5,
                                 .embedding_init_std = 0.02 },
                       .vae = { .in_channels = 3,
                                .out_channels = 3,
                                .latent_channels = 4,
                                .n_blocks = 2,
                                .layers_per_block = 1,
                                .norm_num_groups = 2,
                                .block_out_channels = { 4, 8 },
                                .scaling_factor = 0.5 } };
}

/* -- training -- */

typedef struct school {
    nn_device *device;
    sd_model m;
    nn_optimizer *optimizer;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *latent, *target, *t, *ids, *loss;
} school;

static nn_tensor *build(school *s, nn_graph *g)
{
    s->latent = nn_input(g, "latent", NN_F32, NN_DIMS(BATCH, SIDE, SIDE, 4));
    s->target = nn_input(g, "target", NN_F32, NN_DIMS(BATCH, SIDE, SIDE, 4));
    s->t = nn_input(g, "t", NN_F32, NN_DIMS(BATCH));
    s->ids = nn_input(g, "ids", NN_I32, NN_DIMS(BATCH, WORDS));
    nn_tensor *context = sd_text(&s->m, g, s->ids, true);
    return nn_mse(g, sd_unet(&s->m, g, s->latent, s->t, context, true), s->target, NULL);
}

static void open_school(school *s, bool far, nn_dtype dtype)
{
    nn_adamw_options options = NN_ADAMW_DEFAULTS;
    options.ema_decay = 0.9;
    options.clip_norm = 1;
    *s = (school){ .device = open_one(far, dtype), .m = small_model() };
    OK(nn_params_create(&s->m.params));
    OK(nn_graph_create(&s->g));
    build(s, s->g);
    nn_graph_destroy(s->g);
    OK(nn_params_alloc(s->m.params, s->device, true));
    OK(nn_params_init(s->m.params, 5));
    OK(nn_optimizer_create(s->m.params, &options, &s->optimizer));
    OK(nn_graph_create(&s->g));
    nn_graph_training(s->g);
    nn_graph_compute(s->g, nn_device_storage(s->device));
    s->loss = build(s, s->g);
    nn_keep(s->loss);
    nn_backward(s->g, s->loss, 1, false);
    nn_optimizer_add(s->optimizer, s->g);
    OK(nn_plan_create(s->g, s->device, &(nn_plan_options){ .hostile = true }, &s->plan));
}

static void close_school(school *s)
{
    nn_plan_destroy(s->plan);
    nn_graph_destroy(s->g);
    nn_optimizer_destroy(s->optimizer);
    nn_params_destroy(s->m.params);
    nn_device_close(s->device);
}

static float learn(school *s, int from, int to)
{
    const int32_t ids[BATCH * WORDS] = { 1, 5, 3, 15, 15, 1, 2, 2, 9, 15 };
    float *x = draw("latent", BATCH * SIDE * SIDE * 4), *y = draw("noise", BATCH * SIDE * SIDE * 4);
    float loss = 0, norm;
    for (int i = from; i < to; i++) {
        const float t[BATCH] = { 10.0f * (float)i, 999 };
        OK(nn_plan_write(s->plan, s->latent, x));
        OK(nn_plan_write(s->plan, s->target, y));
        OK(nn_plan_write(s->plan, s->t, t));
        OK(nn_plan_write(s->plan, s->ids, ids));
        OK(nn_optimizer_begin(s->optimizer, s->plan, 1e-2));
        OK(nn_plan_run(s->plan, (uint64_t)i));
        OK(nn_optimizer_end(s->optimizer, s->plan, &norm));
        OK(nn_plan_read(s->plan, s->loss, &loss));
    }
    nn_free(x);
    nn_free(y);
    return loss;
}

typedef struct outcome {
    float loss;
    uint64_t weights, average;
} outcome;

static outcome finish(school *s)
{
    outcome o = { .loss = learn(s, 4, 6), .weights = hash_of(s->m.params) };
    OK(nn_optimizer_swap_ema(s->optimizer));
    o.average = hash_of(s->m.params);
    OK(nn_optimizer_swap_ema(s->optimizer));
    assert_true(hash_of(s->m.params) == o.weights);
    return o;
}

static outcome train(bool far, nn_dtype dtype, bool interrupted)
{
    school s;
    nn_checkpoint state = { .step = 4 };
    open_school(&s, far, dtype);
    learn(&s, 0, 4);
    if (interrupted) {
        bool found;
        state.config = (char *)"";
        OK(nn_checkpoint_save(scratch_path, 1, &state, s.optimizer));
        close_school(&s);
        open_school(&s, far, dtype);
        OK(nn_checkpoint_resume(scratch_path, &state, s.optimizer, &found));
        assert_true(found);
        nn_free(state.config);
    }
    outcome o = finish(&s);
    close_school(&s);
    return o;
}

static void test_training(void **unused)
{
    (void)unused;
    for (int k = 0; k < 2; k++) {
        nn_dtype dtype = k ? NN_BF16 : NN_F32;
        outcome near = train(false, dtype, false);
        for (int interrupted = 0; interrupted < 2; interrupted++) {
            outcome far = train(true, dtype, interrupted);
            assert_true(far.loss == near.loss);
            assert_true(far.weights == near.weights);
            assert_true(far.average == near.average);
            assert_true(far.average != far.weights);
        }
    }
}

/* -- sampling -- */

/* Model output, a picture and its moments, one behind the other. */
enum { PICTURE = 4 * SIDE * SIDE * 3, LATENT = SIDE * SIDE * 4 };

static void declare(sd_model *m)
{
    nn_graph *g;
    OK(nn_params_create(&m->params));
    OK(nn_params_create(&m->vae_params));
    OK(nn_graph_create(&g));
    nn_tensor *ids = nn_input(g, "ids", NN_I32, NN_DIMS(1, WORDS));
    sd_unet(m, g, nn_input(g, "latent", NN_F32, NN_DIMS(1, SIDE, SIDE, 4)),
            nn_input(g, "t", NN_F32, NN_DIMS(1)), sd_text(m, g, ids, false), false);
    vae_encode(nn_root(g, m->vae_params, ""), &m->vae,
               nn_input(g, "image", NN_F32, NN_DIMS(1, 4, 4, 3)));
    vae_decode(nn_root(g, m->vae_params, ""), &m->vae,
               nn_input(g, "code", NN_F32, NN_DIMS(1, 2, 2, 4)));
    OK(nn_graph_status(g));
    nn_graph_destroy(g);
}

static void sample(bool far, nn_dtype dtype, float *out)
{
    nn_device *d = open_one(far, dtype);
    sd_model m = small_model();
    sd_session *s;
    sd_codec *codec;
    int32_t ids[WORDS] = { 1, 5, 3, 15, 15 }, nothing[WORDS] = { 1, 15, 15, 15, 15 };
    float weight[WORDS] = { 1, 1, 1, 1, 1 };
    const sd_prompt prompt = { .n_windows = 1, .length = WORDS, .ids = ids, .weight = weight };
    const sd_prompt negative = {
        .n_windows = 1, .length = WORDS, .ids = nothing, .weight = weight
    };
    const sd_session_options o = {
        .batch = 1, .latent_height = SIDE, .latent_width = SIDE, .windows = 1, .guided = true
    };
    float *noise = draw("noise", LATENT);
    declare(&m);
    OK(nn_params_alloc(m.params, d, false));
    OK(nn_params_alloc(m.vae_params, d, false));
    assert_true((m.params->values == NULL) == (dtype == NN_BF16));
    OK(nn_params_init(m.params, 3));
    OK(nn_params_init(m.vae_params, 4));
    OK(sd_session_create(&m, d, &o, &s));
    OK(sd_session_prompts(s, (const sd_prompt *[]){ &prompt }, (const sd_prompt *[]){ &negative }));
    OK(sd_session_predict(s, noise, 500, 7.5, 0, out));
    OK(sd_codec_create(&m.vae, m.vae_params, d, 2, 2 * SIDE, 2 * SIDE, &codec));
    OK(sd_codec_decode(codec, 1, out, out + LATENT));
    OK(sd_codec_encode(codec, 1, out + LATENT, out + LATENT + PICTURE));
    sd_codec_destroy(codec);
    sd_session_destroy(s);
    nn_params_destroy(m.params);
    nn_params_destroy(m.vae_params);
    nn_device_close(d);
    nn_free(noise);
}

/* Largest difference over largest value. */
static double distance(const float *a, const float *b, int64_t n)
{
    double off = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        off = fmax(off, fabs((double)(a[i] - b[i])));
        most = fmax(most, fabs((double)a[i]));
    }
    return off / most;
}

static void test_sampling(void **unused)
{
    enum { ALL = LATENT + PICTURE + 2 * LATENT };
    static float exact[ALL], near[ALL], far[ALL];
    (void)unused;
    sample(false, NN_F32, exact);
    sample(true, NN_F32, far);
    assert_memory_equal(exact, far, sizeof(far));
    sample(false, NN_BF16, near);
    sample(true, NN_BF16, far);
    assert_memory_equal(near, far, sizeof(far));
    double off = distance(exact, near, LATENT);
    assert_true(off > 1e-4); /* it did compute in bf16 */
    assert_true(off < 0.05);
}

/* -- captioning -- */

enum { IMAGES = 2, BEAMS = 2, ROOM = 4, VOCAB = 12, PIXELS = 8 * 8 * 3 };

static captioner_config small_captioner(void)
{
    captioner_config c = captioner_config_blip_base();
    c.vision.image_size = 8;
    c.vision.patch_size = 4;
    c.vision.hidden_size = c.text.hidden_size = c.text.encoder_width = 8;
    c.vision.intermediate_size = c.text.intermediate_size = 16;
    c.vision.n_layers = c.text.n_layers = c.vision.heads = c.text.heads = 2;
    c.text.vocab_size = VOCAB;
    c.text.max_positions = 8;
    c.text.tied = true;
    return c;
}

static void declare_captioner(const captioner_config *c, nn_params *params)
{
    nn_graph *g;
    OK(nn_graph_create(&g));
    nn_scope s = nn_root(g, params, "");
    nn_tensor *image = captioner_encode(s, c, nn_input(g, "pixels", NN_F32, NN_DIMS(1, 8, 8, 3)));
    captioner_logits(s, c, image, nn_input(g, "ids", NN_I32, NN_DIMS(1, 1)), NULL);
    OK(nn_graph_status(g));
    nn_graph_destroy(g);
}

static void caption(bool far, nn_dtype dtype, float *logits)
{
    static const int32_t ids[2][IMAGES * BEAMS] = { { 1, 1, 1, 1 }, { 3, 4, 5, 6 } };
    static const int32_t parents[2][IMAGES * BEAMS] = { { 0, 1, 2, 3 }, { 1, 1, 3, 2 } };
    nn_device *d = open_one(far, dtype);
    captioner_config c = small_captioner();
    captioner_session *s;
    nn_params *params;
    float *pixels = draw("pixels", IMAGES * PIXELS);
    OK(nn_params_create(&params));
    declare_captioner(&c, params);
    OK(nn_params_alloc(params, d, false));
    OK(nn_params_init(params, 3));
    OK(captioner_session_create(&c, params, d, IMAGES, BEAMS, ROOM, &s));
    OK(captioner_session_look(s, pixels));
    for (int64_t i = 0; i < 2; i++)
        OK(captioner_session_step(s, i, IMAGES * BEAMS, ids[i], parents[i], logits));
    captioner_session_destroy(s);
    nn_params_destroy(params);
    nn_device_close(d);
    nn_free(pixels);
}

static void test_captioning(void **unused)
{
    enum { ALL = IMAGES * BEAMS * VOCAB };
    static float exact[ALL], near[ALL], far[ALL];
    (void)unused;
    caption(false, NN_F32, exact);
    caption(true, NN_F32, far);
    assert_memory_equal(exact, far, sizeof(far));
    caption(false, NN_BF16, near);
    caption(true, NN_BF16, far);
    assert_memory_equal(near, far, sizeof(far));
    assert_true(distance(exact, near, ALL) > 1e-4);
    assert_true(distance(exact, near, ALL) < 0.05);
}

/* -- the rest -- */

static void test_weight_files(void **unused)
{
    captioner_config c = small_captioner();
    uint64_t hash[2];
    (void)unused;
    for (int far = 0; far < 2; far++) {
        nn_device *d = open_one(far, NN_F32);
        nn_params *drawn, *loaded;
        OK(nn_params_create(&drawn));
        OK(nn_params_create(&loaded));
        declare_captioner(&c, drawn);
        declare_captioner(&c, loaded);
        OK(nn_params_alloc(drawn, d, false));
        OK(nn_params_alloc(loaded, d, false));
        OK(nn_params_init(drawn, 9));
        OK(nn_params_save(drawn, scratch("w.safetensors"), NULL, 0, NN_F32));
        OK(nn_params_load(loaded, scratch("w.safetensors"), NULL, 0, NULL));
        hash[far] = hash_of(drawn);
        assert_true(hash_of(loaded) == hash[far]);
        nn_params_destroy(drawn);
        nn_params_destroy(loaded);
        nn_device_close(d);
    }
    assert_true(hash[0] == hash[1]);
}

static void test_views_are_read(void **unused)
{
    nn_device *d = open_one(true, NN_F32);
    nn_graph *g;
    nn_plan *plan;
    float x[2 * 3 * 5], got[2 * 5 * 2];
    (void)unused;
    for (int i = 0; i < NN_COUNT(x); i++) x[i] = (float)i;
    OK(nn_graph_create(&g));
    nn_tensor *in = nn_input(g, "x", NN_F32, NN_DIMS(2, 3, 5));
    nn_tensor *y = nn_scale(g, in, 2, 0);
    nn_tensor *seen =
        nn_permute(g, nn_slice(g, y, 1, 1, 3), (int[]){ 0, 2, 1 }); /* [2, 5, 2], strided */
    nn_keep(seen);
    OK(nn_plan_create(g, d, NULL, &plan));
    OK(nn_plan_write(plan, in, x));
    OK(nn_plan_run(plan, 0));
    OK(nn_plan_read(plan, seen, got));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 5; j++)
            for (int k = 0; k < 2; k++)
                assert_true(got[(i * 5 + j) * 2 + k] == 2 * x[(i * 3 + k + 1) * 5 + j]);
    nn_plan_destroy(plan);
    nn_graph_destroy(g);
    nn_device_close(d);
}

static void test_detector(void **unused)
{
    detector_config c = detector_config_default(3, 16);
    float logits[2][1024], features[2][64];
    (void)unused;
    c.width = 8;
    c.groups = 2;
    c.n_blocks = 1;
    c.size = 4 * DETECTOR_STRIDE;
    int64_t cells = detector_cells(&c), pixels = (int64_t)c.size * c.size * 3;
    assert_true(cells * cells * 3 <= 1024);
    float *x = draw("pixels", pixels);
    for (int far = 0; far < 2; far++) {
        nn_device *d = open_one(far, NN_F32);
        nn_params *params;
        nn_graph *g;
        detector_session *s;
        OK(nn_params_create(&params));
        OK(nn_graph_create(&g));
        detector_loss(nn_root(g, params, ""), &c,
                      nn_input(g, "pixels", NN_F32, NN_DIMS(1, c.size, c.size, 3)),
                      nn_input(g, "targets", NN_F32, NN_DIMS(1, cells, cells, 3)));
        OK(nn_graph_status(g));
        nn_graph_destroy(g);
        OK(nn_params_alloc(params, d, false));
        OK(nn_params_init(params, 1));
        OK(detector_session_create(&c, params, d, 1, &s));
        OK(detector_session_look(s, x, logits[far], features[far]));
        detector_session_destroy(s);
        nn_params_destroy(params);
        nn_device_close(d);
    }
    assert_memory_equal(logits[0], logits[1], (size_t)(cells * cells * 3) * sizeof(float));
    assert_memory_equal(features[0], features[1], 8 * sizeof(float));
    nn_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_training, scratch_make, scratch_remove),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_captioning),
        cmocka_unit_test_setup_teardown(test_weight_files, scratch_make, scratch_remove),
        cmocka_unit_test(test_views_are_read),
        cmocka_unit_test(test_detector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
