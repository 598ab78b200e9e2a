/* Prompts of a run: one, or a file of them. */
#include "tools/prompts.h"

#include <jansson.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/str.h"

enum { MOST_BYTES = 256 << 20 };

/* object: the line as JSON where it is that, `json` its text. */
static nn_status add(prompts *p, const char *text, const char *json, const json_t *object)
{
    const json_t *seed = json_object_get(object, "seed");
    const char *negative = json_string_value(json_object_get(object, "negative_prompt"));
    NN_TRY(nn_grow(&p->lines, &p->capacity, p->n, sizeof(*p->lines)));
    prompt_line *line = &p->lines[p->n];
    *line = (prompt_line){ .text = nn_strdup(text), .has_seed = json_is_integer(seed) };
    if (line->has_seed) line->seed = (uint64_t)json_integer_value(seed);
    if (json) line->json = nn_strdup(json);
    if (negative) line->negative = nn_strdup(negative);
    p->n++;
    const bool failed = !line->text || (json && !line->json) || (negative && !line->negative);
    return failed ? NN_MEMORY : NN_OK;
}

nn_status prompts_one(const char *text, prompts *out)
{
    *out = (prompts){ 0 };
    return add(out, text, NULL, NULL);
}

static nn_status add_json(prompts *p, const char *path, int64_t number, const char *text)
{
    json_error_t error;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    const char *prompt = json_string_value(json_object_get(j, "prompt"));
    nn_status status = prompt ? add(p, prompt, text, j)
                              : nn_fail(NN_FORMAT, "%s:%lld: %s", path, (long long)number,
                                        j ? "an object with \"prompt\" is expected" : error.text);
    json_decref(j);
    return status;
}

static nn_status read_lines(prompts *p, const char *path, char *text)
{
    bool json = nn_ends_with(path, ".jsonl");
    int64_t number = 0;
    for (char *line = text, *end; line; line = end) {
        end = strchr(line, '\n');
        if (end) *end++ = 0;
        number++;
        size_t n = strlen(line);
        if (n && line[n - 1] == '\r') line[n - 1] = 0;
        if (!*line) continue;
        NN_TRY(json ? add_json(p, path, number, line) : add(p, line, NULL, NULL));
    }
    return p->n ? NN_OK : nn_fail(NN_FORMAT, "%s: has no prompt", path);
}

nn_status prompts_read(const char *path, prompts *out)
{
    char *text;
    int64_t n;
    *out = (prompts){ 0 };
    NN_TRY(nn_file_read(path, MOST_BYTES, &text, &n));
    nn_status status = nn_utf8_valid(text, n) ? read_lines(out, path, text)
                                              : nn_fail(NN_FORMAT, "%s: is not UTF-8 text", path);
    nn_free(text);
    if (status != NN_OK) prompts_free(out);
    return status;
}

void prompts_free(prompts *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        nn_free(p->lines[i].text);
        nn_free(p->lines[i].negative);
        nn_free(p->lines[i].json);
    }
    nn_free(p->lines);
    *p = (prompts){ 0 };
}
