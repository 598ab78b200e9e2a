/* recap-verify: runs the cases of a file of known outputs. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "tools/cli.h"
#include "tools/verify.h"

static const char *only;
static device_settings on = DEVICE_DEFAULTS;

static const nn_option options[] = {
    DEVICE_OPTIONS(on),
    { .name = "only", .text = &only, .value = "GLOB", .help = "run the cases whose name matches" },
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

static void run_case(tally *t, const json_t *json, nn_device *device)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *network = json_string_value(json_object_get(json, "network"));
    const json_t *tolerance = json_object_get(json, "tolerance");
    if (!name || !network) {
        printf("%-36s FAILED  a case needs \"name\" and \"network\"\n", name ? name : "(nameless)");
        t->failed++;
        return;
    }
    if (only && fnmatch(only, name, 0) != 0) return;
    verify_case v = { .name = name, .json = json, .device = device, .abs = 2e-4, .rel = 1e-3 };
    if (device->arithmetic == NN_BF16) v.share = 1.0 / 32;
    if (json_object_get(tolerance, "abs"))
        v.abs = json_number_value(json_object_get(tolerance, "abs"));
    if (json_object_get(tolerance, "rel"))
        v.rel = json_number_value(json_object_get(tolerance, "rel"));
    double start = nn_clock_seconds();
    verify_fn *run = verify_network(network);
    nn_status status = run ? run(&v) : NN_UNSUPPORTED;
    double seconds = nn_clock_seconds() - start;
    if (status == NN_UNSUPPORTED) {
        printf("%-36s skipped: not implemented\n", name);
        t->skipped++;
    } else if (status != NN_OK || v.worst > 1) {
        printf("%-36s FAILED  %7.3f of tolerance %7.2f s  %s\n", name, v.worst, seconds,
               status != NN_OK ? nn_error_message() : v.why);
        t->failed++;
    } else {
        printf("%-36s ok      %7.3f of tolerance %7.2f s\n", name, v.worst, seconds);
        t->passed++;
    }
    fflush(stdout);
}

static nn_status run_cases(const json_t *root, const char *path)
{
    const json_t *cases = json_object_get(root, "cases");
    json_t *one;
    size_t i;
    tally t = { 0 };
    nn_device *device;
    if (json_integer_value(json_object_get(root, "format")) != 1 || !json_is_array(cases))
        return nn_fail(NN_FORMAT,
                       "%s: not a case file: \"format\": 1 and a list \"cases\" are expected",
                       path);
    NN_TRY(device_open(&on, &device));
    json_array_foreach(cases, i, one)
    {
        if (nn_cli_interrupted()) break;
        run_case(&t, one, device);
    }
    nn_device_close(device);
    printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped);
    if (nn_cli_interrupted()) return nn_fail(NN_INTERRUPTED, "interrupted");
    return t.failed ? nn_fail(NN_NUMERIC, "%d of %d cases failed", t.failed, t.passed + t.failed)
                    : NN_OK;
}

static nn_status verify(const nn_cli *cli)
{
    const char *path = cli->arguments[0];
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root) return nn_fail(NN_FORMAT, "%s:%d: %s", path, error.line, error.text);
    nn_status status = run_cases(root, path);
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
