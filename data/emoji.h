/* Color emoji as pictures with names: bitmaps of the installed Noto Color Emoji font through
 * FreeType, English names and keywords from the Unicode CLDR annotations. Nothing is committed;
 * both files come from Debian packages, and the errors name them. */
#ifndef DATA_EMOJI_H
#define DATA_EMOJI_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#define NN_EMOJI_FONT        "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
#define NN_EMOJI_ANNOTATIONS "/usr/share/unicode/cldr/common/annotations/en.xml"

typedef struct nn_emoji_font nn_emoji_font;

/* Open a font with color bitmaps (CBDT/CBLC); path NULL means NN_EMOJI_FONT. Owner: the caller,
 * through nn_emoji_font_close. Errors: NN_NOT_FOUND, NN_FORMAT. */
nn_status nn_emoji_font_open(const char *path, nn_emoji_font **font) NN_CHECKED;
void nn_emoji_font_close(nn_emoji_font *font); /* NULL is legal */

/* The emoji of one code point as a square sprite: rgba [size, size, 4], f32 in [0, 1], sRGB
 * premultiplied by alpha. The visible part of the glyph is fitted so that its longer side spans
 * `size` pixels and its centre is the centre of the square; each pixel is the mean over its area.
 * Not safe to call from two threads with one font. Errors: NN_ARGUMENT for a size outside 1..512,
 * NN_NOT_FOUND when the font has no color bitmap for the code point. */
nn_status nn_emoji_sprite(nn_emoji_font *font, uint32_t code, int size, float *rgba) NN_CHECKED;

typedef struct nn_emoji_name {
    const char *name;            /* CLDR's short name: "red apple" */
    const char *const *keywords; /* "apple", "fruit", "red"        */
    int n_keywords;
} nn_emoji_name;

/* Look up n single code points in a CLDR annotation file; path NULL means NN_EMOJI_ANNOTATIONS.
 * The strings live in the arena. Errors: NN_NOT_FOUND (file, or a code point without name),
 * NN_FORMAT. */
nn_status nn_emoji_names_load(const char *path, const uint32_t *codes, int n, nn_arena *arena,
                              nn_emoji_name *names) NN_CHECKED;

/* The same from text in memory; `path` is for messages. */
nn_status nn_emoji_names_parse(const char *xml, int64_t length, const char *path,
                               const uint32_t *codes, int n, nn_arena *arena,
                               nn_emoji_name *names) NN_CHECKED;

/* Whether `word` is a keyword of the emoji or one of the words of its name. */
bool nn_emoji_is_called(const nn_emoji_name *name, const char *word);

#endif
