/* From main to exit code. */
#include "tools/cli_internal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WHERE = 160, LINE = 512 };

static volatile sig_atomic_t signalled;
static char where[2][WHERE];            /* the handler reads one while the other is written */
static volatile sig_atomic_t where_now; /* which */
static const nn_comm *volatile spoken_over;

void nn_cli_where(const char *text, const nn_comm *comm)
{
    const int next = !where_now;
    snprintf(where[next], sizeof(where[next]), "%s%s", text[0] ? ", at " : "", text);
    where_now = next;
    spoken_over = comm;
}

/* Behind what a line of `used` bytes holds; returns what it holds then. */
static size_t put(char line[LINE], size_t used, const char *text)
{
    for (; *text && used < LINE; text++) line[used++] = *text;
    return used;
}

/* One line at once, which those of other ranks cannot cut. */
static void tell(void)
{
    char line[LINE];
    bool under_way = false;
    const nn_comm *comm = spoken_over;
    const char *call = comm ? nn_comm_now(comm, &under_way) : "";
    size_t used = put(line, 0, "\ninterrupted");
    used = put(line, used, where[where_now]);
    if (call[0]) used = put(line, used, under_way ? ", in " : ", after ");
    used = put(line, used, call);
    used = put(line, used, ": saving; once more to stop at once\n");
    const ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
}

static void on_signal(int number)
{
    (void)number;
    signalled = 1;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
    tell();
}

/* On a stack of its own: kernels that libraries generate keep numbers below their stack pointer,
 * farther than the system leaves alone, and a handler on their stack would write over them. The
 * main thread is the one that gets the signals of a process. */
static void catch_signals(void)
{
    static char stack[1 << 16];
    const stack_t own = { .ss_sp = stack, .ss_size = sizeof(stack) };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK };
    sigaltstack(&own, NULL);
    signalled = 0;
    nn_cli_where("", NULL);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

bool nn_cli_interrupted(void)
{
    return signalled != 0;
}

static const nn_command *find_command(const nn_program *program, const char *name)
{
    if (!program->commands[0].name) return &program->commands[0];
    for (const nn_command *c = program->commands; c->run && name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

static nn_status no_command(const nn_program *program, const char *name)
{
    const char *nearest = "";
    int least = 100;
    for (const nn_command *c = program->commands; c->run && name; c++) {
        int edits = nn_edit_distance(name, c->name);
        if (edits < least) {
            least = edits;
            nearest = c->name;
        }
    }
    if (!name) return nn_fail(NN_ARGUMENT, "a command is missing");
    return nn_fail(NN_ARGUMENT, "'%s' is no command; did you mean '%s'?", name, nearest);
}

static nn_status check_arguments(const nn_cli *cli)
{
    const nn_command *c = cli->command;
    if (cli->n_arguments >= c->least && cli->n_arguments <= c->most) return NN_OK;
    if (cli->n_arguments > c->most)
        return nn_fail(NN_ARGUMENT, "'%s' is one argument too many; expected %s",
                       cli->arguments[c->most], c->arguments ? c->arguments : "none");
    return nn_fail(NN_ARGUMENT, "expected %s", c->arguments);
}

/* One process of a job speaks for all. */
static bool is_follower(const nn_command *c)
{
    nn_comm_place place;
    if (!c->ranks) return false;
    nn_comm_place_from_environment(&place);
    return place.rank > 0;
}

/* Parse and run one command. argv: what follows its name. */
static nn_status run_command(nn_cli *cli, int argc, char **argv, nn_options *options)
{
    const char *config = NULL, *log = NULL;
    const nn_option common[] = {
        { .name = "config", .text = &config, .help = "a JSON object" },
        { .name = "log", .text = &log, .help = "a file of JSON lines" },
        { .name = "verbose", .flag = &cli->verbose, .help = "", .excludes = "quiet" },
        { .name = "quiet", .flag = &cli->quiet, .help = "" },
        { 0 },
    };
    nn_options_add(options, cli->command->options);
    nn_options_add(options, common);
    NN_TRY(nn_options_parse(options, argc, argv, &cli->n_arguments));
    cli->arguments = (const char *const *)argv;
    const bool follows = is_follower(cli->command), quiet = cli->quiet || follows;
    if (config) NN_TRY(nn_options_load(options, config, quiet));
    NN_TRY(nn_options_check(options));
    NN_TRY(check_arguments(cli));
    nn_cli_quiet(quiet);
    nn_log_open(nn_cli_sink, NULL, quiet ? NN_LOG_WARN : cli->verbose ? NN_LOG_DEBUG : NN_LOG_INFO);
    if (log && !follows) NN_TRY(nn_cli_log_open(log, cli, options));
    catch_signals();
    NN_TRY(cli->command->run(cli));
    return nn_cli_log_close();
}

static int report(const nn_cli *cli, nn_status status)
{
    const char *name = cli->command ? cli->command->name : NULL;
    if (status == NN_OK) return NN_EXIT_OK;
    fprintf(stderr, "%s%s%s: %s%s\n", cli->program->name, name ? " " : "", name ? name : "",
            status == NN_INTERRUPTED ? "" : "error: ", nn_error_message());
    if (cli->verbose) fprintf(stderr, "%s, from %s\n", nn_status_text(status), nn_error_trace());
    if (status == NN_INTERRUPTED) return NN_EXIT_INTERRUPTED;
    if (status != NN_ARGUMENT) return NN_EXIT_FAILED;
    fprintf(stderr, "%s%s%s --help shows what there is\n", cli->program->name, name ? " " : "",
            name ? name : "");
    return NN_EXIT_USAGE;
}

int nn_cli_main(const nn_program *program, int argc, char **argv)
{
    nn_cli cli = { .program = program };
    bool several = program->commands[0].name != NULL;
    const char *name = several && argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
    cli.command = find_command(program, name);
    if (wants_help(argc - 1, argv + 1)) {
        nn_cli_help(program, cli.command);
        return fflush(stdout) == 0 ? NN_EXIT_OK : NN_EXIT_FAILED;
    }
    if (!cli.command) return report(&cli, no_command(program, name));
    int skip = 1 + several;
    nn_options options = { 0 };
    nn_status status = run_command(&cli, argc - skip, argv + skip, &options);
    if (status != NN_OK) {
        int code = report(&cli, status);
        if (nn_cli_log_close() != NN_OK) nn_cli_print(nn_error_message());
        nn_arena_free(&options.arena);
        return code;
    }
    nn_arena_free(&options.arena);
    if (fflush(stdout) != 0)
        return report(&cli, nn_fail(NN_IO, "standard output cannot be written"));
    return NN_EXIT_OK;
}
