/* What two pieces of one training must have in common, as text in the checkpoint. */
#include <inttypes.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/rng.h"
#include "tools/trainer.h"

static nn_status describe_option(const nn_option *option, nn_text *out)
{
    NN_TRY(nn_text_add(out, "--%s=", option->name));
    NN_TRY(nn_option_show(option, out));
    return nn_text_add(out, "\n");
}

nn_status trainer_describe(const trainer *t, nn_text *out)
{
    bool to_the_end = t->set.schedule != NN_LR_CONSTANT;
    for (const nn_option *o = t->options; o && o->name; o++) {
        if (o->incidental || (!to_the_end && !strcmp(o->name, "max-train-steps"))) continue;
        NN_TRY(describe_option(o, out));
    }
    NN_TRY(nn_text_add(out, "hash of the start=%016" PRIx64 "\n", t->start));
    return nn_text_add(out, "samples=%" PRId64 "\n", t->n_samples);
}

/* One line of a description, without its end. */
typedef struct line {
    const char *text;
    int name, length; /* characters in front of the '=', and of the whole */
} line;

static bool next_line(const char **at, line *out)
{
    if (!**at) return false;
    out->text = *at;
    out->length = (int)strcspn(*at, "\n");
    out->name = (int)strcspn(*at, "=\n");
    *at += out->length;
    if (**at) ++*at;
    return true;
}

/* The line of that name. */
static bool find_line(const char *description, const line *wanted, line *out)
{
    while (next_line(&description, out))
        if (out->name == wanted->name &&
            strncmp(out->text, wanted->text, (size_t)wanted->name) == 0)
            return true;
    return false;
}

static nn_status add_value(const line *l, bool there, nn_text *out)
{
    if (!there || l->name == l->length) return nn_text_add(out, "not set");
    return nn_text_add(out, "'%.*s'", l->length - l->name - 1, l->text + l->name + 1);
}

/* The lines of a that b has otherwise or, if `missing` alone matters, not at all. */
static nn_status add_differences(const char *a, const char *b, bool missing,
                                 const char *const said[2], nn_text *out)
{
    line one, other = { 0 };
    while (next_line(&a, &one)) {
        bool there = find_line(b, &one, &other);
        bool same = there && other.length == one.length &&
                    strncmp(other.text, one.text, (size_t)one.length) == 0;
        if (missing ? there : same) continue;
        NN_TRY(nn_text_add(out, "%s%.*s%s", out->length ? "; " : "", one.name, one.text, said[0]));
        NN_TRY(missing ? add_value(&one, true, out) : add_value(&other, there, out));
        NN_TRY(nn_text_add(out, "%s", said[1]));
        NN_TRY(missing ? add_value(&other, false, out) : add_value(&one, true, out));
    }
    return NN_OK;
}

nn_status trainer_differences(const char *first, const char *second, const char *of_first,
                              const char *of_second, nn_text *out)
{
    const char *const said[2] = { of_first, of_second };
    NN_TRY(add_differences(second, first, false, said, out));
    NN_TRY(add_differences(first, second, true, said, out));
    return out->length ? NN_OK : nn_text_add(out, "their order differs");
}

nn_status trainer_compare(const char *directory, const char *saved, const char *now)
{
    nn_text found = { 0 };
    if (strcmp(saved, now) == 0) return NN_OK;
    nn_status status = trainer_differences(saved, now, " was ", " and is now ", &found);
    if (status == NN_OK)
        status = nn_fail(NN_ARGUMENT,
                         "%s holds a run with other settings: %s; give the options of that run to "
                         "go on, or another --output-dir",
                         directory, found.text);
    nn_text_free(&found);
    return status;
}

nn_status trainer_hash_params(const nn_params *params, uint64_t *hash)
{
    uint64_t own;
    NN_TRY(nn_params_hash(params, &own));
    *hash = nn_mix(*hash, own);
    return NN_OK;
}

static nn_status hash_file(const char *path, uint64_t *hash)
{
    nn_map map;
    if (!nn_file_exists(path)) return NN_OK;
    NN_TRY(nn_map_open(path, &map));
    *hash = nn_mix(*hash, nn_hash(0, map.data, map.size));
    nn_map_close(&map);
    return NN_OK;
}

nn_status trainer_hash_files(const char *directory, const char *const names[], uint64_t *hash)
{
    for (int i = 0; names[i]; i++) {
        char *path = nn_format("%s/%s", directory, names[i]);
        NN_NEED(path);
        nn_status status = hash_file(path, hash);
        nn_free(path);
        NN_TRY(status);
        *hash = nn_mix(*hash, nn_hash_text(names[i])); /* which of them are there */
    }
    return NN_OK;
}
