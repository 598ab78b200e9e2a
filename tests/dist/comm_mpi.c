/* One rank of a job of MPI; tests/tools/test_mpi starts it.
 *     comm_mpi check      all collectives, to the bit
 *     comm_mpi mismatch   rank 1 makes another call than the rest
 *     comm_mpi hang       rank 1 makes none
 *     comm_mpi die        rank 1 is killed while the others wait for it, without a time limit
 *     comm_mpi leave      rank 1 returns from main
 * All but the first must end the job, soon, after every rank that can has said why. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/dist/collectives.h"

enum { STEP = 12, PATIENCE = 10 /* seconds */ };

static nn_status check(nn_comm *c, const nn_comm_place *place)
{
    nn_device *d;
    nn_comm_place launched;
    NN_TRY(nn_device_open("ref", 1, &d));
    nn_status status = collectives_check(c, d, true, (1 << 20) + 11);
    nn_device_close(d);
    NN_TRY(status);
    nn_comm_place_from_environment(&launched);
    if (launched.rank != place->rank || launched.n_ranks != place->n_ranks ||
        launched.local_rank != place->local_rank || launched.n_local != place->n_local)
        return nn_fail(NN_NUMERIC, "MPI and its launcher disagree");
    printf("rank %d of %d (%d of %d on %s): checked\n", place->rank, place->n_ranks,
           place->local_rank, place->n_local, place->host);
    return NN_OK;
}

static nn_status fail_as(nn_comm *c, const char *how, int rank)
{
    float x[2] = { 1, 1 };
    const bool is_odd = rank == 1;
    nn_comm_step(c, STEP);
    if (how[0] == 'm') return nn_comm_all_reduce(c, NN_F32, is_odd ? 2 : 1, x);
    if (!is_odd) return nn_comm_all_reduce(c, NN_F32, 1, x);
    switch (how[0]) {
    case 'd':
        raise(SIGKILL);
        break;
    case 'l':
        _exit(0);
    default:
        for (;;) pause();
    }
    return NN_OK;
}

static nn_status run(const char *how, nn_comm *c)
{
    const nn_comm_place *place = nn_comm_place_of(c);
    if (how[0] == 'c') return check(c, place);
    NN_TRY(nn_comm_barrier(c));
    return fail_as(c, how, place->rank);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "check";
    const nn_comm_options options = { .timeout_seconds = how[0] == 'h' ? PATIENCE : 0 };
    nn_comm *c = NULL;
    nn_status status = nn_comm_open(&options, &c);
    if (status == NN_OK) status = run(how, c);
    if (status != NN_OK) {
        fprintf(stderr, "%s\n", nn_error_message());
        fflush(stderr);
        if (c) nn_comm_abort(c);
        return 1;
    }
    nn_comm_close(c);
    return 0;
}
