/* Tokenizer files. The first byte chooses the kind of file, the rest is the file; one that is
 * accepted encodes its own bytes and decodes the result. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "data/clip_bpe.h"
#include "data/wordpiece.h"
#include "engine/base/alloc.h"

/* The suffix of a name decides what a file is read as, so the file needs a name of its own. */
static const char *link_file(const char *file, const char *suffix, char path[128])
{
    snprintf(path, 128, "/tmp/fuzz-%ld-%s", (long)getpid(), suffix);
    unlink(path);
    if (symlink(file, path) != 0) abort();
    return path;
}

static void try_clip(const char *path, const char *text)
{
    nn_clip_bpe bpe;
    nn_tokens t = { 0 };
    nn_text out = { 0 };
    if (nn_clip_bpe_open(path, &bpe) != NN_OK) return;
    for (int clean = 0; clean < 3; clean++) {
        bpe.clean = (nn_clip_clean)clean;
        NN_ASSERT(nn_clip_bpe_encode(&bpe, text, &t) == NN_OK);
        NN_ASSERT(nn_clip_bpe_decode(&bpe, t.ids, t.n, &out) == NN_OK);
        NN_ASSERT(!out.text || nn_utf8_valid(out.text, out.length));
    }
    nn_tokens_free(&t);
    nn_text_free(&out);
    nn_clip_bpe_close(&bpe);
}

static void try_wordpiece(const char *path, const char *text)
{
    nn_wordpiece wp;
    nn_tokens t = { 0 };
    nn_text out = { 0 };
    if (nn_wordpiece_open(path, &wp) != NN_OK) return;
    NN_ASSERT(nn_wordpiece_add_blip(&wp) == NN_OK);
    NN_ASSERT(nn_wordpiece_encode_framed(&wp, text, wp.dec, 40, NN_OVERLONG_TRUNCATE, &t) == NN_OK);
    NN_ASSERT(nn_wordpiece_decode(&wp, t.ids, t.n, &out) == NN_OK);
    nn_tokens_free(&t);
    nn_text_free(&out);
    nn_wordpiece_close(&wp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const suffixes[] = { "tokenizer.json", "bpe.txt", "tokenizer.json",
                                            "vocab.txt" };
    char file[64], path[128];
    if (n < 1) return 0;
    int kind = data[0] & 3;
    int fd = fuzz_file(data + 1, n - 1, file);
    char *text = nn_alloc((int64_t)n, 1);
    if (!text) abort();
    memcpy(text, data + 1, n - 1);
    link_file(file, suffixes[kind], path);
    if (kind < 2)
        try_clip(path, text);
    else
        try_wordpiece(path, text);
    unlink(path);
    nn_free(text);
    close(fd);
    return 0;
}
