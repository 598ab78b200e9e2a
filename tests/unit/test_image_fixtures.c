/* Pictures that others made, from Debian packages (tools/dev/fixtures fetches them). They are
 * looked for below RECAP_FIXTURES, "/" by default; what is absent is skipped. */
#include "tests/unit/image_check.h"

#include "engine/base/file.h"

#define GO       "usr/share/go-1.19/src/image/"
#define PNGSUITE "usr/share/doc/libsixel-examples/examples/images/pngsuite/"
#define IMAGING  "usr/share/gocode/src/github.com/disintegration/imaging/testdata/"
#define JXL      "usr/share/libjxl-testdata/jxl/flower/"

static char *full_path(const char *name)
{
    const char *root = getenv("RECAP_FIXTURES");
    char *path = nn_format("%s/%s", root ? root : "", name);
    assert_non_null(path);
    return path;
}

static void need(const char *name, const char *package)
{
    char *path = full_path(name);
    bool present = nn_file_exists(path);
    nn_free(path);
    if (present) return;
    print_message("skipped: no %s (package %s); run tools/dev/fixtures and set RECAP_FIXTURES to "
                  "build/fixtures\n",
                  name, package);
    skip();
}

static nn_status decode_file(const char *name, nn_image *out)
{
    char *path = full_path(name), *bytes = NULL;
    int64_t n = 0;
    if (nn_file_read(path, 64 << 20, &bytes, &n) != NN_OK) fail_msg("%s", nn_error_message());
    nn_status status = nn_image_decode(bytes, n, name, out);
    nn_free(bytes);
    nn_free(path);
    return status;
}

static nn_image load(const char *name)
{
    nn_image image;
    if (decode_file(name, &image) != NN_OK) fail_msg("%s", nn_error_message());
    return image;
}

/* Mean absolute difference, in levels. */
static double distance(const nn_image *a, const nn_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    int64_t n = a->width * a->height * 3, sum = 0;
    for (int64_t i = 0; i < n; i++) sum += abs(a->rgb[i] - b->rgb[i]);
    return (double)sum / (double)n;
}

static void check_pair(const char *name, const char *reference, double most)
{
    nn_image a = load(name), b = load(reference);
    double d = distance(&a, &b);
    if (d > most) fail_msg("%s and %s differ by %g levels, more than %g", name, reference, d, most);
    nn_image_free(&a);
    nn_image_free(&b);
}

static void test_go_jpegs(void **state)
{
    (void)state;
    static const char *const sampled[] = { "444", "422", "420", "440", "411", "410" };
    need(GO "testdata/video-001.png", "golang-1.19-src");
    for (int i = 0; i < NN_COUNT(sampled); i++) {
        char plain[128], progressive[128];
        snprintf(plain, sizeof(plain), GO "testdata/video-001.q50.%s.jpeg", sampled[i]);
        snprintf(progressive, sizeof(progressive), GO "testdata/video-001.q50.%s.progressive.jpeg",
                 sampled[i]);
        check_pair(plain, GO "testdata/video-001.png", 9);
        check_pair(progressive, plain, 0);
    }
    check_pair(GO "testdata/video-001.cmyk.jpeg", GO "testdata/video-001.cmyk.png", 2);
    check_pair(GO "testdata/video-001.rgb.jpeg", GO "testdata/video-001.png", 9);
    check_pair(GO "testdata/video-001.221212.jpeg", GO "testdata/video-001.png", 9);
    check_pair(GO "testdata/video-001.separate.dc.progression.jpeg", GO "testdata/video-001.png",
               9);
    check_pair(GO "testdata/video-005.gray.jpeg", GO "testdata/video-005.gray.png", 9);
}

static char **list(const char *folder, int64_t *n)
{
    char *path = full_path(folder), **names;
    assert_int_equal(nn_file_list(path, &names, n), NN_OK);
    nn_free(path);
    return names;
}

/* PngSuite names: character 3 is i for interlaced, n for not; the rest names the kind. */
static void test_png_suite(void **state)
{
    (void)state;
    int64_t n, n_pairs = 0;
    need(PNGSUITE "basic/basn0g01.png", "libsixel-examples");
    char **names = list(PNGSUITE "basic", &n);
    for (int64_t i = 0; i < n; i++) {
        char plain[160], interlaced[160];
        if (!strstr(names[i], "basn") || !strstr(names[i], ".png")) continue;
        snprintf(plain, sizeof(plain), PNGSUITE "basic/%s", names[i]);
        snprintf(interlaced, sizeof(interlaced), PNGSUITE "interlacing/basi%s", names[i] + 4);
        check_pair(interlaced, plain, 0);
        n_pairs++;
    }
    nn_file_list_free(names, n);
    assert_int_equal(n_pairs, 15);
}

/* Pixels beyond the end of the palette: black, as in every reader that rests on libpng. */
static bool is_tolerated(const char *name)
{
    return strcmp(name, "invalid-palette.png") == 0;
}

static void test_corrupted(void **state)
{
    (void)state;
    static const char *const folders[] = { PNGSUITE "corrupted", GO "png/testdata" };
    static const char *const prefixes[] = { "x", "invalid-" };
    need(PNGSUITE "basic/basn0g01.png", "libsixel-examples");
    need(GO "testdata/video-001.png", "golang-1.19-src");
    int n_refused = 0;
    for (int f = 0; f < 2; f++) {
        int64_t n;
        char **names = list(folders[f], &n);
        for (int64_t i = 0; i < n; i++) {
            char name[160];
            nn_image image;
            if (strncmp(names[i], prefixes[f], strlen(prefixes[f])) != 0) continue;
            if (!strstr(names[i], ".png") || is_tolerated(names[i])) continue;
            snprintf(name, sizeof(name), "%s/%s", folders[f], names[i]);
            if (decode_file(name, &image) == NN_OK) fail_msg("%s was decoded", name);
            n_refused++;
        }
        nn_file_list_free(names, n);
    }
    assert_true(n_refused >= 16);
}

static void test_orientations(void **state)
{
    (void)state;
    need(IMAGING "orientation_1.jpg", "golang-github-disintegration-imaging-dev");
    for (int o = 0; o <= 8; o++) {
        char name[160];
        snprintf(name, sizeof(name), IMAGING "orientation_%d.jpg", o);
        check_pair(name, IMAGING "orientation_0.jpg", 2);
    }
}

static void test_photographs(void **state)
{
    (void)state;
    static const char *const kinds[] = { "420", "420_progr", "422",       "440",
                                         "444", "rgb",       "asymmetric" };
    need(JXL "flower.png", "libjxl-testdata");
    nn_image photo = load(JXL "flower.png");
    assert_int_equal(photo.width, 2268);
    assert_int_equal(photo.height, 1512);
    for (int i = 0; i < NN_COUNT(kinds); i++) {
        char name[160];
        snprintf(name, sizeof(name), JXL "flower.png.im_q85_%s.jpg", kinds[i]);
        nn_image image = load(name);
        double d = distance(&image, &photo);
        if (d > 4) fail_msg("%s differs from the photograph by %g levels", name, d);
        nn_image_free(&image);
    }
    nn_image_free(&photo);
}

/* The seeds of the fuzzer are of use only while they are pictures. Run from the repository's root.
 */
static void test_fuzz_seeds(void **state)
{
    (void)state;
    static const char folder[] = "tests/fuzz/corpus/image";
    char **names;
    int64_t n;
    if (nn_file_list(folder, &names, &n) != NN_OK) fail_msg("%s", nn_error_message());
    assert_true(n >= 14);
    for (int64_t i = 0; i < n; i++) {
        char *path = nn_format("%s/%s", folder, names[i]);
        nn_text file = { 0 };
        assert_int_equal(nn_file_read(path, 1 << 16, &file.text, &file.length), NN_OK);
        nn_image image = decode_ok(&file);
        check_allocations(&file, 1);
        nn_image_free(&image);
        nn_text_free(&file);
        nn_free(path);
    }
    nn_file_list_free(names, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fuzz_seeds),   cmocka_unit_test(test_go_jpegs),
        cmocka_unit_test(test_png_suite),    cmocka_unit_test(test_corrupted),
        cmocka_unit_test(test_orientations), cmocka_unit_test(test_photographs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
