/* The table of merges (open addressing, at most half full) and the byte tokens. */
#include "data/clip_merges.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/base/str.h"

int nn_clip_byte_at(int i)
{
    /* Printable bytes first, then the rest, each in increasing order. */
    if (i < 94) return 33 + i;
    if (i < 106) return 161 + i - 94;
    if (i < 188) return 174 + i - 106;
    if (i < 221) return i - 188;
    return i < 255 ? 127 + i - 221 : 173;
}

int32_t nn_clip_byte_symbol(int byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173)) return byte;
    if (byte <= 32) return 0x100 + byte;
    return byte == 173 ? 0x143 : 0x121 + byte - 127;
}

nn_status nn_clip_add_byte_tokens(nn_vocab *vocab)
{
    for (int i = 0; i < 512; i++) {
        char token[8];
        int n = nn_utf8_encode((uint32_t)nn_clip_byte_symbol(nn_clip_byte_at(i & 255)), token);
        if (i >= 256) memcpy(token + n, "</w>", 4);
        NN_TRY(nn_vocab_add(vocab, token, i < 256 ? n : n + 4, i));
    }
    return NN_OK;
}

static nn_clip_merge *merge_slot(const nn_clip_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t hash = nn_mix((uint64_t)left, (uint64_t)right);
    for (;; hash++) {
        nn_clip_merge *m = &bpe->merge[hash & (uint64_t)(bpe->n_slots - 1)];
        if (m->left < 0 || (m->left == left && m->right == right)) return m;
    }
}

const nn_clip_merge *nn_clip_merge_find(const nn_clip_bpe *bpe, int32_t left, int32_t right)
{
    if (!bpe->n_slots) return NULL;
    const nn_clip_merge *m = merge_slot(bpe, left, right);
    return m->left < 0 ? NULL : m;
}

static nn_status grow_merges(nn_clip_bpe *bpe)
{
    if (2 * (bpe->n_merges + 1) <= bpe->n_slots) return NN_OK;
    nn_clip_merge *old = bpe->merge;
    int64_t n_old = bpe->n_slots, n = n_old ? 2 * n_old : 256;
    nn_clip_merge *grown = nn_alloc(n, sizeof(*grown));
    NN_NEED(grown);
    for (int64_t i = 0; i < n; i++) grown[i].left = -1;
    bpe->merge = grown;
    bpe->n_slots = n;
    for (int64_t i = 0; i < n_old; i++)
        if (old[i].left >= 0) *merge_slot(bpe, old[i].left, old[i].right) = old[i];
    nn_free(old);
    return NN_OK;
}

nn_status nn_clip_merge_add(nn_clip_bpe *bpe, int32_t left, int32_t right, int32_t result)
{
    NN_TRY(grow_merges(bpe));
    nn_clip_merge *m = merge_slot(bpe, left, right);
    if (m->left >= 0) return NN_OK;
    *m = (nn_clip_merge){ left, right, (int32_t)bpe->n_merges++, result };
    return NN_OK;
}
