/* What a corpus lost: faults counted by kind and listed as JSON lines. */
#include "data/shards.h"

#include <string.h>

enum { MOST_LINES = 100000 };

const char *nn_shard_fault_word(nn_shard_fault fault)
{
    static const char *const words[] = {
#define X(name, word) word,
        NN_SHARD_FAULT_LIST(X)
#undef X
    };
    return words[fault];
}

/* A JSON string; bytes that are no UTF-8 become U+FFFD. */
static nn_status add_quoted(nn_text *out, const char *text)
{
    int64_t n = (int64_t)strlen(text);
    NN_TRY(nn_text_add(out, "\""));
    for (int64_t i = 0; i < n;) {
        uint32_t code = 0;
        int length = nn_utf8_decode(text + i, n - i, &code);
        if (!length)
            NN_TRY(nn_text_add(out, "\\ufffd"));
        else if (code < 0x20 || code == '"' || code == '\\')
            NN_TRY(nn_text_add(out, "\\u%04x", (unsigned)code));
        else
            NN_TRY(nn_text_add_bytes(out, text + i, length));
        i += length ? length : 1;
    }
    return nn_text_add(out, "\"");
}

nn_status nn_shard_report_add(nn_shard_report *report, nn_shard_fault fault, const char *shard,
                              const char *member, const char *detail)
{
    if (report->strict)
        return nn_fail(NN_FORMAT, "%s: %s: %s: %s; without --strict it would be skipped", shard,
                       member, nn_shard_fault_word(fault), detail);
    report->count[fault]++;
    if (nn_shard_report_total(report) > MOST_LINES) return NN_OK;
    nn_text *out = &report->lines;
    NN_TRY(nn_text_add(out, "{\"shard\": "));
    NN_TRY(add_quoted(out, shard));
    NN_TRY(nn_text_add(out, ", \"member\": "));
    NN_TRY(add_quoted(out, member));
    NN_TRY(nn_text_add(out, ", \"fault\": \"%s\", \"detail\": ", nn_shard_fault_word(fault)));
    NN_TRY(add_quoted(out, detail));
    return nn_text_add(out, "}\n");
}

int64_t nn_shard_report_total(const nn_shard_report *report)
{
    int64_t total = 0;
    for (int i = 0; i < NN_SHARD_FAULTS; i++) total += report->count[i];
    return total;
}

nn_status nn_shard_report_save(const nn_shard_report *report, const char *path)
{
    if (!report->lines.length) return nn_file_exists(path) ? nn_file_remove(path) : NN_OK;
    return nn_file_write(path, report->lines.text, report->lines.length);
}

void nn_shard_report_free(nn_shard_report *report)
{
    nn_text_free(&report->lines);
    *report = (nn_shard_report){ .strict = report->strict };
}
