/* A training of the demo's diffusion model from shards on disk: everything that `recap-train
 * diffusion` does in its first epoch, over a generated corpus that it sees once. Reading the
 * shards, the latents from their cache, captions to ids, the updates; not in the figures are the
 * corpus, the codec and the latents themselves, which processes of their own make before. */
#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/bench.h"
#include "tools/data.h"
#include "tools/train.h"

enum { MOST_WORDS = 40, MOST_FILE = 1 << 20, MOST_LOG = 64 << 20 };

typedef struct place {
    char dir[64];
    char shards[96], model[96], codec[96], tokenizer[96], latents[96], log[96], first[96], out[96];
    char samples[24], batch[24], updates[24], threads[24];
} place;

static const nn_command scenes = { .name = "scenes",
                                   .options = data_scenes_options,
                                   .run = data_scenes },
                        tokenizer = { .name = "tokenizer",
                                      .options = data_tokenizer_options,
                                      .run = data_tokenizer };

/* A program's command in this process; words end with NULL. */
static nn_status command(const char *name, const nn_command *c, const char *const *words)
{
    const nn_command commands[] = { *c, { 0 } };
    const nn_program program = { name, "", commands };
    char *argv[MOST_WORDS + 3] = { (char *)name, (char *)c->name };
    int n = 2;
    for (; words[n - 2]; n++) {
        NN_ASSERT(n < MOST_WORDS);
        argv[n] = (char *)words[n - 2];
    }
    argv[n++] = (char *)"--quiet";
    if (nn_cli_main(&program, n, argv) == NN_EXIT_OK) return NN_OK;
    return nn_fail(NN_DEVICE, "%s %s failed", name, c->name);
}

/* The same in a process of its own, whose time and memory do not count. */
static nn_status command_apart(const char *name, const nn_command *c, const char *const *words)
{
    int code;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) return nn_fail(NN_IO, "%s: no process could be made for it", name);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(1); /* it belongs to the measurements */
        nn_status status = command(name, c, words);
        fflush(NULL);
        _exit(status != NN_OK);
    }
    if (waitpid(child, &code, 0) == child && WIFEXITED(code) && !WEXITSTATUS(code)) return NN_OK;
    return nn_fail(NN_DEVICE, "%s %s failed", name, c->name);
}

static nn_status copy_config(const char *from, const char *to, const char *name)
{
    char path[4096], *bytes;
    int64_t n;
    snprintf(path, sizeof(path), "%s/diffusion/%s", from, name);
    NN_TRY(nn_file_read(path, MOST_FILE, &bytes, &n));
    snprintf(path, sizeof(path), "%s/%s", to, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    nn_status status = nn_file_make_dir(path);
    *slash = '/';
    if (status == NN_OK) status = nn_file_write(path, bytes, n);
    nn_free(bytes);
    return status;
}

static void name_files(const bench_case *c, const bench_settings *set, place *p)
{
    snprintf(p->shards, sizeof(p->shards), "%s/shards", p->dir);
    snprintf(p->model, sizeof(p->model), "%s/model", p->dir);
    snprintf(p->codec, sizeof(p->codec), "%s/model/vae", p->dir);
    snprintf(p->tokenizer, sizeof(p->tokenizer), "%s/model/tokenizer", p->dir);
    snprintf(p->latents, sizeof(p->latents), "%s/latents.cache", p->dir);
    snprintf(p->log, sizeof(p->log), "%s/log.jsonl", p->dir);
    snprintf(p->first, sizeof(p->first), "%s/first", p->dir);
    snprintf(p->out, sizeof(p->out), "%s/out", p->dir);
    const long long samples = (long long)c->dim[0] * set->runs;
    snprintf(p->samples, sizeof(p->samples), "%lld", samples);
    snprintf(p->batch, sizeof(p->batch), "%lld", (long long)c->dim[0]);
    snprintf(p->updates, sizeof(p->updates), "%lld", (long long)set->runs);
    snprintf(p->threads, sizeof(p->threads), "%lld", (long long)set->on.threads);
}

static nn_status train(const bench_settings *set, const place *p, bool measured)
{
    const char *const words[] = { "--model",
                                  p->model,
                                  "--from-scratch",
                                  "--train-data",
                                  p->shards,
                                  "--columns",
                                  "alt=1",
                                  "--train-batch-size",
                                  p->batch,
                                  "--learning-rate",
                                  "2e-3",
                                  "--ema-decay",
                                  "0.99",
                                  "--snr-gamma",
                                  "5",
                                  "--latent-cache",
                                  p->latents,
                                  "--threads",
                                  p->threads,
                                  "--device",
                                  set->on.name,
                                  "--dtype",
                                  device_dtypes[set->on.dtype],
                                  "--max-train-steps",
                                  measured ? p->updates : "1",
                                  "--output-dir",
                                  measured ? p->out : p->first,
                                  measured ? "--log" : NULL,
                                  p->log,
                                  NULL };
    return (measured ? command : command_apart)("recap-train", &train_diffusion_command, words);
}

/* The corpus, a codec that has seen one batch, the tokenizer, the cache of latents. */
static nn_status make_files(const bench_settings *set, const place *p)
{
    char prefix[128], config[4096];
    snprintf(prefix, sizeof(prefix), "%s/train", p->shards);
    snprintf(config, sizeof(config), "%s/vae", set->config_dir);
    NN_TRY(nn_file_make_dir(p->shards));
    NN_TRY(command_apart("recap-data", &scenes,
                         (const char *const[]){ "--output", prefix, "--count", p->samples,
                                                "--objects", "8", "--backgrounds", "5", "--size",
                                                "64", "--layout", "grid2", NULL }));
    NN_TRY(command_apart(
        "recap-train", &train_vae_command,
        (const char *const[]){ "--config-dir", config, "--train-data", p->shards, "--output-dir",
                               p->codec, "--resolution", "64", "--crop", "32", "--held-out", "16",
                               "--train-batch-size", "4", "--max-train-steps", "1", NULL }));
    NN_TRY(command_apart(
        "recap-data", &tokenizer,
        (const char *const[]){ "--input", p->shards, "--output", p->tokenizer, NULL }));
    NN_TRY(copy_config(set->config_dir, p->model, "unet/config.json"));
    NN_TRY(copy_config(set->config_dir, p->model, "text_encoder/config.json"));
    NN_TRY(copy_config(set->config_dir, p->model, "scheduler/scheduler_config.json"));
    return train(set, p, false);
}

static double number(const json_t *line, const char *key)
{
    return json_number_value(json_object_get(line, key));
}

/* The plan's own line, and the last update's, whose clocks began with the command. */
static void count_line(const json_t *line, const bench_case *c, bench_result *out)
{
    const char *what = json_string_value(json_object_get(line, "what"));
    if (what && !strcmp(what, "plan")) {
        out->gflop = number(line, "gflop");
        out->parameter_bytes = (int64_t)number(line, "state_bytes");
        out->activation_bytes = (int64_t)number(line, "activation_bytes");
        out->workspace_bytes = (int64_t)number(line, "workspace_bytes");
        out->program_bytes = (int64_t)number(line, "program_bytes");
        out->n_launches = (int64_t)number(line, "launches");
    }
    double updates = number(line, "update");
    if (updates < 1) return;
    out->seconds = number(line, "seconds") / updates;
    out->cpu_seconds = number(line, "cpu_seconds") / updates;
    snprintf(out->shape, sizeof(out->shape), "batches of %lld -> loss", (long long)c->dim[0]);
}

static nn_status read_log(const bench_case *c, const place *p, bench_result *out)
{
    char *text;
    int64_t n;
    NN_TRY(nn_file_read(p->log, MOST_LOG, &text, &n));
    for (char *line = text, *end; line && *line; line = end) {
        end = strchr(line, '\n');
        if (end) *end++ = 0;
        json_t *json = json_loads(line, 0, NULL);
        count_line(json, c, out);
        json_decref(json);
    }
    nn_free(text);
    if (out->cpu_seconds > 0 && out->gflop > 0) return NN_OK;
    return nn_fail(NN_FORMAT, "%s: has no update or no plan", p->log);
}

static int remove_one(const char *path, const struct stat *what, int kind, struct FTW *where)
{
    (void)what;
    (void)kind;
    (void)where;
    return remove(path);
}

static nn_status run_loader(const bench_case *c, const bench_settings *set, nn_device *device,
                            bench_result *out)
{
    place p = { .dir = "/tmp/recap-bench-XXXXXX" };
    (void)device; /* the trainer opens its own */
    if (!mkdtemp(p.dir)) return nn_fail(NN_IO, "%s: no such directory can be made", p.dir);
    name_files(c, set, &p);
    nn_status status = make_files(set, &p);
    if (status == NN_OK) status = train(set, &p, true);
    if (status == NN_OK) status = read_log(c, &p, out);
    nftw(p.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}

/* dim: batch; as many updates as runs are asked for */
const bench_case bench_loaders[] = {
    { .name = "demo_unet_train_loader", .dim = { 64 }, .training = true, .run = run_loader },
    { 0 },
};
