/* BERT's tokenizer: words, then the longest pieces of a vocabulary.
 *
 * Source: Devlin et al. 2019; transformers' BertTokenizer (uncased). BLIP adds two tokens. An open
 * tokenizer is read-only and may be shared by threads. The reference classifies characters by
 * Unicode 8, this one by utf8proc's version: characters that are younger may differ. */
#ifndef DATA_WORDPIECE_H
#define DATA_WORDPIECE_H

#include "data/tokens.h"
#include "data/vocab.h"
#include "engine/base/str.h"

typedef struct nn_wordpiece {
    nn_vocab vocab;
    int32_t pad, unk, cls, sep, mask; /* [PAD] [UNK] [CLS] [SEP] [MASK] */
    int32_t dec, enc;                 /* BLIP's [DEC] (begins a caption) and [ENC], or -1 */
    bool cased;                       /* keep case and accents; false after opening */
} nn_wordpiece;

/* Open vocab.txt (one token a line, the id is the line number from 0), a tokenizer.json, or a
 * directory that holds one of them (vocab.txt first). On failure nothing needs to be closed. */
nn_status nn_wordpiece_open(const char *path, nn_wordpiece *wp) NN_CHECKED;
void nn_wordpiece_close(nn_wordpiece *wp);

/* Give BLIP's [DEC] and [ENC] the next two ids, unless the vocabulary has them. */
nn_status nn_wordpiece_add_blip(nn_wordpiece *wp) NN_CHECKED;

/* The ids of a text's content, without [CLS], [SEP] and padding. Texts are UTF-8; invalid bytes are
 * dropped. Special tokens written out in the text become their ids. */
nn_status nn_wordpiece_encode(const nn_wordpiece *wp, const char *text, nn_tokens *out) NN_CHECKED;

/* first + content + [SEP], at most `most` (>= 2) ids, not padded; first is wp->cls, or wp->dec for
 * BLIP's decoder. A text that is too long is marked in out->truncated and treated as the policy
 * says (dropped: out->n is 0). */
nn_status nn_wordpiece_encode_framed(const nn_wordpiece *wp, const char *text, int32_t first,
                                     int most, nn_overlong policy, nn_tokens *out) NN_CHECKED;

/* Append the text of ids: special tokens are left out, pieces joined, and the spaces before
 * punctuation and contractions removed (clean_up_tokenization_spaces). */
nn_status nn_wordpiece_decode(const nn_wordpiece *wp, const int32_t *ids, int n,
                              nn_text *out) NN_CHECKED;

#endif
