/* Configuration files: every getter on every key. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "data/json.h"

static void read_all(const nn_json *json, int depth)
{
    static const char *const keys[] = { "a", "in_channels", "down_block_types", "sizes", "o" };
    nn_text report = { 0 };
    for (int i = 0; i < NN_COUNT(keys); i++) {
        int small = 0, count = 0;
        int64_t list[4];
        double real = 0;
        bool truth = false;
        const char *text = "", *texts[4];
        nn_json child;
        (void)!nn_json_int(json, keys[i], &small);
        (void)!nn_json_double(json, keys[i], &real);
        (void)!nn_json_bool(json, keys[i], &truth);
        (void)!nn_json_string(json, keys[i], &text);
        (void)!nn_json_ints(json, keys[i], 4, list, &count);
        (void)!nn_json_strings(json, keys[i], 4, texts, &count);
        (void)!nn_json_need(json, keys[i]);
        if (nn_json_child(json, keys[i], &child) == NN_OK && child.node && depth < 3)
            read_all(&child, depth + 1);
        (void)!nn_json_write_string(&report, text);
    }
    (void)!nn_json_unknown(json, keys, NN_COUNT(keys), &report);
    nn_text_free(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nn_json json;
    if (nn_json_parse((const char *)data, (int64_t)n, "input", &json) == NN_OK) {
        read_all(&json, 0);
        nn_json_close(&json);
    }
    return 0;
}
