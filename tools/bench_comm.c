/* recap-bench comm: the collectives of a job, over sizes, beside those of MPI itself.
 *
 * Bytes and bandwidths are counted as nccl-tests counts them: bytes are of the larger of the two
 * buffers, algbw is bytes by time, and busbw what a ring moves over each link in that time: of N
 * ranks algbw times 2 (N - 1) / N for all_reduce, (N - 1) / N for reduce_scatter and all_gather, 1
 * for broadcast and reduce. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/dist/comm.h"
#include "tools/bench.h"
#include "tools/trainer.h"

enum {
    LARGEST = 64 << 20, /* bytes */
    LARGEST_TINY = 4 << 10,
    MOST_CALLS = 100, /* in a timed run */
    RUN_BYTES = 8 << 20
};

typedef struct job {
    const bench_comm_settings *set;
    nn_comm *over, *wire; /* the same where the host reaches the device's memory */
    nn_device *device;
    char *src, *dst; /* [LARGEST] on the device */
    int n_ranks;
} job;

typedef nn_status make_call(const job *j, const nn_comm_call *call);

/* -- who does it -- */

static nn_status by_ourselves(const job *j, const nn_comm_call *call)
{
    int64_t ticket;
    NN_TRY(nn_comm_start(j->wire, call, &ticket));
    return nn_comm_wait(j->wire, ticket);
}

#ifdef NN_MPI

static nn_status by_mpi(const job *j, const nn_comm_call *call)
{
    (void)j;
    return nn_comm_mpi_own(call);
}

#endif

/* -- timing -- */

typedef struct kind {
    nn_collective kind;
    const char *name;
    bool sums, parts; /* parts: one buffer is of N parts of the other's size */
} kind;

static const kind kinds[] = {
    { NN_COMM_BARRIER, "barrier", false, false },
    { NN_COMM_BROADCAST, "broadcast", false, false },
    { NN_COMM_ALL_REDUCE, "all_reduce", true, false },
    { NN_COMM_REDUCE, "reduce", true, false },
    { NN_COMM_REDUCE_SCATTER, "reduce_scatter", true, true },
    { NN_COMM_ALL_GATHER, "all_gather", false, true },
};

/* What one call took, 0 = it was not made. */
typedef struct row {
    const kind *kind;
    nn_dtype dtype;
    int64_t bytes;
    double seconds, mpi_seconds;
} row;

/* One run: the mean over calls and ranks. */
static nn_status time_run(const job *j, const nn_comm_call *call, make_call *make, int64_t n_calls,
                          double *out)
{
    NN_TRY(nn_comm_barrier(j->over));
    const double began = nn_clock_seconds();
    for (int64_t i = 0; i < n_calls; i++) NN_TRY(make(j, call));
    float mean = (float)((nn_clock_seconds() - began) / (double)n_calls / j->n_ranks);
    NN_TRY(nn_comm_all_reduce(j->over, NN_F32, 1, &mean));
    *out = mean;
    return NN_OK;
}

/* The best of the runs, ours and MPI's in turns. */
static nn_status time_row(const job *j, const nn_comm_call *call, row *r)
{
    const int64_t n_calls = nn_min(RUN_BYTES / nn_max(r->bytes, 1) + 1, MOST_CALLS);
    make_call *others[] = { by_ourselves, NULL };
    double *best[] = { &r->seconds, &r->mpi_seconds };
#ifdef NN_MPI
    const bool mpi = !strcmp(nn_comm_name(j->wire), "mpi");
    if (mpi && (!r->kind->sums || r->dtype == NN_F32)) others[1] = by_mpi;
#endif
    for (int who = 0; who < 2; who++)
        if (others[who]) NN_TRY(others[who](j, call)); /* warms up */
    for (int64_t run = 0; run < j->set->runs; run++)
        for (int who = 0; who < 2; who++) {
            double seconds;
            if (!others[who]) continue;
            NN_TRY(time_run(j, call, others[who], n_calls, &seconds));
            if (run == 0 || seconds < *best[who]) *best[who] = seconds;
        }
    return NN_OK;
}

/* -- rows -- */

static double bus_factor(const kind *k, int n)
{
    const double links = (double)(n - 1) / n;
    return k->kind == NN_COMM_ALL_REDUCE ? 2 * links : k->parts ? links : 1;
}

static void print_json(const job *j, const row *r)
{
    const double factor = bus_factor(r->kind, j->n_ranks), bytes = (double)r->bytes;
    const double seconds[] = { r->seconds, r->mpi_seconds };
    static const char *const prefix[] = { "", "mpi_" };
    printf("{\"name\": \"comm_%s\", \"dtype\": \"%s\", \"device\": \"%s\", \"over\": \"%s\", "
           "\"ranks\": %d, \"bytes\": %" PRId64,
           r->kind->name, r->bytes ? nn_dtype_name(r->dtype) : "", j->set->on->name,
           nn_comm_name(j->wire), j->n_ranks, r->bytes);
    for (int i = 0; i < 2; i++)
        if (seconds[i] > 0)
            printf(", \"%sseconds\": %.9f, \"%salgbw_gbs\": %.6g, \"%sbusbw_gbs\": %.6g", prefix[i],
                   seconds[i], prefix[i], 1e-9 * bytes / seconds[i], prefix[i],
                   1e-9 * bytes / seconds[i] * factor);
    printf("}\n");
}

static void print_text(const job *j, const row *r)
{
    const double factor = bus_factor(r->kind, j->n_ranks), bytes = (double)r->bytes;
    const double seconds[] = { r->seconds, r->mpi_seconds };
    static const char *const who[] = { "", "  mpi" };
    printf("%-14s %-4s %9" PRId64 " B", r->kind->name, r->bytes ? nn_dtype_name(r->dtype) : "",
           r->bytes);
    for (int i = 0; i < 2; i++)
        if (seconds[i] > 0)
            printf("%s %11.2f us %8.3f GB/s %8.3f GB/s bus", who[i], 1e6 * seconds[i],
                   1e-9 * bytes / seconds[i], 1e-9 * bytes / seconds[i] * factor);
    printf("\n");
}

static nn_status make_row(const job *j, const kind *k, nn_dtype dtype, int64_t bytes)
{
    const int64_t parts = k->parts ? j->n_ranks : 1, size = nn_dtype_bytes(dtype);
    nn_comm_call call = { .kind = k->kind, .dtype = dtype, .src = j->src, .dst = j->dst };
    call.n = nn_max(bytes / size / parts, bytes ? 1 : 0);
    if (k->kind == NN_COMM_BROADCAST) call.src = call.dst;
    row r = { .kind = k, .dtype = dtype, .bytes = call.n * size * parts };
    NN_TRY(time_row(j, &call, &r));
    if (nn_comm_place_of(j->over)->rank == 0) (j->set->as_json ? print_json : print_text)(j, &r);
    fflush(stdout);
    return NN_OK;
}

/* bytes 4, 16, 64 ...: 64 MB are the last. */
static nn_status make_rows(const job *j, const kind *k, nn_dtype dtype)
{
    const int64_t most = j->set->tiny ? LARGEST_TINY : LARGEST;
    char name[48];
    snprintf(name, sizeof(name), "%s_%s", k->name, nn_dtype_name(dtype));
    if (j->set->filter && fnmatch(j->set->filter, name, 0) != 0) return NN_OK;
    if (k->kind == NN_COMM_BARRIER) return dtype == NN_F32 ? make_row(j, k, dtype, 0) : NN_OK;
    for (int64_t bytes = 4; bytes <= most; bytes *= 4) NN_TRY(make_row(j, k, dtype, bytes));
    return NN_OK;
}

static nn_status make_all(const job *j)
{
    static const nn_dtype dtypes[] = { NN_F32, NN_BF16 };
    for (int i = 0; i < NN_COMM_CHECKED; i++) NN_TRY(nn_comm_barrier(j->wire));
    for (int k = 0; k < NN_COUNT(kinds); k++)
        for (int d = 0; d < NN_COUNT(dtypes); d++) NN_TRY(make_rows(j, &kinds[k], dtypes[d]));
    return nn_comm_barrier(j->over);
}

/* -- the job -- */

static nn_status open_wire(job *j)
{
    j->wire = j->over;
    if (j->device->backend->host_memory) return NN_OK;
#ifdef NN_NCCL
    const nn_comm_options options = { .deterministic = j->device->deterministic };
    return nn_comm_open_nccl(j->over, j->device, &options, &j->wire);
#else
    return nn_fail(NN_UNSUPPORTED, "ranks on the %s device need NCCL: build with make CUDA=1 MPI=1",
                   j->device->backend->name);
#endif
}

static nn_status open_job(job *j)
{
    const nn_comm_options options = { .timeout_seconds = 600 };
    NN_TRY(nn_comm_open(&options, &j->over));
    j->n_ranks = nn_comm_place_of(j->over)->n_ranks;
#ifdef NN_NCCL
    if (!strcmp(j->set->on->name, "cuda") && j->n_ranks > 1)
        NN_TRY(nn_comm_choose_gpu(nn_comm_place_of(j->over)));
#endif
    NN_TRY(device_open(j->set->on, &j->device));
    NN_TRY(open_wire(j));
    NN_NEED(j->src = j->device->backend->alloc(j->device, LARGEST + 64));
    NN_NEED(j->dst = j->device->backend->alloc(j->device, LARGEST + 64));
    return NN_OK;
}

nn_status bench_comm(const bench_comm_settings *set)
{
    job j = { .set = set };
    nn_status status = open_job(&j);
    if (status == NN_OK) status = make_all(&j);
    if (status != NN_OK && j.n_ranks > 1)
        trainer_ranks_fail(&(trainer_ranks){ .comm = j.over }, j.wire);
    if (j.wire != j.over) nn_comm_close(j.wire);
    if (j.src) j.device->backend->free(j.device, j.src);
    if (j.dst) j.device->backend->free(j.device, j.dst);
    nn_device_close(j.device);
    nn_comm_close(j.over);
    return status;
}
