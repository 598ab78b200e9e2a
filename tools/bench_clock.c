/* The stop-watch of the benchmarks. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "tools/bench.h"

void bench_clock_start(bench_clock *clock)
{
    clock->allocations_start = nn_alloc_count();
    clock->cpu_start = nn_clock_cpu_seconds();
    clock->wall_start = nn_clock_seconds();
}

void bench_clock_lap(bench_clock *clock)
{
    double wall = nn_clock_seconds(), cpu = nn_clock_cpu_seconds();
    NN_ASSERT(clock->n < BENCH_MOST_RUNS);
    clock->wall[clock->n] = wall - clock->wall_start;
    clock->cpu[clock->n] = cpu - clock->cpu_start;
    clock->allocations[clock->n] = nn_alloc_count() - clock->allocations_start;
    clock->n++;
    bench_clock_start(clock);
}

static int smaller_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int64_t n)
{
    double sorted[BENCH_MOST_RUNS];
    memcpy(sorted, values, (size_t)n * sizeof(*sorted));
    qsort(sorted, (size_t)n, sizeof(*sorted), smaller_first);
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

void bench_clock_result(const bench_clock *clock, bench_result *out)
{
    NN_ASSERT(clock->n > 0);
    out->seconds = median(clock->wall, clock->n);
    out->cpu_seconds = median(clock->cpu, clock->n);
    out->early_allocations = clock->allocations[0];
    out->late_allocations = clock->allocations[clock->n - 1];
}
