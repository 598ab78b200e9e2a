/* Figure 1, pictures of all arms for the same prompts, and Figure 4, captions old and new. */
#include "data/captions.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/report.h"

enum { MOST_PICTURE = 64 << 20, GRID = 12, TOLD = 12 };
enum { CARD_LEAST = 240, CARD_PICTURE = 92 }; /* pixels across: a card, and its part of an arm */

static nn_status add_base64(nn_text *out, const unsigned char *bytes, int64_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int64_t i = 0; i < n; i += 3) {
        unsigned triple = (unsigned)bytes[i] << 16;
        if (i + 1 < n) triple |= (unsigned)bytes[i + 1] << 8;
        if (i + 2 < n) triple |= bytes[i + 2];
        char four[4] = { digits[triple >> 18], digits[triple >> 12 & 63],
                         i + 1 < n ? digits[triple >> 6 & 63] : '=',
                         i + 2 < n ? digits[triple & 63] : '=' };
        NN_TRY(nn_text_add_bytes(out, four, sizeof(four)));
    }
    return NN_OK;
}

/* The encoded picture inside the page. */
static nn_status add_picture(nn_text *out, const void *bytes, int64_t n, const char *format,
                             const char *what)
{
    NN_TRY(nn_text_add(out, "<img alt=\""));
    NN_TRY(report_escape(out, what));
    NN_TRY(nn_text_add(out, "\" src=\"data:image/%s;base64,", format[0] == 'j' ? "jpeg" : format));
    NN_TRY(add_base64(out, bytes, n));
    return nn_text_add(out, "\">");
}

/* -- Figure 1 --------------------------------------------------------------------------------- */

/* Whether the picture did what its prompt is there to test. */
static bool succeeds(const eval_sample *s)
{
    if (s->metric == NN_SCENE_SOA) return s->score.n_present == s->score.n_named;
    if (s->metric == NN_SCENE_CA) return s->score.n_exact == s->score.n_named;
    return s->score.related;
}

static nn_status add_arm_picture(const report_arm *arm, int64_t i, nn_text *out)
{
    const eval_sample *s = &arm->result.samples[i];
    char *bytes, *path = nn_format("%s/%s", report_result(arm)->samples, s->file);
    int64_t n;
    bool good = succeeds(s);
    NN_NEED(path);
    nn_status status = nn_file_read(path, MOST_PICTURE, &bytes, &n);
    nn_free(path);
    NN_TRY(status);
    status = nn_text_add(out, "<div>");
    if (status == NN_OK) status = add_picture(out, bytes, n, "png", s->prompt);
    nn_free(bytes);
    NN_TRY(status);
    NN_TRY(nn_text_add(out, "<span class=%s>%s</span> ", good ? "good" : "bad",
                       good ? "&#10003;" : "&#10007;"));
    NN_TRY(report_escape(out, arm->name));
    return nn_text_add(out, "</div>");
}

/* All arms have pictures for the same prompts. */
static bool has_grid(const report *r)
{
    for (int i = 0; i < r->n_arms; i++)
        if (!report_result(&r->arm[i])->samples ||
            eval_check_paired(&r->arm[0].result, &r->arm[i].result) != NN_OK)
            return false;
    return true;
}

/* GRID held-out prompts, as many of each metric, spread over the list; returns how many. */
static int choose(const eval_set *set, int64_t chosen[GRID])
{
    int n = 0;
    for (int metric = 0; metric < 3; metric++) {
        int64_t of_metric = 0, seen = 0;
        int taken = 0;
        for (int64_t i = 0; i < set->n; i++)
            of_metric += set->samples[i].metric == (nn_scene_metric)metric &&
                         set->samples[i].split == EVAL_HELD_OUT;
        for (int64_t i = 0; i < set->n && taken < GRID / 3; i++) {
            const eval_sample *s = &set->samples[i];
            if (s->metric != (nn_scene_metric)metric || s->split != EVAL_HELD_OUT) continue;
            if (seen++ * (GRID / 3) < taken * of_metric) continue;
            chosen[n++] = i;
            taken++;
        }
    }
    return n;
}

nn_status report_grid_html(const report *r, nn_text *out)
{
    int64_t chosen[GRID];
    if (!has_grid(r)) return NN_OK;
    int n = choose(&r->arm[0].result, chosen);
    if (!n) return NN_OK;
    NN_TRY(nn_text_add(out,
                       "<h2>Figure 1: the same prompts, arm beside arm</h2><figure><figcaption>"
                       "Held-out prompts, spread evenly over the list; one row of pictures starts "
                       "from the same noise. The mark is the detector&#39;s verdict on what the "
                       "prompt tests: objects, counts, or the relation.</figcaption>"
                       "<div class=cards style=\"grid-template-columns:repeat(auto-fill,minmax("
                       "min(100%%,%dpx),1fr))\">",
                       (int)nn_max(CARD_LEAST, CARD_PICTURE * r->n_arms)));
    for (int k = 0; k < n; k++) {
        NN_TRY(nn_text_add(out, "<div class=card><p>&ldquo;"));
        NN_TRY(report_escape(out, r->arm[0].result.samples[chosen[k]].prompt));
        NN_TRY(nn_text_add(out, "&rdquo;</p><div class=row>"));
        for (int i = 0; i < r->n_arms; i++) NN_TRY(add_arm_picture(&r->arm[i], chosen[k], out));
        NN_TRY(nn_text_add(out, "</div></div>"));
    }
    return nn_text_add(out, "</div></figure>");
}

/* -- Figure 4 --------------------------------------------------------------------------------- */

static nn_status add_caption(const nn_captions *captions, const char *column, const char *name,
                             nn_text *out)
{
    const char *text = nn_captions_get(captions, column);
    if (!text) return NN_OK;
    NN_TRY(nn_text_add(out, "<dt>%s</dt><dd>", name));
    NN_TRY(report_escape(out, text));
    return nn_text_add(out, "</dd>");
}

static nn_status add_captions(const nn_captions *captions, nn_text *out)
{
    NN_TRY(nn_text_add(out, "<dl>"));
    NN_TRY(add_caption(captions, "alt", "alt-text", out));
    NN_TRY(add_caption(captions, "base", "base", out));
    NN_TRY(add_caption(captions, "short", "short", out));
    NN_TRY(add_caption(captions, "long", "long", out));
    return nn_text_add(out, "</dl>");
}

static nn_status add_sample(const nn_sample *s, nn_text *out)
{
    nn_captions *captions;
    NN_TRY(nn_captions_parse(s, &captions));
    nn_status status = nn_text_add(out, "<div class=card>");
    if (status == NN_OK) status = add_picture(out, s->image.data, s->image.n, s->format, s->key);
    if (status == NN_OK) status = add_captions(captions, out);
    nn_captions_free(captions);
    NN_TRY(status);
    return nn_text_add(out, "</div>");
}

nn_status report_captions_html(const report *r, nn_text *out)
{
    if (!r->captions || !nn_shards_count(r->captions)) return NN_OK;
    int64_t count = nn_shards_count(r->captions), n = nn_min(TOLD, count);
    NN_TRY(nn_text_add(out,
                       "<h2>Figure 4: captions before and after</h2><figure><figcaption>Pictures "
                       "of the training corpus, spread evenly over it: the alt-text that came with "
                       "them, the captioner before fine-tuning (base), and what it wrote "
                       "afterwards, short and long.</figcaption><div class=told>"));
    for (int64_t i = 0; i < n; i++)
        NN_TRY(add_sample(nn_shards_at(r->captions, i * count / n), out));
    return nn_text_add(out, "</div></figure>");
}
