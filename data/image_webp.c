/* WebP through libwebp. */
#include "data/image_codec.h"

#include <webp/decode.h>

static const char *vp8_text(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_OK:
        return "ok";
    case VP8_STATUS_OUT_OF_MEMORY:
        return "out of memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return "a feature that libwebp does not know";
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return "the data end early";
    case VP8_STATUS_INVALID_PARAM:
    case VP8_STATUS_BITSTREAM_ERROR:
    case VP8_STATUS_USER_ABORT:
        break;
    }
    return "the data are damaged";
}

static nn_status fail_webp(VP8StatusCode code)
{
    nn_status status = code == VP8_STATUS_OUT_OF_MEMORY         ? NN_MEMORY
                       : code == VP8_STATUS_UNSUPPORTED_FEATURE ? NN_UNSUPPORTED
                                                                : NN_FORMAT;
    return nn_fail(status, "WebP: %s", vp8_text(code));
}

/* libwebp forgives a picture that lacks its last bytes; the size in the header does not. */
static nn_status check_container(const uint8_t *bytes, int64_t n)
{
    enum { RIFF_HEADER = 8, FLAGS_AT = 20, FLAG_PROFILE = 0x20 };
    if (n < 20) return nn_fail(NN_FORMAT, "WebP: %lld bytes are no whole header", (long long)n);
    int64_t size = bytes[4] | bytes[5] << 8 | bytes[6] << 16 | (int64_t)bytes[7] << 24;
    if (size > n - RIFF_HEADER)
        return nn_fail(NN_FORMAT,
                       "WebP: the header announces %lld bytes, the file has %lld: it is "
                       "truncated",
                       (long long)(size + RIFF_HEADER), (long long)n);
    bool extended = bytes[12] == 'V' && bytes[13] == 'P' && bytes[14] == '8' && bytes[15] == 'X';
    if (extended && n > FLAGS_AT && (bytes[FLAGS_AT] & FLAG_PROFILE)) nn_image_note_profile();
    return NN_OK;
}

nn_status nn_webp_decode(const uint8_t *bytes, int64_t n, nn_image *out)
{
    NN_TRY(check_container(bytes, n));
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return nn_fail(NN_UNSUPPORTED, "libwebp at run time is not the one compiled against");
    VP8StatusCode code = WebPGetFeatures(bytes, (size_t)n, &config.input);
    if (code != VP8_STATUS_OK) return fail_webp(code);
    if (config.input.has_animation)
        return nn_fail(NN_UNSUPPORTED, "WebP: an animation; only still pictures are read");
    int channels = config.input.has_alpha ? 4 : 3;
    int64_t width = config.input.width, height = config.input.height;
    NN_TRY(nn_image_reserve(width, height, channels, out));
    config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = out->rgb;
    config.output.u.RGBA.stride = (int)(width * channels);
    config.output.u.RGBA.size = (size_t)(width * height * channels);
    code = WebPDecode(bytes, (size_t)n, &config);
    if (code != VP8_STATUS_OK) return fail_webp(code);
    return channels == 4 ? nn_image_flatten(out, NN_FOURTH_ALPHA) : NN_OK;
}
