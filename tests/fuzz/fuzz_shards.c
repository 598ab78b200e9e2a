/* Any bytes as a tar: whatever is indexed lies inside of them, and can be written and parsed. */
#include "data/captions.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check_span(nn_span span, const uint8_t *bytes, size_t n)
{
    const uint8_t *data = (const uint8_t *)span.data;
    if (span.n) NN_ASSERT(data >= bytes && data + span.n <= bytes + n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    nn_shards *shards;
    nn_shard_report report = { 0 };
    nn_shard_limits limits = { 1 << 12, 1 << 10, 1 << 12 };
    if (nn_shards_open_memory(bytes, (int64_t)n, "fuzz.tar", &limits, &report, &shards) != NN_OK)
        __builtin_trap(); /* a broken tar is no error: it is reported */
    for (int64_t i = 0; i < nn_shards_count(shards); i++) {
        const nn_sample *s = nn_shards_at(shards, i);
        nn_captions *captions;
        NN_ASSERT(nn_shard_key_valid(s->key) && s->format && s->image.n > 0);
        check_span(s->image, bytes, n);
        check_span(s->alt, bytes, n);
        check_span(s->json, bytes, n);
        if (nn_captions_parse(s, &captions) == NN_OK) nn_captions_free(captions);
    }
    nn_shards_close(shards);
    nn_shard_report_free(&report);
    return 0;
}
