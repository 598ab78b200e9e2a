/* Looking at what a pickle describes. */
#include <string.h>

#include "data/pickle.h"

static const char *const kind_names[] = {
#define X(name, text) text,
    NN_PICKLE_KINDS(X)
#undef X
};

const char *nn_pickle_kind_name(const nn_pickle *value)
{
    return kind_names[value->kind];
}

bool nn_pickle_is_text(const nn_pickle *value, const char *text)
{
    return value->kind == NN_PICKLE_TEXT && value->n == (int64_t)strlen(text) &&
           memcmp(value->text, text, (size_t)value->n) == 0;
}

bool nn_pickle_calls(const nn_pickle *value, const char *global)
{
    if (value->kind != NN_PICKLE_CALL || value->call.callee->kind != NN_PICKLE_GLOBAL) return false;
    return strcmp(value->call.callee->text, global) == 0;
}

const nn_pickle *nn_pickle_dict(const nn_pickle *value)
{
    static const nn_pickle empty = { .kind = NN_PICKLE_DICT };
    if (value->kind == NN_PICKLE_DICT) return value;
    if (!nn_pickle_calls(value, "collections OrderedDict")) return NULL;
    const nn_pickle *filled = value->call.filled;
    if (!filled) return &empty;
    return filled->kind == NN_PICKLE_DICT ? filled : NULL;
}

const nn_pickle *nn_pickle_get(const nn_pickle *dict, const char *key)
{
    for (int64_t i = dict->n - 2; i >= 0; i -= 2)
        if (nn_pickle_is_text(dict->values[i], key)) return dict->values[i + 1];
    return NULL;
}
