/* Single ops at the sizes of Stable Diffusion 1.4, CLIP's text encoder and BLIP. */
#include "tools/bench.h"

/* The same remainders below a size that ref computes in a moment. */
static int64_t small(int64_t n, int64_t most)
{
    return n > most ? most + n % most : n;
}

/* -- attention; dim: batch, queries, keys, heads, size of a head, causal */

static nn_tensor *build_attention(const bench_case *c, nn_scope s)
{
    int64_t b = c->dim[0], h = c->dim[3], d = c->dim[4];
    nn_tensor *q = bench_input(c, s, "q", NN_DIMS(b, c->dim[1], h, d));
    nn_tensor *k = bench_input(c, s, "k", NN_DIMS(b, c->dim[2], h, d));
    nn_tensor *v = bench_input(c, s, "v", NN_DIMS(b, c->dim[2], h, d));
    return nn_attention(s.g, q, k, v, NULL, (nn_attend){ .causal = c->dim[5] });
}

static void shrink_attention(int64_t *dim)
{
    dim[0] = 1;
    dim[1] = small(dim[1], 128);
    dim[2] = small(dim[2], 128);
    dim[3] = dim[3] > 1 ? 2 : 1;
}

#define ATTENTION_CASE(label, train, ...)                                                          \
    {                                                                                              \
        .name = "attention_" label, .build = build_attention, .dim = { __VA_ARGS__ },              \
        .training = (train), .measure = "attention", .shrink = shrink_attention                    \
    }
#define ATTENTION(label, ...)                                                                      \
    ATTENTION_CASE(label, false, __VA_ARGS__), ATTENTION_CASE(label "_train", true, __VA_ARGS__)

const bench_case bench_attentions[] = {
    ATTENTION("4096_d40", 1, 4096, 4096, 8, 40),
    ATTENTION("1024_d80", 1, 1024, 1024, 8, 80),
    ATTENTION("256_d160", 1, 256, 256, 8, 160),
    ATTENTION("4096x77_d40", 1, 4096, 77, 8, 40),
    ATTENTION("1024x77_d80", 1, 1024, 77, 8, 80),
    ATTENTION("256x77_d160", 1, 256, 77, 8, 160),
    ATTENTION("64_d160", 1, 64, 64, 8, 160),
    ATTENTION("64x77_d160", 1, 64, 77, 8, 160),
    ATTENTION("clip_77_d64", 1, 77, 77, 12, 64, 1),
    ATTENTION("blip_577_d64", 1, 577, 577, 12, 64),
    ATTENTION("blip_text_40_d64", 1, 40, 40, 12, 64, 1),
    ATTENTION("blip_text_40x577_d64", 1, 40, 577, 12, 64),
    ATTENTION("vae_4096_d512", 1, 4096, 4096, 1, 512),
    ATTENTION("64_d32_b64", 64, 64, 64, 2, 32),
    { 0 },
};

/* -- convolution; dim: batch, side of the image, channels in, channels out, side of the kernel,
 * stride */

static nn_tensor *build_conv(const bench_case *c, nn_scope s)
{
    int64_t in = c->dim[2], out = c->dim[3], k = c->dim[4];
    int pad = c->dim[5] < k ? (int)k / 2 : 0; /* patches do not overlap */
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[1], c->dim[1], in));
    nn_tensor *w = nn_param_at(s, "weight", NN_NORMAL(.02f), NN_DIMS(out, in, k, k));
    nn_tensor *b = nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(out));
    return nn_conv2d(s.g, x, w, b, NULL, NULL, (nn_conv){ (int)c->dim[5], pad, pad, pad, pad });
}

static void shrink_conv(int64_t *dim)
{
    dim[0] = 1;
    dim[1] = dim[4] > 3 ? 2 * dim[4] : nn_min(dim[1], 8);
    dim[2] = small(dim[2], 64);
    dim[3] = small(dim[3], 64);
}

#define CONV_CASE(label, train, ...)                                                               \
    {                                                                                              \
        .name = label, .build = build_conv, .dim = { __VA_ARGS__ }, .training = (train),           \
        .measure = "conv2d", .shrink = shrink_conv                                                 \
    }
#define CONV(label, ...)                                                                           \
    CONV_CASE(label, false, __VA_ARGS__), CONV_CASE(label "_train", true, __VA_ARGS__)

const bench_case bench_convs[] = {
    CONV("conv3x3_320_64", 1, 64, 320, 320, 3, 1),
    CONV("conv3x3_640_32", 1, 32, 640, 640, 3, 1),
    CONV("conv3x3_1280_16", 1, 16, 1280, 1280, 3, 1),
    CONV("conv3x3_1280_8", 1, 8, 1280, 1280, 3, 1),
    CONV("conv3x3_2560_1280_16", 1, 16, 2560, 1280, 3, 1),
    CONV("conv3x3_960_320_64", 1, 64, 960, 320, 3, 1),
    CONV("conv3x3_320_64_stride2", 1, 64, 320, 320, 3, 2),
    CONV("conv3x3_320_4_64", 1, 64, 320, 4, 3, 1),
    CONV("conv1x1_320_64", 1, 64, 320, 320, 1, 1),
    CONV("conv3x3_4_320_64", 1, 64, 4, 320, 3, 1),
    CONV("conv3x3_640_320_64", 1, 64, 640, 320, 3, 1),
    CONV("conv3x3_640_64", 1, 64, 640, 640, 3, 1),
    CONV("conv3x3_320_640_32", 1, 32, 320, 640, 3, 1),
    CONV("conv3x3_960_640_32", 1, 32, 960, 640, 3, 1),
    CONV("conv3x3_1280_640_32", 1, 32, 1280, 640, 3, 1),
    CONV("conv3x3_1920_640_32", 1, 32, 1920, 640, 3, 1),
    CONV("conv3x3_1280_32", 1, 32, 1280, 1280, 3, 1),
    CONV("conv3x3_640_32_stride2", 1, 32, 640, 640, 3, 2),
    CONV("conv3x3_640_1280_16", 1, 16, 640, 1280, 3, 1),
    CONV("conv3x3_1920_1280_16", 1, 16, 1920, 1280, 3, 1),
    CONV("conv3x3_1280_16_stride2", 1, 16, 1280, 1280, 3, 2),
    CONV("conv3x3_2560_1280_8", 1, 8, 2560, 1280, 3, 1),
    CONV("conv1x1_640_32", 1, 32, 640, 640, 1, 1),
    CONV("conv1x1_1280_16", 1, 16, 1280, 1280, 1, 1),
    CONV("conv1x1_1280_8", 1, 8, 1280, 1280, 1, 1),
    CONV("conv1x1_960_320_64", 1, 64, 960, 320, 1, 1),
    CONV("conv1x1_640_320_64", 1, 64, 640, 320, 1, 1),
    CONV("conv1x1_1920_640_32", 1, 32, 1920, 640, 1, 1),
    CONV("conv1x1_1280_640_32", 1, 32, 1280, 640, 1, 1),
    CONV("conv1x1_960_640_32", 1, 32, 960, 640, 1, 1),
    CONV("conv1x1_320_640_32", 1, 32, 320, 640, 1, 1),
    CONV("conv1x1_2560_1280_16", 1, 16, 2560, 1280, 1, 1),
    CONV("conv1x1_1920_1280_16", 1, 16, 1920, 1280, 1, 1),
    CONV("conv1x1_640_1280_16", 1, 16, 640, 1280, 1, 1),
    CONV("conv1x1_2560_1280_8", 1, 8, 2560, 1280, 1, 1),
    CONV("vae_conv3x3_128_512", 1, 512, 128, 128, 3, 1),
    CONV("vae_conv3x3_256_128_512", 1, 512, 256, 128, 3, 1),
    CONV("vae_conv3x3_256_256", 1, 256, 256, 256, 3, 1),
    CONV("vae_conv3x3_512_128", 1, 128, 512, 512, 3, 1),
    CONV("vae_conv3x3_512_64", 1, 64, 512, 512, 3, 1),
    CONV("vae_conv3x3_128_3_512", 1, 512, 128, 3, 3, 1),
    CONV("vae_conv3x3_3_128_512", 1, 512, 3, 128, 3, 1),
    CONV("blip_patch16_384", 1, 384, 3, 768, 16, 16),
    { 0 },
};

/* -- products; dim: rows, columns out, columns in */

static nn_tensor *build_linear(const bench_case *c, nn_scope s)
{
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[2]));
    nn_tensor *w = nn_param_at(s, "weight", NN_NORMAL(.02f), NN_DIMS(c->dim[1], c->dim[2]));
    return nn_linear(s.g, x, w, nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(c->dim[1])), NULL);
}

static void shrink_linear(int64_t *dim)
{
    for (int i = 0; i < 3; i++) dim[i] = small(dim[i], 64);
}

#define LINEAR_CASE(label, train, ...)                                                             \
    {                                                                                              \
        .name = "linear_" label, .build = build_linear, .dim = { __VA_ARGS__ },                    \
        .training = (train), .measure = "linear", .shrink = shrink_linear                          \
    }
#define LINEAR(label, ...)                                                                         \
    LINEAR_CASE(label, false, __VA_ARGS__), LINEAR_CASE(label "_train", true, __VA_ARGS__)

const bench_case bench_products[] = {
    LINEAR("4096x320x320", 4096, 320, 320),      LINEAR("4096x2560x320", 4096, 2560, 320),
    LINEAR("4096x320x1280", 4096, 320, 1280),    LINEAR("1024x640x640", 1024, 640, 640),
    LINEAR("1024x5120x640", 1024, 5120, 640),    LINEAR("1024x640x2560", 1024, 640, 2560),
    LINEAR("256x1280x1280", 256, 1280, 1280),    LINEAR("256x10240x1280", 256, 10240, 1280),
    LINEAR("256x1280x5120", 256, 1280, 5120),    LINEAR("64x1280x1280", 64, 1280, 1280),
    LINEAR("64x10240x1280", 64, 10240, 1280),    LINEAR("64x1280x5120", 64, 1280, 5120),
    LINEAR("77x320x768", 77, 320, 768),          LINEAR("77x640x768", 77, 640, 768),
    LINEAR("77x1280x768", 77, 1280, 768),        LINEAR("1x1280x320", 1, 1280, 320),
    LINEAR("1x1280x1280", 1, 1280, 1280),        LINEAR("clip_77x768x768", 77, 768, 768),
    LINEAR("clip_77x3072x768", 77, 3072, 768),   LINEAR("clip_77x768x3072", 77, 768, 3072),
    LINEAR("blip_577x2304x768", 577, 2304, 768), LINEAR("blip_577x768x768", 577, 768, 768),
    LINEAR("blip_577x3072x768", 577, 3072, 768), LINEAR("blip_577x768x3072", 577, 768, 3072),
    LINEAR("blip_40x30524x768", 40, 30524, 768), { 0 },
};
