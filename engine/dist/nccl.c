/* One GPU per rank over NCCL, on a stream of its own.
 *
 * Sums whose order is fixed are made as over MPI, with the device's own kernels. Others are NCCL's.
 */
#include <cuda_runtime.h>
#include <nccl.h>
#include <string.h>
#include <time.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/dist/internal.h"
#include "kernels/cuda/peer.h"
#include "kernels/params.h"

enum {
    SPINS = 2000, /* questions in a row before the thread sleeps between them */
    NAP_NANOSECONDS = 20000
};

typedef struct gpus {
    nn_comm *over;      /* introduces the ranks and compares their calls */
    nn_device *compute; /* whose buffers they are */
    nn_device *own;     /* the same GPU, another stream */
    cudaStream_t stream;
    cudaEvent_t before;
    cudaEvent_t begun[NN_COMM_DEPTH], done[NN_COMM_DEPTH]; /* by number */
    ncclComm_t comm;
    nn_comm_pairs pairs;     /* its room is NULL: sums have any order */
    float *sum;              /* [piece] */
    float *wide;             /* [piece] a bf16 piece in f32 */
    nn_comm_header *headers; /* [N + 1]: everyone's, and the own one */
} gpus;

/* -- statuses ---------------------------------------------------------------------------------- */

static nn_status check_cuda(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return NN_OK;
    return nn_fail(NN_DEVICE, "%s: %s (%s)", what, cudaGetErrorString(error),
                   cudaGetErrorName(error));
}

static nn_status check_nccl(ncclResult_t result, const char *what)
{
    if (result == ncclSuccess) return NN_OK;
    return nn_fail(NN_DEVICE, "%s: %s (%s)", what, ncclGetErrorString(result),
                   ncclGetLastError(NULL));
}

#define CUDA(call) NN_TRY(check_cuda((call), #call))
#define NCCL(call) NN_TRY(check_nccl((call), #call))

/* -- sums in the order of the ranks ------------------------------------------------------------ */

/* out = a + b, or out = a in another type (b NULL), of n elements; where they lie. */
static nn_status run_op(nn_device *d, nn_op_id op, int64_t n, nn_dtype from, const void *a,
                        const void *b, nn_dtype to, void *out)
{
    const nn_copy_params params = { to };
    nn_call c = { .n_in = b ? 2 : 1,
                  .n_out = 1,
                  .params = b ? NULL : &params,
                  .pool = d->pool,
                  .stream = d->stream };
    c.in[0] = c.in[1] = nn_view_make(from, 1, &n);
    c.out[0] = nn_view_make(to, 1, &n);
    c.in[0].data = (void *)(uintptr_t)a;
    c.in[1].data = (void *)(uintptr_t)b;
    c.out[0].data = out;
    const nn_kernel *k = nn_device_kernel(d, op, &c, 0);
    NN_ASSERT(k && !k->workspace && !k->prepare); /* packed elements: nothing to arrange */
    return k->run(&c);
}

static nn_status convert(nn_device *d, int64_t n, nn_dtype from, const void *src, nn_dtype to,
                         void *dst)
{
    return run_op(d, NN_OP_COPY, n, from, src, NULL, to, dst);
}

static nn_status add(nn_comm *c, nn_dtype dtype, const void *const src[], int64_t n, void *dst)
{
    gpus *g = c->state;
    NN_TRY(convert(g->own, n, dtype, src[0], NN_F32, g->sum));
    for (int p = 1; p < c->place.n_ranks; p++) {
        if (dtype != NN_F32) NN_TRY(convert(g->own, n, dtype, src[p], NN_F32, g->wide));
        const void *term = dtype == NN_F32 ? src[p] : g->wide;
        NN_TRY(run_op(g->own, NN_OP_ADD, n, NN_F32, g->sum, term, NN_F32, g->sum));
    }
    return convert(g->own, n, NN_F32, g->sum, dtype, dst);
}

static nn_status to_peer(nn_comm *c, int peer, const char *src, int64_t bytes)
{
    gpus *g = c->state;
    if (!bytes) return NN_OK;
    return check_nccl(ncclSend(src, (size_t)bytes, ncclInt8, peer, g->comm, g->stream), "ncclSend");
}

static nn_status from_peer(nn_comm *c, int peer, char *dst, int64_t bytes)
{
    gpus *g = c->state;
    if (!bytes) return NN_OK;
    return check_nccl(ncclRecv(dst, (size_t)bytes, ncclInt8, peer, g->comm, g->stream), "ncclRecv");
}

static nn_status begin_group(nn_comm *c)
{
    (void)c;
    return check_nccl(ncclGroupStart(), "ncclGroupStart");
}

static nn_status end_group(nn_comm *c)
{
    (void)c;
    return check_nccl(ncclGroupEnd(), "ncclGroupEnd");
}

/* -- the collectives --------------------------------------------------------------------------- */

static ncclDataType_t type_of(nn_dtype dtype)
{
    return dtype == NN_BF16 ? ncclBfloat16 : ncclFloat32;
}

static bool in_order(const nn_comm *c, const gpus *g, const nn_comm_call *call)
{
    if (!g->pairs.room || c->place.n_ranks == 1) return false;
    return c->options.deterministic || call->dtype == NN_BF16;
}

static nn_status enqueue(nn_comm *c, gpus *g, const nn_comm_call *call)
{
    const size_t n = (size_t)call->n, bytes = n * (size_t)nn_dtype_bytes(call->dtype);
    const ncclDataType_t type = type_of(call->dtype);
    const bool sums = call->kind == NN_COMM_ALL_REDUCE || call->kind == NN_COMM_REDUCE ||
                      call->kind == NN_COMM_REDUCE_SCATTER;
    if (sums && in_order(c, g, call)) return nn_comm_sum_in_order(c, &g->pairs, call);
    switch (call->kind) {
    case NN_COMM_ALL_REDUCE:
        NCCL(ncclAllReduce(call->src, call->dst, n, type, ncclSum, g->comm, g->stream));
        return NN_OK;
    case NN_COMM_REDUCE:
        NCCL(ncclReduce(call->src, call->dst, n, type, ncclSum, call->root, g->comm, g->stream));
        return NN_OK;
    case NN_COMM_REDUCE_SCATTER:
        NCCL(ncclReduceScatter(call->src, call->dst, n, type, ncclSum, g->comm, g->stream));
        return NN_OK;
    case NN_COMM_ALL_GATHER:
        NCCL(ncclAllGather(call->src, call->dst, bytes, ncclInt8, g->comm, g->stream));
        return NN_OK;
    case NN_COMM_BROADCAST:
        NCCL(ncclBroadcast(call->src, call->dst, bytes, ncclInt8, call->root, g->comm, g->stream));
        return NN_OK;
    default:
        return NN_OK;
    }
}

/* NCCL itself would hang, or write where it must not. Also what a barrier is. */
static nn_status compare(nn_comm *c, gpus *g, int64_t number)
{
    const int n = c->place.n_ranks;
    nn_comm_header *own = &g->headers[n];
    *own = nn_comm_header_of(c, number);
    nn_comm_step(g->over, c->step);
    if (nn_comm_all_gather(g->over, NN_I32, sizeof(*own) / 4, own, g->headers) != NN_OK)
        return nn_comm_fail(c, number, "the calls of the ranks cannot be compared: %s",
                            nn_error_message());
    for (int p = 0; p < n; p++)
        if (!nn_comm_same_call(own, &g->headers[p]))
            return nn_comm_mismatch(c, number, p, &g->headers[p]);
    return NN_OK;
}

static nn_status start(nn_comm *c, int64_t number)
{
    gpus *g = c->state;
    const nn_comm_call *call = nn_comm_call_at(c, number);
    if (call->kind == NN_COMM_BARRIER || nn_comm_must_compare(c, number))
        NN_TRY(compare(c, g, number));
    CUDA(cudaEventRecord(g->before, (cudaStream_t)nn_cuda_stream(g->compute)));
    CUDA(cudaStreamWaitEvent(g->stream, g->before, 0));
    CUDA(cudaEventRecord(g->begun[number % NN_COMM_DEPTH], g->stream));
    if (call->n && enqueue(c, g, call) != NN_OK)
        return nn_comm_fail(c, number, "%s", nn_error_message());
    CUDA(cudaEventRecord(g->done[number % NN_COMM_DEPTH], g->stream));
    return NN_OK;
}

static nn_status check_peers(const nn_comm *c, const gpus *g, int64_t number)
{
    ncclResult_t result = ncclSuccess;
    if (ncclCommGetAsyncError(g->comm, &result) == ncclSuccess && result == ncclSuccess)
        return NN_OK;
    return nn_comm_fail(c, number, "NCCL: %s", ncclGetErrorString(result));
}

static nn_status until_done(nn_comm *c, gpus *g, int64_t number)
{
    const struct timespec nap = { 0, NAP_NANOSECONDS };
    const double limit = c->options.timeout_seconds, begun = nn_clock_seconds();
    for (int64_t asked = 0;; asked++) {
        const cudaError_t error = cudaEventQuery(g->done[number % NN_COMM_DEPTH]);
        if (error == cudaSuccess) return NN_OK;
        if (error != cudaErrorNotReady)
            return nn_comm_fail(c, number, "%s", cudaGetErrorString(error));
        if (asked < SPINS) continue;
        NN_TRY(check_peers(c, g, number));
        if (limit > 0 && nn_clock_seconds() - begun > limit) return nn_comm_late(c, number, "");
        nanosleep(&nap, NULL);
    }
}

/* What waits in the stream for peers is taken out of it. */
static void cut(gpus *g)
{
    if (g->comm) ncclCommAbort(g->comm);
    g->comm = NULL;
}

static nn_status wait(nn_comm *c, int64_t number)
{
    gpus *g = c->state;
    const nn_status status = until_done(c, g, number);
    if (status != NN_OK) {
        cut(g);
        return status;
    }
    for (int64_t k = c->n_done; k <= number; k++) {
        float ms = 0;
        const int at = (int)(k % NN_COMM_DEPTH);
        CUDA(cudaEventElapsedTime(&ms, g->begun[at], g->done[at]));
        nn_comm_took(c, 1e-3 * ms);
    }
    return NN_OK;
}

static void abort_job(nn_comm *c)
{
    gpus *g = c->state;
    cut(g);
    nn_comm_abort(g->over);
}

/* -- opening and closing ----------------------------------------------------------------------- */

static void leave(nn_comm *c)
{
    gpus *g = c->state;
    if (!g) return;
    if (c->broken != NN_OK) cut(g);
    if (g->comm) ncclCommDestroy(g->comm);
    if (g->before) cudaEventDestroy(g->before);
    for (int i = 0; i < NN_COMM_DEPTH; i++)
        for (int k = 0; k < 2; k++) {
            cudaEvent_t event = k ? g->done[i] : g->begun[i];
            if (event) cudaEventDestroy(event);
        }
    if (g->own) {
        void *blocks[] = { g->pairs.room, g->sum, g->wide };
        for (int i = 0; i < NN_COUNT(blocks); i++)
            if (blocks[i]) g->own->backend->free(g->own, blocks[i]);
    }
    nn_device_close(g->own);
    nn_free(g->pairs.parts);
    nn_free(g->headers);
    nn_free(g);
}

static const nn_comm_impl impl = { "nccl", start, wait, abort_job, leave };

static nn_status reserve(nn_comm *c, gpus *g)
{
    const int64_t n = c->place.n_ranks;
    nn_comm_pairs *p = &g->pairs;
    *p = (nn_comm_pairs){
        .begin = begin_group, .send = to_peer, .receive = from_peer, .end = end_group, .add = add
    };
    p->piece = nn_comm_piece((int)n);
    const int64_t bytes = p->piece * (int64_t)sizeof(float);
    g->headers = nn_alloc(n + 1, sizeof(*g->headers));
    NN_NEED(g->headers);
    if (!c->options.deterministic && !c->options.precise) return NN_OK;
    NN_NEED(p->parts = nn_alloc(n, sizeof(*p->parts)));
    p->room = g->own->backend->alloc(g->own, n * bytes);
    g->sum = g->own->backend->alloc(g->own, bytes);
    g->wide = g->own->backend->alloc(g->own, bytes);
    return p->room && g->sum && g->wide ? NN_OK : NN_MEMORY;
}

static nn_status make_events(gpus *g)
{
    CUDA(cudaEventCreateWithFlags(&g->before, cudaEventDisableTiming));
    for (int i = 0; i < NN_COMM_DEPTH; i++) CUDA(cudaEventCreate(&g->begun[i]));
    for (int i = 0; i < NN_COMM_DEPTH; i++) CUDA(cudaEventCreate(&g->done[i]));
    return NN_OK;
}

/* Rank 0 makes the name by which the ranks find each other. */
static nn_status meet(nn_comm *c, gpus *g)
{
    ncclUniqueId id;
    memset(&id, 0, sizeof(id));
    if (c->place.rank == 0) NCCL(ncclGetUniqueId(&id));
    NN_TRY(nn_comm_broadcast(g->over, NN_I32, sizeof(id) / 4, &id, 0));
    NCCL(ncclCommInitRank(&g->comm, c->place.n_ranks, id, c->place.rank));
    return NN_OK;
}

static nn_status connect(nn_comm *c, gpus *g)
{
    NN_TRY(nn_device_open("cuda", 1, &g->own));
    g->stream = nn_cuda_stream(g->own);
    NN_TRY(reserve(c, g));
    NN_TRY(make_events(g));
    return meet(c, g);
}

nn_status nn_comm_choose_gpu(const nn_comm_place *place)
{
    return nn_cuda_choose(place->local_rank);
}

nn_status nn_comm_open_nccl(nn_comm *over, nn_device *device, const nn_comm_options *options,
                            nn_comm **out)
{
    nn_comm *c;
    if (strcmp(device->backend->name, "cuda") != 0)
        return nn_fail(NN_ARGUMENT, "NCCL needs a cuda device, this one is %s",
                       device->backend->name);
    NN_TRY(nn_comm_make(&impl, nn_comm_place_of(over), options, &c));
    gpus *g = nn_alloc(1, sizeof(*g));
    nn_status status = g ? NN_OK : NN_MEMORY;
    if (g) {
        g->over = over;
        c->over = over;
        g->compute = device;
        c->state = g;
        status = connect(c, g);
    }
    if (status != NN_OK) {
        nn_comm_close(c);
        return status;
    }
    *out = c;
    return NN_OK;
}
