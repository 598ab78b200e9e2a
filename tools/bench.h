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
    bool profile;  /* table of the last run's kernels on stderr */
    bool kernels;  /* bench_steps for every case, not only on devices out of the host's reach */
    bool tiny;     /* cases at the size of their checks: for simulated devices */
    int64_t batch; /* copies of the first dimension, for bench_steps */
    int64_t limit; /* seconds that a case may take; 0 = any */
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

typedef void bench_shrink(int64_t *dim);

/* What the optimizer does in a case. */
typedef enum bench_optimize {
    BENCH_NO_UPDATE,
    BENCH_UPDATE,     /* AdamW behind the backward pass */
    BENCH_ONLY_UPDATE /* AdamW over what build declares, and nothing else */
} bench_optimize;

/* One of build (a graph for bench_graph and bench_steps) and run (the whole case) is set. */
struct bench_case {
    const char *name;
    bench_build *build;
    int64_t dim[BENCH_DIMS]; /* sizes, as build or run reads them */
    bool training;           /* forward and backward; otherwise a frozen plan */
    bench_run *run;
    const char *measure;  /* bench_steps: times each node of these ops; NULL = the graph as one */
    bench_shrink *shrink; /* dims that ref can compute too, for the same kernels; NULL = these */
    bench_optimize optimize;
    nn_dtype dtype;   /* this one whatever the settings say; NN_NONE = of the settings */
    const char *unit; /* what a run makes dim[0] of: "images"; NULL = nothing that is counted */
    bool one_size;    /* whatever the batch of the settings */
    bool of_device;   /* needs bench_steps: a host device times it by --kernels only */
};

/* Each ends with { 0 }. */
extern const bench_case bench_ceilings[], bench_nets[], bench_steps_of_nets[], bench_attentions[],
    bench_convs[], bench_products[], bench_norms[], bench_others[], bench_captions[],
    bench_trainings[], bench_loaders[];

/* An input of normal random numbers, rounded as an activation is; it gets a gradient where the case
 * trains. Of ids: below 1000. */
nn_tensor *bench_input(const bench_case *c, nn_scope s, const char *name, int rank,
                       const int64_t *dim);
nn_tensor *bench_ids(nn_scope s, const char *name, int rank, const int64_t *dim);

/* Build, plan and time the graph of a case. A training case gets the gradients of everything under
 * a mean squared error. */
nn_status bench_graph(const bench_case *c, const bench_settings *set, nn_device *device,
                      bench_result *out) NN_CHECKED;

/* -- kernels and graphs by the device's clock */

/* One line of the results. */
typedef struct bench_row {
    char name[96];   /* the case, and the op where it measures several */
    char kernel[64]; /* "graph" for all of it */
    char shape[200], dtype[8];
    int64_t batch;
    double seconds; /* of one run: median */
    double gflop, bytes;
    double per_second; /* of the case's unit, or 0 */
    char check[64];    /* what was found right: "ref", "finite"; or what was wrong */
    bool failed;       /* by the check */
    int64_t n_launches;
} bench_row;

typedef void bench_emit(void *ctx, const bench_row *row);

/* Build, check and time a case. Its inputs and weights exist several times over, more than any
 * cache holds, and runs take turns among them. Before anything is timed, the same graph at small
 * dims is held against ref, and every measured output must be finite; after it, a second run must
 * give the same bits. NN_UNSUPPORTED: the device has no kernel for a node. */
nn_status bench_steps(const bench_case *c, const bench_settings *set, nn_device *device,
                      bench_emit *emit, void *ctx) NN_CHECKED;

/* One graph of a case with its parameters and its plan, all inputs filled. */
typedef struct bench_copy {
    nn_params *params;
    nn_graph *graph;
    struct nn_optimizer *optimizer;
    nn_plan *plan;
    nn_tensor *out;
} bench_copy;
nn_status bench_copy_open(const bench_case *c, nn_device *device, bool profile,
                          bench_copy *out) NN_CHECKED;
void bench_copy_close(bench_copy *copy); /* legal after a failed open */

/* Whether a case times this node by itself. */
bool bench_measures(const bench_case *c, const nn_node *node);

/* Hold the case, shrunk, against ref; what was found goes to text, which names the kernels where
 * they are not those of `full`. False: something is wrong. */
nn_status bench_check(const bench_case *c, nn_device *device, const nn_plan *full, char *text,
                      size_t size, bool *ok) NN_CHECKED;

/* Every measured output of a run: finite, and a hash of their bits. */
nn_status bench_look(const bench_case *c, const bench_copy *copy, bool *finite,
                     uint64_t *hash) NN_CHECKED;

/* -- results */

/* The highest rates seen in this run, in memory that all its processes share. */
typedef struct bench_ceiling {
    double copy;    /* bytes a second */
    double gemm[2]; /* GFLOP a second, f32 and bf16 */
} bench_ceiling;

void bench_row_note(const bench_row *row, bench_ceiling *ceiling); /* a ceiling's row raises it */
void bench_row_print(const bench_row *row, const bench_ceiling *ceiling);
void bench_row_json(const bench_row *row, const bench_ceiling *ceiling, const char *device);

/* An earlier run's --json lines. */
typedef struct bench_baseline {
    bench_row *rows;
    int64_t n, capacity;
} bench_baseline;
nn_status bench_baseline_open(const char *path, bench_baseline *b) NN_CHECKED;
void bench_baseline_close(bench_baseline *b);

/* Says so and is true if the row takes more than 5 % longer than in the earlier run. */
bool bench_baseline_compare(const bench_baseline *b, const bench_row *row);

/* -- graphs by the host's clock */

/* Adds what a plan says of itself. */
void bench_count_plan(const nn_plan *plan, bench_result *out);

/* The table of a plan's last run, on stderr. */
nn_status bench_print_profile(const nn_plan *plan) NN_CHECKED;

/* -- collectives */

typedef struct bench_comm_settings {
    const device_settings *on;
    const char *filter; /* of rows, by kind and type: "all_reduce_*"; NULL = all */
    int64_t runs;
    bool tiny, as_json;
} bench_comm_settings;

/* Time the collectives of this job, all ranks together; the first one prints a row for each. */
nn_status bench_comm(const bench_comm_settings *set) NN_CHECKED;

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
