/* Prompts with weights in brackets. */
#include "data/prompt.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"

/* Where the brackets that are open began, as numbers of parts. */
typedef struct brackets {
    int64_t at[NN_PROMPT_MAX_DEPTH];
    int depth;
} brackets;

static const double per_bracket = 1.1;

static nn_status add(nn_prompt *p, const char *text, int64_t n, bool new_window)
{
    NN_TRY(nn_grow(&p->parts, &p->capacity, p->n, sizeof(*p->parts)));
    p->parts[p->n] = (nn_prompt_part){ .weight = 1, .new_window = new_window };
    p->n++;
    return n ? nn_text_add_bytes(&p->parts[p->n - 1].text, text, n) : NN_OK;
}

static nn_status open_bracket(const nn_prompt *p, brackets *b)
{
    if (b->depth == NN_PROMPT_MAX_DEPTH)
        return nn_fail(NN_ARGUMENT, "a prompt has more than %d brackets inside each other",
                       NN_PROMPT_MAX_DEPTH);
    b->at[b->depth++] = p->n;
    return NN_OK;
}

/* Everything since the newest open bracket counts `factor` times. */
static void close_bracket(nn_prompt *p, brackets *b, double factor)
{
    for (int64_t i = b->at[--b->depth]; i < p->n; i++) p->parts[i].weight *= factor;
}

/* The length of ":1.2)" at text, and its number; 0 = something else. */
static int64_t weight_at(const char *text, double *weight)
{
    const char *digits = text + 1 + strspn(text + 1, " \t\r\n");
    const size_t sign = *digits == '+' || *digits == '-', n = strspn(digits + sign, "0123456789.");
    const char *end = digits + sign + n, *close = end + strspn(end, " \t\r\n");
    char *stop;
    if (!n || n > 30 || *close != ')') return 0;
    *weight = strtod(digits, &stop);
    return stop == end && isfinite(*weight) ? close + 1 - text : 0;
}

static bool word_character(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* The next BREAK of its own in text[0 .. n), or NULL. */
static const char *find_break(const char *whole, const char *text, const char *end)
{
    for (const char *p = text; end - p >= 5; p++)
        if (!memcmp(p, "BREAK", 5) && (p == whole || !word_character(p[-1])) &&
            !word_character(p[5]))
            return p;
    return NULL;
}

/* Plain text: cut at every BREAK, with the white space around it. */
static nn_status add_text(nn_prompt *p, const char *whole, const char *text, const char *end)
{
    bool new_window = false;
    for (const char *found; (found = find_break(whole, text, end)); new_window = true) {
        const char *last = found;
        while (last > text && isspace((unsigned char)last[-1])) last--;
        NN_TRY(add(p, text, last - text, new_window));
        text = found + 5;
        while (text < end && isspace((unsigned char)*text)) text++;
    }
    return text < end || new_window ? add(p, text, end - text, new_window) : NN_OK;
}

/* One token of the syntax at text; *end is where the next begins. */
static nn_status token(nn_prompt *p, const char *whole, const char *text, brackets *round,
                       brackets *square, const char **end)
{
    double weight = 0;
    int64_t n;
    *end = text + 1;
    switch (*text) {
    case '\\':
        n = text[1] && strchr("()[]\\", text[1]) ? 1 : 0;
        *end += n;
        return add(p, text + 1, n, false);
    case '(':
        return open_bracket(p, round);
    case '[':
        return open_bracket(p, square);
    case ':':
        n = round->depth ? weight_at(text, &weight) : 0;
        if (!n) return add(p, text, 1, false);
        close_bracket(p, round, weight);
        *end = text + n;
        return NN_OK;
    case ')':
        if (!round->depth) return add(p, text, 1, false);
        close_bracket(p, round, per_bracket);
        return NN_OK;
    case ']':
        if (!square->depth) return add(p, text, 1, false);
        close_bracket(p, square, 1 / per_bracket);
        return NN_OK;
    default:
        *end = text + strcspn(text, "\\()[]:");
        return add_text(p, whole, text, *end);
    }
}

/* Parts that nothing divides become one. */
static nn_status join(nn_prompt *p)
{
    int64_t n = 0;
    for (int64_t i = 1; i < p->n; i++) {
        nn_prompt_part *last = &p->parts[n], *next = &p->parts[i];
        if (next->new_window || next->weight != last->weight) {
            nn_prompt_part moved = *next;
            *next = (nn_prompt_part){ 0 };
            p->parts[++n] = moved;
            continue;
        }
        if (next->text.length)
            NN_TRY(nn_text_add_bytes(&last->text, next->text.text, next->text.length));
        nn_text_free(&next->text);
    }
    if (p->n) p->n = n + 1;
    return NN_OK;
}

static nn_status check(const nn_prompt *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (!(fabs(p->parts[i].weight) <= NN_PROMPT_MAX_WEIGHT))
            return nn_fail(NN_ARGUMENT, "words of a prompt count %g times; %d is the most",
                           p->parts[i].weight, NN_PROMPT_MAX_WEIGHT);
    return NN_OK;
}

nn_status nn_prompt_parse(const char *text, nn_prompt *out)
{
    brackets round = { 0 }, square = { 0 };
    nn_status status = NN_OK;
    *out = (nn_prompt){ 0 };
    for (const char *at = text, *end; *at && status == NN_OK; at = end)
        status = token(out, text, at, &round, &square, &end);
    while (round.depth) close_bracket(out, &round, per_bracket);
    while (square.depth) close_bracket(out, &square, 1 / per_bracket);
    if (status == NN_OK) status = check(out);
    if (status == NN_OK) status = join(out);
    if (status != NN_OK) nn_prompt_free(out);
    return status;
}

void nn_prompt_free(nn_prompt *p)
{
    for (int64_t i = 0; i < p->n; i++) nn_text_free(&p->parts[i].text);
    nn_free(p->parts);
    *p = (nn_prompt){ 0 };
}
