/* The codec's loss against its definition, computed on the host from moments and reconstruction. */
#include "tests/unit/engine_check.h"

#include <math.h>

#include "engine/base/rng.h"
#include "models/vae.h"

enum { N = 2, SIDE = 8, PIXELS = N * SIDE * SIDE * 3, PLACES = N * 4 * 4, L = 3 };

static const vae_config tiny = { .in_channels = 3,
                                 .out_channels = 3,
                                 .latent_channels = L,
                                 .n_blocks = 2,
                                 .layers_per_block = 1,
                                 .norm_num_groups = 2,
                                 .block_out_channels = { 4, 8 },
                                 .scaling_factor = 1 };

typedef struct net {
    nn_tensor *image, *noise, *latent;     /* inputs */
    nn_tensor *loss, *moments, *recovered; /* results; recovered: of `latent` */
} net;

static void build(nn_graph *g, nn_params *p, double kl_weight, net *n)
{
    nn_scope s = nn_root(g, p, "");
    n->image = nn_input(g, "image", NN_F32, NN_DIMS(N, SIDE, SIDE, 3));
    n->noise = nn_input(g, "noise", NN_F32, NN_DIMS(N, 4, 4, L));
    n->latent = nn_input(g, "latent", NN_F32, NN_DIMS(N, 4, 4, L));
    n->loss = vae_loss(s, &tiny, n->image, n->noise, kl_weight);
    n->moments = vae_encode(s, &tiny, n->image);
    n->recovered = vae_decode(s, &tiny, n->latent);
    nn_keep(n->loss);
    nn_keep(n->moments);
    nn_keep(n->recovered);
}

static double expected(const float *image, const float *recovered, const float *moments,
                       double kl_weight)
{
    double off = 0, square = 0, kl = 0;
    for (int i = 0; i < PIXELS; i++) {
        double d = recovered[i] - image[i];
        off += fabs(d) / PIXELS;
        square += d * d / PIXELS;
    }
    for (int p = 0; p < PLACES; p++)
        for (int k = 0; k < L; k++) {
            double mu = moments[p * 2 * L + k], logvar = moments[p * 2 * L + L + k];
            kl += 0.5 * (mu * mu + exp(logvar) - logvar - 1) / (PLACES * L);
        }
    return off + square + kl_weight * kl;
}

static void test_loss(void **state)
{
    const double kl_weight = 0.3;
    float image[PIXELS], noise[PLACES * L], latent[PLACES * L], moments[PLACES * 2 * L];
    float recovered[PIXELS], loss;
    nn_device *device = open_device("cpu", 1);
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    net n;
    (void)state;
    OK(nn_params_create(&params));
    OK(nn_graph_create(&g));
    build(g, params, kl_weight, &n);
    nn_graph_destroy(g);
    OK(nn_params_alloc(params, device, false));
    OK(nn_params_init(params, 5));
    OK(nn_graph_create(&g));
    build(g, params, kl_weight, &n);
    OK(nn_plan_create(g, device, NULL, &plan));

    nn_rng rng = nn_rng_make(1, "picture", 0);
    for (int i = 0; i < PIXELS; i++) image[i] = 2 * nn_rng_uniform(&rng) - 1;
    nn_rng_normal_fill(&rng, noise, PLACES * L);
    OK(nn_plan_write(plan, n.image, image));
    OK(nn_plan_write(plan, n.noise, noise));
    OK(nn_plan_write(plan, n.latent, noise));
    OK(nn_plan_run(plan, 0));
    OK(nn_plan_read(plan, n.moments, moments));
    for (int p = 0; p < PLACES; p++)
        for (int k = 0; k < L; k++)
            latent[p * L + k] =
                moments[p * 2 * L + k] + expf(moments[p * 2 * L + L + k] / 2) * noise[p * L + k];
    OK(nn_plan_write(plan, n.image, image));
    OK(nn_plan_write(plan, n.noise, noise));
    OK(nn_plan_write(plan, n.latent, latent));
    OK(nn_plan_run(plan, 0));
    OK(nn_plan_read(plan, n.recovered, recovered));
    OK(nn_plan_read(plan, n.loss, &loss));
    assert_float_equal(loss, expected(image, recovered, moments, kl_weight), 2e-5);
    nn_plan_destroy(plan);
    nn_graph_destroy(g);
    nn_params_destroy(params);
    nn_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_loss) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
