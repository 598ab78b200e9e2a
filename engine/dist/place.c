/* Which of how many ranks this process is, by what its launcher says and by what MPI says. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/dist/internal.h"

enum { MOST_RANKS = 1 << 20 };

/* The number in a variable, `otherwise` if there is none. */
static int number_in(const char *variable, int otherwise)
{
    const char *text = getenv(variable);
    char *end;
    if (!text || !*text) return otherwise;
    const long value = strtol(text, &end, 10);
    return *end || value < 0 || value > MOST_RANKS ? otherwise : (int)value;
}

/* SLURM_NTASKS is also there in a batch script that starts one process; the number of tasks of a
 * step is there in a step alone. SLURM_STEP_TASKS_PER_NODE may be "2(x3),1": its first number is
 * the most there are. */
static void from_slurm(nn_comm_place *out)
{
    const char *per_node = getenv("SLURM_STEP_TASKS_PER_NODE");
    out->n_ranks = number_in("SLURM_STEP_NUM_TASKS", 1);
    out->rank = number_in("SLURM_PROCID", 0);
    out->local_rank = number_in("SLURM_LOCALID", 0);
    out->n_local = per_node ? (int)nn_max(1, strtol(per_node, NULL, 10)) : 1;
}

static void from_mpirun(nn_comm_place *out)
{
    out->n_ranks = number_in("OMPI_COMM_WORLD_SIZE", 1);
    out->rank = number_in("OMPI_COMM_WORLD_RANK", 0);
    out->local_rank = number_in("OMPI_COMM_WORLD_LOCAL_RANK", 0);
    out->n_local = number_in("OMPI_COMM_WORLD_LOCAL_SIZE", 1);
}

void nn_comm_place_from_environment(nn_comm_place *out)
{
    *out = (nn_comm_place){ .n_ranks = 1, .n_local = 1 };
    if (gethostname(out->host, sizeof(out->host) - 1) != 0)
        snprintf(out->host, sizeof(out->host), "unknown");
    if (getenv("OMPI_COMM_WORLD_SIZE"))
        from_mpirun(out);
    else if (getenv("SLURM_STEP_NUM_TASKS"))
        from_slurm(out);
    if (out->n_ranks >= 1 && out->rank < out->n_ranks) return;
    out->n_ranks = 1;
    out->rank = 0;
}

nn_status nn_comm_open(const nn_comm_options *options, nn_comm **out)
{
    nn_comm_place launched;
    nn_comm_place_from_environment(&launched);
    if (launched.n_ranks == 1) return nn_comm_open_single(options, out);
#ifdef NN_MPI
    nn_comm *c;
    NN_TRY(nn_comm_open_mpi(options, &c));
    if (c->place.n_ranks == launched.n_ranks) {
        *out = c;
        return NN_OK;
    }
    const int seen = c->place.n_ranks;
    nn_comm_close(c);
    return nn_fail(NN_UNSUPPORTED,
                   "rank %d of %d was started on %s, but MPI sees %d: start with the mpirun of the "
                   "same MPI, or with srun --mpi=pmix",
                   launched.rank, launched.n_ranks, launched.host, seen);
#else
    (void)out;
    return nn_fail(NN_UNSUPPORTED,
                   "rank %d of %d was started on %s, but this build has no MPI: build with make "
                   "MPI=1, or start one process",
                   launched.rank, launched.n_ranks, launched.host);
#endif
}
