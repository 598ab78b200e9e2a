/* What every communicator must do, run by each of its ranks: the collectives on odd sizes and both
 * types, alone and started in a row, held to the bit against sums that each rank makes for itself.
 */
#ifndef TESTS_DIST_COLLECTIVES_H
#define TESTS_DIST_COLLECTIVES_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/half.h"
#include "engine/base/rng.h"
#include "engine/dist/comm.h"

typedef struct collectives {
    nn_comm *c;
    nn_device *d; /* where the buffers lie */
    bool exact;   /* sums are in the order of the ranks; else they may differ by rounding */
    int rank, n_ranks;
} collectives;

/* Element i of what a rank contributes: numbers of very different size, so that the order of adding
 * shows. */
static inline float collectives_value(int rank, int64_t i)
{
    const uint64_t h = nn_mix((uint64_t)rank + 17, (uint64_t)i);
    const float x = (float)(int64_t)(h >> 40) / (float)(1 << 23) - 1;
    return x * (float)(1 << (h % 13));
}

static inline void collectives_put(nn_dtype dtype, void *dst, int64_t i, float x)
{
    if (dtype == NN_BF16)
        ((uint16_t *)dst)[i] = nn_f32_to_bf16(x);
    else
        ((float *)dst)[i] = x;
}

static inline float collectives_get(nn_dtype dtype, const void *src, int64_t i)
{
    return dtype == NN_BF16 ? nn_bf16_to_f32(((const uint16_t *)src)[i]) : ((const float *)src)[i];
}

static inline float collectives_rounded(nn_dtype dtype, float x)
{
    return dtype == NN_BF16 ? nn_bf16_to_f32(nn_f32_to_bf16(x)) : x;
}

static inline float collectives_sum(const collectives *t, nn_dtype dtype, int64_t i)
{
    float sum = collectives_rounded(dtype, collectives_value(0, i));
    for (int r = 1; r < t->n_ranks; r++) sum += collectives_rounded(dtype, collectives_value(r, i));
    return collectives_rounded(dtype, sum);
}

static inline nn_status collectives_compare(const collectives *t, const char *what, nn_dtype dtype,
                                            int64_t i, float got, float expected)
{
    float slack = 0, size = 0;
    for (int r = 0; r < t->n_ranks; r++) size += fabsf(collectives_value(r, i));
    if (!t->exact) slack = size * (dtype == NN_BF16 ? 0.02f : 1e-6f);
    if (fabsf(got - expected) <= slack) return NN_OK;
    return nn_fail(NN_NUMERIC, "%s %s: rank %d of %d has %.9g at %lld, expected %.9g", what,
                   nn_dtype_name(dtype), t->rank, t->n_ranks, (double)got, (long long)i,
                   (double)expected);
}

/* A buffer on the device, and its image in host memory. */
typedef struct collectives_buffer {
    void *device, *host;
    int64_t bytes;
} collectives_buffer;

static inline nn_status collectives_make(const collectives *t, nn_dtype dtype, int64_t n,
                                         collectives_buffer *b)
{
    b->bytes = n * nn_dtype_bytes(dtype);
    b->device = t->d->backend->alloc(t->d, b->bytes);
    b->host = nn_alloc_aligned(b->bytes);
    return b->device && b->host ? NN_OK : NN_MEMORY;
}

static inline void collectives_free(const collectives *t, collectives_buffer *b)
{
    if (b->device) t->d->backend->free(t->d, b->device);
    nn_free(b->host);
}

/* Elements [first, first + n) of this rank's contribution, at place `at`. */
static inline nn_status collectives_fill(const collectives *t, nn_dtype dtype, int rank,
                                         int64_t first, int64_t n, collectives_buffer *b)
{
    for (int64_t i = 0; i < n; i++)
        collectives_put(dtype, b->host, i, collectives_value(rank, first + i));
    return t->d->backend->write(t->d, b->device, b->host, b->bytes);
}

static inline nn_status collectives_fetch(const collectives *t, collectives_buffer *b)
{
    return t->d->backend->read(t->d, b->host, b->device, b->bytes);
}

static inline nn_status collectives_all_reduce(const collectives *t, nn_dtype dtype, int64_t n,
                                               collectives_buffer *b)
{
    NN_TRY(collectives_make(t, dtype, n, b));
    NN_TRY(collectives_fill(t, dtype, t->rank, 0, n, b));
    NN_TRY(nn_comm_all_reduce(t->c, dtype, n, b->device));
    NN_TRY(collectives_fetch(t, b));
    for (int64_t i = 0; i < n; i++)
        NN_TRY(collectives_compare(t, "all_reduce", dtype, i, collectives_get(dtype, b->host, i),
                                   collectives_sum(t, dtype, i)));
    return NN_OK;
}

static inline nn_status collectives_reduce(const collectives *t, nn_dtype dtype, int64_t n,
                                           int root, collectives_buffer *b)
{
    NN_TRY(collectives_make(t, dtype, n, b));
    NN_TRY(collectives_fill(t, dtype, t->rank, 0, n, b));
    NN_TRY(nn_comm_reduce(t->c, dtype, n, b->device, root));
    NN_TRY(collectives_fetch(t, b));
    for (int64_t i = 0; i < n && t->rank == root; i++)
        NN_TRY(collectives_compare(t, "reduce", dtype, i, collectives_get(dtype, b->host, i),
                                   collectives_sum(t, dtype, i)));
    return NN_OK;
}

/* in_place: the result replaces this rank's part of the source. */
static inline nn_status collectives_reduce_scatter(const collectives *t, nn_dtype dtype, int64_t n,
                                                   bool in_place, collectives_buffer *src,
                                                   collectives_buffer *dst)
{
    NN_TRY(collectives_make(t, dtype, n * t->n_ranks, src));
    NN_TRY(collectives_make(t, dtype, n, dst));
    NN_TRY(collectives_fill(t, dtype, t->rank, 0, n * t->n_ranks, src));
    char *part = (char *)src->device + t->rank * dst->bytes;
    NN_TRY(nn_comm_reduce_scatter(t->c, dtype, n, src->device, in_place ? part : dst->device));
    NN_TRY(t->d->backend->read(t->d, dst->host, in_place ? part : dst->device, dst->bytes));
    for (int64_t i = 0; i < n; i++)
        NN_TRY(collectives_compare(t, "reduce_scatter", dtype, t->rank * n + i,
                                   collectives_get(dtype, dst->host, i),
                                   collectives_sum(t, dtype, t->rank * n + i)));
    return NN_OK;
}

static inline nn_status collectives_all_gather(const collectives *t, nn_dtype dtype, int64_t n,
                                               bool in_place, collectives_buffer *src,
                                               collectives_buffer *dst)
{
    NN_TRY(collectives_make(t, dtype, n, src));
    NN_TRY(collectives_make(t, dtype, n * t->n_ranks, dst));
    NN_TRY(collectives_fill(t, dtype, t->rank, 5, n, src));
    char *part = (char *)dst->device + t->rank * src->bytes;
    if (in_place) NN_TRY(t->d->backend->write(t->d, part, src->host, src->bytes));
    NN_TRY(nn_comm_all_gather(t->c, dtype, n, in_place ? part : src->device, dst->device));
    NN_TRY(collectives_fetch(t, dst));
    for (int64_t i = 0; i < n * t->n_ranks; i++)
        NN_TRY(collectives_compare(
            t, "all_gather", dtype, i, collectives_get(dtype, dst->host, i),
            collectives_rounded(dtype, collectives_value((int)(i / n), 5 + i % n))));
    return NN_OK;
}

static inline nn_status collectives_broadcast(const collectives *t, nn_dtype dtype, int64_t n,
                                              int root, collectives_buffer *b)
{
    NN_TRY(collectives_make(t, dtype, n, b));
    NN_TRY(collectives_fill(t, dtype, t->rank, 0, n, b));
    NN_TRY(nn_comm_broadcast(t->c, dtype, n, b->device, root));
    NN_TRY(collectives_fetch(t, b));
    for (int64_t i = 0; i < n; i++)
        NN_TRY(collectives_compare(t, "broadcast", dtype, i, collectives_get(dtype, b->host, i),
                                   collectives_rounded(dtype, collectives_value(root, i))));
    return NN_OK;
}

enum { COLLECTIVES_ROW = 7 };

/* Several under way at once; every second buffer is waited for in another order. */
static inline nn_status collectives_start_row(const collectives *t, collectives_buffer b[])
{
    int64_t ticket[COLLECTIVES_ROW];
    for (int k = 0; k < COLLECTIVES_ROW; k++) {
        const int64_t n = 100 * k + 1;
        NN_TRY(collectives_make(t, NN_F32, n, &b[k]));
        NN_TRY(collectives_fill(t, NN_F32, t->rank, k, n, &b[k]));
        nn_comm_call call = { NN_COMM_ALL_REDUCE, NN_F32, 0, n, b[k].device, b[k].device };
        NN_TRY(nn_comm_start(t->c, &call, &ticket[k]));
    }
    for (int k = COLLECTIVES_ROW - 2; k < COLLECTIVES_ROW; k++)
        NN_TRY(nn_comm_wait(t->c, ticket[k]));
    for (int k = 0; k < COLLECTIVES_ROW; k++) {
        NN_TRY(nn_comm_wait(t->c, ticket[k]));
        NN_TRY(collectives_fetch(t, &b[k]));
        for (int64_t i = 0; i < 100 * k + 1; i++)
            NN_TRY(collectives_compare(t, "row", NN_F32, i + k,
                                       collectives_get(NN_F32, b[k].host, i),
                                       collectives_sum(t, NN_F32, i + k)));
    }
    return NN_OK;
}

static inline nn_status collectives_row(const collectives *t)
{
    collectives_buffer b[COLLECTIVES_ROW] = { 0 };
    const nn_status status = collectives_start_row(t, b);
    for (int k = 0; k < COLLECTIVES_ROW; k++) collectives_free(t, &b[k]);
    return status;
}

/* Everything on n elements. */
static inline nn_status collectives_size(const collectives *t, nn_dtype dtype, int64_t n)
{
    collectives_buffer a = { 0 }, b = { 0 };
    nn_status status = collectives_all_reduce(t, dtype, n, &a);
    for (int in_place = 0; in_place < 2; in_place++) {
        collectives_free(t, &a);
        collectives_free(t, &b);
        a = b = (collectives_buffer){ 0 };
        if (status == NN_OK) status = collectives_reduce_scatter(t, dtype, n, in_place, &a, &b);
        collectives_free(t, &a);
        collectives_free(t, &b);
        a = b = (collectives_buffer){ 0 };
        if (status == NN_OK) status = collectives_all_gather(t, dtype, n, in_place, &a, &b);
    }
    collectives_free(t, &a);
    collectives_free(t, &b);
    for (int root = 0; root < t->n_ranks && status == NN_OK; root++) {
        a = (collectives_buffer){ 0 };
        status = collectives_broadcast(t, dtype, n, root, &a);
        collectives_free(t, &a);
        a = (collectives_buffer){ 0 };
        if (status == NN_OK) status = collectives_reduce(t, dtype, n, root, &a);
        collectives_free(t, &a);
    }
    return status;
}

/* large: elements of one more sum. */
static inline nn_status collectives_check(nn_comm *c, nn_device *d, bool exact, int64_t large)
{
    static const int64_t sizes[] = { 1, 2, 5, 64, 1025 };
    const nn_comm_place *place = nn_comm_place_of(c);
    const collectives t = { c, d, exact, place->rank, place->n_ranks };
    collectives_buffer b = { 0 };
    nn_status status = collectives_all_reduce(&t, NN_F32, large, &b);
    collectives_free(&t, &b);
    NN_TRY(status);
    b = (collectives_buffer){ 0 };
    status = collectives_reduce(&t, NN_F32, large, t.n_ranks - 1, &b);
    collectives_free(&t, &b);
    NN_TRY(status);
    for (int dtype = 0; dtype < 2; dtype++) {
        for (int i = 0; i < NN_COUNT(sizes); i++)
            NN_TRY(collectives_size(&t, dtype ? NN_BF16 : NN_F32, sizes[i]));
        NN_TRY(nn_comm_barrier(c));
    }
    for (int k = 0; k < 2; k++) NN_TRY(collectives_row(&t));
    return nn_comm_barrier(c);
}

#endif
