/* A scanner for the one element of CLDR annotation files that matters here:
 *
 *     <annotation cp="X">keyword | keyword</annotation>
 *     <annotation cp="X" type="tts">short name</annotation>
 */
#include "data/emoji.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/str.h"

enum { MOST_BYTES = 64 << 20, MOST_TEXT = 4096 };

/* Bytes of the file that are not yet read. */
typedef struct cursor {
    const char *at, *end;
} cursor;

/* One element; the texts point into the file. */
typedef struct annotation {
    const char *cp, *text;
    int64_t cp_bytes, text_bytes;
    bool is_name;
} annotation;

static const char *find(const char *at, const char *end, const char *what)
{
    return memmem(at, (size_t)(end - at), what, strlen(what));
}

/* The next annotation; its cp is NULL behind the last one. */
static nn_status next(cursor *c, const char *path, annotation *a)
{
    static const char open[] = "<annotation cp=\"", close[] = "</annotation>";
    const char *tag = find(c->at, c->end, open);
    *a = (annotation){ 0 };
    if (!tag) return NN_OK;
    const char *cp = tag + sizeof open - 1;
    const char *quote = memchr(cp, '"', (size_t)(c->end - cp));
    const char *body = quote ? memchr(quote, '>', (size_t)(c->end - quote)) : NULL;
    const char *stop = body ? find(body, c->end, close) : NULL;
    if (!stop) return nn_fail(NN_FORMAT, "%s: an <annotation> element is cut off", path);
    if (stop - body > MOST_TEXT)
        return nn_fail(NN_FORMAT, "%s: an annotation of %lld bytes, expected at most %d", path,
                       (long long)(stop - body), MOST_TEXT);
    *a = (annotation){ .cp = cp,
                       .cp_bytes = quote - cp,
                       .text = body + 1,
                       .text_bytes = stop - body - 1,
                       .is_name = find(quote, body, "type=\"tts\"") != NULL };
    c->at = stop + sizeof close - 1;
    return NN_OK;
}

/* Copy with the five predefined entities resolved and blanks trimmed at both ends. */
static char *copy_text(nn_arena *arena, const char *text, int64_t n)
{
    static const struct {
        const char *entity;
        char byte;
    } table[] = {
        { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' }
    };
    while (n && text[0] == ' ') text++, n--;
    while (n && text[n - 1] == ' ') n--;
    char *copy = nn_arena_alloc(arena, n + 1, 1);
    if (!copy) return NULL;
    int64_t used = 0;
    for (int64_t i = 0; i < n;) {
        copy[used] = text[i];
        int64_t step = 1;
        for (int k = 0; k < NN_COUNT(table); k++) {
            int64_t length = (int64_t)strlen(table[k].entity);
            if (length > n - i || memcmp(text + i, table[k].entity, (size_t)length) != 0) continue;
            copy[used] = table[k].byte;
            step = length;
        }
        used++;
        i += step;
    }
    return copy;
}

static nn_status split_keywords(nn_arena *arena, const annotation *a, nn_emoji_name *name)
{
    const char *end = a->text + a->text_bytes;
    int n = 1;
    for (const char *p = a->text; p < end; p++) n += *p == '|';
    const char **list = nn_arena_alloc(arena, n, sizeof *list);
    NN_NEED(list);
    const char *at = a->text;
    for (int i = 0; i < n; i++) {
        const char *bar = memchr(at, '|', (size_t)(end - at));
        list[i] = copy_text(arena, at, (bar ? bar : end) - at);
        NN_NEED(list[i]);
        at = bar ? bar + 1 : end;
    }
    name->keywords = list;
    name->n_keywords = n;
    return NN_OK;
}

/* Index of the code point in codes, or -1 when it is another one or a sequence. */
static int index_of(const annotation *a, const uint32_t *codes, int n)
{
    uint32_t code;
    if (nn_utf8_decode(a->cp, a->cp_bytes, &code) != a->cp_bytes || !a->cp_bytes) return -1;
    for (int i = 0; i < n; i++)
        if (codes[i] == code) return i;
    return -1;
}

static nn_status keep(nn_arena *arena, const annotation *a, nn_emoji_name *name)
{
    if (!a->is_name) return split_keywords(arena, a, name);
    name->name = copy_text(arena, a->text, a->text_bytes);
    NN_NEED(name->name);
    return NN_OK;
}

nn_status nn_emoji_names_parse(const char *xml, int64_t length, const char *path,
                               const uint32_t *codes, int n, nn_arena *arena, nn_emoji_name *names)
{
    memset(names, 0, (size_t)n * sizeof *names);
    cursor c = { xml, xml + length };
    annotation a;
    for (;;) {
        NN_TRY(next(&c, path, &a));
        if (!a.cp) break;
        int i = index_of(&a, codes, n);
        if (i >= 0) NN_TRY(keep(arena, &a, &names[i]));
    }
    for (int i = 0; i < n; i++)
        if (!names[i].name || !names[i].n_keywords)
            return nn_fail(
                NN_NOT_FOUND,
                "%s: no name or no keywords for U+%04X; expected the English annotations "
                "of the Debian package unicode-cldr-core",
                path, (unsigned)codes[i]);
    return NN_OK;
}

nn_status nn_emoji_names_load(const char *path, const uint32_t *codes, int n, nn_arena *arena,
                              nn_emoji_name *names)
{
    if (!path) path = NN_EMOJI_ANNOTATIONS;
    if (!nn_file_exists(path))
        return nn_fail(
            NN_NOT_FOUND,
            "%s: no such file; install the Debian package unicode-cldr-core, or name the "
            "annotation file",
            path);
    char *xml;
    int64_t length;
    NN_TRY(nn_file_read(path, MOST_BYTES, &xml, &length));
    nn_status status = nn_emoji_names_parse(xml, length, path, codes, n, arena, names);
    nn_free(xml);
    return status;
}

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at++)
        if ((at == text || at[-1] == ' ') && (at[n] == 0 || at[n] == ' ')) return true;
    return false;
}

bool nn_emoji_is_called(const nn_emoji_name *name, const char *word)
{
    for (int i = 0; i < name->n_keywords; i++)
        if (strcmp(name->keywords[i], word) == 0) return true;
    return has_word(name->name, word);
}
