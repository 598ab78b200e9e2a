/* Bitmaps of a color font, fitted and averaged down to sprites. */
#include "data/emoji.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"

enum { MOST_SIZE = 512, FAINT = 8 /* alpha up to this is no ink */ };

struct nn_emoji_font {
    FT_Library library;
    FT_Face face;
    char *path;
};

static nn_status open_face(nn_emoji_font *f, const char *path)
{
    if (!nn_file_exists(path))
        return nn_fail(
            NN_NOT_FOUND,
            "%s: no such font; install the Debian package fonts-noto-color-emoji, or name "
            "the font file",
            path);
    f->path = nn_strdup(path);
    NN_NEED(f->path);
    if (FT_Init_FreeType(&f->library)) return nn_fail(NN_MEMORY, "FreeType did not start");
    int error = FT_New_Face(f->library, path, 0, &f->face);
    if (error) return nn_fail(NN_FORMAT, "%s: not a font (FreeType error %d)", path, error);
    if (!FT_HAS_COLOR(f->face) || f->face->num_fixed_sizes < 1)
        return nn_fail(
            NN_FORMAT,
            "%s: has no color bitmaps; expected a CBDT font such as NotoColorEmoji.ttf of "
            "the Debian package fonts-noto-color-emoji",
            path);
    error = FT_Select_Size(f->face, 0);
    if (error)
        return nn_fail(NN_FORMAT, "%s: the bitmap size cannot be selected (FreeType error %d)",
                       path, error);
    return NN_OK;
}

nn_status nn_emoji_font_open(const char *path, nn_emoji_font **font)
{
    *font = NULL;
    nn_emoji_font *f = nn_alloc(1, sizeof *f);
    NN_NEED(f);
    nn_status status = open_face(f, path ? path : NN_EMOJI_FONT);
    if (status != NN_OK) {
        nn_emoji_font_close(f);
        return status;
    }
    *font = f;
    return NN_OK;
}

void nn_emoji_font_close(nn_emoji_font *font)
{
    if (!font) return;
    if (font->face) FT_Done_Face(font->face);
    if (font->library) FT_Done_FreeType(font->library);
    nn_free(font->path);
    nn_free(font);
}

/* The smallest square around the ink, concentric with it; coordinates in source pixels. */
typedef struct square {
    double x, y, side;
} square;

static square ink_square(const FT_Bitmap *b)
{
    int left = (int)b->width, right = -1, top = (int)b->rows, bottom = -1;
    for (int y = 0; y < (int)b->rows; y++) {
        const unsigned char *row = b->buffer + (ptrdiff_t)y * b->pitch;
        for (int x = 0; x < (int)b->width; x++) {
            if (row[4 * x + 3] <= FAINT) continue;
            if (x < left) left = x;
            if (x > right) right = x;
            if (y < top) top = y;
            if (y > bottom) bottom = y;
        }
    }
    double side = fmax(right - left + 1, bottom - top + 1);
    return (square){ 0.5 * (left + right + 1 - side), 0.5 * (top + bottom + 1 - side), side };
}

/* Sum of one source row over [x0, x1), channels in RGBA order, weighted by `weight`. */
static void add_span(const unsigned char *row, int width, double x0, double x1, double weight,
                     double sum[4])
{
    int first = (int)fmax(0, floor(x0)), last = (int)fmin(width, ceil(x1));
    for (int x = first; x < last; x++) {
        double w = weight * (fmin(x1, x + 1) - fmax(x0, x));
        const unsigned char *bgra = row + (ptrdiff_t)4 * x;
        sum[0] += w * bgra[2];
        sum[1] += w * bgra[1];
        sum[2] += w * bgra[0];
        sum[3] += w * bgra[3];
    }
}

static void average_down(const FT_Bitmap *b, square s, int size, float *rgba)
{
    double step = s.side / size;
    for (int Y = 0; Y < size; Y++) {
        double y0 = s.y + Y * step, y1 = y0 + step;
        int first = (int)fmax(0, floor(y0)), last = (int)fmin(b->rows, ceil(y1));
        for (int X = 0; X < size; X++, rgba += 4) {
            double sum[4] = { 0 };
            for (int y = first; y < last; y++)
                add_span(b->buffer + (ptrdiff_t)y * b->pitch, (int)b->width, s.x + X * step,
                         s.x + (X + 1) * step, fmin(y1, y + 1) - fmax(y0, y), sum);
            for (int c = 0; c < 4; c++) rgba[c] = (float)(sum[c] / (255.0 * step * step));
        }
    }
}

nn_status nn_emoji_sprite(nn_emoji_font *font, uint32_t code, int size, float *rgba)
{
    if (size < 1 || size > MOST_SIZE)
        return nn_fail(NN_ARGUMENT, "sprite of %d pixels: expected 1 to %d", size, MOST_SIZE);
    FT_UInt glyph = FT_Get_Char_Index(font->face, code);
    if (!glyph) return nn_fail(NN_NOT_FOUND, "%s: no glyph for U+%04X", font->path, (unsigned)code);
    int error = FT_Load_Glyph(font->face, glyph, FT_LOAD_COLOR);
    if (error)
        return nn_fail(NN_FORMAT, "%s: the glyph of U+%04X is damaged (FreeType error %d)",
                       font->path, (unsigned)code, error);
    const FT_Bitmap *b = &font->face->glyph->bitmap;
    if (b->pixel_mode != FT_PIXEL_MODE_BGRA || !b->width || !b->rows)
        return nn_fail(NN_NOT_FOUND, "%s: no color bitmap for U+%04X", font->path, (unsigned)code);
    square ink = ink_square(b);
    if (ink.side < 1)
        return nn_fail(NN_NOT_FOUND, "%s: the bitmap of U+%04X is empty", font->path,
                       (unsigned)code);
    average_down(b, ink, size, rgba);
    return NN_OK;
}
