/* PNG through libpng: pixels, and the texts stored beside them.
 *
 * The library reports errors through a callback that must not return, so every call into it runs
 * below one setjmp. What the code after the jump needs lies in the session, outside that frame. */
#include "data/image_codec.h"

#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "engine/base/alloc.h"

typedef struct png_session {
    png_structp png;
    png_infop info;
    jmp_buf back;
    nn_status status;
    bool no_memory;       /* some allocation failed, even if the library went on without */
    const uint8_t *bytes; /* reading: the file, n bytes, of which `at` are consumed */
    int64_t n, at;
    nn_text *written; /* writing */
} png_session;

static _Noreturn void give_up(png_session *s, nn_status status)
{
    s->status = status;
    longjmp(s->back, 1);
}

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    png_session *s = png_get_error_ptr(png);
    give_up(s, nn_fail(s->no_memory ? NN_MEMORY : NN_FORMAT, "PNG: %s", text));
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static png_voidp on_alloc(png_structp png, png_alloc_size_t bytes)
{
    png_session *s = png_get_mem_ptr(png);
    void *block = bytes <= INT64_MAX ? nn_alloc((int64_t)bytes, 1) : NULL;
    if (!block) s->no_memory = true;
    return block;
}

static void on_free(png_structp png, png_voidp block)
{
    (void)png;
    nn_free(block);
}

static void on_read(png_structp png, png_bytep to, size_t bytes)
{
    png_session *s = png_get_io_ptr(png);
    if ((int64_t)bytes > s->n - s->at)
        give_up(s, nn_fail(NN_FORMAT,
                           "PNG: the file ends after %lld bytes, in the middle: it is "
                           "truncated",
                           (long long)s->n));
    memcpy(to, s->bytes + s->at, bytes);
    s->at += (int64_t)bytes;
}

static void on_write(png_structp png, png_bytep from, size_t bytes)
{
    png_session *s = png_get_io_ptr(png);
    nn_status status = nn_text_add_bytes(s->written, from, (int64_t)bytes);
    if (status != NN_OK) give_up(s, status);
}

static void on_flush(png_structp png)
{
    (void)png;
}

/* A profile stands before the pixels. The library is told to skip it, so it is looked for here. */
static bool has_profile(const uint8_t *bytes, int64_t n)
{
    for (int64_t at = 8; at + 8 <= n;) {
        const uint8_t *b = bytes + at;
        if (memcmp(b + 4, "iCCP", 4) == 0) return true;
        if (memcmp(b + 4, "IDAT", 4) == 0) return false;
        at += 12 + ((int64_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3]);
    }
    return false;
}

/* Strict reading: every checksum counts, forgivable errors are errors, and what does not concern
 * the pixels (or the texts, where they are wanted) is skipped unseen. */
static void open_reader(png_session *s, bool want_texts)
{
    static const png_byte texts[] = "tEXt\0zTXt\0iTXt";
    s->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, s, on_error, on_warning, s, on_alloc,
                                      on_free);
    if (s->png) s->info = png_create_info_struct(s->png);
    if (!s->info) give_up(s, nn_fail(NN_MEMORY, "PNG: out of memory"));
    png_set_read_fn(s->png, s, on_read);
    png_set_keep_unknown_chunks(s->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    if (want_texts) png_set_keep_unknown_chunks(s->png, PNG_HANDLE_CHUNK_AS_DEFAULT, texts, 3);
    png_set_crc_action(s->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_benign_errors(s->png, 0);
    png_read_info(s->png, s->info);
}

/* Deflate makes at most 1032 bytes of one. */
static void check_size(png_session *s, int64_t width, int64_t height)
{
    int bits = png_get_bit_depth(s->png, s->info) * png_get_channels(s->png, s->info);
    if (width * height / (8 * 1032) * bits > s->n)
        give_up(s, nn_fail(NN_FORMAT, "PNG: %lld bytes cannot hold %lld x %lld pixels",
                           (long long)s->n, (long long)width, (long long)height));
}

/* out NULL: decode, so that damage is found, but keep nothing. */
static void read_file(png_session *s, nn_image *out)
{
    if (setjmp(s->back)) return;
    open_reader(s, !out);
    int64_t width = png_get_image_width(s->png, s->info);
    int64_t height = png_get_image_height(s->png, s->info);
    check_size(s, width, height);
    png_set_expand(s->png);
    png_set_strip_16(s->png);
    png_set_gray_to_rgb(s->png);
    int n_passes = png_set_interlace_handling(s->png);
    png_read_update_info(s->png, s->info);
    int channels = png_get_channels(s->png, s->info);
    int64_t row_bytes = width * channels;
    NN_ASSERT(channels == 3 || channels == 4);
    NN_ASSERT((int64_t)png_get_rowbytes(s->png, s->info) == row_bytes);
    if (out) {
        nn_status status = nn_image_reserve(width, height, channels, out);
        if (status != NN_OK) give_up(s, status);
    }
    for (int pass = 0; pass < n_passes; pass++)
        for (int64_t y = 0; y < height; y++)
            png_read_row(s->png, out ? out->rgb + y * row_bytes : NULL, NULL);
    png_read_end(s->png, s->info);
    if (s->no_memory) give_up(s, nn_fail(NN_MEMORY, "PNG: out of memory"));
}

nn_status nn_png_decode(const uint8_t *bytes, int64_t n, nn_image *out)
{
    png_session s = { .bytes = bytes, .n = n };
    read_file(&s, out);
    bool has_alpha = s.status == NN_OK && png_get_channels(s.png, s.info) == 4;
    png_destroy_read_struct(&s.png, &s.info, NULL);
    NN_TRY(s.status);
    if (has_profile(bytes, n)) nn_image_note_profile();
    return has_alpha ? nn_image_flatten(out, NN_FOURTH_ALPHA) : NN_OK;
}

static nn_status add_latin1(const char *text, size_t n, nn_text *out)
{
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        int size = nn_utf8_encode((unsigned char)text[i], utf8);
        NN_TRY(nn_text_add_bytes(out, utf8, size));
    }
    return NN_OK;
}

static nn_status copy_text(const png_text *t, nn_text *out)
{
    bool international = t->compression >= PNG_ITXT_COMPRESSION_NONE;
    if (!international) return add_latin1(t->text, t->text_length, out);
    if (!nn_utf8_valid(t->text, (int64_t)t->itxt_length))
        return nn_fail(NN_FORMAT, "PNG: the text '%s' is not UTF-8", t->key);
    return nn_text_add_bytes(out, t->text, (int64_t)t->itxt_length);
}

static nn_status find_text(const png_session *s, const char *key, nn_text *out)
{
    png_textp texts = NULL;
    int n_texts = 0;
    (void)png_get_text(s->png, s->info, &texts, &n_texts);
    for (int i = 0; i < n_texts; i++)
        if (strcmp(texts[i].key, key) == 0) return copy_text(&texts[i], out);
    return nn_fail(NN_NOT_FOUND, "PNG: no text '%s' among the %d of this file", key, n_texts);
}

/* A failure leaves the text as long as it was. */
static nn_status cut_on_failure(nn_status status, nn_text *out, int64_t length)
{
    if (status == NN_OK) return NN_OK;
    out->length = length;
    if (out->text) out->text[length] = 0;
    return status;
}

nn_status nn_image_png_text(const void *bytes, int64_t n, const char *key, nn_text *out)
{
    int64_t length = out->length;
    png_session s = { .bytes = bytes, .n = n };
    read_file(&s, NULL);
    nn_status status = s.status;
    if (status == NN_OK) status = find_text(&s, key, out);
    png_destroy_read_struct(&s.png, &s.info, NULL);
    return cut_on_failure(status, out, length);
}

static bool is_ascii(const char *text)
{
    while (*text && !(*text & 0x80)) text++;
    return !*text;
}

/* The PNG standard: no space at either end, nor two in a row. */
static bool is_key(const char *key)
{
    size_t n = strlen(key);
    if (n < 1 || n > 79 || key[0] == ' ' || key[n - 1] == ' ' || strstr(key, "  ")) return false;
    for (size_t i = 0; i < n; i++)
        if (key[i] < ' ' || key[i] > '~') return false;
    return true;
}

static nn_status check_texts(const nn_png_text *texts, int n_texts)
{
    for (int i = 0; i < n_texts; i++) {
        if (!is_key(texts[i].key))
            return nn_fail(NN_ARGUMENT,
                           "'%s' cannot be the key of a PNG text; use 1 to 79 "
                           "printable ASCII characters with single inner spaces",
                           texts[i].key);
        if (!nn_utf8_valid(texts[i].text, (int64_t)strlen(texts[i].text)))
            return nn_fail(NN_ARGUMENT, "the PNG text '%s' is not valid UTF-8", texts[i].key);
    }
    return NN_OK;
}

static void write_file(png_session *s, const nn_image *image, const nn_png_text *texts, int n_texts)
{
    enum { ZLIB_LEVEL = 6 };
    if (setjmp(s->back)) return;
    s->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, s, on_error, on_warning, s, on_alloc,
                                       on_free);
    if (s->png) s->info = png_create_info_struct(s->png);
    if (!s->info) give_up(s, nn_fail(NN_MEMORY, "PNG: out of memory"));
    png_set_write_fn(s->png, s, on_write, on_flush);
    png_set_compression_level(s->png, ZLIB_LEVEL);
    png_set_IHDR(s->png, s->info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    for (int i = 0; i < n_texts; i++) {
        png_text t = { .compression = is_ascii(texts[i].text) ? PNG_TEXT_COMPRESSION_NONE
                                                              : PNG_ITXT_COMPRESSION_NONE,
                       .key = (char *)texts[i].key, /* copied, not changed */
                       .text = (char *)texts[i].text };
        png_set_text(s->png, s->info, &t, 1);
    }
    png_write_info(s->png, s->info);
    for (int64_t y = 0; y < image->height; y++)
        png_write_row(s->png, image->rgb + y * image->width * 3);
    png_write_end(s->png, NULL);
    if (s->no_memory) give_up(s, nn_fail(NN_MEMORY, "PNG: out of memory"));
}

nn_status nn_image_encode_png(const nn_image *image, const nn_png_text *texts, int n_texts,
                              nn_text *out)
{
    if (!nn_image_size_is_legal(image->width, image->height))
        return nn_fail(NN_ARGUMENT, "a picture of %lld x %lld cannot be written",
                       (long long)image->width, (long long)image->height);
    NN_TRY(check_texts(texts, n_texts));
    int64_t length = out->length;
    png_session s = { .written = out };
    write_file(&s, image, texts, n_texts);
    png_destroy_write_struct(&s.png, &s.info);
    return cut_on_failure(s.status, out, length);
}
