/* Captions back to facts. Works sentence by sentence and word by word, so that half a caption of a
 * half-trained captioner still yields the facts that it holds.
 *
 * A sentence with a word of place other than left and right (top, middle, bottom, center) speaks
 * about single objects: "a cat is at the top left", or a whole LIST. Any other sentence names
 * groups: "two dogs and a tree", "a dog to the left of a cat". A color anywhere is the background.
 */
#include <ctype.h>
#include <string.h>

#include "data/scenes_words.h"

enum { MOST_WORDS = 64, WORD_BYTES = 24 };

typedef struct words {
    int n;
    char word[MOST_WORDS][WORD_BYTES];
} words;

/* The words up to the next full stop, in lower case; returns where to go on, NULL at the end. */
static const char *next_sentence(const char *at, words *w)
{
    w->n = 0;
    int length = 0;
    for (;; at++) {
        bool letter = isalpha((unsigned char)*at);
        if (letter && w->n < MOST_WORDS && length < WORD_BYTES - 1)
            w->word[w->n][length++] = (char)tolower((unsigned char)*at);
        if (!letter && length) {
            w->word[w->n++][length] = 0;
            length = 0;
        }
        if (!*at || *at == '.') break;
    }
    return *at ? at + 1 : NULL;
}

static int find_word(const char *word, const char *const *list, int first, int n)
{
    for (int i = first; i < n; i++)
        if (strcmp(word, list[i]) == 0) return i;
    return -1;
}

static int find_object(const char *word)
{
    for (int i = 0; i < NN_SCENE_OBJECTS; i++)
        if (strcmp(word, scene_objects[i].one) == 0 || strcmp(word, scene_objects[i].many) == 0)
            return i;
    return -1;
}

static int find_background(const char *word)
{
    for (int i = 0; i < NN_SCENE_BACKGROUNDS; i++)
        if (strcmp(word, scene_backgrounds[i].name) == 0) return i;
    return -1;
}

static int find_count(const char *word)
{
    if (strcmp(word, "a") == 0 || strcmp(word, "an") == 0) return 1;
    return find_word(word, scene_numbers, 1, NN_SCENE_ITEMS + 1);
}

static const char *const rows[] = { "top", "middle", "bottom" };
static const char *const columns[] = { "left", "center", "right" };
static const char *const sizes[] = { "", "small", "large" };

static bool speaks_of_places(const words *w)
{
    for (int i = 0; i < w->n; i++)
        if (find_word(w->word[i], rows, 0, 3) >= 0 || strcmp(w->word[i], "center") == 0)
            return true;
    return false;
}

static void read_places(const words *w, nn_scene_reading *r)
{
    int size = 0, row = -1;
    for (int i = 0; i < w->n; i++) {
        const char *word = w->word[i];
        int object = find_object(word), column = find_word(word, columns, 0, 3);
        if (find_word(word, sizes, 1, 3) > 0) size = find_word(word, sizes, 1, 3);
        if (find_word(word, rows, 0, 3) >= 0) row = find_word(word, rows, 0, 3);
        if (object >= 0 && r->n_items < NN_SCENE_ITEMS) {
            r->item[r->n_items].object = object;
            r->item[r->n_items].place = -1;
            r->item[r->n_items++].size = size;
            size = 0;
            row = -1;
        }
        if (column >= 0 && row >= 0 && r->n_items) r->item[r->n_items - 1].place = 3 * row + column;
    }
}

/* A count belongs to the next noun, across sizes and colors only. */
static int carry_count(const char *word, int count)
{
    int said = find_count(word);
    if (said > 0) return said;
    return find_word(word, sizes, 1, 3) > 0 || find_background(word) >= 0 ? count : 0;
}

static void read_groups(const words *w, nn_scene_facts *f)
{
    int count = 0;
    for (int i = 0; i < w->n; i++) {
        int object = find_object(w->word[i]);
        int relation = find_word(w->word[i], scene_relation_words, 1, NN_SCENE_RELATIONS);
        if (object < 0) count = carry_count(w->word[i], count);
        if (relation > 0 && f->n_groups == 1) f->relation = (nn_scene_relation)relation;
        if (object < 0 || f->n_groups == 2) continue;
        f->group[f->n_groups].object = object;
        f->group[f->n_groups++].count = count;
        count = 0;
    }
    if (f->n_groups < 2) f->relation = NN_SCENE_UNRELATED;
}

/* Without a sentence that names groups, they are what the single objects add up to. */
static void add_up(nn_scene_reading *r)
{
    nn_scene_facts *f = &r->facts;
    for (int i = 0; i < r->n_items; i++) {
        int g = 0;
        while (g < f->n_groups && f->group[g].object != r->item[i].object) g++;
        if (g == 2) continue;
        f->group[g].object = r->item[i].object;
        f->group[g].count++;
        if (g == f->n_groups) f->n_groups++;
    }
}

void nn_scene_parse(const char *caption, nn_scene_reading *reading)
{
    *reading = (nn_scene_reading){ .facts = { .background = -1 } };
    nn_scene_facts *f = &reading->facts;
    words w;
    while (caption) {
        caption = next_sentence(caption, &w);
        for (int i = 0; i < w.n; i++) {
            int background = find_background(w.word[i]);
            if (background >= 0) f->background = background;
        }
        if (speaks_of_places(&w))
            read_places(&w, reading);
        else if (!f->n_groups)
            read_groups(&w, f);
    }
    if (!f->n_groups) add_up(reading);
    f->kind = f->relation ? NN_SCENE_RELATED : f->n_groups < 2 ? NN_SCENE_ALONE : NN_SCENE_COUNTED;
}

static int count_of(const nn_scene_facts *f, int object)
{
    for (int i = 0; i < f->n_groups; i++)
        if (f->group[i].object == object) return f->group[i].count;
    return -1;
}

static const nn_scene_item *first_of(const nn_scene *scene, int object)
{
    for (int i = 0; i < scene->n_items; i++)
        if (scene->item[i].object == object) return &scene->item[i];
    return NULL;
}

static bool relation_is_true(const nn_scene *scene, const nn_scene_facts *said)
{
    if (scene->facts.relation == NN_SCENE_UNRELATED || said->relation == NN_SCENE_UNRELATED)
        return scene->facts.relation == said->relation;
    const nn_scene_item *a = first_of(scene, said->group[0].object);
    const nn_scene_item *b = first_of(scene, said->group[1].object);
    if (!a || !b) return false;
    return nn_scene_relation_holds(
        said->relation, (float)a->x + 0.5f * (float)a->size, (float)a->y + 0.5f * (float)a->size,
        (float)b->x + 0.5f * (float)b->size, (float)b->y + 0.5f * (float)b->size,
        0.0625f * (float)scene->size);
}

nn_scene_agreement nn_scene_compare(const nn_scene *scene, const nn_scene_reading *reading)
{
    const nn_scene_facts *truth = &scene->facts, *said = &reading->facts;
    nn_scene_agreement a = { .objects = truth->n_groups == said->n_groups };
    for (int i = 0; i < truth->n_groups; i++)
        a.objects &= count_of(said, truth->group[i].object) >= 0;
    a.counts = a.objects;
    for (int i = 0; i < truth->n_groups; i++)
        a.counts &= count_of(said, truth->group[i].object) == truth->group[i].count;
    a.relation = relation_is_true(scene, said);
    a.background = truth->background == said->background;
    a.full = a.objects && a.counts && a.relation && a.background;
    return a;
}
