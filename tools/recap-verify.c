/* recap-verify: runs the cases of a file of known outputs. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "tools/apart.h"
#include "tools/device.h"
#include "tools/verify.h"

static const char *only;
static bool list;
static int64_t limit;
static device_settings on = DEVICE_DEFAULTS;

static const nn_option options[] = {
    DEVICE_OPTIONS(on),
    DEVICE_KERNEL_OPTIONS(on),
    { .name = "only", .text = &only, .value = "GLOB", .help = "run the cases whose name matches" },
    { .name = "limit",
      .integer = &limit,
      .low = 0,
      .high = 1e6,
      .help = "seconds that a case may take; 0 = any" },
    { .name = "list", .flag = &list, .help = "name the cases and stop" },
    { 0 },
};

verify_fn *verify_network(const char *network)
{
    static const struct {
        const char *name;
        verify_fn *run;
    } known[] = {
        { "time_embedding", verify_time_embedding },
        { "unet", verify_unet },
        { "vae_encoder", verify_vae_encoder },
        { "vae_decoder", verify_vae_decoder },
        { "clip_text", verify_clip_text },
        { "blip_vision", verify_blip_vision },
        { "blip_decoder", verify_blip_decoder },
        { "blip_generate", verify_blip_generate },
        { "train_diffusion", verify_train_diffusion },
        { "train_captioner", verify_train_captioner },
        { "scheduler", verify_scheduler },
        { "resize", verify_resize },
    };
    for (int i = 0; i < NN_COUNT(known); i++)
        if (!strcmp(network, known[i].name)) return known[i].run;
    return NULL;
}

typedef struct tally {
    int passed, failed, skipped;
} tally;

typedef struct job {
    const json_t **cases; /* those that are wanted */
    tally *tally;         /* in memory that all processes share */
    nn_device *device;    /* of this process */
} job;

static const char *name_of(const json_t *json)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    return name ? name : "(nameless)";
}

static void fail_case(tally *t, const char *why)
{
    printf("FAILED  %s\n", why);
    t->failed++;
}

static void report(tally *t, const verify_case *v, nn_status status, double seconds)
{
    char line[1024];
    if (status != NN_OK || v->worst > 1) {
        snprintf(line, sizeof(line), "%7.3f of tolerance %7.2f s  %s", v->worst, seconds,
                 status != NN_OK ? nn_error_message() : v->why);
        fail_case(t, line);
    } else {
        printf("ok      %7.3f of tolerance %7.2f s\n", v->worst, seconds);
        t->passed++;
    }
}

static nn_status run_case(void *ctx, int64_t i)
{
    job *j = ctx;
    const json_t *json = j->cases[i], *tolerance = json_object_get(json, "tolerance");
    const char *network = json_string_value(json_object_get(json, "network"));
    if (nn_cli_interrupted()) return nn_fail(NN_INTERRUPTED, "interrupted");
    printf("%-36s ", name_of(json));
    fflush(stdout); /* what is under way can be seen */
    verify_case v = {
        .name = name_of(json), .json = json, .device = j->device, .abs = 2e-4, .rel = 1e-3
    };
    if (j->device->arithmetic == NN_BF16) v.share = 1.0 / 32;
    if (json_object_get(tolerance, "abs"))
        v.abs = json_number_value(json_object_get(tolerance, "abs"));
    if (json_object_get(tolerance, "rel"))
        v.rel = json_number_value(json_object_get(tolerance, "rel"));
    double start = nn_clock_seconds();
    verify_fn *run = network ? verify_network(network) : NULL;
    if (network && !run) {
        printf("skipped: not implemented\n");
        j->tally->skipped++;
        return NN_OK;
    }
    nn_status status = run ? run(&v) : nn_fail(NN_FORMAT, "a case needs \"name\" and \"network\"");
    report(j->tally, &v, status, nn_clock_seconds() - start);
    return status;
}

static void lose_case(void *ctx, int64_t i, const char *why)
{
    (void)i;
    fail_case(((job *)ctx)->tally, why);
}

static nn_status open_device(void *ctx)
{
    return device_open(&on, &((job *)ctx)->device);
}

static void close_device(void *ctx)
{
    nn_device_close(((job *)ctx)->device);
}

static nn_status run_cases(job *j, int64_t n)
{
    const apart a = { .n = n,
                      .seconds = limit,
                      .ctx = j,
                      .open = open_device,
                      .job = run_case,
                      .close = close_device,
                      .lost = lose_case };
    j->tally = apart_shared(sizeof(*j->tally));
    NN_NEED(j->tally);
    nn_status status = apart_run(&a);
    tally t = *j->tally;
    if (status == NN_OK || status == NN_INTERRUPTED)
        printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped);
    NN_TRY(status);
    return t.failed ? nn_fail(NN_NUMERIC, "%d of %d cases failed", t.failed, t.passed + t.failed)
                    : NN_OK;
}

static nn_status choose_cases(const json_t *root, const char *path)
{
    const json_t *cases = json_object_get(root, "cases");
    json_t *one;
    size_t i;
    int64_t n = 0;
    if (json_integer_value(json_object_get(root, "format")) != 1 || !json_is_array(cases))
        return nn_fail(NN_FORMAT,
                       "%s: not a case file: \"format\": 1 and a list \"cases\" are expected",
                       path);
    job j = { .cases = nn_alloc((int64_t)json_array_size(cases), sizeof(*j.cases)) };
    NN_NEED(j.cases);
    json_array_foreach(cases, i, one)
    {
        if (only && fnmatch(only, name_of(one), 0) != 0) continue;
        if (list) puts(name_of(one));
        j.cases[n++] = one;
    }
    nn_status status = list ? NN_OK : run_cases(&j, n);
    nn_free(j.cases);
    return status;
}

static nn_status verify(const nn_cli *cli)
{
    const char *path = cli->arguments[0];
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root) return nn_fail(NN_FORMAT, "%s:%d: %s", path, error.line, error.text);
    nn_status status = choose_cases(root, path);
    json_decref(root);
    return status;
}

static const nn_command commands[] = {
    { .arguments = "FILE.json",
      .least = 1,
      .most = 1,
      .summary = "Runs the cases of FILE.json and compares what comes out with what is expected.",
      .example = "recap-verify tests/golden/selftest.json --only 'unet*'",
      .options = options,
      .run = verify },
    { 0 },
};

static const nn_program program = {
    "recap-verify", "Checks networks, training steps and samplers against known outputs.", commands
};

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
