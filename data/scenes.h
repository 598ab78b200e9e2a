/* Scenes: a corpus of small pictures whose truth is known, for training and for measuring.
 *
 * A scene is one to four emoji on a plain background. It is a pure function of (config, split,
 * seed, index): no state, no order, the same on any number of threads. Three kinds:
 *
 *     alone      one kind of object, 1 to 4 of it       "three cats on gray"
 *     related    two objects and how they lie           "a dog above a car on a pink background"
 *     counted    two kinds with their counts            "two dogs and a tree on a blue background"
 *
 * Captions come in the styles that RECAP needs: short and long as a person would write, object
 * lists and tallies for the captioner's pre-training, and alt-text as bad as on the web.
 *
 * Held-out compositions. With o, a, b indices of objects and c a count, a training scene never
 * contains exactly c of object o where (5o + 3c) % 8 == 0, nor the ordered pair (a, b) of its
 * first and second kind where (7a + 3b) % 5 == 0. That is a = b modulo 5, so the pair turned round
 * is held out with it and "b right of a" cannot betray "a left of b". */
#ifndef DATA_SCENES_H
#define DATA_SCENES_H

#include "engine/base/status.h"
#include "engine/base/str.h"

enum { NN_SCENE_ITEMS = 4, NN_SCENE_OBJECTS = 16, NN_SCENE_BACKGROUNDS = 7, NN_SCENE_PLACES = 9 };

typedef enum nn_scene_kind {
    NN_SCENE_ALONE,
    NN_SCENE_RELATED,
    NN_SCENE_COUNTED,
    NN_SCENE_KINDS
} nn_scene_kind;

/* The first object lies ... the second. */
typedef enum nn_scene_relation {
    NN_SCENE_UNRELATED,
    NN_SCENE_LEFT,
    NN_SCENE_RIGHT,
    NN_SCENE_ABOVE,
    NN_SCENE_BELOW,
    NN_SCENE_RELATIONS
} nn_scene_relation;

/* Where objects may lie: the difficulty knob. */
typedef enum nn_scene_layout {
    NN_SCENE_GRID2,   /* centred in the 2 x 2 quadrants */
    NN_SCENE_GRID4,   /* centred in 4 x 4 cells */
    NN_SCENE_LATTICE, /* corners on multiples of an eighth of the picture */
    NN_SCENE_FREE,    /* anywhere, in several sizes */
    NN_SCENE_LAYOUTS
} nn_scene_layout;

typedef enum nn_scene_split {
    NN_SCENE_TRAIN,    /* no held-out composition */
    NN_SCENE_HELD_OUT, /* what the kind is about (count, pair, a count) is held out */
    NN_SCENE_ANY
} nn_scene_split;

typedef struct nn_scene_config {
    int n_objects;     /* 4 .. NN_SCENE_OBJECTS: a prefix of the vocabulary */
    int n_backgrounds; /* 1 .. NN_SCENE_BACKGROUNDS, likewise */
    int size;          /* pixels a side, 32 .. 512, a multiple of 8 */
    nn_scene_layout layout;
    int sprite_least, sprite_most; /* pixels a side of an object */
    bool aligned;                  /* related objects lie along one axis, not diagonally */
    int percent[NN_SCENE_KINDS];   /* shares of the kinds, sum 100 */
} nn_scene_config;

/* Shares 45, 40, 15; aligned; sprites as the layout wants them at that size (64 pixels: 24 on
 * GRID2, 14 on GRID4, 16 on LATTICE, 15 to 21 FREE). */
nn_scene_config nn_scene_config_default(int n_objects, int n_backgrounds, int size,
                                        nn_scene_layout layout);
nn_status nn_scene_config_check(const nn_scene_config *config) NN_CHECKED;

/* What a caption can say. */
typedef struct nn_scene_facts {
    nn_scene_kind kind;
    int n_groups; /* kinds of objects named: 0 .. 2 */
    struct {
        int object;
        int count; /* 0: not said */
    } group[2];
    nn_scene_relation relation; /* of group 0 to group 1 */
    int background;             /* -1: not said */
} nn_scene_facts;

/* One object in the picture. Its box is the square [x, x + size) x [y, y + size) in pixels; the
 * visible part of the emoji is centred in it and touches two opposite sides. */
typedef struct nn_scene_item {
    int object, x, y, size;
    int cell; /* row * columns + column on a grid, else -1 */
} nn_scene_item;

typedef struct nn_scene {
    uint64_t seed, index;
    int size;          /* pixels a side of the picture */
    bool sized;        /* the corpus has sprites of several sizes, so captions name the size */
    int sprite_middle; /* sprites below this are small, others large */
    nn_scene_facts facts;
    int n_items;
    nn_scene_item item[NN_SCENE_ITEMS]; /* group 0 first, then group 1 */
} nn_scene;

/* Errors: NN_ARGUMENT for a bad config, or a held-out split of fewer than 6 objects with related
 * scenes (no pair is held out there). */
nn_status nn_scene_make(const nn_scene_config *config, nn_scene_split split, uint64_t seed,
                        uint64_t index, nn_scene *scene) NN_CHECKED;

bool nn_scene_count_held_out(int object, int count);
bool nn_scene_pair_held_out(int first, int second);
bool nn_scene_is_held_out(const nn_scene *scene); /* any of its compositions */

/* Whether the relation is true of two centres, by more than `margin` pixels along its axis. */
bool nn_scene_relation_holds(nn_scene_relation relation, float ax, float ay, float bx, float by,
                             float margin);

/* The ninth of the picture that holds the centre of an item: 3 * row + column. */
int nn_scene_place(const nn_scene *scene, const nn_scene_item *item);

/* Names, never NULL for an index in range. */
const char *nn_scene_object_name(int object, int count); /* singular for 1, else plural */
const char *nn_scene_background_name(int background);
const char *nn_scene_kind_name(nn_scene_kind kind);
const char *nn_scene_relation_name(nn_scene_relation relation);
const char *nn_scene_layout_name(nn_scene_layout layout);
nn_status nn_scene_layout_from_name(const char *name, nn_scene_layout *layout) NN_CHECKED;

/* Ground truth as one line of JSON, and back. The reader accepts what the writer makes and rejects
 * everything that is not a possible scene (NN_FORMAT), such as an index beyond 2^63 - 1. */
nn_status nn_scene_write_json(const nn_scene *scene, nn_text *out) NN_CHECKED;
nn_status nn_scene_read_json(const char *json, int64_t length, nn_scene *scene) NN_CHECKED;

/* Captions, appended to out. SHORT has at most 12 words, LONG at most 49. LIST names objects and
 * places in reading order, then the background: "star top left car bottom right black". TALLY
 * counts the kinds and says how they lie: "two dogs one tree blue", "one dog above one car pink".
 * The variant of the wording is drawn from the scene's seed and index. */
typedef enum nn_scene_style {
    NN_SCENE_SHORT,
    NN_SCENE_LONG,
    NN_SCENE_LIST,
    NN_SCENE_TALLY
} nn_scene_style;
nn_status nn_scene_caption(const nn_scene *scene, nn_scene_style style, nn_text *out) NN_CHECKED;

/* Reads a caption of any style back; `item` holds what was said about single objects. A caption
 * that says little, or nonsense, yields few facts and is no error. */
typedef struct nn_scene_reading {
    nn_scene_facts facts;
    int n_items;
    struct {
        int object, place; /* place -1: not said */
        int size;          /* 0 not said, 1 small, 2 large */
    } item[NN_SCENE_ITEMS];
} nn_scene_reading;
void nn_scene_parse(const char *caption, nn_scene_reading *reading);

/* How far a reading agrees with the picture. relation: the stated one is true of the boxes, and
 * none is stated where the scene has none. */
typedef struct nn_scene_agreement {
    bool objects, counts, relation, background;
    bool full; /* all four */
} nn_scene_agreement;
nn_scene_agreement nn_scene_compare(const nn_scene *scene, const nn_scene_reading *reading);

/* The scene that answers an evaluation prompt exactly; any caption of it can be the prompt.
 * SOA: objects named, all kinds of scenes; CA: counts, kinds alone and counted; PA: relations. */
typedef enum nn_scene_metric { NN_SCENE_SOA, NN_SCENE_CA, NN_SCENE_PA } nn_scene_metric;
nn_status nn_scene_prompt(const nn_scene_config *config, nn_scene_metric metric,
                          nn_scene_split split, uint64_t seed, uint64_t index,
                          nn_scene *answer) NN_CHECKED;

typedef struct nn_scene_detection {
    int object;
    float x, y; /* centre in pixels */
} nn_scene_detection;

/* One picture against the answer of its prompt. */
typedef struct nn_scene_score {
    int n_named;        /* kinds of objects in the prompt */
    int n_present;      /* of these, found at least once: SOA = sum n_present / sum n_named */
    int n_exact;        /* of these, found exactly as often as asked: CA */
    int count_error[2]; /* found minus asked, per named kind: CA as RMSE */
    bool exact;         /* every count right and nothing else in the picture */
    bool related;       /* PA: both kinds found, and the relation holds of their mean centres */
} nn_scene_score;
nn_scene_score nn_scene_score_picture(const nn_scene *answer, const nn_scene_detection *found,
                                      int n);

/* The emoji as sprites, and their keywords; immutable after opening, so that threads may share it.
 * font and annotations: paths, NULL for the installed ones. Owner: nn_scenes_close. */
typedef struct nn_scenes nn_scenes;
nn_status nn_scenes_open(const nn_scene_config *config, const char *font, const char *annotations,
                         nn_scenes **scenes) NN_CHECKED;
void nn_scenes_close(nn_scenes *scenes); /* NULL is legal */

/* Draw into rgb [size, size, 3], 8-bit sRGB: a plain color with 6 % vertical shading, the sprites,
 * small noise. The scene must come from the same config. */
nn_status nn_scene_render(const nn_scenes *scenes, const nn_scene *scene, uint8_t *rgb) NN_CHECKED;

/* What the web would write beside the picture: at most 12 words, appended to out. */
typedef enum nn_scene_alt {
    NN_SCENE_ALT_JUNK,     /* 40 %: collection title, file name, author */
    NN_SCENE_ALT_ONE,      /* 25 %: one object and junk */
    NN_SCENE_ALT_KEYWORDS, /* 12 %: CLDR keywords of one object */
    NN_SCENE_ALT_OBJECTS,  /* 13 %: all objects, no count, no relation */
    NN_SCENE_ALT_FOREIGN,  /*  5 %: the short caption of another scene */
    NN_SCENE_ALT_TRUE,     /*  5 %: the short caption */
    NN_SCENE_ALTS
} nn_scene_alt;
nn_status nn_scene_alt_text(const nn_scenes *scenes, nn_scene_split split, const nn_scene *scene,
                            nn_text *out, nn_scene_alt *which) NN_CHECKED; /* which may be NULL */

#endif
