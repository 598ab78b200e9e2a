/* Captions as a captioner reads and writes them: clean text, tokens, training targets. */
#ifndef MODELS_CAPTION_TEXT_H
#define MODELS_CAPTION_TEXT_H

#include "data/clip_bpe.h"
#include "data/wordpiece.h"

/* A tokenizer of either kind, with the ids that frame a caption. Read-only after opening; threads
 * may share it. */
typedef struct caption_words {
    bool is_wordpiece;
    nn_wordpiece wordpiece; /* with BLIP's [DEC] and [ENC] */
    nn_clip_bpe bpe;
    int64_t n;             /* ids are below */
    int32_t bos, eos, pad; /* the tokenizer's own; the model's configuration may name others */
} caption_words;

/* Open DIR/vocab.txt (WordPiece), else what nn_clip_bpe_open finds there. NN_NOT_FOUND when there
 * is neither. Owner: caption_words_close. */
nn_status caption_words_open(const char *dir, caption_words *out) NN_CHECKED;
void caption_words_close(caption_words *words);

/* What is done to a caption before it is cut into tokens. */
typedef enum caption_cleaning {
    CAPTION_CLEAN_BLIP, /* lower case, . ! " ( ) * # : ; ~ and runs of white space become a space */
    CAPTION_CLEAN_NONE  /* the text as it is */
} caption_cleaning;

/* Append the cleaned caption, at most most_words words of it (0 = all). */
nn_status caption_clean(caption_cleaning how, const char *text, int most_words,
                        nn_text *out) NN_CHECKED;

enum { CAPTION_IGNORED = -100 }; /* a label that does not count */

/* One row of a batch: bos + prefix + caption + eos in ids [length], filled up with pad; labels
 * [length] are the ids of caption and eos, CAPTION_IGNORED elsewhere. *used gets the ids in front
 * of the padding; of a caption that is too long the beginning is kept, behind it eos, or, with
 * NN_OVERLONG_DROP, nothing (*used = 0). *overlong tells that it was too long. A prefix that leaves
 * no room is NN_ARGUMENT. Source: BLIP_Decoder.forward. */
nn_status caption_row(const caption_words *words, const char *prefix, const char *caption,
                      int length, nn_overlong policy, int32_t *ids, int32_t *labels, int *used,
                      bool *overlong) NN_CHECKED;

/* bos + prefix: what decoding starts from. */
nn_status caption_prompt(const caption_words *words, const char *prefix, nn_tokens *out) NN_CHECKED;

/* Append the text of n generated ids up to the first eos; without the prompt. */
nn_status caption_detokenize(const caption_words *words, const int32_t *ids, int n,
                             nn_text *out) NN_CHECKED;

#endif
