/* Loops, boilerplate and length of captions. */
#include "data/caption_filter.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "engine/base/rng.h"
#include "engine/base/str.h"

enum { MOST_WORDS = 256, GRAM = 4 };

static const char *const boilerplate[] = {
    "http://",           "https://",       "www.",
    "stock photo",       "stock image",    "royalty free",
    "royalty-free",      "click here",     "click to",
    "buy now",           "free shipping",  "for sale",
    "all rights",        "copyright",      "shutterstock",
    "getty images",      "istock",         "alamy",
    "image may contain", "no photo",       "no image",
    "as an ai",          "i'm sorry",      "i am sorry",
    "i cannot",          "language model", "the caption is",
    "here is a caption",
};

const char *nn_caption_flag_name(unsigned bit)
{
    switch (bit) {
#define X(name, value, word)                                                                       \
    case value:                                                                                    \
        return word;
        NN_CAPTION_FLAG_LIST(X)
#undef X
    default:
        return "unknown";
    }
}

/* Whether c belongs to a word: a letter, a digit, or any byte beyond ASCII. */
static bool in_word(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* Hashes of the lower-case words, at most MOST_WORDS. */
static int hash_words(const char *text, uint64_t out[MOST_WORDS])
{
    int n = 0;
    while (n < MOST_WORDS) {
        while (*text && !in_word(*text)) text++;
        if (!*text) break;
        uint64_t h = 0;
        for (; in_word(*text); text++) {
            char lower = (char)tolower((unsigned char)*text);
            h = nn_hash(h, &lower, 1);
        }
        out[n++] = h;
    }
    return n;
}

static bool same(const uint64_t *a, const uint64_t *b, int n)
{
    return !memcmp(a, b, (size_t)n * sizeof(*a));
}

/* Copies of the `period` words at w that follow each other, the first included. */
static int copies(const uint64_t *w, int n, int period)
{
    int found = 1;
    while ((found + 1) * period <= n && same(w, &w[found * period], period)) found++;
    return found;
}

bool nn_caption_loops(const char *text)
{
    uint64_t words[MOST_WORDS];
    int n = hash_words(text, words);
    for (int at = 0; at < n; at++) {
        for (int period = 1; period <= (n - at) / 2; period++)
            if (copies(words + at, n - at, period) >= (period < 3 ? 3 : 2)) return true;
        int gram = 1;
        for (int next = at + 1; next + GRAM <= n; next++)
            gram += same(words + at, words + next, GRAM);
        if (gram >= 3) return true;
    }
    return false;
}

bool nn_caption_is_boilerplate(const char *text)
{
    for (int i = 0; i < NN_COUNT(boilerplate); i++) {
        const char *phrase = boilerplate[i], *at = text;
        size_t n = strlen(phrase);
        while ((at = strcasestr(at, phrase))) {
            bool starts = at == text || !in_word(at[-1]);
            bool ends = !in_word(phrase[n - 1]) || !in_word(at[n]);
            if (starts && ends) return true;
            at++;
        }
    }
    return false;
}

int64_t nn_caption_words(const char *text)
{
    int64_t n = 0;
    bool inside = false;
    for (; *text; text++) {
        bool space = isspace((unsigned char)*text);
        n += !space && !inside;
        inside = !space;
    }
    return n;
}

unsigned nn_caption_check(const char *text, int64_t n_tokens, const nn_caption_rules *rules)
{
    unsigned flags = 0;
    int64_t words = nn_caption_words(text);
    if (!nn_utf8_valid(text, (int64_t)strlen(text))) flags |= NN_CAPTION_NOT_TEXT;
    if (nn_caption_loops(text)) flags |= NN_CAPTION_LOOP;
    if (nn_caption_is_boilerplate(text)) flags |= NN_CAPTION_BOILERPLATE;
    if (words < nn_max(rules->least_words, 1)) flags |= NN_CAPTION_TOO_SHORT;
    if (rules->most_words && words > rules->most_words) flags |= NN_CAPTION_TOO_LONG;
    if (rules->most_tokens && n_tokens > rules->most_tokens) flags |= NN_CAPTION_TOO_LONG;
    return flags;
}
