/* Resampling against what Pillow 13.0.0 and 12.0.0 made of the same pictures. */
#include "data/resize.h"

#include "tests/unit/image_check.h"

#include <math.h>

#include "engine/base/rng.h"

static nn_image make_image(int width, int height)
{
    nn_image image;
    assert_int_equal(nn_image_create(width, height, &image), NN_OK);
    for (int i = 0; i < width * height * 3; i++) {
        int x = i / 3 % width, y = i / 3 / width;
        image.rgb[i] = (uint8_t)(37 * x + 91 * y + x * y % 7 * 11 + 53 * (i % 3));
    }
    return image;
}

static nn_image resized(const nn_image *src, int width, int height, nn_resize_filter filter,
                        nn_resize_order order)
{
    nn_image out;
    assert_int_equal(nn_image_resize(src, width, height, filter, order, &out), NN_OK);
    assert_int_equal(out.width, width);
    assert_int_equal(out.height, height);
    return out;
}

static void check_red(nn_resize_filter filter, int width, int height, const uint8_t *red, int n)
{
    nn_image src = make_image(10, 7);
    nn_image out = resized(&src, width, height, filter, NN_RESIZE_PILLOW_13);
    for (int i = 0; i < n; i++) assert_int_equal(out.rgb[3 * i], red[i]);
    nn_image_free(&src);
    nn_image_free(&out);
}

static void test_written_out(void **state)
{
    (void)state;
    check_red(NN_RESIZE_BICUBIC, 4, 5,
              (uint8_t[]){ 60,  134, 132, 73, 165, 113, 137, 162, 107, 152,
                           111, 118, 131, 73, 137, 135, 97,  176, 135, 101 },
              20);
    check_red(NN_RESIZE_BILINEAR, 4, 5,
              (uint8_t[]){ 71,  128, 132, 83, 157, 118, 136, 157, 113, 143,
                           115, 120, 128, 83, 134, 134, 106, 163, 132, 108 },
              20);
    check_red(NN_RESIZE_LANCZOS, 4, 5,
              (uint8_t[]){ 56,  142, 124, 71, 169, 111, 138, 166, 105, 159,
                           108, 117, 132, 68, 137, 135, 88,  183, 140, 91 },
              20);
    check_red(NN_RESIZE_BICUBIC, 13, 9,
              (uint8_t[]){ 0, 17, 48, 75, 104, 141, 173, 207, 222, 30, 6, 50, 74 }, 13);
    check_red(NN_RESIZE_BILINEAR, 13, 9,
              (uint8_t[]){ 0, 24, 53, 81, 110, 138, 167, 195, 214, 45, 24, 53, 77 }, 13);
}

typedef struct hashed {
    int from[2], to[2];
    nn_resize_order order;
    uint64_t hash[5]; /* FNV-1a of the bytes, by filter */
} hashed;

/* clang-format off */
static const hashed cases[] = {
    { { 10, 7 }, { 4, 5 }, NN_RESIZE_PILLOW_13, { 0xb4736c136aa75305, 0x4f3ff99bfcb57a02,
        0x91e25e07a49704ed, 0x804a77f2d445c1be, 0x3aaab58acda842e2 } },
    { { 10, 7 }, { 13, 9 }, NN_RESIZE_PILLOW_13, { 0x1b88650808fe237d, 0x3b13f64994d22f06,
        0xaf8b5286dc542dda, 0x11edb818c32cd528, 0x54e0cf87aeea70cb } },
    { { 64, 48 }, { 224, 224 }, NN_RESIZE_PILLOW_13, { 0xd2b8c6dad29eb08d, 0x611c6009bb677c56,
        0xedcca4219ff05ae3, 0x596a426d8eda72c2, 0xb4ba6c05fbad1332 } },
    { { 53, 97 }, { 31, 20 }, NN_RESIZE_PILLOW_13, { 0xcdd932e294dadc0c, 0x8063f8160b656d28,
        0x4fe850ebbe0666a5, 0x6785ede3b27309c3, 0xddebcfec85eb153f } },
    { { 53, 97 }, { 31, 20 }, NN_RESIZE_PILLOW_12, { 0xae4b43aa50e994b1, 0x106069c436be59dc,
        0x17d719d3acbaf537, 0x4f1395b2a3c2d7e2, 0xd200b7ed47a3fb09 } },
    { { 97, 53 }, { 20, 31 }, NN_RESIZE_PILLOW_13, { 0x5eeca6625a6b30e4, 0xc0bc0470b3af2c14,
        0x0f3c2126a25081d8, 0xd4948954689b7ee8, 0xdc8c5579da02fd53 } },
    { { 40, 40 }, { 40, 11 }, NN_RESIZE_PILLOW_13, { 0x8f3fd431efeaffba, 0x8993edf5fa3f239f,
        0x38caae18196a0853, 0xa4874c687055d40b, 0x6c684feedcfb0c5b } },
    { { 40, 40 }, { 11, 40 }, NN_RESIZE_PILLOW_13, { 0x5ecb8bf53644264c, 0x719a3b172006b00d,
        0x47a17276441f418c, 0xcef38ada9a256f75, 0x593f04414ff02a66 } },
    { { 3, 200 }, { 50, 2 }, NN_RESIZE_PILLOW_13, { 0xecf177d849858f0b, 0x378067896861386d,
        0xb6ce184de805ee53, 0xe37327560d8d7b9b, 0xf91e9c91013230a0 } },
    { { 3, 200 }, { 50, 2 }, NN_RESIZE_PILLOW_12, { 0xecf177d849858f0b, 0x82f56dd6dcfb73db,
        0x65004cd5b0d1dbe0, 0x7d0f46cf58119530, 0x13523506d9a31587 } },
    { { 1, 1 }, { 9, 5 }, NN_RESIZE_PILLOW_12, { 0xed8e2f213ee24e38, 0xed8e2f213ee24e38,
        0xed8e2f213ee24e38, 0xed8e2f213ee24e38, 0xed8e2f213ee24e38 } },
};
/* clang-format on */

static void test_hashed(void **state)
{
    (void)state;
    for (int i = 0; i < NN_COUNT(cases) * 5; i++) {
        const hashed *h = &cases[i / 5];
        nn_image src = make_image(h->from[0], h->from[1]);
        nn_image out = resized(&src, h->to[0], h->to[1], (nn_resize_filter)(i % 5), h->order);
        uint64_t hash = nn_hash(0, out.rgb, out.width * out.height * 3);
        if (hash != h->hash[i % 5]) fail_msg("case %d, filter %d", i / 5, i % 5);
        nn_image_free(&src);
        nn_image_free(&out);
    }
}

static void test_unchanged_and_refused(void **state)
{
    (void)state;
    nn_image src = make_image(9, 8);
    nn_image out = resized(&src, 9, 8, NN_RESIZE_LANCZOS, NN_RESIZE_PILLOW_13);
    assert_true(same_image(&src, &out) && out.rgb != src.rgb);
    nn_image_free(&out);
    assert_int_equal(nn_image_resize(&src, 0, 8, 0, 0, &out), NN_ARGUMENT);
    assert_null(out.rgb);
    assert_int_equal(nn_image_resize(&src, 9, 20001, 0, 0, &out), NN_ARGUMENT);
    nn_image_free(&src);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    nn_image src = make_image(20, 30), out;
    for (int order = 0; order < 2; order++) {
        nn_status status = NN_MEMORY;
        int k = 0;
        while (status != NN_OK) {
            nn_alloc_fail_at(++k);
            status = nn_image_resize(&src, 7, 5, NN_RESIZE_BICUBIC, (nn_resize_order)order, &out);
            nn_alloc_fail_at(0);
            assert_int_equal(status, status == NN_OK ? NN_OK : NN_MEMORY);
            if (status != NN_OK) assert_null(out.rgb);
        }
        assert_true(k > 8);
        nn_image_free(&out);
    }
    nn_image_free(&src);
}

static void test_shortest_edge(void **state)
{
    (void)state;
    static const int64_t rule[][5] = {
        /* width, height, edge, new width, new height */
        { 640, 480, 224, 298, 224 }, { 480, 640, 224, 224, 298 }, { 224, 224, 224, 224, 224 },
        { 333, 500, 224, 224, 336 }, { 1, 1, 512, 512, 512 },     { 1023, 767, 512, 682, 512 },
    };
    for (int i = 0; i < NN_COUNT(rule); i++) {
        int64_t w, h;
        nn_resize_shortest_edge(rule[i][0], rule[i][1], rule[i][2], &w, &h);
        assert_int_equal(w, rule[i][3]);
        assert_int_equal(h, rule[i][4]);
    }
}

/* left and top as transformers computes them; outside of the picture is black. */
static void check_crop(int width, int height, int left, int top)
{
    nn_image src = make_image(10, 7), out;
    assert_int_equal(nn_image_crop_center(&src, width, height, &out), NN_OK);
    for (int i = 0; i < width * height * 3; i++) {
        int x = i / 3 % width + left, y = i / 3 / width + top;
        bool inside = x >= 0 && y >= 0 && x < 10 && y < 7;
        assert_int_equal(out.rgb[i], inside ? src.rgb[3 * (10 * y + x) + i % 3] : 0);
    }
    nn_image_free(&src);
    nn_image_free(&out);
}

static void test_crop_center(void **state)
{
    (void)state;
    check_crop(4, 4, 3, 1);     /* 1.5 -> 1 */
    check_crop(5, 7, 2, 0);     /* 2.5 -> 2 */
    check_crop(10, 2, 0, 2);    /* 2.5 -> 2 */
    check_crop(13, 10, -2, -2); /* 1.5 rows and columns of padding before: 2 */
    check_crop(4, 12, 3, -3);
    check_crop(1, 1, 4, 3);
}

static void test_to_tensor(void **state)
{
    (void)state;
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    uint8_t pixels[6] = { 0, 0, 0, 255, 128, 1 };
    nn_image image = { 2, 1, pixels };
    static const double expected[6] = { -1.7922625, -1.7520971, -1.4802198,
                                        1.9303363,  0.1688972,  -1.4659997 };
    float out[6];
    nn_image_to_tensor(&image, out, mean, std);
    for (int i = 0; i < 6; i++) assert_true(fabs(out[i] - expected[i]) < 2e-6);
}

static void check_grid(int height, int width, const double *first, double sum)
{
    float in[3 * 4 * 2], out[5 * 7 * 2];
    double second_sum = 0;
    for (int i = 0; i < 24; i++) {
        int c = i % 2, x = i / 2 % 4, y = i / 8;
        in[i] = (float)((7 * y + 3 * x + 5 * c) % 11) * 0.25f - 1;
    }
    nn_grid_resize_bicubic(in, 3, 4, 2, height, width, out);
    for (int i = 0; i < height * width; i++) {
        assert_true(fabs(out[2 * i] - first[i]) < 3e-6);
        second_sum += out[2 * i + 1];
    }
    assert_true(fabs(second_sum - sum) < 3e-5);
}

/* Expected values: the formula evaluated in double as a product of two dense matrices. */
static void test_grid(void **state)
{
    (void)state;
    static const double larger[] = {
        -1.242412, -0.974801, -0.50775, 0.089,    0.68575,   1.152801,  1.420412,
        -0.323412, 0.038229,  0.481877, 0.224937, 0.016452,  0.579304,  1.028057,
        0.675588,  1.128553,  1.549472, 0.5,      -0.549472, -0.128553, 0.324412,
        0.189588,  0.551229,  0.994877, 0.914281, 0.421829,  -0.147758, -0.526569,
        -0.420412, -0.152801, 0.31425,  1.193563, 1.335302,  -0.012198, -1.070626,
    };
    static const double smaller[] = { -0.196198, 0.638092, 0.410248, 0.132721 };
    static const double equal[] = { -1,   -0.25, 0.5,   1.25, 0.75, 1.5,
                                    -0.5, 0.25,  -0.25, 0.5,  1.25, -0.75 };
    check_grid(5, 7, larger, 5.1255);
    check_grid(2, 2, smaller, 0.48486);
    check_grid(3, 4, equal, 1.75);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_out),
        cmocka_unit_test(test_hashed),
        cmocka_unit_test(test_unchanged_and_refused),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_shortest_edge),
        cmocka_unit_test(test_crop_center),
        cmocka_unit_test(test_to_tensor),
        cmocka_unit_test(test_grid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
