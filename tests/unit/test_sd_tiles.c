/* The codec in tiles: near the whole picture, and without seams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "models/stable_diffusion.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

/* Three resolutions, with attention in the middle. Its weights are random and its latents noise,
 * which is harder than pictures: everything in it hangs on everything else. */
static const vae_config config = { .in_channels = 3,
                                   .out_channels = 3,
                                   .latent_channels = 4,
                                   .n_blocks = 3,
                                   .layers_per_block = 1,
                                   .norm_num_groups = 4,
                                   .block_out_channels = { 8, 16, 16 },
                                   .scaling_factor = 0.18215 };
enum { F = 4, H = 96, W = 80, TILE = 64 }; /* sides of latents; the programs' tiles have 64 too */
static const double overlap = 0.25;

static nn_device *device;
static nn_params *params;

static float *draw(const char *what, int64_t n, float scale)
{
    float *x = nn_alloc(n, sizeof(*x));
    nn_rng rng = nn_rng_make(5, what, 0);
    assert_non_null(x);
    nn_rng_normal_fill(&rng, x, n);
    for (int64_t i = 0; i < n; i++) x[i] *= scale;
    return x;
}

static sd_codec *open_codec(int64_t height, int64_t width)
{
    sd_codec *codec;
    OK(sd_codec_create(&config, params, device, 1, height * F, width * F, &codec));
    return codec;
}

typedef struct errors {
    double most, mean, range; /* of the difference; largest value of the whole */
    double seam, inside;      /* largest step of the difference between neighbours: at the first
                                 and last columns and rows of tiles, and elsewhere */
} errors;

static bool is_border(int64_t i, const int64_t *borders)
{
    for (; *borders >= 0; borders++)
        if (i == *borders) return true;
    return false;
}

/* borders: where tiles begin or end along the two sides; -1 closes a list. */
static errors compare(const float *whole, const float *tiled, int64_t h, int64_t w, int64_t c,
                      const int64_t *y_borders, const int64_t *x_borders)
{
    errors e = { 0 };
    float *d = nn_alloc(h * w * c, sizeof(*d));
    assert_non_null(d);
    for (int64_t i = 0; i < h * w * c; i++) {
        d[i] = tiled[i] - whole[i];
        e.most = fmax(e.most, fabs((double)d[i]));
        e.mean += fabs((double)d[i]) / (double)(h * w * c);
        e.range = fmax(e.range, fabs((double)whole[i]));
    }
    for (int64_t y = 1; y < h; y++)
        for (int64_t x = 1; x < w; x++)
            for (int64_t k = 0; k < c; k++) {
                const float at = d[(y * w + x) * c + k];
                const double left = fabs((double)(at - d[(y * w + x - 1) * c + k]));
                const double above = fabs((double)(at - d[((y - 1) * w + x) * c + k]));
                double *of_left = is_border(x, x_borders) ? &e.seam : &e.inside;
                double *of_above = is_border(y, y_borders) ? &e.seam : &e.inside;
                *of_left = fmax(*of_left, left);
                *of_above = fmax(*of_above, above);
            }
    nn_free(d);
    return e;
}

static void test_decoding(void **state)
{
    (void)state;
    static const int64_t y_borders[] = { 32 * F, 64 * F, -1 }, x_borders[] = { 16 * F, 64 * F, -1 };
    float *latent = draw("latent", H * W * 4, 0.18f);
    float *whole = draw("whole", H * F * W * F * 3, 0), *tiled = draw("t", H * F * W * F * 3, 0);
    sd_codec *one = open_codec(H, W), *tiles = open_codec(TILE, TILE);
    OK(sd_codec_decode(one, 1, latent, whole));
    OK(sd_codec_decode_tiles(tiles, H * F, W * F, overlap, latent, tiled));
    errors e = compare(whole, tiled, H * F, W * F, 3, y_borders, x_borders);
    if (!(e.most < 0.1 * e.range && e.mean < 0.01 * e.range && e.seam <= e.inside))
        fail_msg("most %g, mean %g of %g; steps %g at borders, %g elsewhere", e.most, e.mean,
                 e.range, e.seam, e.inside);
    assert_true(e.most > 0);
    sd_codec_destroy(one);
    sd_codec_destroy(tiles);
    nn_free(latent);
    nn_free(whole);
    nn_free(tiled);
}

static void test_encoding(void **state)
{
    (void)state;
    static const int64_t y_borders[] = { 32, 64, -1 }, x_borders[] = { 16, 64, -1 };
    float *image = draw("image", H * F * W * F * 3, 0.5f);
    float *whole = draw("whole", H * W * 8, 0), *tiled = draw("t", H * W * 8, 0);
    sd_codec *one = open_codec(H, W), *tiles = open_codec(TILE, TILE);
    OK(sd_codec_encode(one, 1, image, whole));
    OK(sd_codec_encode_tiles(tiles, H * F, W * F, overlap, image, tiled));
    errors e = compare(whole, tiled, H, W, 8, y_borders, x_borders);
    if (!(e.most < 0.1 * e.range && e.mean < 0.01 * e.range && e.seam <= e.inside))
        fail_msg("most %g, mean %g of %g; steps %g at borders, %g elsewhere", e.most, e.mean,
                 e.range, e.seam, e.inside);
    sd_codec_destroy(one);
    sd_codec_destroy(tiles);
    nn_free(image);
    nn_free(whole);
    nn_free(tiled);
}

/* One tile along a side is that side; the picture itself as a tile is the picture, bit for bit. */
static void test_one_tile(void **state)
{
    (void)state;
    float *latent = draw("latent", TILE * W * 4, 0.18f);
    float *whole = draw("whole", TILE * F * W * F * 3, 0),
          *tiled = draw("t", TILE * F * W * F * 3, 1);
    sd_codec *codec = open_codec(TILE, W);
    OK(sd_codec_decode(codec, 1, latent, whole));
    OK(sd_codec_decode_tiles(codec, TILE * F, W * F, overlap, latent, tiled));
    assert_memory_equal(whole, tiled, TILE * F * W * F * 3 * sizeof(float));
    assert_int_equal(sd_codec_decode_tiles(codec, TILE * F - F, W * F, overlap, latent, tiled),
                     NN_ARGUMENT);
    assert_int_equal(sd_codec_decode_tiles(codec, TILE * F + 1, W * F, overlap, latent, tiled),
                     NN_ARGUMENT);
    sd_codec_destroy(codec);
    nn_free(latent);
    nn_free(whole);
    nn_free(tiled);
}

static int open_all(void **state)
{
    nn_graph *g;
    (void)state;
    OK(nn_device_open("cpu", 1, &device));
    OK(nn_params_create(&params));
    OK(nn_graph_create(&g));
    nn_scope root = nn_root(g, params, "");
    vae_encode(root, &config, nn_input(g, "image", NN_F32, NN_DIMS(1, 16, 16, 3)));
    vae_decode(root, &config, nn_input(g, "latent", NN_F32, NN_DIMS(1, 4, 4, 4)));
    OK(nn_graph_status(g));
    nn_graph_destroy(g);
    OK(nn_params_alloc(params, device, false));
    return nn_params_init(params, 9) == NN_OK ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    nn_params_destroy(params);
    nn_device_close(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_encoding),
        cmocka_unit_test(test_one_tile),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
