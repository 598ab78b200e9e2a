/* --help: what a command does, its options with their defaults, an example. */
#include "tools/cli_internal.h"

#include <stdio.h>
#include <string.h>

static const char *value_word(const nn_option *option)
{
    return option->flag ? "" : option->value ? option->value : option->text ? "TEXT" : "N";
}

/* "--device cpu|cuda" */
static void option_words(const nn_option *option, char *out, size_t size)
{
    bool off = option->flag && *option->flag;
    int n =
        snprintf(out, size, "--%s%s%s", off ? "no-" : "", option->name, option->flag ? "" : " ");
    if (!option->choice) {
        snprintf(out + n, size - (size_t)n, "%s", value_word(option));
        return;
    }
    for (int i = 0; option->choices[i] && (size_t)n < size; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%s", i ? "|" : "", option->choices[i]);
}

static void print_option(const nn_option *option)
{
    char words[128];
    option_words(option, words, sizeof(words));
    printf("  %-26s %s%s", words, strlen(words) > 26 ? "\n                             " : "",
           option->help);
    nn_text value = { 0 };
    if (option->required)
        printf(" (required)");
    else if (!option->flag && nn_option_show(option, &value) == NN_OK && value.length)
        printf(" [%s]", value.text);
    nn_text_free(&value);
    printf("\n");
}

static void help_command(const nn_program *program, const nn_command *command)
{
    const char *name = command->name ? command->name : "";
    printf("usage: %s%s%s%s%s [options]\n\n%s\n\noptions [default]:\n", program->name,
           *name ? " " : "", name, command->arguments ? " " : "",
           command->arguments ? command->arguments : "",
           command->summary ? command->summary : program->summary);
    for (const nn_option *o = command->options; o && o->name; o++) print_option(o);
    printf("  %-26s %s\n  %-26s %s\n  %-26s %s\n  %-26s %s\n  %-26s %s\n", "--config FILE",
           "options from a JSON object; the command line wins", "--log FILE",
           "append every step as a JSON line", "--verbose",
           "more log lines; where an error came from", "--quiet", "no progress, warnings only",
           "--help", "this text");
    if (command->example) printf("\nexample:\n  %s\n", command->example);
}

void nn_cli_help(const nn_program *program, const nn_command *command)
{
    if (command)
        help_command(program, command);
    else {
        printf("usage: %s COMMAND [options]\n\n%s\n\ncommands:\n", program->name, program->summary);
        for (const nn_command *c = program->commands; c->run; c++)
            printf("  %-12s %s\n", c->name, c->summary);
        printf("\n%s COMMAND --help tells more.\n", program->name);
    }
    printf(
        "\nexit codes: 0 done, 1 the work failed, 2 wrong command line, 3 interrupted and saved\n");
}
