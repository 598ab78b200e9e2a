/* Token lists: growing, framing, padding. */
#include "data/tokens.h"

#include <limits.h>
#include <string.h>

#include "engine/base/alloc.h"

nn_status nn_tokens_add(nn_tokens *tokens, int32_t id)
{
    if (tokens->n == INT_MAX) return nn_fail(NN_ARGUMENT, "a text has more than 2^31 tokens");
    NN_TRY(nn_grow(&tokens->ids, &tokens->capacity, tokens->n, sizeof(*tokens->ids)));
    tokens->ids[tokens->n++] = id;
    return NN_OK;
}

void nn_tokens_free(nn_tokens *tokens)
{
    nn_free(tokens->ids);
    *tokens = (nn_tokens){ 0 };
}

nn_status nn_tokens_frame(nn_tokens *tokens, int32_t first, int32_t last, int most,
                          nn_overlong policy)
{
    NN_ASSERT(most >= 2);
    tokens->truncated = tokens->n > most - 2;
    if (tokens->truncated) tokens->n = policy == NN_OVERLONG_DROP ? 0 : most - 2;
    if (tokens->truncated && policy == NN_OVERLONG_DROP) return NN_OK;
    NN_TRY(nn_tokens_add(tokens, last)); /* the slot; the shift below moves the content over it */
    memmove(tokens->ids + 1, tokens->ids, (size_t)(tokens->n - 1) * sizeof(*tokens->ids));
    tokens->ids[0] = first;
    return nn_tokens_add(tokens, last);
}

nn_status nn_tokens_pad(nn_tokens *tokens, int length, int32_t pad)
{
    while (tokens->n < length) NN_TRY(nn_tokens_add(tokens, pad));
    return NN_OK;
}
