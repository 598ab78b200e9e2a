/* Configurations: from the file that says them, or from shapes. */
#include "data/json.h"
#include "engine/base/alloc.h"
#include "models/published.h"
#include "tools/convert.h"

static nn_status parse(convert_model *m, nn_network network, const nn_json *json)
{
    switch (network) {
    case NN_NETWORK_UNET:
        return unet_config_parse(json, &m->unet);
    case NN_NETWORK_VAE:
        return vae_config_parse(json, &m->vae);
    case NN_NETWORK_TEXT:
        return clip_text_config_parse(json, &m->text);
    default:
        return captioner_config_parse(json, &m->blip);
    }
}

static nn_status read_config(convert_model *m, nn_network network, const char *path)
{
    nn_json json;
    char *bytes;
    int64_t n;
    NN_TRY(nn_file_read(path, NN_JSON_CONFIG_BYTES, &bytes, &n));
    nn_status status = nn_text_add_bytes(&m->net[network].config, bytes, n);
    if (status == NN_OK) status = nn_json_parse(bytes, n, path, &json);
    nn_free(bytes);
    NN_TRY(status);
    status = parse(m, network, &json);
    nn_json_close(&json);
    return status;
}

/* What the shapes say passes the same checks as what a file says. */
static nn_status parse_inferred(convert_model *m, nn_network network)
{
    nn_json json;
    nn_text *text = &m->net[network].config;
    NN_TRY(published_config(&m->net[network].weights, network, text));
    NN_TRY(nn_json_parse(text->text, text->length, m->in, &json));
    nn_status status = parse(m, network, &json);
    nn_json_close(&json);
    return status;
}

nn_status convert_configure(convert_model *m, nn_network network)
{
    const char *folder = convert_folder(network);
    char *path = NULL, *inside = nn_format("%s/config.json", folder);
    NN_NEED(inside);
    nn_status status = folder[0] ? convert_find(m, inside, &path) : NN_OK;
    nn_free(inside);
    NN_TRY(status);
    if (!path) NN_TRY(convert_find(m, "config.json", &path));
    status = path ? read_config(m, network, path) : parse_inferred(m, network);
    nn_free(path);
    return status;
}
