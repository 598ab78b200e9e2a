/* CLIP's tokenizer: byte-level BPE on lower-cased pieces.
 *
 * Source: Radford et al. 2021, openai/CLIP simple_tokenizer.py; transformers' CLIPTokenizer, with
 * which the default clean-up agrees. An open tokenizer is read-only and may be shared by threads.
 */
#ifndef DATA_CLIP_BPE_H
#define DATA_CLIP_BPE_H

#include "data/tokens.h"
#include "data/unicode.h"
#include "data/vocab.h"
#include "engine/base/str.h"

enum { NN_CLIP_LENGTH = 77 };

/* What happens to a text before it is cut into pieces. They differ for unusual characters only. */
typedef enum nn_clip_clean {
    NN_CLIP_CLEAN_FAST,  /* NFC, runs of white space, lower case per code point */
    NN_CLIP_CLEAN_FTFY,  /* the common repairs of ftfy first: quotes, ligatures, wide forms, ... */
    NN_CLIP_CLEAN_OPENAI /* the same, then HTML entities resolved twice */
} nn_clip_clean;

/* Two adjacent tokens and what they become; a slot of a hash table. */
typedef struct nn_clip_merge {
    int32_t left, right; /* left -1 = free */
    int32_t rank, result;
} nn_clip_merge;

typedef struct nn_clip_bpe {
    nn_vocab vocab;
    nn_clip_merge *merge;
    int64_t n_slots, n_merges;
    int32_t byte[256], last_byte[256]; /* ids of a byte inside and at the end of a piece, or -1 */
    int32_t start, end;                /* <|startoftext|>, <|endoftext|>; end stands for unknowns */
    nn_clip_clean clean;               /* may be set after opening */
} nn_clip_bpe;

/* Open vocab.json with the merges.txt beside it, a tokenizer.json, OpenAI's unpacked
 * bpe_simple_vocab_16e6.txt, or a directory that holds one of these (looked for in that order).
 * On failure nothing needs to be closed. */
nn_status nn_clip_bpe_open(const char *path, nn_clip_bpe *bpe) NN_CHECKED;
void nn_clip_bpe_close(nn_clip_bpe *bpe);

/* The ids of a text's content, without start, end and padding. Texts are UTF-8; invalid bytes count
 * as U+FFFD. The literal special tokens become their ids. */
nn_status nn_clip_bpe_encode(const nn_clip_bpe *bpe, const char *text, nn_tokens *out) NN_CHECKED;

/* start + content + end, padded with `pad` to exactly `length` ids (>= 2): 77 and bpe->end for
 * Stable Diffusion, 77 and 0 for OpenAI's CLIP, 16 and 0 for OWL-ViT. A text that is too long is
 * marked in out->truncated and treated as the policy says (dropped: out->n is 0). */
nn_status nn_clip_bpe_encode_padded(const nn_clip_bpe *bpe, const char *text, int length,
                                    int32_t pad, nn_overlong policy, nn_tokens *out) NN_CHECKED;

/* Append the text of ids, up to the first end token; start tokens are skipped. Bytes that are no
 * UTF-8 become U+FFFD. */
nn_status nn_clip_bpe_decode(const nn_clip_bpe *bpe, const int32_t *ids, int n,
                             nn_text *out) NN_CHECKED;

/* Learn a vocabulary of at most vocab_size tokens (>= 514) from n texts and write vocab.json and
 * merges.txt into `dir`, which is made. The most frequent pair is merged first, of equally frequent
 * ones the one with the smaller ids; learning stops early when no pair occurs twice. Equal texts
 * give equal files. Meant for corpora of up to some 1e5 different words. */
nn_status nn_clip_bpe_train(const char *const *texts, int64_t n, int vocab_size,
                            const char *dir) NN_CHECKED;

/* Parts shared by the encoder, the reader and the trainer. */

/* The printable symbol that stands for a byte. */
int32_t nn_clip_byte_symbol(int byte);
/* The byte that is number i (0 .. 255) in the order of the ids. */
int nn_clip_byte_at(int i);

/* Append the cleaned code points of n bytes of text. */
nn_status nn_clip_clean_text(nn_clip_clean clean, const char *text, int64_t n,
                             nn_codes *out) NN_CHECKED;

/* The end of the piece that begins at code i < n, or of the white space there (*is_piece false).
 * The literal special tokens are pieces. */
int64_t nn_clip_piece_end(const int32_t *code, int64_t i, int64_t n, bool *is_piece);

#define NN_CLIP_START "<|startoftext|>"
#define NN_CLIP_END   "<|endoftext|>"

#endif
