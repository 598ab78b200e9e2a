/* What make gpu-check has measured, as rates; and sizes of memory as words. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/plan_report.h"

enum { MOST_BYTES = 64 << 20 };

nn_status plan_memory_parse(const char *text, int64_t *bytes)
{
    char *end;
    const double number = strtod(text, &end);
    const bool mb = !strcmp(end, "MB");
    if (end == text || !(number > 0) || number > 1e9 || (*end && !mb && strcmp(end, "GB") != 0))
        return nn_fail(NN_ARGUMENT,
                       "--memory is '%s'; expected a number of GB (10^9 bytes), as in 24GB", text);
    *bytes = (int64_t)(number * (mb ? 1e6 : 1e9));
    return NN_OK;
}

static double number(const json_t *row, const char *key)
{
    return json_number_value(json_object_get(row, key));
}

static bool is(const json_t *row, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text && !strcmp(text, value);
}

static void read_row(const json_t *row, plan_measured *out)
{
    if (json_is_false(json_object_get(row, "ok"))) return;
    if (is(row, "name", "copy_bandwidth")) out->bytes = 1e9 * number(row, "gbytes_per_s");
    if (is(row, "name", "gemm_ceiling_bf16")) out->flops = 1e12 * number(row, "tflops");
    if (is(row, "name", "unet_sd14_train_512") && is(row, "dtype", "bf16")) {
        out->step_seconds = number(row, "seconds");
        out->batch = (int64_t)number(row, "batch");
    }
}

nn_status plan_measured_read(const char *path, plan_measured *out)
{
    char *bytes;
    int64_t n;
    size_t i;
    json_error_t error;
    json_t *row;
    *out = (plan_measured){ 0 };
    NN_TRY(nn_file_read(path, MOST_BYTES, &bytes, &n));
    json_t *root = json_loadb(bytes, (size_t)n, 0, &error);
    json_t *rows = json_object_get(root, "rows");
    nn_free(bytes);
    json_array_foreach(rows, i, row) read_row(row, out);
    json_decref(root);
    if (!rows)
        return nn_fail(NN_FORMAT, "%s: no \"rows\"; expected the gpu-check.json of make gpu-check",
                       path);
    if (!(out->flops > 0) || !(out->bytes > 0))
        return nn_fail(NN_FORMAT,
                       "%s: no rates of copy_bandwidth and gemm_ceiling_bf16 that were measured",
                       path);
    return NN_OK;
}
