/* Options: finding, setting and showing them. */
#include "tools/cli_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nn_options_add(nn_options *o, const nn_option *table)
{
    for (; table && table->name; table++) {
        NN_ASSERT(o->n < NN_CLI_OPTIONS);
        NN_ASSERT(!!table->flag + !!table->integer + !!table->real + !!table->text +
                      !!table->choice ==
                  1);
        o->items[o->n++] = table;
    }
}

static int index_of(const nn_options *o, const char *name)
{
    for (int i = 0; i < o->n; i++)
        if (!strcmp(o->items[i]->name, name)) return i;
    return -1;
}

static nn_status unknown(const nn_options *o, const char *name)
{
    const char *nearest = NULL;
    int least = 1 + (int)strlen(name) / 2;
    for (int i = 0; i < o->n; i++) {
        int edits = nn_edit_distance(name, o->items[i]->name);
        if (edits >= least) continue;
        least = edits;
        nearest = o->items[i]->name;
    }
    if (!nearest) return nn_fail(NN_ARGUMENT, "--%s is no option of this command", name);
    return nn_fail(NN_ARGUMENT, "--%s is no option of this command; did you mean --%s?", name,
                   nearest);
}

nn_status nn_options_find(const nn_options *o, const char *name, int *at, bool *no)
{
    *at = index_of(o, name);
    if (no) *no = false;
    if (*at >= 0) return NN_OK;
    if (no && nn_starts_with(name, "no-")) {
        *at = index_of(o, name + 3);
        *no = true;
        if (*at >= 0 && o->items[*at]->flag) return NN_OK;
    }
    return unknown(o, name);
}

static nn_status out_of_bounds(const nn_option *option, const char *text)
{
    return nn_fail(NN_ARGUMENT, "--%s is '%s'; expected %s from %.12g to %.12g", option->name, text,
                   option->integer ? "a whole number" : "a number", option->low, option->high);
}

static bool within(const nn_option *option, double value)
{
    bool bounded = option->low != 0 || option->high != 0;
    return !bounded || (value >= option->low && value <= option->high);
}

static nn_status set_number(const nn_option *option, const char *text)
{
    char *end;
    errno = 0;
    double value;
    long long whole = 0;
    if (option->integer) {
        whole = strtoll(text, &end, 10);
        value = (double)whole;
    } else
        value = strtod(text, &end);
    if (end == text || *end || (option->integer && errno) || !isfinite(value))
        return nn_fail(NN_ARGUMENT, "--%s is '%s'; expected %s", option->name, text,
                       option->integer ? "a whole number" : "a number");
    if (!within(option, value)) return out_of_bounds(option, text);
    if (option->integer)
        *option->integer = whole;
    else
        *option->real = value;
    return NN_OK;
}

static nn_status set_choice(const nn_option *option, const char *text)
{
    char all[256] = "";
    for (int i = 0; option->choices[i]; i++) {
        if (!strcmp(option->choices[i], text)) {
            *option->choice = i;
            return NN_OK;
        }
        size_t n = strlen(all);
        snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", option->choices[i]);
    }
    return nn_fail(NN_ARGUMENT, "--%s is '%s'; expected one of %s", option->name, text, all);
}

nn_status nn_option_set(const nn_option *option, const char *text)
{
    if (option->integer || option->real) return set_number(option, text);
    if (option->choice) return set_choice(option, text);
    if (option->text) {
        *option->text = text;
        return NN_OK;
    }
    bool yes = !strcmp(text, "true");
    if (!yes && strcmp(text, "false") != 0)
        return nn_fail(NN_ARGUMENT, "--%s is '%s'; a flag is true or false", option->name, text);
    *option->flag = yes;
    return NN_OK;
}

/* The fewer of 12 and 17 digits that mean this very number. */
static nn_status show_real(double value, nn_text *out)
{
    char text[32];
    snprintf(text, sizeof(text), "%.12g", value);
    if (strtod(text, NULL) == value) return nn_text_add(out, "%s", text);
    return nn_text_add(out, "%.17g", value);
}

nn_status nn_option_show(const nn_option *option, nn_text *out)
{
    if (option->integer) return nn_text_add(out, "%lld", (long long)*option->integer);
    if (option->real) return show_real(*option->real, out);
    if (option->choice) return nn_text_add(out, "%s", option->choices[*option->choice]);
    if (option->text) return nn_text_add(out, "%s", *option->text ? *option->text : "");
    return nn_text_add(out, "%s", *option->flag ? "true" : "false");
}

/* One "--name value", "--name=value" or flag; *used gets the words it took. */
static nn_status parse_option(nn_options *o, int argc, char **argv, int *used)
{
    char name[64];
    const char *word = argv[0] + 2, *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    if (n >= sizeof(name)) return nn_fail(NN_ARGUMENT, "%s is no option of this command", argv[0]);
    memcpy(name, word, n);
    name[n] = 0;
    int at;
    bool no;
    NN_TRY(nn_options_find(o, name, &at, &no));
    const nn_option *option = o->items[at];
    if (o->given[at]) return nn_fail(NN_ARGUMENT, "--%s is given twice", option->name);
    o->given[at] = true;
    *used = 1;
    if (option->flag && !equals) {
        *option->flag = !no;
        return NN_OK;
    }
    if (no) return nn_fail(NN_ARGUMENT, "--%s takes no value", name);
    if (equals) return nn_option_set(option, equals + 1);
    if (argc < 2 || nn_starts_with(argv[1], "--"))
        return nn_fail(NN_ARGUMENT, "--%s wants a value", name);
    *used = 2;
    return nn_option_set(option, argv[1]);
}

nn_status nn_options_parse(nn_options *o, int argc, char **argv, int *n_arguments)
{
    bool options = true;
    *n_arguments = 0;
    for (int i = 0; i < argc;) {
        if (options && !strcmp(argv[i], "--")) {
            options = false;
            i++;
        } else if (options && nn_starts_with(argv[i], "--")) {
            int used = 0;
            NN_TRY(parse_option(o, argc - i, argv + i, &used));
            i += used;
        } else if (options && argv[i][0] == '-' && argv[i][1])
            return nn_fail(NN_ARGUMENT, "'%s' is no option; options begin with --", argv[i]);
        else
            argv[(*n_arguments)++] = argv[i++];
    }
    return NN_OK;
}

nn_status nn_options_check(const nn_options *o)
{
    for (int i = 0; i < o->n; i++) {
        const nn_option *option = o->items[i];
        if (option->required && !o->given[i])
            return nn_fail(NN_ARGUMENT, "--%s is required: %s", option->name, option->help);
        int other = option->excludes ? index_of(o, option->excludes) : -1;
        if (o->given[i] && other >= 0 && o->given[other])
            return nn_fail(NN_ARGUMENT, "--%s and --%s contradict each other; give one",
                           option->name, option->excludes);
    }
    return NN_OK;
}
