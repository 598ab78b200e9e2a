/* Any text as a prompt with weights: no byte of it comes out twice, and the parts are divided by
 * something. */
#include <math.h>
#include <string.h>

#include "data/prompt.h"
#include "engine/base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    nn_prompt p;
    char *text = nn_alloc((int64_t)n + 1, 1);
    int64_t length = 0;
    if (n) memcpy(text, bytes, n);
    if (nn_prompt_parse(text, &p) == NN_OK) {
        for (int64_t i = 0; i < p.n; i++) {
            const nn_prompt_part *part = &p.parts[i];
            NN_ASSERT(fabs(part->weight) <= NN_PROMPT_MAX_WEIGHT);
            NN_ASSERT(i == 0 || part->new_window || part->weight != part[-1].weight);
            length += part->text.length;
        }
        NN_ASSERT(length <= (int64_t)strlen(text));
        nn_prompt_free(&p);
    }
    nn_free(text);
    return 0;
}
