/* Single ops at the sizes of Stable Diffusion 1.4's UNet. */
#include "tools/bench.h"

/* dim: batch, queries, keys, heads, size of a head */
static nn_tensor *build_attention(const bench_case *c, nn_scope s)
{
    int64_t b = c->dim[0], h = c->dim[3], d = c->dim[4];
    nn_tensor *q = bench_input(c, s, "q", NN_DIMS(b, c->dim[1], h, d));
    nn_tensor *k = bench_input(c, s, "k", NN_DIMS(b, c->dim[2], h, d));
    nn_tensor *v = bench_input(c, s, "v", NN_DIMS(b, c->dim[2], h, d));
    return nn_attention(s.g, q, k, v, NULL, (nn_attend){ 0 });
}

#define ATTENTION(label, ...)                                                                      \
    { .name = "attention_" label, .build = build_attention, .dim = { __VA_ARGS__ } },              \
    {                                                                                              \
        .name = "attention_" label "_train", .build = build_attention, .dim = { __VA_ARGS__ },     \
        .training = true                                                                           \
    }

const bench_case bench_attentions[] = {
    ATTENTION("4096_d40", 1, 4096, 4096, 8, 40), ATTENTION("1024_d80", 1, 1024, 1024, 8, 80),
    ATTENTION("256_d160", 1, 256, 256, 8, 160),  ATTENTION("4096x77_d40", 1, 4096, 77, 8, 40),
    ATTENTION("64_d32_b64", 64, 64, 64, 2, 32),  { 0 },
};

/* dim: batch, side of the image, channels in, channels out, side of the kernel, stride */
static nn_tensor *build_conv(const bench_case *c, nn_scope s)
{
    int64_t in = c->dim[2], out = c->dim[3], k = c->dim[4];
    int pad = (int)k / 2;
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[1], c->dim[1], in));
    nn_tensor *w = nn_param_at(s, "weight", NN_NORMAL(.02f), NN_DIMS(out, in, k, k));
    nn_tensor *b = nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(out));
    return nn_conv2d(s.g, x, w, b, NULL, NULL, (nn_conv){ (int)c->dim[5], pad, pad, pad, pad });
}

#define CONV(label, ...)                                                                           \
    { .name = label, .build = build_conv, .dim = { __VA_ARGS__ } },                                \
    {                                                                                              \
        .name = label "_train", .build = build_conv, .dim = { __VA_ARGS__ }, .training = true      \
    }

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
    { 0 },
};

/* dim: rows, columns out, columns in */
static nn_tensor *build_linear(const bench_case *c, nn_scope s)
{
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[2]));
    nn_tensor *w = nn_param_at(s, "weight", NN_NORMAL(.02f), NN_DIMS(c->dim[1], c->dim[2]));
    return nn_linear(s.g, x, w, nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(c->dim[1])));
}

#define LINEAR(label, ...)                                                                         \
    { .name = "linear_" label, .build = build_linear, .dim = { __VA_ARGS__ } },                    \
    {                                                                                              \
        .name = "linear_" label "_train", .build = build_linear, .dim = { __VA_ARGS__ },           \
        .training = true                                                                           \
    }

const bench_case bench_products[] = {
    LINEAR("4096x320x320", 4096, 320, 320),
    LINEAR("4096x2560x320", 4096, 2560, 320),
    LINEAR("4096x320x1280", 4096, 320, 1280),
    LINEAR("1024x640x640", 1024, 640, 640),
    LINEAR("1024x5120x640", 1024, 5120, 640),
    LINEAR("256x1280x1280", 256, 1280, 1280),
    LINEAR("256x10240x1280", 256, 10240, 1280),
    LINEAR("256x1280x5120", 256, 1280, 5120),
    { 0 },
};

/* dim: batch, side, channels; 32 groups, with SiLU */
static nn_tensor *build_groupnorm(const bench_case *c, nn_scope s)
{
    int64_t n = c->dim[2];
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[1], c->dim[1], n));
    return nn_groupnorm(s.g, x, nn_param_at(s, "weight", NN_ONES, NN_DIMS(n)),
                        nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(n)), 32, 1e-5, true);
}

/* dim: rows, columns */
static nn_tensor *build_layernorm(const bench_case *c, nn_scope s)
{
    int64_t n = c->dim[1];
    return nn_layernorm(s.g, bench_input(c, s, "x", NN_DIMS(c->dim[0], n)),
                        nn_param_at(s, "weight", NN_ONES, NN_DIMS(n)),
                        nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(n)), 1e-5);
}

/* dim: rows, columns of the result */
static nn_tensor *build_geglu(const bench_case *c, nn_scope s)
{
    return nn_geglu(s.g, bench_input(c, s, "x", NN_DIMS(c->dim[0], 2 * c->dim[1])));
}

#define NORM(label, make, ...)                                                                     \
    { .name = label, .build = (make), .dim = { __VA_ARGS__ } },                                    \
    {                                                                                              \
        .name = label "_train", .build = (make), .dim = { __VA_ARGS__ }, .training = true          \
    }

const bench_case bench_norms[] = {
    NORM("groupnorm_silu_320_64", build_groupnorm, 1, 64, 320),
    NORM("groupnorm_silu_960_64", build_groupnorm, 1, 64, 960),
    NORM("layernorm_4096x320", build_layernorm, 4096, 320),
    NORM("geglu_4096x1280", build_geglu, 4096, 1280),
    { 0 },
};
