/* Code points, normal forms and classes, on utf8proc. */
#include "data/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "engine/base/alloc.h"

nn_status nn_codes_add(nn_codes *codes, int32_t code)
{
    NN_TRY(nn_grow(&codes->code, &codes->capacity, codes->n, sizeof(*codes->code)));
    codes->code[codes->n++] = code;
    return NN_OK;
}

void nn_codes_free(nn_codes *codes)
{
    nn_free(codes->code);
    *codes = (nn_codes){ 0 };
}

/* Number of bytes that one replacement character stands for: the longest prefix of a valid sequence
 * that begins here, at least 1. */
static int invalid_length(const char *text, int64_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    int want = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < 2) return 1;
    unsigned least = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned most = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < least || s[1] > most) return 1;
    int length = 2;
    while (length < want && length < n && (s[length] & 0xc0) == 0x80) length++;
    return length;
}

/* The code point at text and its length; U+FFFD for what is no UTF-8. */
static int decode(const char *text, int64_t n, int32_t *code)
{
    uint32_t c;
    int length = nn_utf8_decode(text, n, &c);
    *code = length ? (int32_t)c : 0xfffd;
    return length ? length : invalid_length(text, n);
}

nn_status nn_codes_add_utf8(nn_codes *codes, const char *text, int64_t n)
{
    int32_t code;
    for (int64_t i = 0; i < n;) {
        i += decode(text + i, n - i, &code);
        NN_TRY(nn_codes_add(codes, code));
    }
    return NN_OK;
}

nn_status nn_text_add_utf8(nn_text *out, const char *text, int64_t n)
{
    int32_t code;
    char bytes[4];
    for (int64_t i = 0; i < n;) {
        i += decode(text + i, n - i, &code);
        NN_TRY(nn_text_add_bytes(out, bytes, nn_utf8_encode((uint32_t)code, bytes)));
    }
    return NN_OK;
}

static nn_status decompose(nn_codes *codes, int64_t from)
{
    enum { LONGEST = 32 }; /* utf8proc's canonical expansion of one code point is at most 4 */
    nn_codes out = { 0 };
    nn_status status = NN_OK;
    for (int64_t i = from; status == NN_OK && i < codes->n; i++) {
        utf8proc_int32_t part[LONGEST];
        utf8proc_ssize_t n =
            utf8proc_decompose_char(codes->code[i], part, LONGEST, UTF8PROC_DECOMPOSE, NULL);
        NN_ASSERT(n >= 0 && n <= LONGEST);
        for (int64_t k = 0; status == NN_OK && k < n; k++) status = nn_codes_add(&out, part[k]);
    }
    codes->n = from;
    for (int64_t i = 0; status == NN_OK && i < out.n; i++)
        status = nn_codes_add(codes, out.code[i]);
    nn_codes_free(&out);
    return status;
}

/* Canonical order: a stable insertion sort, by combining class, of each run of marks. */
static void reorder(int32_t *code, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        int class = utf8proc_get_property(code[i])->combining_class;
        int32_t moved = code[i];
        int64_t k = i;
        if (!class) continue;
        while (k > 0 && utf8proc_get_property(code[k - 1])->combining_class > class) {
            code[k] = code[k - 1];
            k--;
        }
        code[k] = moved;
    }
}

static bool is_ascii(const nn_codes *codes, int64_t from)
{
    for (int64_t i = from; i < codes->n; i++)
        if (codes->code[i] >= 0x80) return false;
    return true;
}

nn_status nn_codes_nfd(nn_codes *codes, int64_t from)
{
    if (is_ascii(codes, from)) return NN_OK;
    NN_TRY(decompose(codes, from));
    reorder(codes->code + from, codes->n - from);
    return NN_OK;
}

nn_status nn_codes_nfc(nn_codes *codes, int64_t from)
{
    if (is_ascii(codes, from)) return NN_OK;
    NN_TRY(nn_codes_nfd(codes, from));
    utf8proc_ssize_t n = utf8proc_normalize_utf32(codes->code + from, codes->n - from,
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    NN_ASSERT(n >= 0);
    codes->n = from + n;
    return NN_OK;
}

nn_status nn_codes_add_lower(nn_codes *codes, int32_t code)
{
    if (code != 0x130) return nn_codes_add(codes, utf8proc_tolower(code));
    NN_TRY(nn_codes_add(codes, 'i'));
    return nn_codes_add(codes, 0x307);
}

bool nn_is_space(int32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool nn_is_letter(int32_t code)
{
    utf8proc_category_t c = utf8proc_category(code);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool nn_is_number(int32_t code)
{
    utf8proc_category_t c = utf8proc_category(code);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool nn_is_punctuation(int32_t code)
{
    utf8proc_category_t c = utf8proc_category(code);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool nn_is_nonspacing_mark(int32_t code)
{
    return utf8proc_category(code) == UTF8PROC_CATEGORY_MN;
}

bool nn_is_space_separator(int32_t code)
{
    return utf8proc_category(code) == UTF8PROC_CATEGORY_ZS;
}

bool nn_is_other(int32_t code)
{
    return utf8proc_category(code) >= UTF8PROC_CATEGORY_CC;
}

bool nn_is_cjk_ideograph(int32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b820 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}
