/* Copies between the host and one GPU, by way of two pinned buffers.
 *
 * To the device: a buffer takes one copy after the other until it is full; then the other one does,
 * once its own copies are through. So the host waits only if it is two buffers ahead. To the host:
 * the device fills one buffer while the host empties the other. */
#include "kernels/cuda/cuda.cuh"

#include <string.h>

enum { STAGE = 4 << 20, ALIGNMENT = 64 };

static nn_status reserve(nn_cuda *g)
{
    for (nn_cuda_stage &s : g->stages) {
        if (!s.done) NN_CUDA_TRY(cudaEventCreateWithFlags(&s.done, cudaEventDisableTiming));
        if (!s.host) NN_CUDA_TRY(cudaMallocHost(reinterpret_cast<void **>(&s.host), STAGE));
    }
    return NN_OK;
}

void nn_cuda_stages_free(nn_cuda *g)
{
    if (g->stream) cudaStreamSynchronize(g->stream);
    for (nn_cuda_stage &s : g->stages) {
        if (s.host) cudaFreeHost(s.host);
        if (s.done) cudaEventDestroy(s.done);
        s = {};
    }
}

/* The stage that is being filled, with room left. */
static nn_status stage_with_room(nn_cuda *g, nn_cuda_stage **out)
{
    nn_cuda_stage *s = &g->stages[g->stage];
    if (s->used == STAGE) {
        NN_CUDA_TRY(cudaEventRecord(s->done, g->stream));
        g->stage = !g->stage;
        s = &g->stages[g->stage];
        NN_CUDA_TRY(
            cudaEventSynchronize(s->done)); /* never recorded: there is nothing to wait for */
        s->used = 0;
    }
    *out = s;
    return NN_OK;
}

nn_status nn_cuda_send(nn_cuda *g, void *dst, const void *src, int64_t bytes)
{
    char *to = static_cast<char *>(dst);
    const char *from = static_cast<const char *>(src);
    NN_TRY(reserve(g));
    for (int64_t at = 0; at < bytes;) {
        nn_cuda_stage *s = NULL;
        NN_TRY(stage_with_room(g, &s));
        const int64_t part = nn_min(bytes - at, STAGE - s->used);
        char *pinned = s->host + s->used;
        memcpy(pinned, from + at, (size_t)part);
        NN_CUDA_TRY(
            cudaMemcpyAsync(to + at, pinned, (size_t)part, cudaMemcpyHostToDevice, g->stream));
        s->used = nn_min((s->used + part + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, (int64_t)STAGE);
        at += part;
    }
    return NN_OK;
}

/* Part number k of a copy to the host. */
typedef struct part {
    const char *from;
    char *to;
    int64_t bytes;
} part;

static part part_of(void *dst, const void *src, int64_t bytes, int64_t k)
{
    const int64_t at = k * STAGE;
    return { static_cast<const char *>(src) + at, static_cast<char *>(dst) + at,
             nn_min(bytes - at, (int64_t)STAGE) };
}

/* What a stage still holds for the device is taken before it is overwritten: one stream does both.
 */
static nn_status enqueue_fetch(nn_cuda *g, nn_cuda_stage *s, part p)
{
    NN_CUDA_TRY(
        cudaMemcpyAsync(s->host, p.from, (size_t)p.bytes, cudaMemcpyDeviceToHost, g->stream));
    return nn_cuda_status(cudaEventRecord(s->done, g->stream), "cudaEventRecord");
}

nn_status nn_cuda_fetch(nn_cuda *g, void *dst, const void *src, int64_t bytes)
{
    const int64_t n = nn_ceil_div(bytes, STAGE);
    NN_TRY(reserve(g));
    if (n) NN_TRY(enqueue_fetch(g, &g->stages[0], part_of(dst, src, bytes, 0)));
    for (int64_t k = 0; k < n; k++) {
        const part p = part_of(dst, src, bytes, k);
        nn_cuda_stage *s = &g->stages[k % 2];
        if (k + 1 < n)
            NN_TRY(enqueue_fetch(g, &g->stages[(k + 1) % 2], part_of(dst, src, bytes, k + 1)));
        NN_CUDA_TRY(cudaEventSynchronize(s->done));
        memcpy(p.to, s->host, (size_t)p.bytes);
    }
    if (n) g->stages[0].used = g->stages[1].used = 0; /* the stream has come this far */
    return NN_OK;
}
