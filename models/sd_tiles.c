/* Pictures that are larger than the codec: tiles that overlap, blended with linear ramps. Along
 * each side the tiles are spread evenly, and the weights of the tiles at a place add up to 1. */
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "models/stable_diffusion.h"

/* The tiles along one side of the latent. */
typedef struct side {
    int64_t size, tile, n;
} side;

static side divide(int64_t size, int64_t tile, double overlap)
{
    side s = { .size = size, .tile = nn_min(tile, size), .n = 1 };
    const int64_t step = nn_max(1, tile - (int64_t)ceil((double)tile * overlap));
    if (size > tile) s.n = (size - tile + step - 1) / step + 1;
    return s;
}

static int64_t first_of(const side *s, int64_t k)
{
    return s->n > 1 ? k * (s->size - s->tile) / (s->n - 1) : 0;
}

/* The weight of tile k at element i of the side, where each place of the latent has `unit`
 * elements: 1 inside, falling to 0 across what it shares with its neighbours. */
static double ramp(const side *s, int64_t unit, int64_t k, int64_t i)
{
    const double at = (double)(i - first_of(s, k) * unit) + 0.5, tile = (double)(s->tile * unit);
    double weight = at > 0 && at < tile ? 1 : 0;
    if (k > 0) {
        double shared = tile - (double)((first_of(s, k) - first_of(s, k - 1)) * unit);
        weight = fmin(weight, fmax(at / shared, 0));
    }
    if (k + 1 < s->n) {
        double shared = tile - (double)((first_of(s, k + 1) - first_of(s, k)) * unit);
        weight = fmin(weight, fmax((tile - at) / shared, 0));
    }
    return weight;
}

/* The shares of all tiles at all their elements: [n, tile * unit]. Owner: the caller. */
static float *shares_of(const side *s, int64_t unit)
{
    float *shares = nn_alloc(s->n * s->tile * unit, sizeof(*shares));
    for (int64_t k = 0; shares && k < s->n; k++)
        for (int64_t i = 0; i < s->tile * unit; i++) {
            const int64_t place = first_of(s, k) * unit + i;
            double sum = 0;
            for (int64_t other = 0; other < s->n; other++) sum += ramp(s, unit, other, place);
            shares[k * s->tile * unit + i] = (float)(ramp(s, unit, k, place) / sum);
        }
    return shares;
}

/* A run of the codec's encoder or decoder over all tiles of one picture. unit, c: elements of a
 * place of the latent along a side, and channels, of what goes in and what comes out. */
typedef struct mosaic {
    side y, x;
    int64_t in_unit, in_c, out_unit, out_c;
    float *y_shares, *x_shares, *in, *out; /* in, out: one tile */
} mosaic;

static void take(const mosaic *m, int64_t ky, int64_t kx, const float *src)
{
    const int64_t u = m->in_unit, c = m->in_c, width = m->x.size * u, tile = m->x.tile * u;
    for (int64_t y = 0; y < m->y.tile * u; y++) {
        const int64_t row = first_of(&m->y, ky) * u + y, column = first_of(&m->x, kx) * u;
        memcpy(m->in + y * tile * c, src + (row * width + column) * c,
               (size_t)(tile * c) * sizeof(float));
    }
}

static void put(const mosaic *m, int64_t ky, int64_t kx, float *dst)
{
    const int64_t u = m->out_unit, c = m->out_c, width = m->x.size * u, tile = m->x.tile * u;
    for (int64_t y = 0; y < m->y.tile * u; y++) {
        const int64_t row = first_of(&m->y, ky) * u + y, column = first_of(&m->x, kx) * u;
        const float of_row = m->y_shares[ky * m->y.tile * u + y];
        float *to = dst + (row * width + column) * c;
        for (int64_t x = 0; x < tile; x++)
            for (int64_t k = 0; k < c; k++)
                to[x * c + k] +=
                    of_row * m->x_shares[kx * tile + x] * m->out[(y * tile + x) * c + k];
    }
}

typedef nn_status run_codec(sd_codec *codec, int64_t n, const float *src, float *dst);

static nn_status run_tiles(mosaic *m, sd_codec *codec, run_codec *run, const float *src, float *dst)
{
    const int64_t places = m->y.tile * m->x.tile, all = m->y.size * m->x.size;
    m->y_shares = shares_of(&m->y, m->out_unit);
    NN_NEED(m->y_shares);
    m->x_shares = shares_of(&m->x, m->out_unit);
    NN_NEED(m->x_shares);
    m->in = nn_alloc(places * m->in_unit * m->in_unit * m->in_c, sizeof(float));
    NN_NEED(m->in);
    m->out = nn_alloc(places * m->out_unit * m->out_unit * m->out_c, sizeof(float));
    NN_NEED(m->out);
    memset(dst, 0, (size_t)(all * m->out_unit * m->out_unit * m->out_c) * sizeof(float));
    for (int64_t ky = 0; ky < m->y.n; ky++)
        for (int64_t kx = 0; kx < m->x.n; kx++) {
            take(m, ky, kx, src);
            NN_TRY(run(codec, 1, m->in, m->out));
            put(m, ky, kx, dst);
        }
    return NN_OK;
}

/* A mosaic whose tiles have the codec's size. */
static nn_status lay(sd_codec *codec, int64_t height, int64_t width, double overlap, mosaic *m)
{
    const sd_codec_size *size = sd_codec_size_of(codec);
    const int64_t f = size->stride;
    NN_ASSERT(overlap >= 0 && overlap < 1);
    if (height % f || width % f || height < size->height || width < size->width)
        return nn_fail(NN_ARGUMENT,
                       "a picture of %lld x %lld in tiles of %lld x %lld: its sides must be "
                       "multiples of %lld, and no smaller than a tile",
                       (long long)width, (long long)height, (long long)size->width,
                       (long long)size->height, (long long)f);
    *m = (mosaic){ .y = divide(height / f, size->height / f, overlap),
                   .x = divide(width / f, size->width / f, overlap) };
    return NN_OK;
}

static nn_status run_picture(mosaic *m, sd_codec *codec, run_codec *run, const float *src,
                             float *dst)
{
    nn_status status = run_tiles(m, codec, run, src, dst);
    nn_free(m->y_shares);
    nn_free(m->x_shares);
    nn_free(m->in);
    nn_free(m->out);
    m->y_shares = m->x_shares = m->in = m->out = NULL;
    return status;
}

nn_status sd_codec_decode_tiles(sd_codec *codec, int64_t height, int64_t width, double overlap,
                                const float *latent, float *image)
{
    const sd_codec_size *size = sd_codec_size_of(codec);
    mosaic m;
    NN_TRY(lay(codec, height, width, overlap, &m));
    m.in_unit = 1;
    m.in_c = size->latent_channels;
    m.out_unit = size->stride;
    m.out_c = size->image_channels;
    return run_picture(&m, codec, sd_codec_decode, latent, image);
}

nn_status sd_codec_encode_tiles(sd_codec *codec, int64_t height, int64_t width, double overlap,
                                const float *image, float *moments)
{
    const sd_codec_size *size = sd_codec_size_of(codec);
    mosaic m;
    NN_TRY(lay(codec, height, width, overlap, &m));
    m.in_unit = size->stride;
    m.in_c = size->image_channels;
    m.out_unit = 1;
    m.out_c = 2 * size->latent_channels;
    return run_picture(&m, codec, sd_codec_encode, image, moments);
}
