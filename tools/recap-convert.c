/* recap-convert: published weights from one layout of files to another, and what a file holds. */
#include "engine/base/str.h"
#include "tools/cli.h"
#include "tools/convert.h"

static bool inspect, averaged;
static const char *like;

enum { AUTO, DIFFUSERS, LDM, TRANSFORMERS };
static const char *const layouts[] = { "auto", "diffusers", "ldm", "transformers", NULL };
static int layout;
static const char *const dtypes[] = { "keep", "f32", "f16", "bf16", NULL };
static int dtype;

static const nn_option options[] = {
    { .name = "layout",
      .choice = &layout,
      .choices = layouts,
      .help = "auto: one file (ldm) if OUT ends in .safetensors, else a folder" },
    { .name = "dtype", .choice = &dtype, .choices = dtypes, .help = "how floats are written" },
    { .name = "like",
      .text = &like,
      .value = "DIR",
      .help = "folder to take configurations and tokenizer from, where IN is a single file" },
    { .name = "ema",
      .flag = &averaged,
      .help = "take the moving averages of the UNet that the file holds beside its weights" },
    { .name = "inspect", .flag = &inspect, .help = "print what IN holds and write nothing" },
    { 0 },
};

static bool is_single(const convert_model *m)
{
    int n = 0;
    for (int i = 0; i < NN_NETWORK_COUNT; i++) n += m->net[i].there;
    return n == 1;
}

static nn_status write_model(const convert_model *m, const char *out)
{
    bool blip = m->net[NN_NETWORK_BLIP].there, file = nn_ends_with(out, ".safetensors");
    if (layout == TRANSFORMERS && !blip && !m->net[NN_NETWORK_TEXT].there)
        return nn_fail(NN_ARGUMENT, "%s: holds nothing of transformers' alone; use diffusers",
                       m->in);
    if (layout == DIFFUSERS && blip)
        return nn_fail(NN_ARGUMENT, "%s: holds BLIP, whose layout is transformers", m->in);
    if (layout == LDM && !file)
        return nn_fail(NN_ARGUMENT, "'%s': the layout ldm is one file, FILE.safetensors", out);
    bool ldm = layout == LDM || (layout == AUTO && !is_single(m));
    return file ? convert_write_file(m, (convert_dtype)dtype, ldm, out)
                : convert_write_folder(m, (convert_dtype)dtype, out);
}

static nn_status run(const nn_cli *cli)
{
    convert_model m;
    if (inspect && cli->n_arguments > 1)
        return nn_fail(NN_ARGUMENT, "'%s' is one argument too many: --inspect writes nothing",
                       cli->arguments[1]);
    if (inspect) return convert_inspect(cli->arguments[0]);
    if (cli->n_arguments < 2) return nn_fail(NN_ARGUMENT, "expected IN OUT");
    NN_TRY(convert_open(cli->arguments[0], like, averaged, &m));
    nn_status status = write_model(&m, cli->arguments[1]);
    convert_close(&m);
    return status;
}

static const nn_command commands[] = {
    { .arguments = "IN [OUT]",
      .least = 1,
      .most = 2,
      .summary = "IN and OUT are folders of diffusers or transformers, or single files: "
                 "safetensors, or as input .ckpt, .bin, .pt and .pth.",
      .example = "recap-convert sd-v1-4.ckpt sd14 --like other-sd14 --dtype f16",
      .options = options,
      .run = run },
    { 0 },
};

static const nn_program program = { "recap-convert",
                                    "Converts weights between the layouts of published models.",
                                    commands };

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
