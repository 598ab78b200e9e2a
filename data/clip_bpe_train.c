/* Learning a vocabulary: count the pieces, then merge the most frequent pair again and again.
 *
 * Sennrich et al. 2016, algorithm 1. Pair counts are kept up to date, so that a merge costs one
 * look at every word and at every pair. */
#include <string.h>

#include "data/clip_bpe.h"
#include "data/clip_merges.h"
#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/rng.h"

enum { LONGEST_PIECE = 256 }; /* bytes; longer ones are no words and are left out */

typedef struct word {
    int64_t first; /* of its symbols */
    int n;
    int64_t count;
} word;

typedef struct pair {
    int32_t left, right; /* left -1 = free slot */
    int64_t count;
} pair;

typedef struct trainer {
    nn_vocab pieces; /* piece -> number of its word */
    word *words;
    int64_t n_words, word_capacity;
    int32_t *symbols;
    int64_t n_symbols, symbol_capacity;
    pair *pairs;
    int64_t n_pairs, n_slots;
    nn_vocab vocab;
    nn_text merges;
} trainer;

static pair *pair_slot(pair *pairs, int64_t n_slots, int32_t left, int32_t right)
{
    uint64_t hash = nn_mix((uint64_t)left, (uint64_t)right);
    for (;; hash++) {
        pair *p = &pairs[hash & (uint64_t)(n_slots - 1)];
        if (p->left < 0 || (p->left == left && p->right == right)) return p;
    }
}

static nn_status grow_pairs(trainer *t)
{
    if (2 * (t->n_pairs + 1) <= t->n_slots) return NN_OK;
    int64_t n = t->n_slots ? 2 * t->n_slots : 1024;
    pair *grown = nn_alloc(n, sizeof(*grown));
    NN_NEED(grown);
    for (int64_t i = 0; i < n; i++) grown[i].left = -1;
    t->n_pairs = 0; /* pairs that no longer occur are left behind */
    for (int64_t i = 0; i < t->n_slots; i++) {
        const pair *p = &t->pairs[i];
        if (p->left < 0 || p->count == 0) continue;
        *pair_slot(grown, n, p->left, p->right) = *p;
        t->n_pairs++;
    }
    nn_free(t->pairs);
    t->pairs = grown;
    t->n_slots = n;
    return NN_OK;
}

/* Add `count` to each pair of a word. */
static nn_status count_pairs(trainer *t, const word *w, int64_t count)
{
    const int32_t *s = t->symbols + w->first;
    for (int i = 0; i + 1 < w->n; i++) {
        NN_TRY(grow_pairs(t));
        pair *p = pair_slot(t->pairs, t->n_slots, s[i], s[i + 1]);
        if (p->left < 0) {
            *p = (pair){ s[i], s[i + 1], 0 };
            t->n_pairs++;
        }
        p->count += count;
    }
    return NN_OK;
}

static nn_status add_symbol(trainer *t, int32_t id)
{
    NN_TRY(nn_grow(&t->symbols, &t->symbol_capacity, t->n_symbols, sizeof(*t->symbols)));
    t->symbols[t->n_symbols++] = id;
    return NN_OK;
}

/* Count a piece; a new one becomes a word of byte symbols, the last of them with </w>. */
static nn_status add_piece(trainer *t, const char *piece, int64_t n, const int32_t id_of_byte[256])
{
    int32_t known = nn_vocab_find(&t->pieces, piece, n);
    if (known >= 0) {
        t->words[known].count++;
        return NN_OK;
    }
    if (t->n_words == NN_VOCAB_MOST)
        return nn_fail(NN_ARGUMENT, "the texts hold more than %d different words", NN_VOCAB_MOST);
    NN_TRY(nn_vocab_add(&t->pieces, piece, n, (int32_t)t->n_words));
    NN_TRY(nn_grow(&t->words, &t->word_capacity, t->n_words, sizeof(*t->words)));
    t->words[t->n_words++] = (word){ t->n_symbols, (int)n, 1 };
    for (int64_t i = 0; i < n; i++)
        NN_TRY(add_symbol(t, id_of_byte[(unsigned char)piece[i]] + (i == n - 1 ? 256 : 0)));
    return NN_OK;
}

static nn_status add_pieces(trainer *t, const nn_codes *codes, const int32_t id_of_byte[256])
{
    for (int64_t i = 0, end; i < codes->n; i = end) {
        bool is_piece;
        char piece[LONGEST_PIECE + 4];
        int64_t n = 0;
        end = nn_clip_piece_end(codes->code, i, codes->n, &is_piece);
        for (int64_t k = i; k < end && n <= LONGEST_PIECE; k++)
            n += nn_utf8_encode((uint32_t)codes->code[k], piece + n);
        if (is_piece && n <= LONGEST_PIECE) NN_TRY(add_piece(t, piece, n, id_of_byte));
    }
    return NN_OK;
}

static nn_status add_texts(trainer *t, const char *const *texts, int64_t n)
{
    int32_t id_of_byte[256];
    nn_codes codes = { 0 };
    nn_status status = NN_OK;
    for (int i = 0; i < 256; i++) id_of_byte[nn_clip_byte_at(i)] = i;
    for (int64_t i = 0; status == NN_OK && i < n; i++) {
        codes.n = 0;
        status =
            nn_clip_clean_text(NN_CLIP_CLEAN_FAST, texts[i], (int64_t)strlen(texts[i]), &codes);
        if (status == NN_OK) status = add_pieces(t, &codes, id_of_byte);
    }
    nn_codes_free(&codes);
    NN_TRY(status);
    for (int64_t i = 0; i < t->n_words; i++)
        NN_TRY(count_pairs(t, &t->words[i], t->words[i].count));
    return NN_OK;
}

static pair most_frequent(const trainer *t)
{
    pair best = { -1, -1, 1 };
    for (int64_t i = 0; i < t->n_slots; i++) {
        const pair *p = &t->pairs[i];
        if (p->left < 0 || p->count < best.count) continue;
        bool earlier = p->left < best.left || (p->left == best.left && p->right < best.right);
        if (p->count > best.count || (best.left >= 0 && earlier)) best = *p;
    }
    return best;
}

static bool has_pair(const trainer *t, const word *w, const pair *p)
{
    const int32_t *s = t->symbols + w->first;
    for (int i = 0; i + 1 < w->n; i++)
        if (s[i] == p->left && s[i + 1] == p->right) return true;
    return false;
}

/* Replace the pair in every word. */
static nn_status merge_words(trainer *t, const pair *p, int32_t result)
{
    for (int64_t k = 0; k < t->n_words; k++) {
        word *w = &t->words[k];
        int32_t *s = t->symbols + w->first;
        int n = 0;
        if (!has_pair(t, w, p)) continue;
        NN_TRY(count_pairs(t, w, -w->count));
        for (int i = 0; i < w->n; n++) {
            bool match = i + 1 < w->n && s[i] == p->left && s[i + 1] == p->right;
            s[n] = match ? result : s[i];
            i += match ? 2 : 1;
        }
        w->n = n;
        NN_TRY(count_pairs(t, w, w->count));
    }
    return NN_OK;
}

/* Note the merge of a pair and give its result an id. Two different pairs may give the same string;
 * the second one leads to the token of the first. */
static nn_status add_merge(trainer *t, const pair *p, int32_t *result)
{
    const char *left = t->vocab.token[p->left], *right = t->vocab.token[p->right];
    char joined[4 * LONGEST_PIECE];
    int64_t n_left = (int64_t)strlen(left), n = n_left + (int64_t)strlen(right);
    NN_ASSERT(n < (int64_t)sizeof(joined));
    memcpy(joined, left, (size_t)n_left);
    memcpy(joined + n_left, right, (size_t)(n - n_left));
    NN_TRY(nn_text_add(&t->merges, "%s %s\n", left, right));
    *result = nn_vocab_find(&t->vocab, joined, n);
    if (*result >= 0) return NN_OK;
    *result = t->vocab.n;
    return nn_vocab_add(&t->vocab, joined, n, *result);
}

static nn_status learn(trainer *t, int vocab_size)
{
    while (t->vocab.n < vocab_size - 2) {
        int32_t result;
        const pair best = most_frequent(t);
        if (best.left < 0) return NN_OK;
        NN_TRY(add_merge(t, &best, &result));
        NN_TRY(merge_words(t, &best, result));
    }
    return NN_OK;
}

static nn_status write_vocab(const trainer *t, nn_text *json)
{
    for (int32_t id = 0; id < t->vocab.n; id++) {
        NN_TRY(nn_text_add(json, id ? ",\n" : "{"));
        NN_TRY(nn_json_write_string(json, t->vocab.token[id]));
        NN_TRY(nn_text_add(json, ": %d", id));
    }
    return nn_text_add(json, ",\n\"%s\": %d,\n\"%s\": %d}\n", NN_CLIP_START, t->vocab.n,
                       NN_CLIP_END, t->vocab.n + 1);
}

static nn_status write_in(const char *dir, const char *name, const nn_text *content)
{
    char *path = nn_format("%s/%s", dir, name);
    NN_NEED(path);
    nn_status status = nn_file_write(path, content->text, content->length);
    nn_free(path);
    return status;
}

static nn_status write_files(const trainer *t, const char *dir)
{
    nn_text json = { 0 };
    nn_status status = nn_file_make_dir(dir);
    if (status == NN_OK) status = write_vocab(t, &json);
    if (status == NN_OK) status = write_in(dir, "merges.txt", &t->merges);
    if (status == NN_OK) status = write_in(dir, "vocab.json", &json);
    nn_text_free(&json);
    return status;
}

nn_status nn_clip_bpe_train(const char *const *texts, int64_t n, int vocab_size, const char *dir)
{
    if (vocab_size < 514 || vocab_size > NN_VOCAB_MOST)
        return nn_fail(NN_ARGUMENT,
                       "a vocabulary of %d tokens was asked for, 514 to %d are possible",
                       vocab_size, NN_VOCAB_MOST);
    trainer t = { 0 };
    nn_status status = nn_clip_add_byte_tokens(&t.vocab);
    if (status == NN_OK) status = nn_text_add(&t.merges, "#version: 0.2\n");
    if (status == NN_OK) status = add_texts(&t, texts, n);
    if (status == NN_OK) status = learn(&t, vocab_size);
    if (status == NN_OK) status = write_files(&t, dir);
    nn_vocab_free(&t.pieces);
    nn_vocab_free(&t.vocab);
    nn_text_free(&t.merges);
    nn_free(t.words);
    nn_free(t.symbols);
    nn_free(t.pairs);
    return status;
}
