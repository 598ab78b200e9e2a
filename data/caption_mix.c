/* Which caption a step trains on. */
#include "data/captions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"

static nn_status parse_column(const char *item, int n, nn_caption_mix *mix)
{
    const char *equals = memchr(item, '=', (size_t)n);
    int name = equals ? (int)(equals - item) : n;
    char *end = NULL;
    double weight = equals ? strtod(equals + 1, &end) : 1;
    if (mix->n == NN_MIX_COLUMNS)
        return nn_fail(NN_ARGUMENT, "a mix has at most %d columns", NN_MIX_COLUMNS);
    if (name < 1 || name >= NN_MIX_NAME || (equals && (end != item + n || end == equals + 1)) ||
        !isfinite(weight) || weight < 0)
        return nn_fail(NN_ARGUMENT, "'%.*s' is no column with a weight, as in short=0.5", n, item);
    memcpy(mix->column[mix->n], item, (size_t)name);
    for (int i = 0; i < mix->n; i++)
        if (!strcmp(mix->column[i], mix->column[mix->n]))
            return nn_fail(NN_ARGUMENT, "column '%s' is named twice", mix->column[i]);
    mix->weight[mix->n++] = weight;
    return NN_OK;
}

nn_status nn_caption_mix_parse(const char *text, double dropout, nn_caption_mix *mix)
{
    *mix = (nn_caption_mix){ .dropout = dropout };
    if (!(dropout >= 0 && dropout <= 1))
        return nn_fail(NN_ARGUMENT, "prompt dropout is %g; it is a share from 0 to 1", dropout);
    for (const char *item = text;; item++) {
        int n = (int)strcspn(item, ",");
        nn_status status = parse_column(item, n, mix);
        if (status != NN_OK) return nn_fail_prefix(status, "caption mix '%s': ", text);
        item += n;
        if (!*item) break;
    }
    double sum = 0;
    for (int i = 0; i < mix->n; i++) sum += mix->weight[i];
    if (!(sum > 0) || !isfinite(sum))
        return nn_fail(NN_ARGUMENT, "caption mix '%s': the weights sum to %g", text, sum);
    for (int i = 0; i < mix->n; i++) mix->weight[i] /= sum;
    return NN_OK;
}

static int pick(const nn_caption_mix *mix, double u)
{
    int last = 0;
    double sum = 0;
    for (int i = 0; i < mix->n; i++) {
        if (mix->weight[i] == 0) continue;
        last = i;
        sum += mix->weight[i];
        if (u < sum) break;
    }
    return last; /* also where rounding left the sum below 1 */
}

int nn_caption_draw(const nn_caption_mix *mix, unsigned present, uint64_t seed, int64_t epoch,
                    uint64_t id, nn_caption_counts *counts)
{
    nn_caption_counts unused = { 0 };
    if (!counts) counts = &unused;
    nn_rng rng = nn_rng_make(seed, "caption", nn_mix(id, (uint64_t)epoch));
    bool drop = nn_rng_uniform(&rng) < mix->dropout;
    int first = pick(mix, nn_rng_uniform(&rng));
    if (drop) {
        counts->dropped++;
        return NN_CAPTION_EMPTY;
    }
    for (int i = 0; i < mix->n; i++) {
        int column = (first + i) % mix->n;
        if (!(present >> column & 1)) continue;
        counts->drawn[column]++;
        counts->fallback += i > 0;
        return column;
    }
    counts->missing++;
    return NN_CAPTION_EMPTY;
}

const char *nn_caption_draw_text(const nn_caption_mix *mix, const nn_captions *captions,
                                 uint64_t seed, int64_t epoch, uint64_t id,
                                 nn_caption_counts *counts)
{
    unsigned present = 0;
    for (int i = 0; i < mix->n; i++)
        if (nn_captions_get(captions, mix->column[i])) present |= 1u << i;
    int column = nn_caption_draw(mix, present, seed, epoch, id, counts);
    return column < 0 ? "" : nn_captions_get(captions, mix->column[column]);
}
