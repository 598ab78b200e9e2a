/* Many pictures in one. */
#include <string.h>

#include "data/json.h"
#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/sample.h"

enum { MARGIN = 4, MOST_BYTES = 256 << 20 };

/* Where the pictures go: cells of one size. */
typedef struct sheet {
    nn_image image;
    int64_t columns, rows, cell_width, cell_height, margin;
} sheet;

static nn_status read_picture(const char *path, nn_image *out)
{
    char *bytes;
    int64_t n;
    NN_TRY(nn_file_read(path, MOST_BYTES, &bytes, &n));
    nn_status status = nn_image_decode(bytes, n, path, out);
    nn_free(bytes);
    return status;
}

/* The picture made to fit into a square of `cell` pixels, if it is larger. */
static nn_status shrink(nn_image *image, int64_t cell)
{
    nn_image out;
    const int64_t longer = nn_max(image->width, image->height);
    if (longer <= cell) return NN_OK;
    NN_TRY(nn_image_resize(image, nn_max(image->width * cell / longer, 1),
                           nn_max(image->height * cell / longer, 1), NN_RESIZE_LANCZOS,
                           NN_RESIZE_PILLOW_13, &out));
    nn_image_free(image);
    *image = out;
    return NN_OK;
}

/* A white sheet whose cells have the size of the first picture. */
static nn_status open_sheet(sheet *s, const nn_image *first, int64_t n)
{
    s->cell_width = first->width;
    s->cell_height = first->height;
    s->rows = (n + s->columns - 1) / s->columns;
    NN_TRY(nn_image_create(s->columns * (s->cell_width + s->margin) + s->margin,
                           s->rows * (s->cell_height + s->margin) + s->margin, &s->image));
    memset(s->image.rgb, 255, (size_t)(s->image.width * s->image.height * 3));
    return NN_OK;
}

static void paste(sheet *s, const nn_image *picture, int64_t k)
{
    const int64_t width = nn_min(picture->width, s->cell_width);
    const int64_t left = s->margin + k % s->columns * (s->cell_width + s->margin);
    const int64_t top = s->margin + k / s->columns * (s->cell_height + s->margin);
    for (int64_t y = 0; y < nn_min(picture->height, s->cell_height); y++)
        memcpy(s->image.rgb + 3 * ((top + y) * s->image.width + left),
               picture->rgb + 3 * y * picture->width, (size_t)(3 * width));
}

static nn_status fill(sheet *s, char *const files[], int64_t n, int64_t cell)
{
    for (int64_t k = 0; k < n; k++) {
        nn_image picture;
        NN_TRY(read_picture(files[k], &picture));
        nn_status status = cell ? shrink(&picture, cell) : NN_OK;
        if (status == NN_OK && k == 0) status = open_sheet(s, &picture, n);
        if (status == NN_OK) paste(s, &picture, k);
        nn_image_free(&picture);
        NN_TRY(status);
    }
    return NN_OK;
}

/* Which pictures these are, for programs. */
static nn_status describe(const sheet *s, char *const files[], int64_t n, nn_text *out)
{
    NN_TRY(nn_text_add(out, "{\"columns\": %lld, \"files\": [", (long long)s->columns));
    for (int64_t k = 0; k < n; k++) {
        if (k) NN_TRY(nn_text_add(out, ", "));
        NN_TRY(nn_json_write_string(out, files[k]));
    }
    return nn_text_add(out, "]}");
}

static nn_status encode(const char *path, const sheet *s, char *const files[], int64_t n,
                        nn_text *json, nn_text *png)
{
    NN_TRY(describe(s, files, n, json));
    const nn_png_text text = { "recap", json->text };
    NN_TRY(nn_image_encode_png(&s->image, &text, 1, png));
    return nn_file_write(path, png->text, png->length);
}

nn_status sample_write_sheet(const char *path, char *const files[], int64_t n, int64_t columns,
                             int64_t cell)
{
    sheet s = { .columns = nn_min(columns, n), .margin = cell ? MARGIN : 0 };
    nn_text json = { 0 }, png = { 0 };
    nn_status status = fill(&s, files, n, cell);
    if (status == NN_OK) status = encode(path, &s, files, n, &json, &png);
    nn_text_free(&json);
    nn_text_free(&png);
    nn_image_free(&s.image);
    if (status != NN_OK) return nn_fail_prefix(status, "%s: ", path);
    return NN_OK;
}
