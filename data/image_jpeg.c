/* JPEG through libjpeg-turbo.
 *
 * The library reports errors through callbacks that must not return, so every call into it runs
 * below one setjmp. What the code after the jump needs lies in the reader, outside that frame. */
#include "data/image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

typedef struct jpeg_reader {
    struct jpeg_error_mgr errors; /* first: the library hands back a pointer to it */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct jpeg;
    jmp_buf back;
    nn_status status;
    int orientation;
    nn_image *out;
} jpeg_reader;

enum {
    MAX_SCANS = 500, /* a progressive file of a few kB can ask for hours of work */
    MARKER_EXIF = JPEG_APP0 + 1,
    MARKER_PROFILE = JPEG_APP0 + 2
};

static _Noreturn void give_up(j_common_ptr jpeg, nn_status status)
{
    jpeg_reader *r = (jpeg_reader *)jpeg->err;
    r->status = status;
    longjmp(r->back, 1);
}

static _Noreturn void on_error(j_common_ptr jpeg)
{
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    nn_status status = jpeg->err->msg_code == JERR_OUT_OF_MEMORY ? NN_MEMORY : NN_FORMAT;
    give_up(jpeg, nn_fail(status, "JPEG: %s", text));
}

/* The library's warnings mean that it goes on with invented pixels, except these two, which
 * concern header fields without effect on the picture. */
static void on_message(j_common_ptr jpeg, int level)
{
    int code = jpeg->err->msg_code;
    if (level < 0 && code != JWRN_JFIF_MAJOR && code != JWRN_ADOBE_XFORM) on_error(jpeg);
}

static void on_progress(j_common_ptr jpeg)
{
    int scan = ((j_decompress_ptr)jpeg)->input_scan_number;
    if (jpeg->is_decompressor && scan > MAX_SCANS)
        give_up(jpeg, nn_fail(NN_FORMAT, "JPEG: more than %d scans", MAX_SCANS));
}

/* Huffman-coded data have at least one bit per block of 8 x 8. */
static void check_size(jpeg_reader *r, int64_t n)
{
    int64_t width = r->jpeg.image_width, height = r->jpeg.image_height;
    bool possible = r->jpeg.arith_code || width * height / (64 * 8) <= n;
    if (!possible)
        give_up((j_common_ptr)&r->jpeg,
                nn_fail(NN_FORMAT, "JPEG: %lld bytes cannot hold %lld x %lld pixels", (long long)n,
                        (long long)width, (long long)height));
}

static int read_markers(const jpeg_reader *r)
{
    int orientation = 1;
    bool found = false;
    for (jpeg_saved_marker_ptr m = r->jpeg.marker_list; m; m = m->next) {
        if (m->marker == MARKER_EXIF && !found && m->data_length >= 4 &&
            memcmp(m->data, "Exif", 4) == 0) {
            orientation = nn_exif_orientation(m->data, m->data_length);
            found = true;
        }
        if (m->marker == MARKER_PROFILE && m->data_length >= 11 &&
            memcmp(m->data, "ICC_PROFILE", 11) == 0)
            nn_image_note_profile();
    }
    return orientation;
}

static void choose_output(jpeg_reader *r)
{
    switch (r->jpeg.jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_RGB:
    case JCS_YCbCr:
        r->jpeg.out_color_space = JCS_RGB;
        return;
    case JCS_CMYK:
    case JCS_YCCK:
        r->jpeg.out_color_space = JCS_CMYK;
        return;
    default:
        give_up((j_common_ptr)&r->jpeg,
                nn_fail(NN_UNSUPPORTED, "JPEG: %d components of no known colour space",
                        r->jpeg.num_components));
    }
}

static void read_pixels(jpeg_reader *r, const uint8_t *bytes, int64_t n)
{
    if (setjmp(r->back)) return;
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &r->progress;
    jpeg_mem_src(jpeg, bytes, (unsigned long)n);
    jpeg_save_markers(jpeg, MARKER_EXIF, 0xffff);
    jpeg_save_markers(jpeg, MARKER_PROFILE, 0xffff);
    (void)jpeg_read_header(jpeg, TRUE);
    check_size(r, n);
    r->orientation = read_markers(r); /* the end of decompression frees them */
    choose_output(r);
    int channels = jpeg->out_color_space == JCS_CMYK ? 4 : 3;
    int64_t width = jpeg->image_width;
    nn_status status = nn_image_reserve(width, jpeg->image_height, channels, r->out);
    if (status != NN_OK) give_up((j_common_ptr)jpeg, status);
    (void)jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = r->out->rgb + (int64_t)jpeg->output_scanline * width * channels;
        (void)jpeg_read_scanlines(jpeg, &row, 1);
    }
    (void)jpeg_finish_decompress(jpeg);
}

static nn_status finish(jpeg_reader *r)
{
    if (r->status != NN_OK) return r->status;
    if (r->jpeg.out_color_space == JCS_CMYK)
        NN_TRY(nn_image_flatten(r->out, NN_FOURTH_INVERTED_BLACK));
    return nn_image_orient(r->out, r->orientation);
}

nn_status nn_jpeg_decode(const uint8_t *bytes, int64_t n, nn_image *out)
{
    jpeg_reader r = { .out = out, .status = NN_OK };
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.progress.progress_monitor = on_progress;
    read_pixels(&r, bytes, n);
    nn_status status = finish(&r);
    jpeg_destroy_decompress(&r.jpeg); /* legal whatever was reached */
    return status;
}
