/* recap-report: one page about a whole run, or about the course of some trainings. */
#include <stdio.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/report.h"

static const char *manifest, *output, *curves;

static const nn_option options[] = {
    { .name = "manifest",
      .text = &manifest,
      .value = "FILE",
      .help = "what there is to report; else DIR/manifest.json" },
    { .name = "output",
      .text = &output,
      .value = "DIR",
      .help = "where report.html and report.json go; else DIR" },
    { .name = "curves",
      .text = &curves,
      .value = "FILE.html",
      .excludes = "manifest",
      .help = "instead, the curves of trainings: each DIR is the --logging-dir of one" },
    { 0 },
};

typedef nn_status writer(const report *r, nn_text *out);

static nn_status write_part(const report *r, writer *part, const char *place, const char *name)
{
    nn_text out = { 0 }, path = { 0 };
    nn_status status = part(r, &out);
    if (status == NN_OK) status = nn_text_add(&path, "%s/%s", place, name);
    if (status == NN_OK) status = nn_file_write(path.text, out.text, out.length);
    nn_text_free(&out);
    nn_text_free(&path);
    return status;
}

static nn_status print_headline(const report *r, const char *place)
{
    nn_text out = { 0 };
    nn_status status = report_write_headline(r, &out);
    if (status == NN_OK) printf("%s\n%s/report.html\n", out.text, place);
    nn_text_free(&out);
    return status;
}

static nn_status draw_curves(const nn_cli *cli)
{
    nn_text out = { 0 };
    nn_status status =
        report_runs_html((const char *const *)cli->arguments, cli->n_arguments, &out);
    if (status == NN_OK) status = nn_file_write(curves, out.text, out.length);
    nn_text_free(&out);
    if (status == NN_OK) printf("%s\n", curves);
    return status;
}

static nn_status run(const nn_cli *cli)
{
    if (curves) return draw_curves(cli);
    if (cli->n_arguments > 1)
        return nn_fail(NN_ARGUMENT, "a report is of one DIR; several are for --curves");
    const char *directory = cli->arguments[0], *place = output ? output : directory;
    report r;
    char *standard = nn_format("%s/manifest.json", directory);
    NN_NEED(standard);
    nn_status status = report_load(directory, manifest ? manifest : standard, &r);
    nn_free(standard);
    if (status != NN_OK) return status;
    status = nn_file_make_dir(place);
    if (status == NN_OK) status = write_part(&r, report_write_html, place, "report.html");
    if (status == NN_OK) status = write_part(&r, report_write_json, place, "report.json");
    if (status == NN_OK) status = print_headline(&r, place);
    report_free(&r);
    return status;
}

static const nn_command commands[] = {
    { .arguments = "DIR...",
      .least = 1,
      .most = REPORT_ARMS,
      .summary =
          "Builds DIR/report.html, a page that needs nothing beside itself, and report.json.",
      .example = "recap-report out",
      .options = options,
      .run = run },
    { 0 },
};

static const nn_program program = {
    "recap-report",
    "Shows what a run has brought: pictures, captions, figures with intervals, time.",
    commands,
};

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
