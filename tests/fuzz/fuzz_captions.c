/* Any bytes as a json member, as an alt-text, as a caption to filter and as a mix. */
#include <string.h>

#include "data/caption_filter.h"
#include "data/captions.h"
#include "engine/base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void visit(void *ctx, const char *column, const char *text)
{
    const nn_caption_rules rules = { 3, 50, 75 };
    (void)ctx;
    NN_ASSERT(*text && column);
    (void)nn_caption_check(text, 10, &rules);
}

/* What was parsed is written, and parsed again gives the same bytes. */
static void check_round_trip(const nn_captions *c)
{
    nn_text first = { 0 }, second = { 0 };
    nn_captions *again;
    if (nn_captions_dump(c, &first) != NN_OK) __builtin_trap();
    nn_sample s = { .key = "k", .json = { first.text, first.length } };
    if (nn_captions_parse(&s, &again) != NN_OK) __builtin_trap();
    if (nn_captions_dump(again, &second) != NN_OK) __builtin_trap();
    NN_ASSERT(first.length == second.length &&
              !memcmp(first.text, second.text, (size_t)first.length));
    nn_captions_free(again);
    nn_text_free(&first);
    nn_text_free(&second);
}

static void check_mix(const char *text)
{
    nn_caption_mix mix;
    if (nn_caption_mix_parse(text, 0.1, &mix) != NN_OK) return;
    for (uint64_t id = 0; id < 8; id++) {
        int column = nn_caption_draw(&mix, 1, 0, 0, id, NULL);
        NN_ASSERT(column == 0 || column == NN_CAPTION_EMPTY);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    nn_span span = { (const char *)bytes, (int64_t)n };
    nn_captions *captions;
    const nn_caption_rules rules = { 0 };
    const nn_sample as_json = { .key = "k", .json = span }, as_text = { .key = "k", .alt = span };
    if (nn_captions_parse(&as_json, &captions) == NN_OK) {
        nn_captions_each(captions, visit, NULL);
        check_round_trip(captions);
        nn_captions_free(captions);
    }
    if (nn_captions_parse(&as_text, &captions) == NN_OK) nn_captions_free(captions);
    char *text = nn_alloc((int64_t)n + 1, 1);
    if (n) memcpy(text, bytes, n);
    (void)nn_caption_check(text, 0, &rules);
    check_mix(text);
    nn_free(text);
    return 0;
}
