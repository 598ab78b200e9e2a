/* From raw text to the pieces that BPE sees. */
#include <string.h>

#include "data/clip_bpe.h"

/* The entities that occur in captions; the full list of HTML has 2,231. */
static int32_t named_entity(const char *name, int64_t n)
{
    static const struct {
        const char *name;
        int32_t code;
    } known[] = { { "amp", '&' },       { "lt", '<' },       { "gt", '>' },
                  { "quot", '"' },      { "apos", '\'' },    { "nbsp", 0xa0 },
                  { "ndash", 0x2013 },  { "mdash", 0x2014 }, { "lsquo", 0x2018 },
                  { "rsquo", 0x2019 },  { "ldquo", 0x201c }, { "rdquo", 0x201d },
                  { "hellip", 0x2026 }, { "copy", 0xa9 },    { "reg", 0xae },
                  { "trade", 0x2122 },  { "deg", 0xb0 },     { "eacute", 0xe9 },
                  { "egrave", 0xe8 },   { "times", 0xd7 } };
    for (int i = 0; i < NN_COUNT(known); i++)
        if (strncmp(known[i].name, name, (size_t)n) == 0 && !known[i].name[n]) return known[i].code;
    return -1;
}

static int digit_of(int32_t c, int base)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code point of "&...;" at i, or -1; *end gets the place after it. */
static int32_t entity_at(const nn_codes *codes, int64_t i, int64_t *end)
{
    enum { LONGEST = 10 };
    char name[LONGEST];
    int64_t n = 0;
    for (i++; i < codes->n && codes->code[i] != ';'; i++) {
        if (n == LONGEST || codes->code[i] >= 0x80) return -1;
        name[n++] = (char)codes->code[i];
    }
    if (i == codes->n || n == 0) return -1;
    *end = i + 1;
    if (name[0] != '#') return named_entity(name, n);
    int base = n > 1 && (name[1] | 0x20) == 'x' ? 16 : 10;
    int64_t first = base == 16 ? 2 : 1, code = 0;
    for (int64_t k = first; k < n; k++) {
        int digit = digit_of(name[k], base);
        if (digit < 0) return -1;
        code = nn_min(code * base + digit, 0x110000);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    if (first == n) return -1;
    return code == 0 || code > 0x10ffff || surrogate ? 0xfffd : (int32_t)code;
}

/* Entities become shorter, so this works in place. */
static void unescape(nn_codes *codes)
{
    int64_t n = 0, end;
    for (int64_t i = 0; i < codes->n;) {
        int32_t code = codes->code[i] == '&' ? entity_at(codes, i, &end) : -1;
        codes->code[n++] = code >= 0 ? code : codes->code[i];
        i = code >= 0 ? end : i + 1;
    }
    codes->n = n;
}

/* One code point as ftfy's default repairs leave it: straight quotes, no ligatures, no full-width
 * forms, no control characters. */
static nn_status add_repaired(nn_codes *out, int32_t c)
{
    static const char *const ligatures[] = { "ff", "fi", "fl", "ffi", "ffl", "\u017ft", "st" };
    if (c >= 0xfb00 && c <= 0xfb06)
        return nn_codes_add_utf8(out, ligatures[c - 0xfb00],
                                 (int64_t)strlen(ligatures[c - 0xfb00]));
    if ((c < 0x20 || (c >= 0x7f && c < 0xa0)) && !nn_is_space(c)) return NN_OK;
    if (c == 0x2018 || c == 0x2019) return nn_codes_add(out, '\'');
    if (c == 0x201c || c == 0x201d) return nn_codes_add(out, '"');
    if (c >= 0xff01 && c <= 0xff5e) return nn_codes_add(out, c - 0xfee0);
    return nn_codes_add(out, c);
}

static nn_status read_raw(nn_clip_clean clean, const char *text, int64_t n, nn_codes *raw)
{
    if (clean == NN_CLIP_CLEAN_FAST) {
        NN_TRY(nn_codes_add_utf8(raw, text, n));
        return nn_codes_nfc(raw, 0);
    }
    nn_codes given = { 0 };
    nn_status status = nn_codes_add_utf8(&given, text, n);
    for (int64_t i = 0; status == NN_OK && i < given.n; i++)
        status = add_repaired(raw, given.code[i]);
    nn_codes_free(&given);
    NN_TRY(status);
    NN_TRY(nn_codes_nfc(raw, 0));
    if (clean == NN_CLIP_CLEAN_OPENAI) {
        unescape(raw);
        unescape(raw);
    }
    return NN_OK;
}

static nn_status lower_and_collapse(const nn_codes *raw, nn_codes *out)
{
    for (int64_t i = 0; i < raw->n; i++) {
        bool space = nn_is_space(raw->code[i]);
        if (space && i > 0 && nn_is_space(raw->code[i - 1])) continue;
        if (space)
            NN_TRY(nn_codes_add(out, ' '));
        else
            NN_TRY(nn_codes_add_lower(out, raw->code[i]));
    }
    return NN_OK;
}

nn_status nn_clip_clean_text(nn_clip_clean clean, const char *text, int64_t n, nn_codes *out)
{
    nn_codes raw = { 0 };
    nn_status status = read_raw(clean, text, n, &raw);
    if (status == NN_OK) status = lower_and_collapse(&raw, out);
    nn_codes_free(&raw);
    return status;
}

static bool has_prefix(const int32_t *code, int64_t n, const char *prefix)
{
    int64_t i = 0;
    for (; prefix[i]; i++)
        if (i == n || code[i] != prefix[i]) return false;
    return true;
}

int64_t nn_clip_piece_end(const int32_t *code, int64_t i, int64_t n, bool *is_piece)
{
    static const char *const literals[] = { NN_CLIP_START, NN_CLIP_END, "'s",  "'t", "'re",
                                            "'ve",         "'m",        "'ll", "'d" };
    bool may_be_literal = code[i] == '<' || code[i] == '\'';
    *is_piece = !nn_is_space(code[i]);
    if (!*is_piece) return i + 1;
    for (int k = 0; may_be_literal && k < NN_COUNT(literals); k++)
        if (has_prefix(code + i, n - i, literals[k])) return i + (int64_t)strlen(literals[k]);
    if (nn_is_number(code[i])) return i + 1;
    bool letter = nn_is_letter(code[i]);
    for (i++; i < n; i++) {
        if (letter && !nn_is_letter(code[i])) break;
        if (!letter && (nn_is_space(code[i]) || nn_is_letter(code[i]) || nn_is_number(code[i])))
            break;
    }
    return i;
}
