/* Between the parts of the command-line library. */
#ifndef TOOLS_CLI_INTERNAL_H
#define TOOLS_CLI_INTERNAL_H

#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/base/str.h"
#include "tools/cli.h"

enum { NN_CLI_OPTIONS = 96 };

/* The options of a command with the common ones, and where each value came from. */
typedef struct nn_options {
    const nn_option *items[NN_CLI_OPTIONS];
    bool given[NN_CLI_OPTIONS]; /* on the command line or in the configuration file */
    int n;
    nn_arena arena; /* texts from the configuration file */
} nn_options;

void nn_options_add(nn_options *o, const nn_option *table);

/* The option of that name; else NN_ARGUMENT with the nearest name. `no` tells --no-name of a flag,
 * and may be NULL where that form is not taken. */
nn_status nn_options_find(const nn_options *o, const char *name, int *at, bool *no) NN_CHECKED;

/* Set from text; flags take "true" and "false". The text must stay. */
nn_status nn_option_set(const nn_option *option, const char *text) NN_CHECKED;

/* Set options from argv[0 .. argc-1]; the rest is moved to the front of argv and counted. */
nn_status nn_options_parse(nn_options *o, int argc, char **argv, int *n_arguments) NN_CHECKED;

/* Set what the command line did not from a JSON object, and say so on stderr. */
nn_status nn_options_load(nn_options *o, const char *path, bool quiet) NN_CHECKED;

/* Required and contradictory options. */
nn_status nn_options_check(const nn_options *o) NN_CHECKED;

void nn_cli_help(const nn_program *program, const nn_command *command);

/* The sink for library log lines, and how programs write to stderr beside a progress line. */
void nn_cli_sink(void *ctx, nn_log_level level, const char *line);
void nn_cli_print(const char *line);
void nn_cli_quiet(bool quiet); /* no progress */

nn_status nn_cli_log_open(const char *path, const nn_cli *cli, const nn_options *o) NN_CHECKED;
nn_status nn_cli_log_close(void) NN_CHECKED;

#endif
