/* Normalisation, activations and what else moves memory, at the sizes of Stable Diffusion 1.4,
 * CLIP's text encoder and BLIP. */
#include "tools/bench.h"

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

static void shrink_picture(int64_t *dim)
{
    dim[0] = 1;
    dim[1] = nn_min(dim[1], 16);
}

static void shrink_rows(int64_t *dim)
{
    dim[0] = nn_min(dim[0], 37);
}

#define BOTH(label, make, what, less, ...)                                                         \
    { .name = label,                                                                               \
      .build = (make),                                                                             \
      .dim = { __VA_ARGS__ },                                                                      \
      .measure = (what),                                                                           \
      .shrink = (less) },                                                                          \
    {                                                                                              \
        .name = label "_train", .build = (make), .dim = { __VA_ARGS__ }, .training = true,         \
        .measure = (what), .shrink = (less)                                                        \
    }
#define GROUPNORM(label, ...)                                                                      \
    BOTH("groupnorm_silu_" label, build_groupnorm, "groupnorm", shrink_picture, __VA_ARGS__)
#define LAYERNORM(label, ...)                                                                      \
    BOTH("layernorm_" label, build_layernorm, "layernorm", shrink_rows, __VA_ARGS__)
#define GEGLU(label, ...) BOTH("geglu_" label, build_geglu, "geglu", shrink_rows, __VA_ARGS__)

const bench_case bench_norms[] = {
    GROUPNORM("320_64", 1, 64, 320),
    GROUPNORM("640_64", 1, 64, 640),
    GROUPNORM("960_64", 1, 64, 960),
    GROUPNORM("320_32", 1, 32, 320),
    GROUPNORM("640_32", 1, 32, 640),
    GROUPNORM("960_32", 1, 32, 960),
    GROUPNORM("1280_32", 1, 32, 1280),
    GROUPNORM("1920_32", 1, 32, 1920),
    GROUPNORM("640_16", 1, 16, 640),
    GROUPNORM("1280_16", 1, 16, 1280),
    GROUPNORM("1920_16", 1, 16, 1920),
    GROUPNORM("2560_16", 1, 16, 2560),
    GROUPNORM("1280_8", 1, 8, 1280),
    GROUPNORM("2560_8", 1, 8, 2560),
    GROUPNORM("vae_128_512", 1, 512, 128),
    GROUPNORM("vae_256_256", 1, 256, 256),
    GROUPNORM("vae_512_128", 1, 128, 512),
    LAYERNORM("4096x320", 4096, 320),
    LAYERNORM("1024x640", 1024, 640),
    LAYERNORM("256x1280", 256, 1280),
    LAYERNORM("64x1280", 64, 1280),
    LAYERNORM("clip_77x768", 77, 768),
    LAYERNORM("blip_577x768", 577, 768),
    GEGLU("4096x1280", 4096, 1280),
    GEGLU("1024x2560", 1024, 2560),
    GEGLU("256x5120", 256, 5120),
    { 0 },
};

/* -- others */

/* dim: rows, columns, kind */
static nn_tensor *build_activation(const bench_case *c, nn_scope s)
{
    return nn_activation(s.g, bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[1])),
                         (nn_act)c->dim[2]);
}

/* dim: batch, side, channels */
static nn_tensor *build_upsample(const bench_case *c, nn_scope s)
{
    int64_t side = c->dim[1];
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], side, side, c->dim[2]));
    return nn_upsample(s.g, x, 2 * side, 2 * side);
}

/* dim: batch, side, channels of the one and of the other */
static nn_tensor *build_concat(const bench_case *c, nn_scope s)
{
    int64_t side = c->dim[1];
    nn_tensor *parts[] = { bench_input(c, s, "a", NN_DIMS(c->dim[0], side, side, c->dim[2])),
                           bench_input(c, s, "b", NN_DIMS(c->dim[0], side, side, c->dim[3])) };
    return nn_concat(s.g, 2, parts, -1);
}

/* dim: rows, columns */
static nn_tensor *build_add(const bench_case *c, nn_scope s)
{
    return nn_add(s.g, bench_input(c, s, "a", NN_DIMS(c->dim[0], c->dim[1])),
                  bench_input(c, s, "b", NN_DIMS(c->dim[0], c->dim[1])));
}

/* dim: rows, columns */
static nn_tensor *build_xent(const bench_case *c, nn_scope s)
{
    nn_tensor *x = bench_input(c, s, "logits", NN_DIMS(c->dim[0], c->dim[1]));
    return nn_softmax_xent(s.g, nn_precise(s.g, x), bench_ids(s, "labels", NN_DIMS(c->dim[0])), .1);
}

/* dim: ids, rows of the table, columns */
static nn_tensor *build_embedding(const bench_case *c, nn_scope s)
{
    return nn_embedding(s.g, bench_ids(s, "ids", NN_DIMS(c->dim[0])),
                        nn_param_at(s, "table", NN_NORMAL(.02f), NN_DIMS(c->dim[1], c->dim[2])));
}

/* dim: batch, elements of a sample */
static nn_tensor *build_mse(const bench_case *c, nn_scope s)
{
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[1]));
    nn_tensor *y = nn_input(s.g, "y", NN_F32, NN_DIMS(c->dim[0], c->dim[1]));
    return nn_mse(s.g, nn_precise(s.g, x), y, NULL);
}

/* dim: rows, columns; into one row, as the gradient of a bias */
static nn_tensor *build_sum(const bench_case *c, nn_scope s)
{
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(c->dim[0], c->dim[1]));
    return nn_sum(s.g, x, NN_DIMS(1, c->dim[1]));
}

/* dim: parameters */
static nn_tensor *build_adamw(const bench_case *c, nn_scope s)
{
    return nn_param_at(s, "weight", NN_NORMAL(.02f), NN_DIMS(c->dim[0] / 1024, 1024));
}

static void shrink_elems(int64_t *dim)
{
    dim[0] = 1 << 12;
}

#define ACTIVATION(label, ...)                                                                     \
    BOTH("activation_" label, build_activation, "activation", shrink_rows, __VA_ARGS__)

const bench_case bench_others[] = {
    { .name = "adamw_100m",
      .build = build_adamw,
      .dim = { 100 << 20 },
      .training = true,
      .measure = "adamw norm",
      .shrink = shrink_elems,
      .optimize = BENCH_ONLY_UPDATE,
      .one_size = true,
      .of_device = true },
    ACTIVATION("silu_1x1280", 1, 1280, NN_ACT_SILU),
    ACTIVATION("clip_quick_gelu_77x3072", 77, 3072, NN_ACT_QUICK_GELU),
    ACTIVATION("blip_gelu_577x3072", 577, 3072, NN_ACT_GELU),
    BOTH("upsample_640_32", build_upsample, "upsample", shrink_picture, 1, 32, 640),
    BOTH("upsample_1280_16", build_upsample, "upsample", shrink_picture, 1, 16, 1280),
    BOTH("upsample_1280_8", build_upsample, "upsample", shrink_picture, 1, 8, 1280),
    BOTH("concat_320_320_64", build_concat, "concat", shrink_picture, 1, 64, 320, 320),
    BOTH("concat_1280_640_32", build_concat, "concat", shrink_picture, 1, 32, 1280, 640),
    BOTH("add_4096x320", build_add, "add", shrink_rows, 4096, 320),
    BOTH("sum_4096x320", build_sum, "sum", shrink_rows, 4096, 320),
    BOTH("softmax_xent_40x30524", build_xent, "softmax_xent", shrink_rows, 40, 30524),
    BOTH("embedding_77_49408x768", build_embedding, "embedding", shrink_rows, 77, 49408, 768),
    BOTH("mse_16384", build_mse, "mse", shrink_rows, 1, 16384),
    { 0 },
};

/* -- what a machine can do at most */

/* dim: elements */
static nn_tensor *build_copy(const bench_case *c, nn_scope s)
{
    nn_tensor *x = nn_input(s.g, "x", NN_F32, NN_DIMS(c->dim[0]));
    return NN_NODE(s.g, COPY, &(nn_copy_params){ NN_F32 }, x);
}

/* dim: side of all three matrices */
static nn_tensor *build_gemm(const bench_case *c, nn_scope s)
{
    int64_t n = c->dim[0];
    nn_tensor *x = bench_input(c, s, "x", NN_DIMS(n, n));
    return nn_linear(s.g, x, nn_param_at(s, "weight", NN_NORMAL(.02f), NN_DIMS(n, n)), NULL, NULL);
}

static void shrink_side(int64_t *dim)
{
    dim[0] = 64;
}

const bench_case bench_ceilings[] = {
    { .name = "copy_bandwidth",
      .build = build_copy,
      .dim = { 1 << 28 },
      .measure = "copy",
      .shrink = shrink_elems,
      .one_size = true,
      .of_device = true },
    { .name = "gemm_ceiling_bf16",
      .build = build_gemm,
      .dim = { 8192 },
      .measure = "linear",
      .shrink = shrink_side,
      .dtype = NN_BF16,
      .one_size = true,
      .of_device = true },
    { .name = "gemm_ceiling_f32",
      .build = build_gemm,
      .dim = { 4096 },
      .measure = "linear",
      .shrink = shrink_side,
      .dtype = NN_F32,
      .one_size = true,
      .of_device = true },
    { 0 },
};
