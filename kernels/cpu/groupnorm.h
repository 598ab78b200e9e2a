/* What groupnorm and its gradient share: x [N, ..., C] as samples of rows of channels, and the cut
 * into chunks of rows. The cut depends on the shape alone, and chunks are joined in order: results
 * do not depend on the number of threads. */
#ifndef KERNELS_CPU_GROUPNORM_H
#define KERNELS_CPU_GROUPNORM_H

#include "kernels/cpu/act.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

typedef struct nn_groups {
    int64_t samples, rows, channels, groups;
    int64_t wide;          /* channels of a group */
    int64_t chunk, chunks; /* rows of a chunk, chunks of a sample */
    int64_t grain;         /* chunks worth a thread */
} nn_groups;

/* Rows of one sample; false where they are not evenly spaced or not packed inside. */
NN_INLINE bool nn_groups_rows(const nn_view *x, nn_rows *rows)
{
    nn_view sample = *x;
    sample.dim[0] = 1;
    return nn_rows_of(&sample, rows);
}

NN_INLINE nn_groups nn_groups_of(const nn_view *x, int groups)
{
    nn_groups g = { .samples = x->dim[0], .channels = nn_last(x, 0), .groups = groups };
    g.rows = nn_view_elems(x) / nn_max(g.samples * g.channels, 1);
    g.wide = g.channels / groups;
    g.chunk = nn_min(nn_max((g.rows + 3) / 4, 8), 128);
    g.chunks = (g.rows + g.chunk - 1) / g.chunk;
    g.grain = nn_max(1, NN_WALK_GRAIN / (g.chunk * g.channels));
    return g;
}

/* Where chunk number `item` lies. */
typedef struct nn_chunk {
    int64_t sample, begin, end; /* rows */
} nn_chunk;

NN_INLINE nn_chunk nn_chunk_at(const nn_groups *g, int64_t item)
{
    int64_t begin = item % g->chunks * g->chunk;
    return (nn_chunk){ item / g->chunks, begin, nn_min(begin + g->chunk, g->rows) };
}

/* The first m lanes; with m = NN_LANES a plain load or store. */
NN_INLINE nn_vf nn_take(const float *p, int64_t m)
{
    return m == NN_LANES ? nn_load(p) : nn_load_n(p, m, 0);
}

NN_INLINE void nn_give(float *p, nn_vf v, int64_t m)
{
    if (m == NN_LANES)
        nn_store(p, v);
    else
        nn_store_n(p, v, m);
}

/* body(c, m): channels c .. c + m - 1, in whole vectors and one rest. */
#define NN_CHANNELS(c, channels, body, ...)                                                        \
    do {                                                                                           \
        int64_t c = 0;                                                                             \
        for (; c + NN_LANES <= (channels); c += NN_LANES) body(__VA_ARGS__, c, NN_LANES);          \
        if (c < (channels)) body(__VA_ARGS__, c, (channels)-c);                                    \
    } while (0)

#endif
