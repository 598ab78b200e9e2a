/* recap-bench: times networks, ops and training steps. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "tools/apart.h"
#include "tools/bench.h"

static bench_settings set = {
    .on = DEVICE_DEFAULTS, .config_dir = "tools/demo", .runs = 5, .batch = 1
};
static bool as_json, list;
static const char *filter, *baseline;

static const nn_option options[] = {
    DEVICE_OPTIONS(set.on),
    DEVICE_KERNEL_OPTIONS(set.on),
    { .name = "runs",
      .integer = &set.runs,
      .low = 1,
      .high = BENCH_MOST_RUNS,
      .help = "timed runs of each case, after one that warms up" },
    { .name = "config-dir",
      .text = &set.config_dir,
      .value = "DIR",
      .help = "where the networks of the demo_ cases are configured" },
    { .name = "profile", .flag = &set.profile, .help = "table of the kernels of the last run" },
    { .name = "kernels",
      .flag = &set.kernels,
      .help = "time each kernel by the device's clock (as on cuda)" },
    { .name = "batch",
      .integer = &set.batch,
      .low = 1,
      .high = 4096,
      .help = "times the first size of each case, for --kernels and cuda" },
    { .name = "tiny", .flag = &set.tiny, .help = "cases of small sizes, for simulated devices" },
    { .name = "limit",
      .integer = &set.limit,
      .low = 0,
      .high = 1e6,
      .help = "seconds that a case may take; 0 = any" },
    { .name = "filter",
      .text = &filter,
      .value = "GLOB",
      .help = "only cases that match this too" },
    { .name = "baseline",
      .text = &baseline,
      .value = "FILE",
      .help = "earlier --json lines; fails where a row is 5 % slower" },
    { .name = "json", .flag = &as_json, .help = "one JSON object a line" },
    { .name = "list", .flag = &list, .help = "name the cases and stop" },
    { 0 },
};

static const bench_case *const groups[] = {
    bench_ceilings,  bench_steps_of_nets, bench_nets,   bench_attentions, bench_convs,
    bench_products,  bench_norms,         bench_others, bench_captions,
#ifndef NN_PLAIN /* what reads pictures and tokenizers */
    bench_trainings, bench_loaders,
#endif
};

static int64_t planned_bytes(const bench_result *r)
{
    return r->parameter_bytes + r->activation_bytes + r->workspace_bytes + r->packed_bytes +
           r->program_bytes + r->batch_bytes + r->base_rss_bytes;
}

static double rate(const bench_result *r)
{
    return r->cpu_seconds > 0 ? r->gflop / r->cpu_seconds : 0;
}

static void print_json(const bench_case *c, const bench_result *r)
{
    printf("{\"name\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", \"device\": \"%s\", "
           "\"threads\": %d, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"gflop\": %.6f, "
           "\"bytes\": %.0f, \"gflops_per_core\": %.2f, \"peak_rss_bytes\": %" PRId64
           ", \"base_rss_bytes\": %" PRId64 ", \"planned_bytes\": %" PRId64,
           c->name, r->shape, device_dtypes[set.on.dtype], set.on.name, r->threads, r->seconds,
           r->cpu_seconds, r->gflop, r->bytes, rate(r), r->peak_rss_bytes, r->base_rss_bytes,
           planned_bytes(r));
    printf(", \"parameter_bytes\": %" PRId64 ", \"activation_bytes\": %" PRId64
           ", \"workspace_bytes\": %" PRId64 ", \"packed_bytes\": %" PRId64
           ", \"program_bytes\": %" PRId64 ", \"batch_bytes\": %" PRId64
           ", \"create_cpu_seconds\": %.6f, \"first_cpu_seconds\": %.6f, \"launches\": %" PRId64
           ", \"fallbacks\": %" PRId64 ", \"early_allocations\": %" PRId64
           ", \"late_allocations\": %" PRId64 "}\n",
           r->parameter_bytes, r->activation_bytes, r->workspace_bytes, r->packed_bytes,
           r->program_bytes, r->batch_bytes, r->create_seconds, r->first_seconds, r->n_launches,
           r->n_fallbacks, r->early_allocations, r->late_allocations);
}

static void print_row(const bench_case *c, const bench_result *r)
{
    printf("%-30s %10.3f ms %10.3f cpu ms %10.3f GFLOP %7.1f GFLOP/s/core %8.1f MB planned "
           "%8.1f MB peak\n",
           c->name, 1e3 * r->seconds, 1e3 * r->cpu_seconds, r->gflop, rate(r),
           1e-6 * (double)planned_bytes(r), 1e-6 * (double)r->peak_rss_bytes);
}

/* -- the run: chosen cases, each in a process of its own on the host (peak memory is counted per
 * process), many in one elsewhere */

typedef struct tally {
    bench_ceiling ceiling;
    int64_t measured, failed, slower, without_kernel;
} tally;

typedef struct job {
    const bench_case **cases;
    int64_t n, capacity;
    tally *tally;
    bench_baseline baseline;
    bool by_device;    /* bench_steps, */
    nn_device *device; /* all of a process on this one */
} job;

static void emit(void *ctx, const bench_row *row)
{
    job *j = ctx;
    tally *t = j->tally;
    bench_row_note(row, &t->ceiling);
    if (as_json)
        bench_row_json(row, &t->ceiling, set.on.name);
    else
        bench_row_print(row, &t->ceiling);
    fflush(stdout);
    t->failed += row->failed;
    t->slower += bench_baseline_compare(&j->baseline, row);
}

static nn_status open_device(void *ctx)
{
    return device_open(&set.on, &((job *)ctx)->device);
}

static void close_device(void *ctx)
{
    nn_device_close(((job *)ctx)->device);
}

static nn_status measure_steps(job *j, const bench_case *c)
{
    static const nn_dtype of_settings[] = { NN_F32, NN_BF16 };
    NN_TRY(nn_device_compute(j->device, c->dtype ? c->dtype : of_settings[set.on.dtype]));
    return bench_steps(c, &set, j->device, emit, j);
}

static nn_status measure_host(const bench_case *c)
{
    nn_device *device;
    bench_result r = { 0 };
    NN_TRY(device_open(&set.on, &device));
    r.threads = nn_pool_threads(device->pool);
    r.base_rss_bytes = nn_clock_rss_bytes();
    nn_status status = c->run ? c->run(c, &set, device, &r) : bench_graph(c, &set, device, &r);
    nn_device_close(device);
    NN_TRY(status);
    r.peak_rss_bytes = nn_clock_peak_rss_bytes();
    (as_json ? print_json : print_row)(c, &r);
    return NN_OK;
}

static void lose(void *ctx, int64_t i, const char *why)
{
    job *j = ctx;
    fprintf(stderr, "recap-bench: %s: %s\n", j->cases[i]->name, why);
    j->tally->failed++;
}

static nn_status measure(void *ctx, int64_t i)
{
    job *j = ctx;
    const bench_case *c = j->cases[i];
    if (nn_cli_interrupted()) return nn_fail(NN_INTERRUPTED, "interrupted");
    nn_status status = j->by_device && c->build ? measure_steps(j, c) : measure_host(c);
    if (status == NN_UNSUPPORTED && j->by_device) {
        fprintf(stderr, "no kernel: %s: %s\n", c->name, nn_error_message());
        j->tally->without_kernel++;
        return NN_OK;
    }
    if (status == NN_OK)
        j->tally->measured++;
    else
        lose(j, i, nn_error_message());
    return status;
}

static bool is_chosen(const job *j, const bench_case *c)
{
    for (int64_t i = 0; i < j->n; i++)
        if (j->cases[i] == c) return true;
    return false;
}

static nn_status choose(job *j, const char *pattern)
{
    bool found = false;
    for (int g = 0; g < NN_COUNT(groups); g++)
        for (const bench_case *c = groups[g]; c->name; c++) {
            if (fnmatch(pattern, c->name, 0) != 0 || (filter && fnmatch(filter, c->name, 0) != 0))
                continue;
            found = true;
            if (is_chosen(j, c)) continue;
            if (c->of_device && !j->by_device && strcmp(pattern, c->name) != 0) continue;
            if (c->of_device && !j->by_device)
                return nn_fail(NN_ARGUMENT, "%s is timed by --kernels, or on device cuda", c->name);
            NN_TRY(nn_grow(&j->cases, &j->capacity, j->n, sizeof(*j->cases)));
            j->cases[j->n++] = c;
        }
    return found ? NN_OK
                 : nn_fail(NN_ARGUMENT, "no case is called '%s'; --list names them", pattern);
}

/* A GPU's ceilings come first in every run: the others are held against them. */
static nn_status choose_all(job *j, const nn_cli *cli)
{
    const char *only = filter;
    filter = NULL;
    if (!set.tiny && !strcmp(set.on.name, "cuda")) {
        NN_TRY(choose(j, "copy_bandwidth"));
        NN_TRY(choose(j, set.on.dtype ? "gemm_ceiling_bf16" : "gemm_ceiling_f32"));
    }
    filter = only;
    if (cli->n_arguments == 0) return choose(j, "*");
    for (int i = 0; i < cli->n_arguments; i++) NN_TRY(choose(j, cli->arguments[i]));
    return NN_OK;
}

static nn_status run(job *j)
{
    const apart a = { .n = j->n,
                      .seconds = set.limit,
                      .each = !j->by_device,
                      .ctx = j,
                      .open = j->by_device ? open_device : NULL,
                      .job = measure,
                      .close = j->by_device ? close_device : NULL,
                      .lost = lose };
    NN_TRY(apart_run(&a));
    const tally *t = j->tally;
    if (j->by_device)
        fprintf(stderr, "%" PRId64 " passed, %" PRId64 " failed, %" PRId64 " without a kernel\n",
                t->measured, t->failed, t->without_kernel);
    if (t->failed) return nn_fail(NN_NUMERIC, "%" PRId64 " cases failed or are wrong", t->failed);
    if (t->slower)
        return nn_fail(NN_NUMERIC, "%" PRId64 " rows are more than 5 %% slower than in %s",
                       t->slower, baseline);
    return NN_OK;
}

static nn_status bench(const nn_cli *cli)
{
    job j = { .by_device = set.kernels || !strcmp(set.on.name, "cuda") };
    for (int g = 0; list && g < NN_COUNT(groups); g++)
        for (const bench_case *c = groups[g]; c->name; c++) puts(c->name);
    if (list) puts("comm");
    if (list) return NN_OK;
    if (cli->n_arguments == 1 && !strcmp(cli->arguments[0], "comm"))
        return bench_comm(&(bench_comm_settings){ .on = &set.on,
                                                  .filter = filter,
                                                  .runs = set.runs,
                                                  .tiny = set.tiny,
                                                  .as_json = as_json });
    if (cli->n_arguments < 1 && !filter)
        return nn_fail(NN_ARGUMENT, "give the name of a case or a pattern; --list names the cases");
    NN_NEED(j.tally = apart_shared(sizeof(*j.tally)));
    nn_status status = baseline ? bench_baseline_open(baseline, &j.baseline) : NN_OK;
    if (status == NN_OK) status = choose_all(&j, cli);
    if (status == NN_OK) status = run(&j);
    bench_baseline_close(&j.baseline);
    nn_free(j.cases);
    return status;
}

static const nn_command commands[] = {
    { .arguments = "CASE...",
      .least = 0,
      .most = 1000,
      .summary = "Times each case (a name or pattern), or comm: what mpirun's ranks exchange.",
      .example = "recap-bench unet_sd14_512 'attention*' --threads 1 --json",
      .options = options,
      .ranks = true,
      .run = bench },
    { 0 },
};

static const nn_program program = { "recap-bench",
                                    "Times networks, single ops and training steps on random data.",
                                    commands };

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
