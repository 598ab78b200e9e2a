/* recap-bench: times networks, ops and training steps. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "tools/bench.h"

static bench_settings set = { .on = DEVICE_DEFAULTS, .config_dir = "tools/demo", .runs = 5 };
static bool as_json, list;

static const nn_option options[] = {
    DEVICE_OPTIONS(set.on),
    { .name = "runs",
      .integer = &set.runs,
      .low = 1,
      .high = BENCH_MOST_RUNS,
      .help = "timed runs of each case, after one that warms up" },
    { .name = "config-dir",
      .text = &set.config_dir,
      .value = "DIR",
      .help = "where the networks of the demo_ cases are configured" },
    { .name = "compact", .flag = &set.compact, .help = "plans that save memory at some speed" },
    { .name = "profile", .flag = &set.profile, .help = "table of the kernels of the last run" },
    { .name = "json", .flag = &as_json, .help = "one JSON object a line" },
    { .name = "list", .flag = &list, .help = "name the cases and stop" },
    { 0 },
};

static const bench_case *const groups[] = { bench_nets,     bench_attentions, bench_convs,
                                            bench_products, bench_norms,      bench_trainings,
                                            bench_loaders };

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

static nn_status measure(const bench_case *c)
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

/* In a process of its own: peak memory is counted per process. */
static nn_status measure_apart(const bench_case *c)
{
    int code;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) return nn_fail(NN_IO, "%s: no process could be made for it", c->name);
    if (child == 0) {
        nn_status status = measure(c);
        if (status != NN_OK) fprintf(stderr, "recap-bench: %s: %s\n", c->name, nn_error_message());
        fflush(stdout);
        _exit(status == NN_OK ? NN_EXIT_OK : NN_EXIT_FAILED);
    }
    if (waitpid(child, &code, 0) != child)
        return nn_fail(NN_IO, "%s: its process was lost", c->name);
    if (nn_cli_interrupted()) return nn_fail(NN_INTERRUPTED, "interrupted");
    return WIFEXITED(code) && WEXITSTATUS(code) == NN_EXIT_OK
               ? NN_OK
               : nn_fail(NN_DEVICE, "%s could not be measured", c->name);
}

static nn_status measure_all(const char *pattern)
{
    bool found = false;
    for (int g = 0; g < NN_COUNT(groups); g++)
        for (const bench_case *c = groups[g]; c->name; c++) {
            if (fnmatch(pattern, c->name, 0) != 0) continue;
            found = true;
            NN_TRY(measure_apart(c));
        }
    return found ? NN_OK
                 : nn_fail(NN_ARGUMENT, "no case is called '%s'; --list names them", pattern);
}

static nn_status bench(const nn_cli *cli)
{
    for (int g = 0; list && g < NN_COUNT(groups); g++)
        for (const bench_case *c = groups[g]; c->name; c++) puts(c->name);
    if (list) return NN_OK;
    if (cli->n_arguments < 1)
        return nn_fail(NN_ARGUMENT, "give the name of a case or a pattern; --list names the cases");
    for (int i = 0; i < cli->n_arguments; i++) NN_TRY(measure_all(cli->arguments[i]));
    return NN_OK;
}

static const nn_command commands[] = {
    { .arguments = "CASE...",
      .least = 0,
      .most = 1000,
      .summary = "Times each case (a name of --list, or a pattern) and prints what it took.",
      .example = "recap-bench unet_sd14_512 'attention*' --threads 1 --json",
      .options = options,
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
