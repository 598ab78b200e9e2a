/* The report, from its files to its page, while memory and files fail. */
#include "tests/torture/torture.h"

#include "tools/report.h"

enum { PICTURES = 12 };

static int64_t whole[2]; /* bytes of the page and of the numbers when nothing fails */

static bool is_whole(const nn_text *html, const nn_text *json)
{
    if (!whole[0]) {
        whole[0] = html->length;
        whole[1] = json->length;
    }
    return html->length == whole[0] && json->length == whole[1];
}

static nn_status report_all(void)
{
    report r;
    nn_text html = { 0 }, json = { 0 }, headline = { 0 };
    NN_TRY(report_load(scratch_path, scratch("manifest.json"), &r));
    nn_status status = report_write_html(&r, &html);
    if (status == NN_OK) status = report_write_json(&r, &json);
    if (status == NN_OK) status = report_write_headline(&r, &headline);
    report_free(&r);
    if (status == NN_OK && !is_whole(&html, &json))
        status = nn_fail(NN_FORMAT, "parts are missing");
    nn_text_free(&html);
    nn_text_free(&json);
    nn_text_free(&headline);
    return status;
}

/* Results of which the first `right` in six are right. */
static nn_status write_results(const char *path, int right)
{
    eval_set set = { 0 };
    for (int i = 0; i < PICTURES; i++) {
        NN_TRY(nn_grow(&set.samples, &set.capacity, set.n, sizeof(*set.samples)));
        bool good = i % 6 < right;
        set.samples[set.n++] = (eval_sample){
            .prompt = "two cats",
            .file = "pixel.png",
            .metric = (nn_scene_metric)(i % 3),
            .split = i % 2,
            .seed = i,
            .score = { .n_named = 1, .n_present = good, .n_exact = good, .exact = good },
        };
    }
    nn_status status = eval_write(&set, path);
    eval_free(&set);
    return status;
}

static nn_status results(void)
{
    eval_set set = { 0 };
    NN_TRY(write_results(scratch("r.json"), 2));
    NN_TRY(eval_read(scratch("r.json"), &set));
    eval_free(&set);
    return NN_OK;
}

static void look_at_results(void)
{
    eval_set set = { 0 };
    if (!nn_file_exists(scratch("r.json"))) return;
    assert_int_equal(eval_read(scratch("r.json"), &set), NN_OK);
    assert_int_equal(set.n, PICTURES);
    eval_free(&set);
    assert_int_equal(nn_file_remove(scratch("r.json")), NN_OK);
}

static const torture reporting = { report_all, NULL };
static const torture measuring = { results, look_at_results };

static void allocation_fails(void **state)
{
    (void)state;
    torture_all(&reporting, NN_FAULT_NONE, 50);
    torture_all(&measuring, NN_FAULT_NONE, 10);
}

static void files_fail(void **state)
{
    (void)state;
    torture_all(&reporting, NN_FAULT_READ, 5);
    torture_all(&measuring, NN_FAULT_READ, 1);
    torture_all(&measuring, NN_FAULT_WRITE, 1);
    torture_all(&measuring, NN_FAULT_RENAME, 1);
}

static nn_status write_files(void)
{
    static const char manifest[] =
        "{\"arms\": {\"alttext\": {\"curve\": [{\"samples_seen\": 0, \"eval\": \"a.json\","
        " \"samples\": \".\"}, {\"samples_seen\": 5, \"eval\": \"a.json\", \"samples\": \".\"}]},"
        " \"mix\": {\"curve\": [{\"samples_seen\": 5, \"eval\": \"m.json\"}]}},"
        " \"captioner\": \"c.json\", \"captions\": \"told.tar\", \"stages\": {\"train\": 2},"
        " \"config\": {\"lr\": 0.1}, \"revision\": \"abc\"}";
    static const char captioner[] = "{\"columns\": {\"short\": {\"full\": null}}}";
    static const char told[] = "{\"captions\": {\"alt\": \"IMG 1\", \"long\": \"a point\"}}";
    nn_image image;
    nn_text png = { 0 };
    nn_shard_writer *w;
    NN_TRY(nn_file_write(scratch("manifest.json"), manifest, sizeof(manifest) - 1));
    NN_TRY(nn_file_write(scratch("c.json"), captioner, sizeof(captioner) - 1));
    NN_TRY(write_results(scratch("a.json"), 2));
    NN_TRY(write_results(scratch("m.json"), 4));
    NN_TRY(nn_image_create(1, 1, &image));
    NN_TRY(nn_image_encode_png(&image, NULL, 0, &png));
    nn_image_free(&image);
    NN_TRY(nn_file_write(scratch("pixel.png"), png.text, png.length));
    NN_TRY(nn_shard_writer_open_file(scratch("told.tar"), &w));
    NN_TRY(nn_shard_writer_add(w, &(nn_sample){ .key = "0",
                                                .format = "png",
                                                .image = { png.text, png.length },
                                                .json = { told, sizeof(told) - 1 } }));
    nn_text_free(&png);
    return nn_shard_writer_close(w);
}

static int make_files(void **state)
{
    if (torture_make(state) != 0) return -1;
    if (write_files() != NN_OK || report_all() != NN_OK) fail_msg("%s", nn_error_message());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_fails),
        cmocka_unit_test(files_fail),
    };
    return cmocka_run_group_tests(tests, make_files, scratch_remove);
}
