/* The report: numbers out of results, the page's parts, and manifests that are refused. */
#include "tests/unit/scratch.h"

#include <math.h>

#include "engine/base/alloc.h"
#include "tools/report.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

/* One red pixel. */
static void write_png(const char *name)
{
    nn_image image;
    nn_text png = { 0 };
    OK(nn_image_create(1, 1, &image));
    image.rgb[0] = 255;
    OK(nn_image_encode_png(&image, NULL, 0, &png));
    scratch_write(name, png.text, png.length);
    nn_text_free(&png);
    nn_image_free(&image);
}

/* Results of 60 pictures of which the first `right` in ten are right. */
static void write_results(const char *name, int right, int64_t first_seed)
{
    eval_set set = { 0 };
    for (int i = 0; i < 60; i++) {
        OK(nn_grow(&set.samples, &set.capacity, set.n, sizeof(*set.samples)));
        bool good = i % 10 < right;
        set.samples[set.n++] = (eval_sample){
            .prompt = i ? "two cats" : "<b>\"cats\" & dogs</b>",
            .file = "pixel.png",
            .metric = (nn_scene_metric)(i / 10 % 3),
            .split = i / 30,
            .seed = first_seed + i,
            .score = { .n_named = 1,
                       .n_present = good,
                       .n_exact = good,
                       .count_error = { good ? 0 : 1 },
                       .exact = good,
                       .related = good },
        };
    }
    OK(eval_write(&set, scratch(name)));
    eval_free(&set);
}

static void write_manifest(const char *text)
{
    scratch_write("manifest.json", text, (int64_t)strlen(text));
}

#define POINT(seen, file)                                                                          \
    "{\"samples_seen\": " #seen ", \"eval\": \"" file "\", \"samples\": \"pictures/..\"}"
#define REST                                                                                       \
    "\"captioner\": {\"columns\": {\"short\": {\"full\": {\"value\": 0.75, \"low\": 0.7, "         \
    "\"high\": 0.8, \"n\": 40}}}}, \"captions\": \"told.tar\", \"stages\": {\"relabel\": 1.5, "    \
    "\"train\": 200}, \"seconds\": 180.5, \"config\": {\"lr\": 0.001, \"mix\": [\"short\", "       \
    "\"<long>\"]}, "                                                                               \
    "\"revision\": \"abc123\"}"
#define MANIFEST                                                                                   \
    "{\"arms\": {\"alttext\": {\"name\": \"Alt<text>\", \"curve\": [" POINT(                       \
        0, "a.json") ", " POINT(500, "a.json") "]}, "                                              \
                                               "\"mix\": {\"curve\": [" POINT(                     \
                                                   500, "m.json") "]}}, " REST

static void write_run(int64_t seed_of_mix)
{
    nn_shard_writer *w;
    static const char json[] = "{\"captions\": {\"alt\": \"IMG & 1\", \"long\": \"a red point\"}}";
    write_png("pixel.png");
    write_results("a.json", 4, 1);
    write_results("m.json", 9, seed_of_mix);
    write_manifest(MANIFEST);
    char *png;
    int64_t n;
    OK(nn_file_read(scratch("pixel.png"), 1 << 20, &png, &n));
    OK(nn_shard_writer_open_file(scratch("told.tar"), &w));
    OK(nn_shard_writer_add(w, &(nn_sample){ .key = "0",
                                            .format = "png",
                                            .image = { png, n },
                                            .json = { json, sizeof(json) - 1 } }));
    OK(nn_shard_writer_close(w));
    nn_free(png);
}

static report load(void)
{
    report r;
    OK(report_load(scratch_path, scratch("manifest.json"), &r));
    return r;
}

static void test_json_has_the_figures(void **state)
{
    nn_text text = { 0 };
    nn_json json;
    (void)state;
    write_run(1);
    report r = load();
    OK(report_write_json(&r, &text));
    report_free(&r);
    OK(nn_json_parse(text.text, text.length, "report.json", &json));
    const json_t *mix = json_object_get(json_object_get(json.node, "arms"), "mix");
    metrics_estimate soa =
        eval_read_estimate(json_object_get(json_object_get(mix, "held_out"), "soa"));
    assert_true(soa.value == 0.9 && soa.n == 10 && soa.low < 0.9 && soa.high == 1);
    const json_t *d = json_object_get(json.node, "difference");
    assert_true(fabs(eval_read_estimate(json_object_get(d, "pa")).value - 0.5) < 1e-9);
    assert_int_equal(eval_read_estimate(json_object_get(d, "full")).n, 30);
    assert_true(json_is_null(json_object_get(d, "fd_detector")));
    const json_t *stage = json_object_get(json_object_get(json.node, "stages"), "train");
    assert_true(json_number_value(json_object_get(stage, "seconds")) == 200);
    assert_true(json_number_value(json_object_get(json.node, "seconds")) == 180.5);
    assert_non_null(json_object_get(json_object_get(json.node, "captioner"), "columns"));
    assert_string_equal(json_string_value(json_object_get(json.node, "revision")), "abc123");
    nn_json_close(&json);
    nn_text_free(&text);
}

static int count(const char *text, const char *part)
{
    int n = 0;
    while ((text = strstr(text, part)) != NULL) {
        text += strlen(part);
        n++;
    }
    return n;
}

static void test_page_stands_alone(void **state)
{
    nn_text page = { 0 };
    (void)state;
    write_run(1);
    report r = load();
    OK(report_write_html(&r, &page));
    report_free(&r);
    const char *html = page.text;
    assert_true(nn_utf8_valid(html, page.length));
    assert_int_equal(count(html, "http"), 0); /* nothing is fetched */
    assert_int_equal(count(html, "<script"), 0);
    assert_int_equal(count(html, "src=\"data:image/png;base64,iVBORw0KGgo"), 2 * 12 + 1);
    assert_int_equal(count(html, "<svg"), 10); /* five figures, two splits */
    assert_int_equal(count(html, "<circle"), 30);
    assert_int_equal(count(html, "<table"), 5);
    assert_int_equal(count(html, "<table"), count(html, "</table>"));
    assert_int_equal(count(html, "<div"), count(html, "</div>"));
    assert_int_equal(count(html, "asked in"), 0); /* no cross table was made */
    assert_int_equal(count(html, "Alt<text>"), 0);
    assert_true(count(html, "Alt&lt;text&gt;") > 4);
    assert_true(count(html, "&lt;b&gt;&quot;cats&quot; &amp; dogs&lt;/b&gt;") >= 1);
    assert_int_equal(count(html, "<dd>IMG &amp; 1</dd>"), 1);
    assert_int_equal(count(html, "<dt>base"), 0);
    assert_int_equal(count(html, "<td class=mono>mix[1]<td class=mono>&lt;long&gt;"), 1);
    assert_int_equal(count(html, "+50.0 points"), 1);
    assert_int_equal(count(html, "3&nbsp;min 20&nbsp;s"), 1);
    assert_int_equal(count(html, "nan") + count(html, "inf"), 0);
    nn_text_free(&page);
}

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = strchr(digits, c);
    return at && c ? (int)(at - digits) : 0;
}

static void test_base64_of_the_picture(void **state)
{
    nn_text page = { 0 };
    char *png;
    int64_t n;
    (void)state;
    write_run(1);
    report r = load();
    OK(report_write_html(&r, &page));
    report_free(&r);
    OK(nn_file_read(scratch("pixel.png"), 1 << 20, &png, &n));
    const char *at = strstr(page.text, "base64,") + 7, *end = strchr(at, '"');
    assert_int_equal(end - at, (n + 2) / 3 * 4);
    for (int64_t i = 0; i < n; i++) {
        int high = digit(at[i * 4 / 3]), low = digit(at[i * 4 / 3 + 1]), shift = (int)(2 * (i % 3));
        int byte = high << (2 + shift) | low >> (4 - shift);
        assert_int_equal(byte & 255, (unsigned char)png[i]);
    }
    nn_free(png);
    nn_text_free(&page);
}

#define CROSS                                                                                      \
    "\"cross\": {\"styles\": [\"alt\", \"<s>\"], \"arms\": {"                                      \
    "\"base\": {\"name\": \"Base\", \"alt\": \"a.json\", \"<s>\": \"m.json\"}, "                   \
    "\"mix\": {\"name\": \"M&x\", \"<s>\": \"m.json\"}}}, "
#define ARMS                                                                                       \
    "{\"arms\": {\"alttext\": {\"curve\": [" POINT(                                                \
        0, "a.json") "]}, \"mix\": {\"curve\": [" POINT(500, "m.json") "]}}, "

static metrics_estimate crossed(const nn_json *json, const char *arm, const char *style,
                                const char *figure)
{
    const json_t *cross = json_object_get(json->node, "cross");
    const json_t *cell = json_object_get(json_object_get(cross, arm), style);
    assert_true(json_is_object(cell));
    return eval_read_estimate(json_object_get(cell, figure));
}

static void test_cross_figures_in_json(void **state)
{
    nn_text text = { 0 };
    nn_json json;
    (void)state;
    write_run(1);
    write_manifest(ARMS CROSS REST);
    report r = load();
    OK(report_write_json(&r, &text));
    report_free(&r);
    OK(nn_json_parse(text.text, text.length, "report.json", &json));
    metrics_estimate soa = crossed(&json, "base", "alt", "soa");
    assert_true(soa.value == 0.4 && soa.n == 10 && soa.low < 0.4 && soa.high > 0.4);
    assert_true(crossed(&json, "base", "<s>", "soa").value == 0.9);
    assert_int_equal(crossed(&json, "mix", "<s>", "full").n, 30);
    assert_int_equal(crossed(&json, "mix", "alt", "soa").n, 0); /* not asked */
    nn_json_close(&json);
    nn_text_free(&text);
}

/* A table of three figures in two styles; the arm that is also elsewhere keeps its colour. */
static void test_cross_table(void **state)
{
    nn_text page = { 0 }, headline = { 0 };
    (void)state;
    write_run(1);
    write_manifest(ARMS CROSS REST);
    report r = load();
    OK(report_cross_html(&r, &page));
    OK(report_write_headline(&r, &headline));
    const char *html = page.text;
    assert_int_equal(count(html, "<h2>Trained on &times; asked in</h2>"), 1);
    assert_int_equal(count(html, "<table"), 1);
    assert_int_equal(count(html, "</table>"), 1);
    assert_int_equal(count(html, "<td"), 2 * 2 * 3);
    assert_int_equal(count(html, ">&ndash;"), 3);
    assert_int_equal(count(html, "<th>&lt;s&gt;"), 3);
    assert_int_equal(count(html, "<th class=first>alt"), 3);
    assert_int_equal(count(html, "var(--dim)\"></span>Base</th>"), 1);
    assert_int_equal(count(html, "var(--arm1)\"></span>M&amp;x</th>"), 1);
    assert_int_equal(count(html, "<b>90.0&thinsp;%</b>"), 2 * 3);
    assert_int_equal(count(html, "var(--good) 30%"), 2 * 3); /* the best cells */
    assert_int_equal(count(html, "nan") + count(html, "inf"), 0);
    assert_non_null(strstr(headline.text, "SOA % asked in"));
    assert_non_null(strstr(headline.text, "\nBase   "));
    report_free(&r);
    nn_text_free(&page);
    nn_text_free(&headline);
}

/* Arms have a colour each, in the light and in the dark. */
static void test_every_arm_has_a_colour(void **state)
{
    char name[16];
    (void)state;
    for (int i = 0; i < REPORT_ARMS; i++) {
        snprintf(name, sizeof(name), "--arm%d:#", i);
        assert_int_equal(count(report_style, name), 2);
    }
}

static void test_headline(void **state)
{
    nn_text text = { 0 };
    (void)state;
    write_run(1);
    report r = load();
    OK(report_write_headline(&r, &text));
    report_free(&r);
    assert_non_null(strstr(text.text, "mix - alttext"));
    assert_non_null(strstr(text.text, "+50.0 (+"));
    nn_text_free(&text);
}

/* Other seeds, no pairs: the report goes without a difference and without the grid. */
static void test_unpaired_arms_are_not_compared(void **state)
{
    nn_text page = { 0 }, json = { 0 };
    (void)state;
    write_run(77);
    report r = load();
    assert_false(r.compared);
    OK(report_write_html(&r, &page));
    OK(report_write_json(&r, &json));
    report_free(&r);
    assert_int_equal(count(page.text, "Figure 1"), 0);
    assert_int_equal(count(page.text, "Mix &minus; Alttext"), 0);
    assert_non_null(strstr(json.text, "\"difference\": null"));
    nn_text_free(&page);
    nn_text_free(&json);
}

static void expect_refused(const char *manifest, nn_status code, const char *part)
{
    report r;
    write_manifest(manifest);
    expect_failure(report_load(scratch_path, scratch("manifest.json"), &r), code, part);
}

static void test_bad_manifests_are_refused(void **state)
{
    (void)state;
    write_run(1);
    expect_refused("{}", NN_FORMAT, "no \"arms\"");
    expect_refused("{\"arms\": {\"mix\": {\"curve\": []}}}", NN_FORMAT, "curve");
    expect_refused("{\"arms\": {\"mix\": {\"curve\": [{\"eval\": \"m.json\"}]}}}", NN_FORMAT,
                   "samples_seen");
    expect_refused(
        "{\"arms\": {\"mix\": {\"curve\": [" POINT(5, "m.json") "," POINT(4, "m.json") "]}}}",
        NN_FORMAT, "falls");
    expect_refused("{\"arms\": {\"mix\": {\"curve\": [" POINT(0, "missing.json") "]}}}",
                   NN_NOT_FOUND, "missing.json");
    expect_refused("{\"arms\": {\"mix\": {\"curve\": [" POINT(
                       0, "m.json") "]}}, \"stages\": {\"train\": \"long\"}}",
                   NN_FORMAT, "stages");
    expect_refused(ARMS "\"seconds\": \"long\"}", NN_FORMAT, "seconds");
    expect_refused(ARMS "\"cross\": {\"styles\": []}}", NN_FORMAT, "1 to 4 \"styles\"");
    expect_refused(ARMS "\"cross\": {\"styles\": [\"alt\", 1]}}", NN_FORMAT, "more than names");
    expect_refused(ARMS "\"cross\": {\"styles\": [\"alt\"], \"arms\": {\"1\": {}, \"2\": {}, "
                        "\"3\": {}, \"4\": {}, \"5\": {}, \"6\": {}, \"7\": {}, \"8\": {}}}}",
                   NN_FORMAT, "more than 7");
    expect_refused(ARMS "\"cross\": {\"styles\": [\"alt\"], \"arms\": {\"mix\": "
                        "{\"alt\": \"missing.json\"}}}}",
                   NN_NOT_FOUND, "missing.json");
}

static int make_pictures(void **state)
{
    if (scratch_make(state)) return -1;
    return nn_file_make_dir(scratch("pictures")) == NN_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_has_the_figures),
        cmocka_unit_test(test_page_stands_alone),
        cmocka_unit_test(test_base64_of_the_picture),
        cmocka_unit_test(test_cross_figures_in_json),
        cmocka_unit_test(test_cross_table),
        cmocka_unit_test(test_every_arm_has_a_colour),
        cmocka_unit_test(test_headline),
        cmocka_unit_test(test_unpaired_arms_are_not_compared),
        cmocka_unit_test(test_bad_manifests_are_refused),
    };
    return cmocka_run_group_tests(tests, make_pictures, scratch_remove);
}
