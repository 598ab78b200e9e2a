/* Ranks that compute together: the processes (or, in tests, threads) of one job, and the collective
 * operations between them.
 *
 * One interface, four implementations: single (one rank, no peers), threads (N ranks of one
 * process, for tests), MPI (ranks with host memory; builds with MPI=1) and NCCL (one GPU per rank;
 * introduced to each other by another communicator).
 *
 * A collective is started and waited for; between the two its buffers belong to it. All ranks start
 * the same collectives in the same order, and they are done in that order. A rank's communicator is
 * used by one thread.
 *
 * Sums are of rank 0, 1, ... N - 1 in this order, whatever arrives first: the same bits on every
 * rank and with every implementation. bf16 is summed in f32 and rounded once. NCCL does so when it
 * is asked to (`deterministic`, `precise`); otherwise it adds as its rings and trees run.
 *
 * Nothing hangs silently: a collective that is not done in time, a rank that has left or failed,
 * and ranks that start different collectives end in NN_DEVICE, with a message that names rank,
 * host, collective and step. After that the communicator is of no more use and every call fails
 * alike. */
#ifndef ENGINE_DIST_COMM_H
#define ENGINE_DIST_COMM_H

#include "kernels/backend.h"

typedef struct nn_comm nn_comm;

enum {
    NN_COMM_DEPTH = 64,   /* collectives that may be started and not waited for */
    NN_COMM_CHECKED = 64, /* the first ones of a run, whose calls are always compared */
    NN_COMM_HOST = 64     /* bytes of a host's name */
};

/* Where a rank is. */
typedef struct nn_comm_place {
    int rank, n_ranks;
    int local_rank, n_local; /* among the ranks of its host */
    char host[NN_COMM_HOST];
} nn_comm_place;

typedef struct nn_comm_options {
    double timeout_seconds; /* that a collective may take; 0 = for ever */
    bool deterministic;     /* NCCL: sums in the order of the ranks */
    bool precise;           /* NCCL: bf16 is summed in f32 and rounded once */
    bool check;             /* compare the calls of the ranks always, not only at the start */
} nn_comm_options;

typedef enum nn_collective {
    NN_COMM_BARRIER,
    NN_COMM_BROADCAST,      /* dst [n] of rank `root` to all */
    NN_COMM_ALL_REDUCE,     /* dst [n] becomes the sum of all ranks' src [n] */
    NN_COMM_REDUCE,         /* the same on rank `root`; the others' dst is undefined */
    NN_COMM_REDUCE_SCATTER, /* dst [n] becomes part `rank` of the sum of all ranks' src [N * n] */
    NN_COMM_ALL_GATHER      /* dst [N * n] becomes all ranks' src [n], one behind the other */
} nn_collective;

/* dtype: NN_F32 or NN_BF16; broadcast and all_gather move any. n counts elements. Buffers lie in
 * the memory that the communicator reaches: the host's, NCCL: the GPU's. src == dst for broadcast;
 * for all_reduce and reduce it may be; of reduce_scatter dst may be, and of all_gather src may be,
 * part `rank` of the other. Other overlaps are wrong. */
typedef struct nn_comm_call {
    nn_collective kind;
    nn_dtype dtype;
    int root;
    int64_t n;
    const void *src;
    void *dst;
} nn_comm_call;

/* -- opening; owner: the caller, through nn_comm_close -- */

/* The ranks of this job: MPI's if the program was started by mpirun or srun as one of several, else
 * a single one. Collective. Errors: NN_UNSUPPORTED where there are several and the build has no
 * MPI, or MPI does not see them. */
nn_status nn_comm_open(const nn_comm_options *options, nn_comm **out) NN_CHECKED;

nn_status nn_comm_open_single(const nn_comm_options *options, nn_comm **out) NN_CHECKED;

/* out[r] is for the thread that is rank r. All or none are opened. */
nn_status nn_comm_open_threads(int n_ranks, const nn_comm_options *options,
                               nn_comm *out[]) NN_CHECKED;

/* Builds with MPI=1. Starts MPI if nobody has; the last close ends it then. Collective. */
nn_status nn_comm_open_mpi(const nn_comm_options *options, nn_comm **out) NN_CHECKED;

/* Builds with MPI=1: the same by MPI's own collective over all ranks of the job, to measure
 * against; sums of f32 alone. MPI is started, and no other call is under way. */
nn_status nn_comm_mpi_own(const nn_comm_call *call) NN_CHECKED;

/* CUDA builds with MPI=1, and the simulator's. The ranks of `over`, each with the GPU of its
 * device; both must outlive the communicator. Collectives wait for what was enqueued on the device
 * before their start. Collective. */
nn_status nn_comm_open_nccl(nn_comm *over, nn_device *device, const nn_comm_options *options,
                            nn_comm **out) NN_CHECKED;

/* Builds as of nn_comm_open_nccl. cuda devices that this thread opens from here on are on the GPU
 * of that rank: the one with its local number. Errors: NN_DEVICE where there are fewer. */
nn_status nn_comm_choose_gpu(const nn_comm_place *place) NN_CHECKED;

/* Lets everything started end first, unless something has failed. NULL is legal. */
void nn_comm_close(nn_comm *c);

/* -- asking -- */

const nn_comm_place *nn_comm_place_of(const nn_comm *c);
const char *nn_comm_name(const nn_comm *c); /* "single", "threads", "mpi", "nccl" */

/* What the launcher says in the environment: Open MPI's mpirun, or Slurm's srun. Without one: a
 * single rank. local_rank is 0 of n_local 1 where the launcher does not say. */
void nn_comm_place_from_environment(nn_comm_place *out);

/* -- collectives -- */

/* The step that messages name from here on. */
void nn_comm_step(nn_comm *c, int64_t step);

/* The collective that this rank is in, as messages name it: "all_reduce of 10 f32 (collective 7,
 * step 2)". Without one (*under_way is false) the last one, "" before the first. May be called from
 * a signal handler. */
const char *nn_comm_now(const nn_comm *c, bool *under_way);

/* Start a collective; does not wait for peers, but over NCCL while calls are compared. The ticket
 * is its number, from 0. Errors: NN_ARGUMENT for a call that makes no sense, or when NN_COMM_DEPTH
 * are not waited for. */
nn_status nn_comm_start(nn_comm *c, const nn_comm_call *call, int64_t *ticket) NN_CHECKED;

/* Until this collective and all before it are done. */
nn_status nn_comm_wait(nn_comm *c, int64_t ticket) NN_CHECKED;

/* Seconds that this rank's collectives have taken so far, waited for or not: each from when all
 * before it were done and its buffers ready. Over NCCL of those that were waited for. */
double nn_comm_busy(nn_comm *c);

/* This rank cannot go on: every rank's waits fail from now on. Under MPI it ends the job, and does
 * not return. */
void nn_comm_abort(nn_comm *c);

/* Start and wait. */
nn_status nn_comm_barrier(nn_comm *c) NN_CHECKED;
nn_status nn_comm_broadcast(nn_comm *c, nn_dtype dtype, int64_t n, void *buffer,
                            int root) NN_CHECKED;
nn_status nn_comm_all_reduce(nn_comm *c, nn_dtype dtype, int64_t n, void *buffer) NN_CHECKED;
nn_status nn_comm_reduce(nn_comm *c, nn_dtype dtype, int64_t n, void *buffer, int root) NN_CHECKED;
nn_status nn_comm_reduce_scatter(nn_comm *c, nn_dtype dtype, int64_t n, const void *src,
                                 void *dst) NN_CHECKED;
nn_status nn_comm_all_gather(nn_comm *c, nn_dtype dtype, int64_t n, const void *src,
                             void *dst) NN_CHECKED;

#endif
