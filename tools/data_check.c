/* recap-data check: reads every member of every shard. */
#include <stdio.h>

#include "tools/data.h"

const nn_option data_check_options[] = { DATA_ERRORS_OPTION, DATA_STRICT_OPTION, { 0 } };

static nn_status check_sample(void *ctx, const nn_sample *s, nn_shard_report *report)
{
    int64_t *good = ctx;
    nn_captions *captions;
    NN_TRY(data_read_sample(s, report, NULL, &captions));
    *good += captions != NULL;
    nn_captions_free(captions);
    return NN_OK;
}

nn_status data_check(const nn_cli *cli)
{
    int64_t good = 0;
    nn_shard_report report = { .strict = data_strict };
    nn_status status = data_visit_shards("check", cli->arguments[0], check_sample, &good, &report);
    if (status == NN_OK) status = data_list_faults(&report);
    int64_t faults = nn_shard_report_total(&report);
    if (status == NN_OK) {
        fprintf(stderr, "%lld samples are good, %lld faults\n", (long long)good, (long long)faults);
        data_print_faults(&report);
        if (faults)
            status = nn_fail(NN_FORMAT, "%s: %lld faults, listed %s%s", cli->arguments[0],
                             (long long)faults, data_errors ? "in " : "above",
                             data_errors ? data_errors : "");
    }
    nn_shard_report_free(&report);
    return status;
}
