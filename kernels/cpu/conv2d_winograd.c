/* conv2d and its gradient dx by Winograd's F(4x4, 3x3).
 *
 * The transformed weights, four times as many as the plain ones, are never kept. A block of the
 * weights is transformed into a cache, a third of the 36 places at a time, where it is used: that
 * costs about a hundred instructions for what then takes 36 for every tile. Frozen plans pack the
 * plain weights in panels of some channels out, in f32 or rounded to bf16; other plans do so in
 * every run. So no size of images has to wait for more memory than a direct convolution takes.
 *
 * Tiles are cut into chunks, of which one or as many as there are threads are in work at once. In
 * each such round tiles of x are transformed first; then each item of work is a panel of a chunk:
 * 36 matrix products, and the way back to results with all that conv2d adds. What a tile gives
 * depends on nothing but the tile: not on the batch, the chunk or the thread. */
#include "kernels/cpu/conv2d_winograd.h"

#include "engine/base/half.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/winograd.h"

enum { X, W, B, SHIFT, RESIDUAL }; /* dx: dy takes the place of x */
enum {
    TAPS = 9,
    PASS = 2 * NN_WINO_IN,           /* places whose weights are transformed at once */
    PANEL = NN_WINO_VECS * NN_LANES, /* channels out */
    DEPTH = 64,                      /* channels in of a block */
    GRAIN = 4,                       /* tiles of a chunk are a multiple of it */
    MOST_TILES = 64,                 /* of a chunk */
    /* Planes of a multiple of 4 KB would fall on the same lines of the first cache. */
    U_PLANE = DEPTH * PANEL + NN_LANES
};

typedef struct job {
    const nn_call *c;
    bool backward;                /* dx: the weights transposed and turned round */
    int64_t channels, out;        /* in and out */
    int64_t top, left;            /* padding */
    int64_t down, across, tiles;  /* tiles of an image, and of all */
    int64_t blocks, panels;       /* of channels in, and out */
    int64_t chunk, chunks, round; /* tiles of a chunk, chunks in all and at once */
    int64_t v_plane, v_floats;    /* transformed tiles: a place and block of a chunk, and a chunk */
    int64_t m_plane, scratch;     /* products of a place; floats of a thread */
    int64_t first;                /* chunk of this round */
    float *v;                     /* [chunk of the round][block][place][tile][channel in] */
    float *scratches;             /* of each thread: transformed weights, products */
    char *packed;                 /* weights */
} job;

static int64_t parts(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

static job job_of(const nn_call *c, bool backward)
{
    const int64_t *y = c->out[0].dim, *w = c->in[W].dim;
    const nn_conv2d_params *p = c->params;
    const int64_t threads = nn_pool_threads(c->pool);
    job j = { .c = c,
              .backward = backward,
              .channels = w[backward ? 0 : 1],
              .out = w[backward ? 1 : 0],
              .top = backward ? 2 - p->top : p->top,
              .left = backward ? 2 - p->left : p->left,
              .down = parts(y[1], NN_WINO_OUT),
              .across = parts(y[2], NN_WINO_OUT) };
    j.tiles = y[0] * j.down * j.across;
    j.blocks = parts(j.channels, DEPTH);
    j.panels = parts(j.out, PANEL);
    j.chunk = parts(parts(j.tiles, parts(j.tiles, MOST_TILES)), GRAIN) * GRAIN;
    j.chunks = parts(j.tiles, j.chunk);
    /* Enough panels are cut evenly as they are, and tiles of one chunk take less memory. */
    j.round = j.panels >= 4 * threads ? 1 : nn_min(j.chunks, threads);
    j.v_plane = j.chunk * DEPTH + NN_LANES;
    j.v_floats = j.blocks * NN_WINO_PLACES * j.v_plane;
    j.m_plane = j.chunk * PANEL + NN_LANES;
    j.scratch = PASS * U_PLANE + NN_WINO_PLACES * j.m_plane;
    return j;
}

static bool halves(const nn_call *c)
{
    return c->frozen && c->arithmetic == NN_BF16;
}

static int64_t width_of(const job *j, int64_t panel)
{
    return nn_min(PANEL, j->out - panel * PANEL);
}

/* -- weights */

static char *panel_at(const job *j, int64_t panel)
{
    const int64_t size = halves(j->c) ? sizeof(uint16_t) : sizeof(float);
    return j->packed + panel * PANEL * j->channels * TAPS * size;
}

/* A panel as [channel in][tap][channel out of the panel], squares of the rows as they are
 * published, which are fetched well before their turn comes. */
NN_INLINE void pack_panel(const job *j, int64_t panel, bool rounded)
{
    enum { AHEAD = 128 };
    const int64_t width = width_of(j, panel), row = j->channels * TAPS;
    const float *w = (const float *)j->c->in[W].data + panel * PANEL * row;
    char *to = panel_at(j, panel);
    for (int64_t i = 0; i < row; i += NN_LANES)
        for (int64_t o = 0; o < width; o += NN_LANES) {
            nn_vf square[NN_LANES];
            const float *from = w + o * row + i;
            for (int k = 0; k < NN_LANES; k++) __builtin_prefetch(from + k * row + AHEAD);
            for (int k = 0; k < NN_LANES; k++) square[k] = nn_load(from + k * row);
            nn_transpose(square);
            for (int k = 0; k < NN_LANES; k++)
                if (rounded)
                    for (int lane = 0; lane < NN_LANES; lane++)
                        ((uint16_t *)to)[(i + k) * width + o + lane] =
                            nn_f32_to_bf16(square[k][lane]);
                else
                    nn_store((float *)to + (i + k) * width + o, square[k]);
        }
}

/* The same of the convolution that gives dx. */
static void pack_turned(const job *j, int64_t panel)
{
    const int64_t width = width_of(j, panel);
    float *to = (float *)panel_at(j, panel);
    for (int64_t i = 0; i < j->channels; i++, to += TAPS * width) {
        const float *from = (const float *)j->c->in[W].data + (i * j->out + panel * PANEL) * TAPS;
        for (int64_t o = 0; o < width; o++)
            for (int tap = 0; tap < TAPS; tap++)
                to[(TAPS - 1 - tap) * width + o] = from[o * TAPS + tap];
    }
}

static void pack(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    (void)thread;
    for (int64_t panel = begin; panel < end; panel++)
        if (j->backward)
            pack_turned(j, panel);
        else if (halves(j->c))
            pack_panel(j, panel, true);
        else
            pack_panel(j, panel, false);
}

NN_INLINE nn_vf load_rounded(const uint16_t *p)
{
    typedef uint16_t halves_t __attribute__((vector_size(2 * NN_LANES)));
    halves_t v;
    memcpy(&v, p, sizeof(v));
    return (nn_vf)(__builtin_convertvector(v, nn_vi) << 16);
}

NN_INLINE nn_vf load_weight(const void *w, int64_t at, bool rounded)
{
    return rounded ? load_rounded((const uint16_t *)w + at) : nn_load((const float *)w + at);
}

/* Two rows of G w G^T for `depth` channels in of a panel, into 12 planes. */
NN_INLINE void transform(int pair, bool rounded, const void *w, int64_t depth, int64_t width,
                         float *u)
{
    for (int64_t d = 0; d < depth; d++)
        for (int64_t o = 0; o < width; o += NN_LANES) {
            nn_vf half[2][3], row[NN_WINO_IN];
            for (int x = 0; x < 3; x++) {
                nn_vf column[3];
                for (int y = 0; y < 3; y++)
                    column[y] = load_weight(w, (d * TAPS + y * 3 + x) * width + o, rounded);
                nn_wino_g(pair, column, &half[0][x], &half[1][x]);
            }
            for (int y = 0; y < 2; y++) {
                for (int i = 0; i < 3; i++) nn_wino_g(i, half[y], &row[2 * i], &row[2 * i + 1]);
                for (int x = 0; x < NN_WINO_IN; x++)
                    nn_store(u + (y * NN_WINO_IN + x) * U_PLANE + d * PANEL + o, row[x]);
            }
        }
}

typedef void transform_fn(const void *w, int64_t depth, int64_t width, float *u);
#define TRANSFORM(pair)                                                                            \
    static void transform_##pair(const void *w, int64_t depth, int64_t width, float *u)            \
    {                                                                                              \
        transform(pair, false, w, depth, width, u);                                                \
    }                                                                                              \
    static void transform_rounded_##pair(const void *w, int64_t depth, int64_t width, float *u)    \
    {                                                                                              \
        transform(pair, true, w, depth, width, u);                                                 \
    }
TRANSFORM(0)
TRANSFORM(1)
TRANSFORM(2)

/* -- tiles of x */

typedef struct tile {
    int64_t image, y, x; /* first place of the result */
} tile;

static tile tile_at(const job *j, int64_t i)
{
    return (tile){ i / (j->down * j->across), i / j->across % j->down * NN_WINO_OUT,
                   i % j->across * NN_WINO_OUT };
}

/* from[y][x]: places of an image, NULL in the padding. */
NN_INLINE void transform_places(const float *const from[NN_WINO_IN][NN_WINO_IN], int64_t channel,
                                float *v, int64_t plane)
{
    nn_vf half[NN_WINO_IN][NN_WINO_IN], row[NN_WINO_IN];
    for (int x = 0; x < NN_WINO_IN; x++) {
        nn_vf column[NN_WINO_IN];
        for (int y = 0; y < NN_WINO_IN; y++)
            column[y] = from[y][x] ? nn_load(from[y][x] + channel) : nn_set(0);
        nn_wino_b(column, &half[0][x], NN_WINO_IN);
    }
    for (int y = 0; y < NN_WINO_IN; y++, v += NN_WINO_IN * plane) {
        nn_wino_b(half[y], row, 1);
        for (int x = 0; x < NN_WINO_IN; x++) nn_store(v + x * plane, row[x]);
    }
}

/* i counts the tiles of a round. */
static void transform_tiles(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    const nn_view *x = &j->c->in[X];
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const tile t = tile_at(j, j->first * j->chunk + i);
        const float *image = (const float *)x->data + t.image * x->stride[0];
        const float *from[NN_WINO_IN][NN_WINO_IN];
        float *v = j->v + i / j->chunk * j->v_floats + i % j->chunk * DEPTH;
        for (int a = 0; a < NN_WINO_IN; a++)
            for (int b = 0; b < NN_WINO_IN; b++) {
                int64_t down = t.y + a - j->top, across = t.x + b - j->left;
                bool inside = down >= 0 && down < x->dim[1] && across >= 0 && across < x->dim[2];
                from[a][b] = inside ? image + down * x->stride[1] + across * x->stride[2] : NULL;
            }
        for (int64_t d = 0; d < j->channels; d += NN_LANES)
            transform_places(from, d, v + d / DEPTH * NN_WINO_PLACES * j->v_plane + d % DEPTH,
                             j->v_plane);
    }
}

/* -- products */

/* Of `tiles` tiles, a multiple of GRAIN. */
NN_INLINE void multiply(int vecs, int64_t tiles, const float *v, const float *u, int64_t depth,
                        float *m, bool more)
{
    int64_t t = 0;
    for (; t + NN_WINO_ROWS <= tiles; t += NN_WINO_ROWS)
        nn_wino_tile(NN_WINO_ROWS, vecs, v + t * DEPTH, DEPTH, u, depth, m + t * PANEL, more);
    if (t < tiles) nn_wino_tile(GRAIN, vecs, v + t * DEPTH, DEPTH, u, depth, m + t * PANEL, more);
}

typedef void multiply_fn(int64_t tiles, const float *v, const float *u, int64_t depth, float *m,
                         bool more);
#define MULTIPLY(vecs)                                                                             \
    static void multiply_##vecs(int64_t tiles, const float *v, const float *u, int64_t depth,      \
                                float *m, bool more)                                               \
    {                                                                                              \
        multiply(vecs, tiles, v, u, depth, m, more);                                               \
    }
MULTIPLY(1)
MULTIPLY(2)
MULTIPLY(3)

/* Part `part` of 36 of the next `bytes` of weights. */
static void fetch(const char *w, int64_t bytes, int64_t part)
{
    for (int64_t at = bytes * part / NN_WINO_PLACES / 64 * 64;
         at < bytes * (part + 1) / NN_WINO_PLACES; at += 64)
        __builtin_prefetch(w + at, 0, 2);
}

/* The sums of a panel over all channels in, into m. */
static void multiply_panel(const job *j, int64_t panel, const float *v, int64_t tiles, float *u,
                           float *m)
{
    static multiply_fn *const by_vecs[] = { multiply_1, multiply_2, multiply_3 };
    static transform_fn *const by_pair[2][3] = { { transform_0, transform_1, transform_2 },
                                                 { transform_rounded_0, transform_rounded_1,
                                                   transform_rounded_2 } };
    const int64_t width = width_of(j, panel), size = halves(j->c) ? 2 : 4;
    const char *w = panel_at(j, panel);
    for (int64_t d = 0; d < j->channels; d += DEPTH) {
        const int64_t depth = nn_min(DEPTH, j->channels - d), bytes = depth * TAPS * width * size;
        for (int place = 0; place < NN_WINO_PLACES; place++, v += j->v_plane) {
            if (place % PASS == 0) by_pair[halves(j->c)][place / PASS](w, depth, width, u);
            fetch(w + bytes, bytes, place);
            by_vecs[width / NN_LANES - 1](tiles, v, u + place % PASS * U_PLANE, depth,
                                          m + place * j->m_plane, d > 0);
        }
        w += bytes;
    }
}

/* -- results */

static int64_t place_of(const nn_view *v, const int64_t at[3])
{
    return at[0] * v->stride[0] + at[1] * v->stride[1] + at[2] * v->stride[2];
}

/* What is added, or NULL. */
NN_INLINE const float *added(const nn_call *c, int i)
{
    return i < c->n_in && nn_present(&c->in[i]) ? c->in[i].data : NULL;
}

/* Channels [o, o + NN_LANES) of one tile. */
NN_INLINE void finish_vector(const nn_call *c, const tile *t, int64_t o, const float *m,
                             int64_t plane)
{
    const nn_view *y = &c->out[0], *r = &c->in[RESIDUAL];
    const float *bias = added(c, B), *shift = added(c, SHIFT), *residual = added(c, RESIDUAL);
    nn_vf half[NN_WINO_OUT][NN_WINO_IN], row[NN_WINO_OUT], sum = nn_set(0);
    for (int x = 0; x < NN_WINO_IN; x++) {
        nn_vf column[NN_WINO_IN];
        for (int i = 0; i < NN_WINO_IN; i++) column[i] = nn_load(m + (i * NN_WINO_IN + x) * plane);
        nn_wino_a(column, &half[0][x], NN_WINO_IN);
    }
    if (bias) sum = nn_load(bias + o);
    if (shift) sum += nn_load(shift + t->image * c->in[SHIFT].stride[0] + o);
    for (int64_t i = 0; i < nn_min(NN_WINO_OUT, y->dim[1] - t->y); i++) {
        nn_wino_a(half[i], row, 1);
        for (int64_t k = 0; k < nn_min(NN_WINO_OUT, y->dim[2] - t->x); k++) {
            int64_t at[] = { t->image, t->y + i, t->x + k };
            nn_vf result = row[k] + sum;
            if (residual) result += nn_load(residual + place_of(r, at) + o);
            nn_store((float *)y->data + place_of(y, at) + o, result);
        }
    }
}

/* i counts the panels of the chunks of a round. */
static void convolve(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    float *u = j->scratches + thread * j->scratch, *m = u + PASS * U_PLANE;
    for (int64_t i = begin; i < end; i++) {
        const int64_t slot = i / j->panels, panel = i % j->panels, first = panel * PANEL;
        const int64_t from = (j->first + slot) * j->chunk, n = nn_min(j->chunk, j->tiles - from);
        multiply_panel(j, panel, j->v + slot * j->v_floats, parts(n, GRAIN) * GRAIN, u, m);
        for (int64_t k = 0; k < n; k++) {
            const tile t = tile_at(j, from + k);
            for (int64_t o = 0; o < width_of(j, panel); o += NN_LANES)
                finish_vector(j->c, &t, first + o, m + k * PANEL + o, j->m_plane);
        }
    }
}

/* -- the kernels */

/* Measured on AVX-512: 4 tiles repay the transform of weights that are packed already, 16 also that
 * they are packed in every run. */
static bool repays(const nn_call *c)
{
    const int64_t *y = c->out[0].dim, *w = c->in[W].dim;
    const int64_t tiles = y[0] * parts(y[1], NN_WINO_OUT) * parts(y[2], NN_WINO_OUT);
    return y[1] >= 4 && y[2] >= 4 && w[0] >= 32 && w[1] >= 32 && tiles >= (c->frozen ? 4 : 16);
}

static bool lanes(const nn_view *v)
{
    return nn_rows_f32(v) && nn_last(v, 0) % NN_LANES == 0;
}

/* Rows that are added. */
static bool addable(const nn_call *c, int i)
{
    return i >= c->n_in || !nn_present(&c->in[i]) || nn_rows_f32(&c->in[i]);
}

bool NN_CPU_NAME(conv2d_winograd_accepts)(const nn_call *c)
{
    const nn_conv2d_params *p = c->params;
    const nn_view *w = &c->in[W], *y = &c->out[0];
    return p->stride == 1 && nn_packed_f32(w) && w->dim[2] == 3 && w->dim[3] == 3 &&
           nn_view_elems(y) > 0 && lanes(&c->in[X]) && lanes(y) && addable(c, B) &&
           addable(c, SHIFT) && addable(c, RESIDUAL) && repays(c);
}

bool NN_CPU_NAME(conv2d_winograd_bf16_accepts)(const nn_call *c)
{
    return halves(c) && NN_CPU_NAME(conv2d_winograd_accepts)(c);
}

bool NN_CPU_NAME(conv2d_bwd_x_winograd_accepts)(const nn_call *c)
{
    return !c->frozen && NN_CPU_NAME(conv2d_winograd_accepts)(c);
}

nn_status NN_CPU_NAME(conv2d_winograd_prepare)(nn_call *c)
{
    const job j = job_of(c, false);
    const int64_t size = halves(c) ? 2 : 4;
    if (c->frozen) {
        c->packed_bytes = (size_t)(j.channels * j.out * TAPS * size);
        c->packed_in = 1u << W;
    }
    return NN_OK;
}

static size_t workspace(const nn_call *c, bool backward)
{
    const job j = job_of(c, backward);
    const int64_t scratches = nn_pool_threads(c->pool) * j.scratch;
    const int64_t packed = c->frozen ? 0 : j.channels * j.out * TAPS;
    return (size_t)(j.round * j.v_floats + scratches + packed) * sizeof(float);
}

size_t NN_CPU_NAME(conv2d_winograd_workspace)(const nn_call *c)
{
    return workspace(c, false);
}

size_t NN_CPU_NAME(conv2d_bwd_x_winograd_workspace)(const nn_call *c)
{
    return workspace(c, true);
}

static nn_status run(job j)
{
    const bool frozen = j.c->frozen;
    j.v = j.c->workspace;
    j.scratches = j.v + j.round * j.v_floats;
    j.packed =
        frozen ? j.c->packed : (char *)(j.scratches + nn_pool_threads(j.c->pool) * j.scratch);
    if (!frozen) nn_pool_for(j.c->pool, j.panels, 1, pack, &j);
    for (; j.first < j.chunks; j.first += j.round) {
        const int64_t chunks = nn_min(j.round, j.chunks - j.first);
        const int64_t tiles = nn_min(chunks * j.chunk, j.tiles - j.first * j.chunk);
        nn_pool_for(j.c->pool, tiles, 1, transform_tiles, &j);
        nn_pool_for(j.c->pool, chunks * j.panels, 1, convolve, &j);
    }
    return NN_OK;
}

nn_status NN_CPU_NAME(conv2d_winograd_pack)(const nn_call *c)
{
    job j = job_of(c, false);
    j.packed = c->packed;
    nn_pool_for(c->pool, j.panels, 1, pack, &j);
    return NN_OK;
}

nn_status NN_CPU_NAME(conv2d_winograd_run)(const nn_call *c)
{
    return run(job_of(c, false));
}

nn_status NN_CPU_NAME(conv2d_bwd_x_winograd_run)(const nn_call *c)
{
    return run(job_of(c, true));
}
