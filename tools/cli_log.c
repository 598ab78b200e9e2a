/* --log FILE: one JSON object a line, first the command with its options, then its steps. */
#include "tools/cli_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/clock.h"

/* The one log of this process. */
static FILE *file;
static char *file_path;
static double opened, opened_cpu;

static nn_status add_options(const nn_options *o, nn_text *out)
{
    nn_status status = NN_OK;
    nn_text value = { 0 };
    for (int i = 0; i < o->n && status == NN_OK; i++) {
        nn_text_clear(&value);
        status = nn_option_show(o->items[i], &value);
        if (status == NN_OK)
            status = nn_text_add(out, "%s\"%s\":", i ? "," : "", o->items[i]->name);
        if (status == NN_OK) status = nn_json_write_string(out, value.length ? value.text : "");
    }
    nn_text_free(&value);
    return status;
}

static nn_status describe_command(const nn_cli *cli, const nn_options *o, nn_text *out)
{
    NN_TRY(nn_text_add(out, "{\"program\":\"%s\",", cli->program->name));
    if (cli->command->name) NN_TRY(nn_text_add(out, "\"command\":\"%s\",", cli->command->name));
    NN_TRY(nn_text_add(out, "\"arguments\":["));
    for (int i = 0; i < cli->n_arguments; i++) {
        if (i) NN_TRY(nn_text_add(out, ","));
        NN_TRY(nn_json_write_string(out, cli->arguments[i]));
    }
    NN_TRY(nn_text_add(out, "],\"options\":{"));
    NN_TRY(add_options(o, out));
    return nn_text_add(out, "}}\n");
}

nn_status nn_cli_log_open(const char *path, const nn_cli *cli, const nn_options *o)
{
    file = fopen(path, "a");
    if (!file) return nn_fail(NN_IO, "%s: cannot open the log: %s", path, strerror(errno));
    NN_NEED(file_path = nn_strdup(path));
    opened = nn_clock_seconds();
    opened_cpu = nn_clock_cpu_seconds();
    nn_text line = { 0 };
    nn_status status = describe_command(cli, o, &line);
    if (status == NN_OK) fputs(line.text, file);
    nn_text_free(&line);
    fflush(file);
    return status;
}

nn_status nn_cli_log_close(void)
{
    if (!file) return NN_OK;
    bool failed = ferror(file) != 0;
    failed = fclose(file) != 0 || failed;
    nn_status status =
        failed ? nn_fail(NN_IO, "%s: the log is incomplete; is the disk full?", file_path) : NN_OK;
    nn_free(file_path);
    file = NULL;
    file_path = NULL;
    return status;
}

void nn_cli_log(const char *what, const nn_field *fields, int n_fields)
{
    if (!file) return;
    fprintf(file, "{\"what\": \"%s\", \"seconds\": %.3f, \"cpu_seconds\": %.3f", what,
            nn_clock_seconds() - opened, nn_clock_cpu_seconds() - opened_cpu);
    for (int i = 0; i < n_fields; i++)
        if (isfinite(fields[i].value))
            fprintf(file, ", \"%s\": %.9g", fields[i].name, fields[i].value);
        else
            fprintf(file, ", \"%s\": null", fields[i].name);
    fputs("}\n", file);
    fflush(file);
}
