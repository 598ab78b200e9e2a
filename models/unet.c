/* UNet2DConditionModel: down, middle, up, with every down activation joined to its mirror image on
 * the way up. */
#include "models/unet.h"

#include "models/block/resnet.h"
#include "models/block/transformer.h"

enum { MAX_SKIPS = 1 + UNET_MAX_BLOCKS * (UNET_MAX_LAYERS + 1), MAX_RESNETS = 2 * MAX_SKIPS };

typedef struct walk { /* what every block needs, and the skips that wait for their mirror image */
    const unet_config *c;
    nn_tensor *context;
    nn_tensor *shift[MAX_RESNETS]; /* the time, as every resnet adds it, in the order of use */
    int n_shifts;
    const unet_text *text; /* instead of the context; the next one is used next */
    int n_texts;
    bool recompute;
    nn_tensor *skip[MAX_SKIPS];
    int n_skips;
} walk;

static void push(walk *w, nn_tensor *x)
{
    NN_ASSERT(w->n_skips < MAX_SKIPS);
    w->skip[w->n_skips++] = x;
}

static attention_source next_text(walk *w)
{
    if (!w->text) return (attention_source){ .context = w->context };
    NN_ASSERT(w->n_texts < w->text->n);
    return w->text->of[w->n_texts++];
}

nn_tensor *unet_time_embedding(nn_scope s, const unet_config *c, nn_tensor *sinusoidal)
{
    int64_t width = 4 * c->block_out_channels[0];
    nn_tensor *h = linear(nn_at(s, "linear_1"), sinusoidal, width, BIAS);
    h = nn_activation(s.g, h, NN_ACT_SILU);
    return linear(nn_at(s, "linear_2"), h, width, BIAS); /* [N, 4 C0] */
}

/* The projections of the time for all resnets, as long as they are in a row equally wide. */
typedef struct time_projections {
    nn_tensor *temb;
    nn_scope at[LINEAR_MOST];
    int64_t width;
    int n, made;
    nn_tensor **shift;
} time_projections;

static void project_time(time_projections *t)
{
    if (t->n) linear_split(t->n, t->at, t->temb, t->width, BIAS, t->shift + t->made);
    t->made += t->n;
    t->n = 0;
}

static void add_resnets(time_projections *t, nn_scope block, int n, int64_t width)
{
    for (int i = 0; i < n; i++) {
        if (t->n == LINEAR_MOST || t->width != width) project_time(t);
        t->width = width;
        t->at[t->n++] = nn_at(block, "resnets.%d.time_emb_proj", i);
    }
}

/* temb [N, E], through SiLU. */
static void make_shifts(walk *w, nn_scope s, nn_tensor *temb)
{
    const unet_config *c = w->c;
    const int64_t *width = c->block_out_channels;
    time_projections t = { .temb = temb, .shift = w->shift };
    const int last = c->n_blocks - 1;
    for (int b = 0; b <= last; b++)
        add_resnets(&t, nn_at(s, "down_blocks.%d", b), c->layers_per_block, width[b]);
    add_resnets(&t, nn_at(s, "mid_block"), 2, width[last]);
    for (int b = 0; b <= last; b++)
        add_resnets(&t, nn_at(s, "up_blocks.%d", b), c->layers_per_block + 1, width[last - b]);
    project_time(&t);
}

/* One resnet and, in cross-attention blocks, the transformer behind it. */
static nn_tensor *layer(walk *w, nn_scope s, nn_tensor *x, int i, int64_t out, int heads)
{
    const unet_config *c = w->c;
    if (w->recompute) nn_checkpoint_begin(s.g);
    x = resnet_block(nn_at(s, "resnets.%d", i), x, w->shift[w->n_shifts++], out, c->norm_num_groups,
                     c->norm_eps);
    if (heads)
        x = spatial_transformer(nn_at(s, "attentions.%d", i), x, next_text(w), heads,
                                c->norm_num_groups);
    if (w->recompute) nn_checkpoint_end(s.g);
    return x;
}

static nn_tensor *down_block(walk *w, nn_scope s, nn_tensor *x, int b)
{
    const unet_config *c = w->c;
    for (int i = 0; i < c->layers_per_block; i++) {
        x = layer(w, s, x, i, c->block_out_channels[b], c->down_cross[b] ? c->heads[b] : 0);
        push(w, x);
    }
    if (b == c->n_blocks - 1) return x;
    x = downsample(nn_at(s, "downsamplers.0"), x, true); /* [N, H/2, W/2, C] */
    push(w, x);
    return x;
}

static nn_tensor *mid_block(walk *w, nn_scope s, nn_tensor *x)
{
    const unet_config *c = w->c;
    int64_t channels = c->block_out_channels[c->n_blocks - 1];
    x = layer(w, s, x, 0, channels, c->heads[c->n_blocks - 1]);
    return layer(w, s, x, 1, channels, 0);
}

/* b counts from the lowest resolution up. */
static nn_tensor *up_block(walk *w, nn_scope s, nn_tensor *x, int b)
{
    const unet_config *c = w->c;
    int mirror = c->n_blocks - 1 - b;
    for (int i = 0; i <= c->layers_per_block; i++) {
        nn_enter(s);
        nn_tensor *both[] = { x, w->skip[--w->n_skips] };
        x = nn_concat(s.g, 2, both, -1); /* [N, H, W, C + Cskip] */
        x = layer(w, s, x, i, c->block_out_channels[mirror], c->up_cross[b] ? c->heads[mirror] : 0);
    }
    if (b == c->n_blocks - 1) return x;
    const nn_view *next =
        &w->skip[w->n_skips - 1]->view; /* odd sizes: as large as the skip to come */
    return upsample(nn_at(s, "upsamplers.0"), x, next->dim[1], next->dim[2]);
}

static nn_tensor *run(walk *w, nn_scope s, nn_tensor *latent, nn_tensor *t)
{
    const unet_config *c = w->c;
    nn_enter(s);
    nn_tensor *wave = nn_timestep(s.g, t, c->block_out_channels[0]); /* [N, C0] */
    nn_tensor *temb = unet_time_embedding(nn_at(s, "time_embedding"), c, wave);
    make_shifts(w, s,
                nn_activation(s.g, temb, NN_ACT_SILU)); /* every resnet takes it through SiLU */

    nn_tensor *x = conv_same(nn_at(s, "conv_in"), latent, c->block_out_channels[0], 3);
    push(w, x);
    for (int b = 0; b < c->n_blocks; b++) x = down_block(w, nn_at(s, "down_blocks.%d", b), x, b);
    x = mid_block(w, nn_at(s, "mid_block"), x);
    for (int b = 0; b < c->n_blocks; b++) x = up_block(w, nn_at(s, "up_blocks.%d", b), x, b);

    x = groupnorm_silu(nn_at(s, "conv_norm_out"), x, c->norm_num_groups, c->norm_eps);
    return conv_same(nn_at(s, "conv_out"), x, c->out_channels, 3); /* [N, H, W, out] */
}

nn_tensor *unet(nn_scope s, const unet_config *c, nn_tensor *latent, nn_tensor *t,
                nn_tensor *context, bool recompute)
{
    walk w = { .c = c, .context = context, .recompute = recompute };
    return run(&w, s, latent, t);
}

nn_tensor *unet_on_text(nn_scope s, const unet_config *c, nn_tensor *latent, nn_tensor *t,
                        const unet_text *text)
{
    walk w = { .c = c, .text = text };
    nn_tensor *out = run(&w, s, latent, t);
    NN_ASSERT(w.n_texts == text->n);
    return out;
}

static void project_block(nn_scope s, nn_tensor *context, int64_t width, int n, unet_text *out)
{
    for (int i = 0; i < n; i++) {
        NN_ASSERT(out->n < UNET_MAX_TEXTS);
        out->of[out->n++] = spatial_transformer_text(nn_at(s, "attentions.%d", i), context, width);
    }
}

void unet_project_text(nn_scope s, const unet_config *c, nn_tensor *context, unet_text *out)
{
    const int last = c->n_blocks - 1;
    *out = (unet_text){ 0 };
    for (int b = 0; b <= last; b++)
        project_block(nn_at(s, "down_blocks.%d", b), context, c->block_out_channels[b],
                      c->down_cross[b] ? c->layers_per_block : 0, out);
    project_block(nn_at(s, "mid_block"), context, c->block_out_channels[last], 1, out);
    for (int b = 0; b <= last; b++)
        project_block(nn_at(s, "up_blocks.%d", b), context, c->block_out_channels[last - b],
                      c->up_cross[b] ? c->layers_per_block + 1 : 0, out);
}
