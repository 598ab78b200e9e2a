/* What all recap programs share: options, help, configuration files, progress, logs, interruption.
 *
 *     static int64_t steps = 1000;
 *     static const nn_option options[] = {
 *         { .name = "steps", .integer = &steps, .low = 1, .high = 1e9, .help = "steps to train" },
 *         { 0 },
 *     };
 *     static nn_status train(const nn_cli *cli) { ... cli->arguments[0] ... }
 *     static const nn_command commands[] = {
 *         { .arguments = "DIR", .least = 1, .most = 1, .example = "recap-train out --steps 500",
 *           .options = options, .run = train },
 *         { 0 },
 *     };
 *     static const nn_program program = { "recap-train", "Trains a network.", commands };
 *     int main(int argc, char **argv) { return nn_cli_main(&program, argc, argv); }
 *
 * Exit codes: 0 done; 1 the work failed; 2 the command line is wrong; 3 interrupted, and what was
 * done so far is saved: the same command goes on. */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include "engine/base/str.h"
#include "engine/dist/comm.h"

enum { NN_EXIT_OK, NN_EXIT_FAILED, NN_EXIT_USAGE, NN_EXIT_INTERRUPTED };

/* One long option. Exactly one of the five pointers is set: it says the kind, holds the default
 * before, and the value after parsing (a text lives until nn_cli_main returns). A table ends with
 * { 0 }. */
typedef struct nn_option {
    const char *name, *help; /* name without "--"; help: one line */
    bool *flag;              /* --name, --no-name */
    int64_t *integer;
    double *real;
    const char **text;
    int *choice;                /* index in choices */
    const char *const *choices; /* ends with NULL */
    const char *value;          /* what the value is called in the help: "FILE" */
    double low, high;           /* inclusive bounds of a number; both 0 = any */
    bool required;
    bool incidental;      /* says where or how, and does not change what comes out */
    const char *excludes; /* name of an option that contradicts this one */
} nn_option;

/* The value as text, appended: reading it gives the same value; an unset text is "". */
nn_status nn_option_show(const nn_option *option, nn_text *out) NN_CHECKED;

typedef struct nn_cli {
    const struct nn_program *program;
    const struct nn_command *command;
    const char *const *arguments; /* what is no option */
    int n_arguments;
    bool verbose, quiet;
} nn_cli;

/* NN_ARGUMENT exits with 2, NN_INTERRUPTED with 3, any other error with 1. */
typedef nn_status nn_command_run(const nn_cli *cli);

typedef struct nn_command {
    const char *name;      /* NULL for the only command of a program */
    const char *arguments; /* as the help shows them: "DIR", "SHARDS..."; NULL = none */
    int least, most;       /* how many there may be */
    const char *summary;   /* one line */
    const char *example;   /* a whole command line */
    const nn_option *options;
    nn_command_run *run;
    bool ranks; /* may be one of several processes of a job: all but the first report errors and
                   warnings alone, and write no log */
} nn_command;

typedef struct nn_program {
    const char *name, *summary;
    const nn_command *commands; /* ends with { 0 } */
} nn_program;

/* Parse, run, report. Every command also takes --config FILE, --log FILE, --verbose, --quiet and
 * --help. Returns the exit code. */
int nn_cli_main(const nn_program *program, int argc, char **argv);

/* Whether SIGINT, SIGTERM or SIGUSR1 (which mpirun hands on) came: save and return NN_INTERRUPTED
 * soon. The second one kills. */
bool nn_cli_interrupted(void);

/* What the line on stderr that answers such a signal says of where the program is: "rank 1 of 4 on
 * node3, step 12" (copied; "" = nothing), and in which collective of `comm`, or after which (NULL =
 * of none). */
void nn_cli_where(const char *text, const nn_comm *comm);

/* A number that is shown beside the progress and written to the log. */
typedef struct nn_field {
    const char *name;
    double value;
} nn_field;

/* Progress on stderr: one line redrawn on a terminal, a line every ten seconds elsewhere; nothing
 * with --quiet. The --log file gets a JSON object for every step. One at a time. */
typedef struct nn_progress {
    const char *what, *unit;
    int64_t first, total, done;
    double started, shown; /* seconds */
    char line[256];
} nn_progress;

/* first: steps that an earlier run did; total 0 = unknown. Of the fields the line shows the first
 * five. */
void nn_progress_start(nn_progress *p, const char *what, const char *unit, int64_t first,
                       int64_t total);
void nn_progress_step(nn_progress *p, int64_t done, const nn_field *fields, int n_fields);
void nn_progress_stop(nn_progress *p); /* leaves the last state on its line */

/* A JSON object with these numbers as a line of the --log file; no file, no line. */
void nn_cli_log(const char *what, const nn_field *fields, int n_fields);

#endif
