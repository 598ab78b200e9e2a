/* Benchmarks: networks, single ops and training steps on random data, timed.
 *
 * A case is run once to warm up; its figures are medians over the runs after that. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include "engine/nn.h"
#include "tools/device.h"

enum { BENCH_DIMS = 8, BENCH_MOST_RUNS = 1000 };

typedef struct bench_settings {
    device_settings on;
    const char *config_dir; /* the demo's networks */
    int64_t runs;
    bool compact; /* plans that save memory */
    bool profile; /* table of the last run's kernels on stderr */
} bench_settings;

typedef struct bench_result {
    char shape[200]; /* first input -> output */
    int threads;
    double seconds, cpu_seconds; /* of one run; cpu: of all threads */
    double create_seconds;       /* CPU time that planning took, */
    double first_seconds;        /* and the first run, which packs weights */
    double gflop, bytes;         /* of one run, by the ops' own account */
    int64_t parameter_bytes;     /* values, gradients, optimizer state */
    int64_t activation_bytes, workspace_bytes, packed_bytes;
    int64_t program_bytes;                  /* kernels, as their plans measured them */
    int64_t batch_bytes;                    /* host copies that the inputs are filled from */
    int64_t base_rss_bytes, peak_rss_bytes; /* resident before the case was built, and at most */
    int64_t n_launches, n_fallbacks;
    int64_t early_allocations, late_allocations; /* in the first timed run and in the last */
} bench_result;

typedef struct bench_case bench_case;
typedef nn_tensor *bench_build(const bench_case *c, nn_scope s);
typedef nn_status bench_run(const bench_case *c, const bench_settings *set, nn_device *device,
                            bench_result *out);

/* One of build (a graph for bench_graph) and run (the whole case) is set. */
struct bench_case {
    const char *name;
    bench_build *build;
    int64_t dim[BENCH_DIMS]; /* sizes, as build or run reads them */
    bool training;           /* forward and backward; otherwise a frozen plan */
    bench_run *run;
};

/* Each ends with { 0 }. */
extern const bench_case bench_nets[], bench_attentions[], bench_convs[], bench_products[],
    bench_norms[], bench_trainings[], bench_loaders[];

/* An input of normal random numbers; it gets a gradient where the case trains. Of ids: below 1000.
 */
nn_tensor *bench_input(const bench_case *c, nn_scope s, const char *name, int rank,
                       const int64_t *dim);
nn_tensor *bench_ids(nn_scope s, const char *name, int rank, const int64_t *dim);

/* Build, plan and time the graph of a case. A training case gets the gradients of everything under
 * a mean squared error. */
nn_status bench_graph(const bench_case *c, const bench_settings *set, nn_device *device,
                      bench_result *out) NN_CHECKED;

/* Adds what a plan says of itself. */
void bench_count_plan(const nn_plan *plan, bench_result *out);

/* -- the stop-watch */

typedef struct bench_clock {
    double wall[BENCH_MOST_RUNS], cpu[BENCH_MOST_RUNS];
    int64_t allocations[BENCH_MOST_RUNS];
    double wall_start, cpu_start;
    int64_t allocations_start;
    int64_t n;
} bench_clock;

void bench_clock_start(bench_clock *clock);
void bench_clock_lap(bench_clock *clock);                             /* ends a run, begins one */
void bench_clock_result(const bench_clock *clock, bench_result *out); /* after a lap or more */

#endif
