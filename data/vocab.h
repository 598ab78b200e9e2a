/* A vocabulary: tokens and their ids, both ways. */
#ifndef DATA_VOCAB_H
#define DATA_VOCAB_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

enum { NN_VOCAB_MOST = 1 << 20 }; /* ids beyond this are a damaged file */

/* {0} is empty and ready. Ids may have holes. Owner: nn_vocab_free. */
typedef struct nn_vocab {
    nn_arena arena;
    const char **token; /* by id, NULL in a hole; terminated, never holds a zero byte */
    int64_t capacity;
    int32_t n; /* the largest id + 1 */
    int32_t n_tokens;
    int32_t *slot; /* hash table of ids, -1 = free */
    int64_t n_slots;
} nn_vocab;

/* Add a token of n bytes, n > 0. A token or id that is there already, an id outside 0 ..
 * NN_VOCAB_MOST - 1 and a token with a zero byte are NN_FORMAT. */
nn_status nn_vocab_add(nn_vocab *vocab, const char *token, int64_t n, int32_t id) NN_CHECKED;
void nn_vocab_free(nn_vocab *vocab);

/* The id of a token of n bytes, or -1. */
int32_t nn_vocab_find(const nn_vocab *vocab, const char *token, int64_t n);
int32_t nn_vocab_find_text(const nn_vocab *vocab, const char *token);

/* The token of an id, or NULL. */
const char *nn_vocab_token(const nn_vocab *vocab, int32_t id);

/* Add {"token": id, ...}; `file` is for messages. */
struct json_t;
nn_status nn_vocab_add_json(nn_vocab *vocab, const struct json_t *object,
                            const char *file) NN_CHECKED;

/* Add the list "added_tokens" of a tokenizer.json, [{"content": token, "id": id}, ...]; those that
 * the vocabulary has under the same id are skipped. */
nn_status nn_vocab_add_added(nn_vocab *vocab, const struct json_t *list,
                             const char *file) NN_CHECKED;

#endif
