/* The networks of the demo on the cuda device against ref, in f32 and in bf16: training steps,
 * sampling with guidance, pictures from latents, captions. Bounds: docs/NUMERICS.md.
 *     test_networks          training in f32, all else in f32 and bf16
 *     test_networks bf16     training in bf16 */
#include "tests/cuda/demo_nets.h"

#include <math.h>

#include "models/decode.h"
#include "models/sd_draw.h"

/* By how much more bf16 may differ, as a share of the largest value. */
static double share_of(nn_dtype dtype)
{
    return dtype == NN_BF16 ? 1.0 / 32 : 0;
}

static void near(const char *what, double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s: %.9g, ref has %.9g; they may differ by %.3g", what, got, want, bound);
}

static double largest(const float *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

static double norm_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* All samples of a vector: abs + rel |want| + share of the largest. */
static void all_near(const char *what, const float *got, const float *want, int64_t n, double abs,
                     double rel, nn_dtype dtype)
{
    double more = share_of(dtype) * largest(want, n);
    for (int64_t i = 0; i < n; i++)
        near(what, (double)got[i], (double)want[i], abs + more + rel * fabs((double)want[i]));
}

/* -- training -- */

/* What training on one device leaves. */
static outcome taught(const subject *s, const char *device, nn_dtype dtype, pupil *p)
{
    outcome o = { 0 };
    enrol(p, s, device, dtype);
    learn(p, s, &o);
    return o;
}

/* Largest difference of two vectors. */
static double distance(const float *a, const float *b, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

/* A gradient that is 0 but for rounding, such as that of a bias of keys, is compared with the
 * others: `whole` is the norm of all. */
static void compare_gradient(const nn_param *p, const outcome *got, const outcome *want,
                             double whole, double slack)
{
    int64_t n = nn_view_elems(&p->view);
    const float *g = got->gradients + p->offset, *w = want->gradients + p->offset;
    slack += 1e-6 * whole;
    near(p->name, norm_of(g, n), norm_of(w, n), 1e-3 * norm_of(w, n) + slack * sqrt((double)n));
    all_near(p->name, g, w, n, 1e-5 * largest(w, n) + slack, 1e-3, NN_F32);
}

/* AdamW's first steps see little but the sign of a gradient: where it is all but 0, so is what they
 * know. In bf16 the bound only shows that steps were taken. */
static void compare_weights(const nn_param *p, const outcome *got, const outcome *want,
                            double whole, nn_dtype dtype)
{
    int64_t n = nn_view_elems(&p->view);
    const float *g = want->gradients + p->offset;
    double moved = LR * STEPS, small = 1e-3 * largest(g, n) + 2e-5 * whole;
    for (int64_t i = 0; i < n; i++)
        near(p->name, (double)got->weights[p->offset + i], (double)want->weights[p->offset + i],
             (dtype == NN_BF16 || fabs((double)g[i]) < small ? 2.1 : 0.01) * moved);
}

static void compare_steps(const outcome *got, const outcome *want, nn_dtype dtype)
{
    for (int i = 0; i < STEPS; i++) {
        double loss = want->loss[i], norm = want->norm[i];
        near("loss", got->loss[i], loss, 1e-4 + (1e-4 + share_of(dtype)) * loss);
        near("norm", got->norm[i], norm, 1e-6 + (1e-3 + share_of(dtype)) * norm);
    }
    assert_true(want->loss[0] != want->loss[1]);
}

static void compare_in_f32(const subject *s)
{
    pupil on_ref, on_cuda;
    outcome want = taught(s, "ref", NN_F32, &on_ref), got = taught(s, "cuda", NN_F32, &on_cuda);
    compare_steps(&got, &want, NN_F32);
    for (int64_t i = 0; i < on_ref.params->n; i++) {
        compare_gradient(on_ref.params->items[i], &got, &want, want.norm[0], 0);
        compare_weights(on_ref.params->items[i], &got, &want, want.norm[0], NN_F32);
    }
    outcome_free(&want);
    outcome_free(&got);
    leave(&on_ref);
    leave(&on_cuda);
}

/* Against ref in f32, twice as far off as ref in bf16 is, which is what rounding costs, and half a
 * place of the largest value. */
static void compare_in_bf16(const subject *s)
{
    pupil p[3];
    outcome want = taught(s, "ref", NN_F32, &p[0]), rounded = taught(s, "ref", NN_BF16, &p[1]);
    outcome got = taught(s, "cuda", NN_BF16, &p[2]);
    compare_steps(&got, &rounded, NN_BF16);
    for (int64_t i = 0; i < p->params->n; i++) {
        const nn_param *q = p->params->items[i];
        int64_t n = nn_view_elems(&q->view);
        const float *w = want.gradients + q->offset;
        double cost = distance(rounded.gradients + q->offset, w, n);
        compare_gradient(q, &got, &want, want.norm[0], 2 * cost + largest(w, n) / 512);
        compare_weights(q, &got, &want, want.norm[0], NN_BF16);
    }
    outcome *const all[] = { &want, &rounded, &got };
    for (int i = 0; i < NN_COUNT(all); i++) {
        outcome_free(all[i]);
        leave(&p[i]);
    }
}

static void test_diffusion(void **unused)
{
    (void)unused;
    compare_in_f32(&subjects[0]);
}

static void test_captioner(void **unused)
{
    (void)unused;
    compare_in_f32(&subjects[1]);
}

static void test_diffusion_in_bf16(void **unused)
{
    (void)unused;
    compare_in_bf16(&subjects[0]);
}

static void test_captioner_in_bf16(void **unused)
{
    (void)unused;
    compare_in_bf16(&subjects[1]);
}

/* -- sampling: from noise to a picture, as recap-sample does it -- */

enum { SAMPLER_STEPS = 2 };

typedef struct sample {
    int64_t n_latent, n_picture;
    float *latent, *picture;
} sample;

static void declare(sd_model *m)
{
    nn_graph *g;
    int64_t side = m->unet.sample_size, stride = vae_stride(&m->vae);
    OK(nn_params_create(&m->params));
    OK(nn_params_create(&m->vae_params));
    OK(nn_graph_create(&g));
    nn_tensor *ids = nn_input(g, "ids", NN_I32, NN_DIMS(1, m->text.max_positions));
    nn_tensor *x = nn_input(g, "x", NN_F32, NN_DIMS(1, side, side, m->unet.in_channels));
    sd_unet(m, g, x, nn_input(g, "t", NN_F32, NN_DIMS(1)), sd_text(m, g, ids, false), false);
    vae_encode(nn_root(g, m->vae_params, ""), &m->vae,
               nn_input(g, "image", NN_F32, NN_DIMS(1, stride, stride, 3)));
    vae_decode(nn_root(g, m->vae_params, ""), &m->vae, x);
    OK(nn_graph_status(g));
    nn_graph_destroy(g);
}

/* A prompt of made-up ids, which fill the window. */
static sd_prompt make_prompt(const sd_model *m, int32_t step, int32_t *ids, float *weight)
{
    for (int i = 0; i < m->text.max_positions; i++) ids[i] = step * i % 1000, weight[i] = 1;
    return (
        sd_prompt){ .n_windows = 1, .length = m->text.max_positions, .ids = ids, .weight = weight };
}

static sample draw_picture(const char *device, nn_dtype dtype)
{
    sd_model m = demo_sd();
    nn_device *d = open_computing(device, dtype);
    sd_session *session;
    sd_codec *codec;
    const nn_noise_config config = nn_noise_config_sd14();
    int64_t side = m.unet.sample_size, pixels = side * vae_stride(&m.vae);
    sample s = { .n_latent = side * side * m.unet.in_channels, .n_picture = pixels * pixels * 3 };
    int32_t ids[2][64];
    float weight[64];
    assert_true(m.text.max_positions <= NN_COUNT(weight));
    const sd_prompt prompt = make_prompt(&m, 31, ids[0], weight);
    const sd_prompt negative = make_prompt(&m, 7, ids[1], weight);
    const sd_session_options o = {
        .batch = 1, .latent_height = side, .latent_width = side, .windows = 1, .guided = true
    };
    const sd_draw_options how = {
        .scheduler = "ddim", .n_steps = SAMPLER_STEPS, .guidance = 1.5, .rng = SD_RNG_PHILOX
    };
    const uint64_t seed = 3;
    s.latent = nn_alloc(s.n_latent, sizeof(float));
    s.picture = nn_alloc(s.n_picture, sizeof(float));
    assert_true(s.latent && s.picture);
    OK(nn_noise_schedule_init(&m.noise, &config));
    declare(&m);
    OK(nn_params_alloc(m.params, d, false));
    OK(nn_params_alloc(m.vae_params, d, false));
    OK(nn_params_init(m.params, 3));
    OK(nn_params_init(m.vae_params, 4));
    OK(sd_session_create(&m, d, &o, &session));
    OK(sd_session_prompts(session, (const sd_prompt *[]){ &prompt },
                          (const sd_prompt *[]){ &negative }));
    OK(sd_draw(session, &how, 1, &seed, NULL, NULL, s.latent));
    OK(sd_codec_create(&m.vae, m.vae_params, d, 1, pixels, pixels, &codec));
    OK(sd_codec_decode(codec, 1, s.latent, s.picture));
    sd_codec_destroy(codec);
    sd_session_destroy(session);
    nn_params_destroy(m.params);
    nn_params_destroy(m.vae_params);
    nn_noise_schedule_deinit(&m.noise);
    nn_device_close(d);
    return s;
}

static void test_sampling(void **unused)
{
    static const nn_dtype dtypes[] = { NN_F32, NN_BF16 };
    sample want = draw_picture("ref", NN_F32);
    (void)unused;
    assert_true(largest(want.picture, want.n_picture) > 1e-2);
    for (int k = 0; k < NN_COUNT(dtypes); k++) {
        sample got = draw_picture("cuda", dtypes[k]);
        all_near("latent", got.latent, want.latent, want.n_latent, 2e-4, 1e-3, dtypes[k]);
        all_near("picture", got.picture, want.picture, want.n_picture, 2e-4, 1e-3, dtypes[k]);
        nn_free(got.latent);
        nn_free(got.picture);
    }
    nn_free(want.latent);
    nn_free(want.picture);
}

/* -- captions, as recap-caption makes them -- */

enum { ROOM = 8, PROMPT = 2, MOST_VOCABULARY = 1024 };

typedef struct caption {
    int32_t ids[BATCH * ROOM];
    nn_decoded decoded[BATCH];
    float logits[BATCH * MOST_VOCABULARY]; /* after the prompt */
} caption;

static void look(captioner_session *session, int64_t side)
{
    int64_t n = BATCH * side * side * 3;
    float *pixels = nn_alloc(n, sizeof(*pixels));
    nn_rng rng = nn_rng_make(3, "pixels", 0);
    assert_non_null(pixels);
    nn_rng_normal_fill(&rng, pixels, n);
    OK(captioner_session_look(session, pixels));
    nn_free(pixels);
}

static void tell(captioner_session *session, const captioner_config *c, caption *out)
{
    static const int32_t prompt[BATCH * PROMPT] = { 1, 40, 1, 900 };
    static const int32_t parents[BATCH] = { 0, 1 };
    nn_decode_options o = nn_decode_defaults();
    o.method = NN_DECODE_GREEDY;
    o.max_length = ROOM;
    o.min_length = 0;
    o.eos = c->text.eos;
    const nn_decode_input in = { .step = captioner_session_step,
                                 .ctx = session,
                                 .n_images = BATCH,
                                 .vocab = (int)c->text.vocab_size,
                                 .n_prompt = PROMPT,
                                 .prompt = prompt };
    for (int i = 0; i < PROMPT; i++) {
        const int32_t ids[BATCH] = { prompt[i], prompt[PROMPT + i] };
        OK(captioner_session_step(session, i, BATCH, ids, parents, out->logits));
    }
    OK(nn_decode(&o, &in, out->ids, out->decoded));
}

static void write_caption(const char *device, nn_dtype dtype, caption *out)
{
    captioner_config c = demo_captioner();
    nn_device *d = open_computing(device, dtype);
    nn_params *params;
    nn_graph *g;
    captioner_session *session;
    int64_t side = c.vision.image_size;
    assert_true(c.text.vocab_size <= MOST_VOCABULARY);
    OK(nn_params_create(&params));
    OK(nn_graph_create(&g));
    nn_scope s = nn_root(g, params, "");
    nn_tensor *image =
        captioner_encode(s, &c, nn_input(g, "pixels", NN_F32, NN_DIMS(1, side, side, 3)));
    captioner_logits(s, &c, image, nn_input(g, "ids", NN_I32, NN_DIMS(1, 1)), NULL);
    OK(nn_graph_status(g));
    nn_graph_destroy(g);
    OK(nn_params_alloc(params, d, false));
    OK(nn_params_init(params, 3));
    OK(captioner_session_create(&c, params, d, BATCH, 1, ROOM, &session));
    look(session, side);
    tell(session, &c, out);
    captioner_session_destroy(session);
    nn_params_destroy(params);
    nn_device_close(d);
}

static void test_captions(void **unused)
{
    static caption want, got;
    (void)unused;
    write_caption("ref", NN_F32, &want);
    write_caption("cuda", NN_F32, &got);
    all_near("logits", got.logits, want.logits, NN_COUNT(got.logits), 2e-4, 1e-3, NN_F32);
    for (int i = 0; i < BATCH; i++) {
        const nn_decoded *a = &got.decoded[i], *b = &want.decoded[i];
        assert_int_equal(a->length, b->length);
        assert_true(b->length > PROMPT + 1);
        assert_memory_equal(got.ids + i * ROOM, want.ids + i * ROOM,
                            (size_t)b->length * sizeof(int32_t));
        near("probability", a->log_prob, b->log_prob, 1e-3 * fabs(b->log_prob));
    }
    write_caption("cuda", NN_BF16, &got);
    all_near("logits", got.logits, want.logits, NN_COUNT(got.logits), 2e-4, 1e-3, NN_BF16);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diffusion),
        cmocka_unit_test(test_captioner),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_captions),
    };
    const struct CMUnitTest slow[] = {
        cmocka_unit_test(test_diffusion_in_bf16),
        cmocka_unit_test(test_captioner_in_bf16),
    };
    return argc > 1 && !strcmp(argv[1], "bf16") ? cmocka_run_group_tests(slow, NULL, NULL)
                                                : cmocka_run_group_tests(tests, NULL, NULL);
}
