/* Growing text, edit distance, UTF-8. */
#include "engine/base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"

static nn_status reserve(nn_text *t, int64_t more)
{
    int64_t want = t->length + more + 1;
    if (want <= t->capacity) return NN_OK;
    int64_t room = nn_max(want, 2 * t->capacity);
    char *grown = nn_realloc(t->text, room, 1);
    NN_NEED(grown);
    t->text = grown;
    t->capacity = room;
    return NN_OK;
}

nn_status nn_text_add(nn_text *t, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    nn_status status = n < 0 ? nn_fail(NN_ARGUMENT, "bad format '%s'", fmt) : reserve(t, n);
    if (status == NN_OK) {
        vsnprintf(t->text + t->length, (size_t)n + 1, fmt, again);
        t->length += n;
    }
    va_end(again);
    return status;
}

nn_status nn_text_add_bytes(nn_text *t, const void *bytes, int64_t n)
{
    NN_TRY(reserve(t, n));
    memcpy(t->text + t->length, bytes, (size_t)n);
    t->length += n;
    t->text[t->length] = 0;
    return NN_OK;
}

void nn_text_clear(nn_text *t)
{
    t->length = 0;
    if (t->text) t->text[0] = 0;
}

void nn_text_free(nn_text *t)
{
    nn_free(t->text);
    *t = (nn_text){ 0 };
}

bool nn_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool nn_ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

int nn_edit_distance(const char *a, const char *b)
{
    enum { MOST = 64 };
    int row[MOST + 1];
    int n = (int)nn_min((int64_t)strlen(a), MOST), m = (int)nn_min((int64_t)strlen(b), MOST);
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int above = row[j];
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[m];
}

int nn_utf8_decode(const char *text, int64_t n, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (n < 1) return 0;
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    int length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
    if (!length || length > n || s[0] > 0xf4) return 0;
    uint32_t c = s[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *code = c;
    return length;
}

int nn_utf8_encode(uint32_t code, char out[4])
{
    static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    int length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(lead[length] | code);
    return length;
}

bool nn_utf8_valid(const char *text, int64_t n)
{
    uint32_t code;
    for (int64_t i = 0; i < n;) {
        int length = nn_utf8_decode(text + i, n - i, &code);
        if (!length) return false;
        i += length;
    }
    return true;
}
