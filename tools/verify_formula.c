/* A recursive descent over the formula, evaluating as it reads. */
#include "tools/verify_formula.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    const char *text, *at;
    float x, t;
    int depth;
    bool bad;
} reader;

static float sum(reader *r);

static char peek(reader *r)
{
    while (*r->at == ' ') r->at++;
    return *r->at;
}

static bool take(reader *r, char c)
{
    if (peek(r) != c) return false;
    r->at++;
    return true;
}

static float apply(reader *r, const char *name, size_t n, float value)
{
    static const struct {
        const char *name;
        float (*f)(float);
    } known[] = { { "sin", sinf },   { "cos", cosf },   { "exp", expf },
                  { "tanh", tanhf }, { "sqrt", sqrtf }, { "abs", fabsf } };
    for (int i = 0; i < NN_COUNT(known); i++)
        if (strlen(known[i].name) == n && !strncmp(name, known[i].name, n))
            return known[i].f(value);
    r->bad = true;
    return 0;
}

static float word(reader *r)
{
    const char *name = r->at;
    while (isalpha((unsigned char)*r->at)) r->at++;
    size_t n = (size_t)(r->at - name);
    if (n == 1 && *name == 'x') return r->x;
    if (n == 1 && *name == 't') return r->t;
    if (n == 2 && !strncmp(name, "pi", 2)) return 3.14159265f;
    if (!take(r, '(')) {
        r->bad = true;
        return 0;
    }
    float value = sum(r);
    if (!take(r, ')')) r->bad = true;
    return apply(r, name, n, value);
}

static float factor(reader *r)
{
    char c = peek(r);
    if (++r->depth > 64) r->bad = true;
    float value = 0;
    if (r->bad) return 0;
    if (take(r, '-'))
        value = -factor(r);
    else if (take(r, '(')) {
        value = sum(r);
        if (!take(r, ')')) r->bad = true;
    } else if (isdigit((unsigned char)c) || c == '.') {
        char *end;
        value = strtof(r->at, &end);
        r->at = end;
    } else if (isalpha((unsigned char)c))
        value = word(r);
    else
        r->bad = true;
    r->depth--;
    return value;
}

static float product(reader *r)
{
    float value = factor(r);
    while (!r->bad) {
        if (take(r, '*'))
            value *= factor(r);
        else if (take(r, '/'))
            value /= factor(r);
        else
            break;
    }
    return value;
}

static float sum(reader *r)
{
    float value = product(r);
    while (!r->bad) {
        if (take(r, '+'))
            value += product(r);
        else if (take(r, '-'))
            value -= product(r);
        else
            break;
    }
    return value;
}

nn_status verify_formula(const char *text, float x, float t, float *value)
{
    reader r = { .text = text, .at = text, .x = x, .t = t };
    *value = sum(&r);
    if (r.bad || peek(&r))
        return nn_fail(NN_FORMAT, "formula '%s': cannot read on at '%s'", text, r.at);
    return NN_OK;
}
