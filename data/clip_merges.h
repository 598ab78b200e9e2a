/* What the files clip_*.c share: the merges and the tokens of the bytes. */
#ifndef DATA_CLIP_MERGES_H
#define DATA_CLIP_MERGES_H

#include "data/clip_bpe.h"

/* The merge of a pair, or NULL. */
const nn_clip_merge *nn_clip_merge_find(const nn_clip_bpe *bpe, int32_t left, int32_t right);

/* Add the merge of two tokens; it ranks behind all earlier ones. Of a pair given twice the first
 * counts. */
nn_status nn_clip_merge_add(nn_clip_bpe *bpe, int32_t left, int32_t right,
                            int32_t result) NN_CHECKED;

/* Add the 512 byte tokens under ids 0 .. 511: each byte in the order of nn_clip_byte_at, then the
 * same with </w>. */
nn_status nn_clip_add_byte_tokens(nn_vocab *vocab) NN_CHECKED;

#endif
