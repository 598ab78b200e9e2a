/* --log FILE: one JSON object a line, first the command with its options, then its steps. */
#include "tools/cli_internal.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"

/* The one log of this process. */
static FILE *file;
static char *file_path;
static double opened, opened_cpu;

static json_t *command_json(const nn_cli *cli, const nn_options *o)
{
    json_t *options = json_object(), *arguments = json_array();
    for (int i = 0; i < cli->n_arguments; i++)
        json_array_append_new(arguments, json_string(cli->arguments[i]));
    for (int i = 0; i < o->n; i++) {
        nn_text value = { 0 };
        if (nn_option_show(o->items[i], &value) == NN_OK)
            json_object_set_new(options, o->items[i]->name, json_string(value.text));
        nn_text_free(&value);
    }
    return json_pack("{s:s, s:s*, s:o, s:o}", "program", cli->program->name, "command",
                     cli->command->name, "arguments", arguments, "options", options);
}

nn_status nn_cli_log_open(const char *path, const nn_cli *cli, const nn_options *o)
{
    file = fopen(path, "a");
    if (!file) return nn_fail(NN_IO, "%s: cannot open the log: %s", path, strerror(errno));
    NN_NEED(file_path = nn_strdup(path));
    opened = nn_clock_seconds();
    opened_cpu = nn_clock_cpu_seconds();
    json_t *root = command_json(cli, o);
    if (root && json_dumpf(root, file, JSON_COMPACT) == 0) fputc('\n', file);
    json_decref(root);
    fflush(file);
    return NN_OK;
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
