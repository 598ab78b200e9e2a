/* Encoding and decoding. Reading the files is in clip_bpe_open.c, the text before BPE in
 * clip_clean.c. */
#include "data/clip_bpe.h"

#include <limits.h>
#include <string.h>

#include "data/clip_merges.h"
#include "engine/base/alloc.h"

/* A symbol of the piece being merged: a list through indices, so that a merge is O(1). */
typedef struct symbol {
    int32_t id;
    int64_t previous, next; /* -1 = none */
} symbol;

/* A pair that could be merged; smallest rank first, then leftmost. Stale when the symbols at its
 * place are no longer the pair. */
typedef struct candidate {
    int32_t rank, left, right;
    int64_t at;
} candidate;

typedef struct piece {
    symbol *symbol;
    int64_t n, symbol_capacity;
    candidate *heap;
    int64_t n_heap, heap_capacity;
} piece;

static bool before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void swap(candidate *a, candidate *b)
{
    candidate kept = *a;
    *a = *b;
    *b = kept;
}

static nn_status push(piece *p, candidate c)
{
    NN_TRY(nn_grow(&p->heap, &p->heap_capacity, p->n_heap, sizeof(*p->heap)));
    int64_t i = p->n_heap++;
    p->heap[i] = c;
    for (; i > 0 && before(&p->heap[i], &p->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&p->heap[i], &p->heap[(i - 1) / 2]);
    return NN_OK;
}

static candidate pop(piece *p)
{
    candidate top = p->heap[0];
    p->heap[0] = p->heap[--p->n_heap];
    for (int64_t i = 0;;) {
        int64_t least = i, child = 2 * i + 1;
        for (int64_t k = child; k < child + 2 && k < p->n_heap; k++)
            if (before(&p->heap[k], &p->heap[least])) least = k;
        if (least == i) return top;
        swap(&p->heap[i], &p->heap[least]);
        i = least;
    }
}

/* Offer the pair that begins at symbol `at`, if there is a merge for it. */
static nn_status offer(const nn_clip_bpe *bpe, piece *p, int64_t at)
{
    if (at < 0 || p->symbol[at].next < 0) return NN_OK;
    int32_t left = p->symbol[at].id, right = p->symbol[p->symbol[at].next].id;
    const nn_clip_merge *m = nn_clip_merge_find(bpe, left, right);
    return m ? push(p, (candidate){ m->rank, left, right, at }) : NN_OK;
}

static nn_status merge_all(const nn_clip_bpe *bpe, piece *p)
{
    for (int64_t i = 0; i < p->n; i++) NN_TRY(offer(bpe, p, i));
    while (p->n_heap) {
        candidate c = pop(p);
        symbol *left = &p->symbol[c.at];
        if (left->id != c.left || left->next < 0 || p->symbol[left->next].id != c.right) continue;
        symbol *right = &p->symbol[left->next];
        left->id = nn_clip_merge_find(bpe, c.left, c.right)->result;
        left->next = right->next;
        right->id = -1; /* makes its candidates stale */
        if (left->next >= 0) p->symbol[left->next].previous = c.at;
        NN_TRY(offer(bpe, p, left->previous));
        NN_TRY(offer(bpe, p, c.at));
    }
    return NN_OK;
}

static nn_status add_symbol(piece *p, int32_t id)
{
    NN_TRY(nn_grow(&p->symbol, &p->symbol_capacity, p->n, sizeof(*p->symbol)));
    p->symbol[p->n] = (symbol){ id, p->n - 1, -1 };
    if (p->n) p->symbol[p->n - 1].next = p->n;
    p->n++;
    return NN_OK;
}

/* The byte tokens of the piece. */
static nn_status split_piece(const nn_clip_bpe *bpe, const int32_t *code, int64_t n, piece *p)
{
    p->n = p->n_heap = 0;
    for (int64_t i = 0; i < n; i++) {
        char bytes[4];
        int length = nn_utf8_encode((uint32_t)code[i], bytes);
        for (int k = 0; k < length; k++) {
            bool last = i == n - 1 && k == length - 1;
            int32_t id = (last ? bpe->last_byte : bpe->byte)[(unsigned char)bytes[k]];
            NN_TRY(add_symbol(p, id >= 0 ? id : bpe->end));
        }
    }
    return NN_OK;
}

static nn_status encode_piece(const nn_clip_bpe *bpe, const int32_t *code, int64_t n, piece *p,
                              nn_tokens *out)
{
    NN_TRY(split_piece(bpe, code, n, p));
    NN_TRY(merge_all(bpe, p));
    for (int64_t i = 0; i >= 0; i = p->symbol[i].next) NN_TRY(nn_tokens_add(out, p->symbol[i].id));
    return NN_OK;
}

/* The id of a special token at code i, or -1; *end gets the place after it. */
static int32_t special_at(const nn_clip_bpe *bpe, const int32_t *code, int64_t i, int64_t end)
{
    if (code[i] != '<' || end - i < (int64_t)strlen(NN_CLIP_END)) return -1;
    if (code[i + 1] != '|') return -1;
    if (end - i == (int64_t)strlen(NN_CLIP_START) && code[i + 2] == 's') return bpe->start;
    return end - i == (int64_t)strlen(NN_CLIP_END) && code[i + 2] == 'e' ? bpe->end : -1;
}

/* A special token written out in cleaned text. Under NN_CLIP_CLEAN_FAST those were taken from the
 * raw text before; what looks like one now was in capitals and is three ordinary pieces. */
static nn_status encode_literal(const nn_clip_bpe *bpe, int32_t id, const int32_t *code, int64_t n,
                                piece *p, nn_tokens *out)
{
    if (bpe->clean != NN_CLIP_CLEAN_FAST) return nn_tokens_add(out, id);
    NN_TRY(encode_piece(bpe, code, 2, p, out));
    NN_TRY(encode_piece(bpe, code + 2, n - 4, p, out));
    return encode_piece(bpe, code + n - 2, 2, p, out);
}

static nn_status encode_part(const nn_clip_bpe *bpe, const char *text, int64_t n, nn_tokens *out)
{
    nn_codes codes = { 0 };
    piece p = { 0 };
    nn_status status = nn_clip_clean_text(bpe->clean, text, n, &codes);
    for (int64_t i = 0, end; status == NN_OK && i < codes.n; i = end) {
        bool is_piece;
        end = nn_clip_piece_end(codes.code, i, codes.n, &is_piece);
        if (!is_piece) continue;
        int32_t special = special_at(bpe, codes.code, i, end);
        status = special >= 0 ? encode_literal(bpe, special, codes.code + i, end - i, &p, out)
                              : encode_piece(bpe, codes.code + i, end - i, &p, out);
    }
    nn_codes_free(&codes);
    nn_free(p.symbol);
    nn_free(p.heap);
    return status;
}

/* The first special token in the text, or NULL. */
static const char *find_special(const char *text, int64_t *length, bool *is_start)
{
    const char *start = strstr(text, NN_CLIP_START), *end = strstr(text, NN_CLIP_END);
    *is_start = start && (!end || start < end);
    *length = (int64_t)strlen(*is_start ? NN_CLIP_START : NN_CLIP_END);
    return *is_start ? start : end;
}

nn_status nn_clip_bpe_encode(const nn_clip_bpe *bpe, const char *text, nn_tokens *out)
{
    int64_t length;
    bool is_start;
    out->n = 0;
    out->truncated = false;
    while (bpe->clean == NN_CLIP_CLEAN_FAST) {
        const char *special = find_special(text, &length, &is_start);
        if (!special) break;
        NN_TRY(encode_part(bpe, text, special - text, out));
        NN_TRY(nn_tokens_add(out, is_start ? bpe->start : bpe->end));
        text = special + length;
    }
    return encode_part(bpe, text, (int64_t)strlen(text), out);
}

nn_status nn_clip_bpe_encode_padded(const nn_clip_bpe *bpe, const char *text, int length,
                                    int32_t pad, nn_overlong policy, nn_tokens *out)
{
    NN_TRY(nn_clip_bpe_encode(bpe, text, out));
    NN_TRY(nn_tokens_frame(out, bpe->start, bpe->end, length, policy));
    return out->n ? nn_tokens_pad(out, length, pad) : NN_OK;
}

/* The byte that a symbol stands for, or -1. */
static int byte_of(int32_t code)
{
    if (code < 0x100) return code;
    if (code <= 0x120) return code - 0x100;
    if (code <= 0x142) return code - 0x121 + 127;
    return code == 0x143 ? 173 : -1;
}

static nn_status decode_token(const char *token, nn_text *bytes)
{
    int64_t n = (int64_t)strlen(token);
    bool last = nn_ends_with(token, "</w>");
    if (last) n -= 4;
    for (int64_t i = 0; i < n;) {
        uint32_t code;
        int length = nn_utf8_decode(token + i, n - i, &code);
        int byte = length ? byte_of((int32_t)code) : -1;
        char c = (char)byte;
        i += length ? length : 1;
        if (byte >= 0) NN_TRY(nn_text_add_bytes(bytes, &c, 1));
    }
    return last ? nn_text_add_bytes(bytes, " ", 1) : NN_OK;
}

static nn_status decode_bytes(const nn_clip_bpe *bpe, const int32_t *ids, int n, nn_text *bytes)
{
    for (int i = 0; i < n && ids[i] != bpe->end; i++) {
        const char *token = nn_vocab_token(&bpe->vocab, ids[i]);
        if (!token) return nn_fail(NN_ARGUMENT, "id %d is not in the vocabulary", ids[i]);
        if (ids[i] != bpe->start) NN_TRY(decode_token(token, bytes));
    }
    return NN_OK;
}

/* What Python's strip removes, of ASCII. */
static bool is_blank(char c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
}

nn_status nn_clip_bpe_decode(const nn_clip_bpe *bpe, const int32_t *ids, int n, nn_text *out)
{
    nn_text bytes = { 0 };
    nn_status status = decode_bytes(bpe, ids, n, &bytes);
    int64_t from = 0, to = bytes.length;
    while (from < to && is_blank(bytes.text[from])) from++;
    while (to > from && is_blank(bytes.text[to - 1])) to--;
    if (status == NN_OK && to > from) status = nn_text_add_utf8(out, bytes.text + from, to - from);
    nn_text_free(&bytes);
    return status;
}
