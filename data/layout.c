/* Names through tables of rules, in both directions. */
#include "data/layout.h"

#include <ctype.h>
#include <string.h>

/* Which block and layer a name is about; -1 = it does not say. */
typedef struct place {
    int block, layer;
} place;

static bool set_place(char letter, int number, const nn_net_size *size, place *at)
{
    int row = size->layers + 1; /* of the layers of a block, and what follows them */
    switch (letter) {
    case 'b':
        at->block = number;
        break;
    case 'j':
        at->layer = number;
        break;
    case 'r':
        at->block = size->blocks - 1 - number;
        break;
    case 'i':
        number--; /* the first is the input */
    /* fall through */
    default:
        at->block = number < 0 ? -1 : number / row;
        at->layer = number % row;
    }
    return at->block >= -1 && number >= 0;
}

static int number_of(char letter, const nn_net_size *size, const place *at)
{
    int row = size->layers + 1;
    switch (letter) {
    case 'b':
        return at->block;
    case 'j':
        return at->layer;
    case 'r':
        return size->blocks - 1 - at->block;
    case 'i':
        return 1 + at->block * row + at->layer;
    default:
        return at->block * row + at->layer;
    }
}

/* Whether the name begins as the pattern says; *rest: what follows. */
static bool match(const char *pattern, const char *name, const nn_net_size *size, place *at,
                  const char **rest)
{
    *at = (place){ -1, -1 };
    for (; *pattern; pattern++) {
        if (*pattern != '{') {
            if (*pattern != *name++) return false;
            continue;
        }
        int number = 0, digits = 0;
        for (; isdigit((unsigned char)*name) && digits < 4; digits++)
            number = number * 10 + (*name++ - '0');
        if (!digits || !set_place(pattern[1], number, size, at)) return false;
        pattern += 2;
    }
    *rest = name;
    return true;
}

static nn_status print(const char *pattern, const nn_net_size *size, const place *at, nn_text *out)
{
    for (; *pattern; pattern++) {
        if (*pattern != '{') {
            NN_TRY(nn_text_add_bytes(out, pattern, 1));
            continue;
        }
        NN_TRY(nn_text_add(out, "%d", number_of(pattern[1], size, at)));
        pattern += 2;
    }
    return NN_OK;
}

static bool applies(const nn_name_rule *rule, const nn_net_size *size, place *at)
{
    bool attends = at->block >= 0 && at->block < 32 && size->attends >> at->block & 1;
    if (rule->when == NN_RULE_ATTENDS && !attends) return false;
    if (rule->when == NN_RULE_PLAIN && attends) return false;
    if (at->layer < 0) at->layer = size->layers;
    return strstr(rule->ours, "{j}") || at->block < 0 || at->layer == size->layers;
}

/* The first rule that fits a name, its place, and the rest of the name. */
static const nn_name_rule *choose(const nn_name_rule *rule, const nn_net_size *size, bool to_ours,
                                  const char *name, place *at, const char **rest)
{
    for (; rule->theirs; rule++)
        if (match(to_ours ? rule->theirs : rule->ours, name, size, at, rest) &&
            applies(rule, size, at))
            return rule;
    return NULL;
}

static nn_status rewrite(const nn_name_rule *rules, const nn_net_size *size, bool to_ours,
                         const char *name, nn_text *out, int *rank, bool *found)
{
    place at;
    const char *rest = name;
    const nn_name_rule *rule = choose(rules, size, to_ours, name, &at, &rest);
    *found = rule != NULL;
    if (!rule) return NN_OK;
    NN_TRY(print(to_ours ? rule->ours : rule->theirs, size, &at, out));
    if (rule->rank) *rank = rule->rank;
    const nn_name_rule *inner =
        rule->inside ? choose(rule->inside, size, to_ours, rest, &at, &rest) : NULL;
    if (inner) NN_TRY(print(to_ours ? inner->ours : inner->theirs, size, &at, out));
    if (inner && inner->rank) *rank = inner->rank;
    return nn_text_add(out, "%s", rest);
}

static const nn_name_rule same[] = { { .theirs = "", .ours = "" }, { 0 } };

nn_status nn_layout_theirs(const nn_layout *layout, const nn_net_size *size, const char *ours,
                           nn_text *theirs, int *rank, bool *found)
{
    *rank = 0;
    NN_TRY(nn_text_add(theirs, "%s", layout->prefix));
    NN_TRY(rewrite(layout->rules ? layout->rules : same, size, false, ours, theirs, rank, found));
    if (!nn_ends_with(ours, ".weight")) *rank = 0;
    return NN_OK;
}

nn_status nn_layout_ours(const nn_layout *layout, const nn_net_size *size, const char *theirs,
                         nn_text *ours, bool *found)
{
    int rank;
    *found = nn_starts_with(theirs, layout->prefix);
    if (!*found) return NN_OK;
    return rewrite(layout->rules ? layout->rules : same, size, true,
                   theirs + strlen(layout->prefix), ours, &rank, found);
}

const nn_layout *nn_layout_find(const char *name, nn_network network)
{
    for (int i = 0; i < nn_layout_count; i++)
        if (nn_layouts[i].network == network && strcmp(nn_layouts[i].name, name) == 0)
            return &nn_layouts[i];
    return NULL;
}

const char *nn_network_name(nn_network network)
{
    static const char *const names[] = { "unet", "vae", "text encoder", "blip" };
    return names[network];
}
