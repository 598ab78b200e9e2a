/* Reading samples, and reporting what cannot be read. */
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "tools/data.h"

const char *data_errors;
bool data_strict;

nn_status data_interrupted(const char *saved)
{
    return nn_fail(NN_INTERRUPTED, "interrupted; %s", saved);
}

nn_status data_make_place(const char *prefix)
{
    const char *slash = strrchr(prefix, '/');
    if (!slash || slash == prefix) return NN_OK;
    char *directory = nn_format("%.*s", (int)(slash - prefix), prefix);
    NN_NEED(directory);
    nn_status status = nn_file_make_dir(directory);
    nn_free(directory);
    return status;
}

nn_status data_read_sample(const nn_sample *s, nn_shard_report *report, nn_image *size,
                           nn_captions **captions)
{
    nn_image image = { 0 };
    *captions = NULL;
    nn_status status = nn_captions_parse(s, captions);
    if (status == NN_OK) status = nn_image_decode(s->image.data, s->image.n, s->key, &image);
    if (status == NN_OK) {
        if (size) *size = (nn_image){ .width = image.width, .height = image.height };
        nn_image_free(&image);
        return NN_OK;
    }
    nn_captions_free(*captions);
    *captions = NULL;
    if (status == NN_MEMORY) return status;
    return nn_shard_report_add(report, NN_SHARD_CONTENT, s->shard, s->key, nn_error_message());
}

nn_status data_list_faults(const nn_shard_report *report)
{
    if (data_errors) return nn_shard_report_save(report, data_errors);
    if (report->lines.length) fputs(report->lines.text, stdout);
    return NN_OK;
}

void data_print_faults(const nn_shard_report *report)
{
    for (int i = 0; i < NN_SHARD_FAULTS; i++)
        if (report->count[i])
            fprintf(stderr, "  %-14s %lld\n", nn_shard_fault_word((nn_shard_fault)i),
                    (long long)report->count[i]);
}

nn_status data_visit_shards(const char *what, const char *spec, data_visit *visit, void *ctx,
                            nn_shard_report *report)
{
    nn_shards *shards;
    NN_TRY(nn_shards_open(spec, NULL, report, &shards));
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, what, "sample", 0, nn_shards_count(shards));
    for (int64_t i = 0; i < nn_shards_count(shards) && status == NN_OK; i++) {
        if (nn_cli_interrupted())
            status = data_interrupted("nothing was changed");
        else
            status = visit(ctx, nn_shards_at(shards, i), report);
        nn_progress_step(&progress, i + 1, NULL, 0);
    }
    nn_progress_stop(&progress);
    nn_shards_close(shards);
    return status;
}
