/* The result of a tokenizer. */
#ifndef DATA_TOKENS_H
#define DATA_TOKENS_H

#include "engine/base/status.h"

/* {0} is empty and ready; every call that fills one reuses its memory. Owner: nn_tokens_free. */
typedef struct nn_tokens {
    int32_t *ids;
    int n;
    bool truncated; /* the text had more tokens than were asked for */
    int64_t capacity;
} nn_tokens;

/* What to do with a text that has too many tokens. */
typedef enum nn_overlong {
    NN_OVERLONG_TRUNCATE, /* keep the beginning */
    NN_OVERLONG_DROP      /* leave no tokens (n = 0), so that the caller skips the sample */
} nn_overlong;

nn_status nn_tokens_add(nn_tokens *tokens, int32_t id) NN_CHECKED;
void nn_tokens_free(nn_tokens *tokens);

/* Frame content ids in place: first + content + last. When that exceeds `most` ids, `truncated` is
 * set and the policy decides; a truncated frame still ends with `last`. Needs most >= 2. */
nn_status nn_tokens_frame(nn_tokens *tokens, int32_t first, int32_t last, int most,
                          nn_overlong policy) NN_CHECKED;

/* Append `pad` up to `length` ids. */
nn_status nn_tokens_pad(nn_tokens *tokens, int length, int32_t pad) NN_CHECKED;

#endif
