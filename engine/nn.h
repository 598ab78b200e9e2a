/* All that a model may call. A network that learns, errors left out:
 *
 *     static nn_tensor *build(nn_graph *g, nn_params *w)             (parameters are declared here)
 *     {
 *         nn_scope s = nn_root(g, w, "mlp");
 *         nn_tensor *x = nn_input(g, "x", NN_F32, NN_DIMS(64, 8));
 *         nn_tensor *y = nn_input(g, "y", NN_F32, NN_DIMS(64, 1));
 *         nn_tensor *h = nn_linear(g, x, nn_param_at(s, "w", NN_NORMAL(.3f), NN_DIMS(1, 8)), NULL,
 * NULL); return nn_mse(g, nn_activation(g, h, NN_ACT_SILU), y, NULL);
 *     }
 *
 *     nn_device_open("cpu", 0, &device);
 *     nn_params_create(&w);
 *     nn_graph_create(&g), build(g, w), nn_graph_destroy(g);         (to learn the parameters)
 *     nn_params_alloc(w, device, true);                              (values and gradients)
 *     nn_params_init(w, 1);
 *     nn_optimizer_create(w, &options, &optimizer);
 *     nn_graph_create(&g), nn_graph_training(g);
 *     nn_keep(loss = build(g, w));
 *     nn_backward(g, loss, 1, false);
 *     nn_optimizer_add(optimizer, g);                                (AdamW as nodes)
 *     nn_plan_create(g, device, NULL, &plan);                        (all memory is reserved here)
 *     each step: nn_plan_write the inputs, nn_optimizer_begin, nn_plan_run, nn_optimizer_end.
 *
 * Layout: images are [N, H, W, C], token sequences [B, T, C]. Weights have the published layout:
 * linear [out, in], convolution [out, in, kh, kw]. Constructors never fail: see invariant 3 in
 * graph.h. */
#ifndef ENGINE_NN_H
#define ENGINE_NN_H

#include "engine/graph.h"
#include "engine/params.h"
#include "engine/plan.h"

#define NN_DIMS(...)                                                                               \
    (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[])                       \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

#define NN_ZEROS      ((nn_init){ NN_INIT_ZEROS, 0 })
#define NN_ONES       ((nn_init){ NN_INIT_ONES, 0 })
#define NN_NORMAL(s)  ((nn_init){ NN_INIT_NORMAL, (s) })
#define NN_UNIFORM(s) ((nn_init){ NN_INIT_UNIFORM, (s) })

/* -- graph -- */

nn_status nn_graph_create(nn_graph **out) NN_CHECKED; /* owner: the caller */
void nn_graph_destroy(nn_graph *g);
nn_status nn_graph_status(const nn_graph *g)
    NN_CHECKED; /* the first error of building, with its scope */

/* Parameters of stores with gradients ask for one from here on, and dropout is active. */
void nn_graph_training(nn_graph *g);

/* Networks built from here on compute in bf16 (docs/NUMERICS.md has the rules), or in the type of
 * their operands (NN_F32, how a graph begins). */
void nn_graph_compute(nn_graph *g, nn_dtype dtype);

/* A place in the name tree: the names are those of the published weight files. */
typedef struct nn_scope {
    nn_graph *g;
    nn_params *params;
    const char *path;
} nn_scope;
nn_scope nn_root(nn_graph *g, nn_params *params, const char *name); /* name "" = no prefix */
nn_scope nn_at(nn_scope s, const char *fmt, ...) NN_PRINTF(2, 3);
void nn_enter(nn_scope s); /* nodes made from here on carry this path */

/* The parameter s.path + "." + name, declared on first sight. */
nn_tensor *nn_param_at(nn_scope s, const char *name, nn_init init, int rank, const int64_t *dim);

/* What nn_param_at gave, as one parameter: behind each other along the first dim, which alone may
 * differ. For a product that makes the results of all; the store keeps them together
 * (nn_params_join). A graph that trains uses the parts only so. */
nn_tensor *nn_params_joined(nn_graph *g, int n, nn_tensor *const parts[]);

nn_tensor *nn_input(nn_graph *g, const char *name, nn_dtype dtype, int rank, const int64_t *dim);
void nn_keep(nn_tensor *t); /* its value can be read after the run */

/* Activations made between the two are not kept for backward but computed again there. */
void nn_checkpoint_begin(nn_graph *g);
void nn_checkpoint_end(nn_graph *g);

/* Append the gradients of `loss` (one element), times scale, for everything that needs one. A
 * parameter's lands in its store's gradient buffer: set, or added to what is there when accumulate
 * is on. */
void nn_backward(nn_graph *g, nn_tensor *loss, double scale, bool accumulate);

/* The same without keeping the parameters' gradients: `use` is called for each as soon as the graph
 * has all that adds to it, and appends what uses it up. Nothing that comes later reads the
 * parameter, so that its values may be changed. */
typedef void nn_use_gradient(void *ctx, nn_graph *g, nn_tensor *param, nn_tensor *gradient);
void nn_backward_using(nn_graph *g, nn_tensor *loss, double scale, nn_use_gradient *use, void *ctx);

void nn_require_grad(nn_tensor *t);        /* for tensors that are not parameters */
nn_tensor *nn_grad_of(const nn_tensor *t); /* after nn_backward; NULL if none arrived */

/* -- element by element -- */

/* y = a + b, a * b: shapes aligned at the last dimension, dims of size 1 broadcast; the result has
 * the larger shape. Of bf16 and f32 it is f32. */
nn_tensor *nn_add(nn_graph *g, nn_tensor *a, nn_tensor *b);
nn_tensor *nn_mul(nn_graph *g, nn_tensor *a, nn_tensor *b);
nn_tensor *nn_scale(nn_graph *g, nn_tensor *x, double factor,
                    double offset); /* factor * x + offset */
nn_tensor *nn_sub(nn_graph *g, nn_tensor *a, nn_tensor *b);

/* -- shape -- */

/* One of the dims may be -1. A view where the strides allow it, a copy otherwise. */
nn_tensor *nn_reshape(nn_graph *g, nn_tensor *x, int rank, const int64_t *dim);
nn_tensor *nn_permute(nn_graph *g, nn_tensor *x,
                      const int *order); /* view: out dim i is x's dim order[i] */
nn_tensor *nn_slice(nn_graph *g, nn_tensor *x, int axis, int64_t begin, int64_t end); /* view */
nn_tensor *nn_broadcast(nn_graph *g, nn_tensor *x, int rank,
                        const int64_t *dim);         /* view with stride 0 */
nn_tensor *nn_contiguous(nn_graph *g, nn_tensor *x); /* x itself, or a packed copy */
nn_tensor *nn_cast(nn_graph *g, nn_tensor *x, nn_dtype dtype);

/* x in the type that losses have and that the host reads: bf16 becomes f32, others stay. */
nn_tensor *nn_precise(nn_graph *g, nn_tensor *x);

/* Sum down to a shape whose dims are those of x or 1. */
nn_tensor *nn_sum(nn_graph *g, nn_tensor *x, int rank, const int64_t *dim);
nn_tensor *nn_fill(nn_graph *g, nn_dtype dtype, int rank, const int64_t *dim, double value);

/* -- linear algebra -- */

/* y[..., o] = sum_i x[..., i] * w[o, i] + b[o] + residual[..., o]. x [..., I], w [O, I] -> [...,
 * O]. Optional: b, residual. */
nn_tensor *nn_linear(nn_graph *g, nn_tensor *x, nn_tensor *w, nn_tensor *b, nn_tensor *residual);

/* x [N, H, W, I], w [O, I, kh, kw] -> [N, Ho, Wo, O], zero padding. Optional: b [O], shift [N, O]
 * added to every pixel (the time embedding), residual of the result's shape. kh = kw in 1 .. 16.
 * Source: torch conv2d. */
typedef struct nn_conv {
    int stride;
    int top, left, bottom, right; /* padding */
} nn_conv;
nn_tensor *nn_conv2d(nn_graph *g, nn_tensor *x, nn_tensor *w, nn_tensor *b, nn_tensor *shift,
                     nn_tensor *residual, nn_conv conv);

/* softmax(q k^T * scale) v per head. q [B, Tq, H, D], k and v [B, Tk, H, D] (views of one
 * projection are fine) -> [B, Tq, H, D]. No score matrix is kept. Query i sees key j if j < prefix
 * or j <= i + Tk - Tq where causal is set (prefix 0 = plain causal), and if key_mask [B, Tk] (i32,
 * NULL = all) is not 0. A query that sees nothing gives 0. scale 0 means 1 / sqrt(D). */
typedef struct nn_attend {
    double scale;
    bool causal;
    int64_t prefix;
} nn_attend;
nn_tensor *nn_attention(nn_graph *g, nn_tensor *q, nn_tensor *k, nn_tensor *v, nn_tensor *key_mask,
                        nn_attend attend);

/* -- normalisation -- */

/* Over the last dimension, biased variance. gamma, beta [C]. */
nn_tensor *nn_layernorm(nn_graph *g, nn_tensor *x, nn_tensor *gamma, nn_tensor *beta, double eps);

/* x [N, ..., C]: statistics per sample and group of C / groups channels over all places; then SiLU
 * if silu. */
nn_tensor *nn_groupnorm(nn_graph *g, nn_tensor *x, nn_tensor *gamma, nn_tensor *beta, int groups,
                        double eps, bool silu);

/* -- activations -- */

/* y = f(x) for a kind of nn_act (kernels/params.h). */
nn_tensor *nn_activation(nn_graph *g, nn_tensor *x, nn_act kind);

/* x [..., 2C] -> [..., C]: x[..., :C] * gelu(x[..., C:]), exact gelu. */
nn_tensor *nn_geglu(nn_graph *g, nn_tensor *x);

/* Drop elements with probability p and scale the rest by 1 / (1 - p). Philox keyed by the run's
 * seed and this node; identity unless the graph is training. */
nn_tensor *nn_dropout(nn_graph *g, nn_tensor *x, double p);

/* -- tables, images, sequences -- */

/* ids (i32, any shape), table [V, C] -> ids' shape + [C]. An id outside the table is an error of
 * the run. */
nn_tensor *nn_embedding(nn_graph *g, nn_tensor *ids, nn_tensor *table);

/* Write rows [B, T, ...] into cache [B, L, ...] (memory outside the graph) at row `at` (i32 [1]) of
 * dim 1. Returns the cache as it is afterwards. No gradient. Rows beyond L are an error of the run.
 */
nn_tensor *nn_cache_write(nn_graph *g, nn_tensor *cache, nn_tensor *rows, nn_tensor *at);

/* Sinusoidal embedding of t [N] (f32) -> [N, dim]: cosines first, then sines. Source: diffusers
 * get_timestep_embedding with flip_sin_to_cos, freq_shift 0. */
nn_tensor *nn_timestep(nn_graph *g, nn_tensor *t, int64_t dim);

/* Nearest neighbour, x [N, H, W, C] -> [N, height, width, C]; source index floor(dst * in / out) in
 * f32. */
nn_tensor *nn_upsample(nn_graph *g, nn_tensor *x, int64_t height, int64_t width);

/* Along an axis (negative counts from the end). n <= 8. */
nn_tensor *nn_concat(nn_graph *g, int n, nn_tensor *const parts[], int axis);

/* n equal parts of the last dimension, as views: out[0 .. n). One gradient for all (a concat). n
 * <= 6. */
void nn_split(nn_graph *g, nn_tensor *x, int n, nn_tensor *out[]);

/* -- losses: one element, mean over what counts -- */

/* logits [..., V], labels (i32, the leading shape; < 0 = ignored) -> mean cross-entropy over the
 * labels that count, with label smoothing: (1 - s) * -lp[y] + s * mean_v -lp[v]. 0 when none
 * counts. */
nn_tensor *nn_softmax_xent(nn_graph *g, nn_tensor *logits, nn_tensor *labels, double smoothing);

/* mean((x - y)^2), each sample (first dim) weighted by weight [N] if given. y gets no gradient. */
nn_tensor *nn_mse(nn_graph *g, nn_tensor *x, nn_tensor *y, nn_tensor *weight);

/* Binary cross-entropy of logits x against targets y in [0, 1], focal: each element times
 * |sigmoid(x) - y|^gamma (the factor is differentiated too); sum over elements / first dim. y gets
 * no gradient. */
nn_tensor *nn_focal(nn_graph *g, nn_tensor *x, nn_tensor *y, double gamma);

#endif
