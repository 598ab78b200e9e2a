/* Lines of results: against the ceilings of the machine, and against an earlier run. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/bench.h"

static const double regression = 1.05;
enum { MOST_BASELINE_BYTES = 64 << 20 };

static int gemm_of(const bench_row *row)
{
    return !strcmp(row->dtype, "bf16");
}

static double bandwidth(const bench_row *row)
{
    return row->bytes / row->seconds;
}

static double gflops(const bench_row *row)
{
    return row->gflop / row->seconds;
}

void bench_row_note(const bench_row *row, bench_ceiling *ceiling)
{
    if (row->seconds <= 0) return;
    if (!strcmp(row->name, "copy_bandwidth")) ceiling->copy = bandwidth(row);
    if (!strncmp(row->name, "gemm_ceiling", 12)) ceiling->gemm[gemm_of(row)] = gflops(row);
}

/* Share of a ceiling in percent; 0 where none was measured. */
static double share(double rate, double ceiling)
{
    return ceiling > 0 ? 100 * rate / ceiling : 0;
}

static void print_share(double percent)
{
    if (percent > 0)
        printf(" %5.1f%%", percent);
    else
        printf(" %6s", "");
}

void bench_row_print(const bench_row *row, const bench_ceiling *ceiling)
{
    if (row->seconds <= 0) {
        printf("%-44s %s\n", row->name, row->check);
        return;
    }
    printf("%-44s %10.4f ms %8.2f TFLOP/s", row->name, 1e3 * row->seconds, 1e-3 * gflops(row));
    print_share(share(gflops(row), ceiling->gemm[gemm_of(row)]));
    printf(" %8.1f GB/s", 1e-9 * bandwidth(row));
    print_share(share(bandwidth(row), ceiling->copy));
    if (row->per_second > 0) printf("  %.2f a second", row->per_second);
    printf("  %s  %s\n", row->kernel, row->check);
}

void bench_row_json(const bench_row *row, const bench_ceiling *ceiling, const char *device)
{
    printf("{\"name\": \"%s\", \"kernel\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", "
           "\"device\": \"%s\", \"batch\": %" PRId64 ", \"seconds\": %.9f, \"gflop\": %.6f, "
           "\"bytes\": %.0f, \"launches\": %" PRId64 ", \"check\": \"%s\", \"ok\": %s",
           row->name, row->kernel, row->shape, row->dtype, device, row->batch, row->seconds,
           row->gflop, row->bytes, row->n_launches, row->check, row->failed ? "false" : "true");
    if (row->seconds > 0)
        printf(", \"tflops\": %.4f, \"gemm_percent\": %.2f, \"gbytes_per_s\": %.3f, "
               "\"copy_percent\": %.2f",
               1e-3 * gflops(row), share(gflops(row), ceiling->gemm[gemm_of(row)]),
               1e-9 * bandwidth(row), share(bandwidth(row), ceiling->copy));
    if (row->per_second > 0) printf(", \"per_second\": %.4f", row->per_second);
    puts("}");
}

/* -- the earlier run */

static nn_status read_row(const nn_json *json, bench_row *row)
{
    const char *name = "", *dtype = "", *shape = "";
    NN_TRY(nn_json_string(json, "name", &name));
    NN_TRY(nn_json_string(json, "dtype", &dtype));
    NN_TRY(nn_json_string(json, "shape", &shape));
    NN_TRY(nn_json_double(json, "seconds", &row->seconds));
    snprintf(row->name, sizeof(row->name), "%s", name);
    snprintf(row->dtype, sizeof(row->dtype), "%s", dtype);
    snprintf(row->shape, sizeof(row->shape), "%s", shape);
    return NN_OK;
}

static nn_status add_line(bench_baseline *b, const char *path, const char *line, int64_t n)
{
    nn_json json;
    if (n < 1 || line[0] != '{') return NN_OK;
    NN_TRY(nn_json_parse(line, n, path, &json));
    nn_status status = nn_grow(&b->rows, &b->capacity, b->n, sizeof(*b->rows));
    if (status == NN_OK) {
        b->rows[b->n] = (bench_row){ 0 };
        status = read_row(&json, &b->rows[b->n++]);
    }
    nn_json_close(&json);
    return status;
}

nn_status bench_baseline_open(const char *path, bench_baseline *b)
{
    char *text;
    int64_t n;
    nn_status status = NN_OK;
    *b = (bench_baseline){ 0 };
    NN_TRY(nn_file_read(path, MOST_BASELINE_BYTES, &text, &n));
    for (const char *line = text; *line && status == NN_OK;) {
        int64_t length = (int64_t)strcspn(line, "\n");
        status = add_line(b, path, line, length);
        line += length;
        line += *line == '\n';
    }
    nn_free(text);
    if (status != NN_OK) bench_baseline_close(b);
    return status;
}

void bench_baseline_close(bench_baseline *b)
{
    nn_free(b->rows);
    *b = (bench_baseline){ 0 };
}

bool bench_baseline_compare(const bench_baseline *b, const bench_row *row)
{
    for (int64_t i = 0; i < b->n; i++) {
        const bench_row *old = &b->rows[i];
        bool same = !strcmp(old->name, row->name) && !strcmp(old->dtype, row->dtype) &&
                    !strcmp(old->shape, row->shape);
        if (!same || old->seconds <= 0 || row->seconds <= regression * old->seconds) continue;
        fprintf(stderr, "slower: %s %s: %.4f ms, %.4f ms before (%+.1f %%)\n", row->name,
                row->dtype, 1e3 * row->seconds, 1e3 * old->seconds,
                100 * (row->seconds / old->seconds - 1));
        return true;
    }
    return false;
}
