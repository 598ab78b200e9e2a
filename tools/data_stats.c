/* recap-data stats: counts samples, image sizes and captions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/caption_filter.h"
#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "tools/data.h"

enum { MOST_COLUMNS = 16 };

static const int band_ends[] = { 2, 5, 10, 15, 20, 30, 50, 77 }; /* words; the last band is open */
enum { BANDS = NN_COUNT(band_ends) + 1 };

typedef struct column {
    char name[64];
    int64_t n, capacity, words, most_words, band[BANDS];
    uint64_t *hashes;
} column;

typedef struct stats {
    column columns[MOST_COLUMNS];
    int n_columns;
    int64_t n, bytes, least_side, most_side;
    nn_status status; /* of a visit */
} stats;

static column *column_of(stats *st, const char *name)
{
    for (int i = 0; i < st->n_columns; i++)
        if (!strcmp(st->columns[i].name, name)) return &st->columns[i];
    if (st->n_columns == MOST_COLUMNS) return NULL;
    column *c = &st->columns[st->n_columns++];
    snprintf(c->name, sizeof(c->name), "%s", name);
    return c;
}

static void count_caption(void *ctx, const char *name, const char *text)
{
    stats *st = ctx;
    column *c = column_of(st, name);
    if (!c || st->status != NN_OK) return;
    st->status = nn_grow(&c->hashes, &c->capacity, c->n, sizeof(*c->hashes));
    if (st->status != NN_OK) return;
    int64_t words = nn_caption_words(text);
    int band = 0;
    while (band < BANDS - 1 && words > band_ends[band]) band++;
    c->hashes[c->n++] = nn_hash_text(text);
    c->words += words;
    c->most_words = nn_max(c->most_words, words);
    c->band[band]++;
}

static nn_status count_sample(void *ctx, const nn_sample *s, nn_shard_report *report)
{
    stats *st = ctx;
    nn_captions *captions;
    nn_image size = { 0 };
    NN_TRY(data_read_sample(s, report, &size, &captions));
    if (!captions) return NN_OK;
    int64_t low = nn_min(size.width, size.height), high = nn_max(size.width, size.height);
    st->least_side = st->n ? nn_min(st->least_side, low) : low;
    st->most_side = nn_max(st->most_side, high);
    st->bytes += s->image.n;
    st->n++;
    nn_captions_each(captions, count_caption, st);
    nn_captions_free(captions);
    return st->status;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double distinct_share(column *c)
{
    qsort(c->hashes, (size_t)c->n, sizeof(*c->hashes), by_value);
    int64_t distinct = 0;
    for (int64_t i = 0; i < c->n; i++) distinct += !i || c->hashes[i] != c->hashes[i - 1];
    return (double)distinct / (double)c->n;
}

static void print_stats(stats *st)
{
    printf("samples %lld, mean image %.1f kB, sides %lld to %lld pixels\n\n", (long long)st->n,
           st->n ? 1e-3 * (double)st->bytes / (double)st->n : 0, (long long)st->least_side,
           (long long)st->most_side);
    printf("%-10s %8s %9s %6s %5s   share of captions with so many words\n%-44s", "column",
           "captions", "distinct", "words", "most", "");
    for (int b = 0; b < BANDS; b++) {
        char band[16];
        snprintf(band, sizeof(band), b < BANDS - 1 ? "<=%d" : ">%d",
                 band_ends[nn_min(b, BANDS - 2)]);
        printf("%7s", band);
    }
    printf("\n");
    for (int i = 0; i < st->n_columns; i++) {
        column *c = &st->columns[i];
        printf("%-10s %8lld %8.1f%% %6.1f %5lld  ", c->name, (long long)c->n,
               100 * distinct_share(c), (double)c->words / (double)c->n, (long long)c->most_words);
        for (int b = 0; b < BANDS; b++)
            printf("%6.1f%%", 100.0 * (double)c->band[b] / (double)c->n);
        printf("\n");
    }
}

nn_status data_stats(const nn_cli *cli)
{
    stats st = { 0 };
    nn_shard_report report = { 0 };
    nn_status status = data_visit_shards("stats", cli->arguments[0], count_sample, &st, &report);
    if (status == NN_OK) {
        print_stats(&st);
        if (nn_shard_report_total(&report)) {
            fprintf(stderr, "skipped (recap-data check lists them):\n");
            data_print_faults(&report);
        }
    }
    for (int i = 0; i < st.n_columns; i++) nn_free(st.columns[i].hashes);
    nn_shard_report_free(&report);
    return status;
}
