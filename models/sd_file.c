/* Stable Diffusion as a single file. */
#include "models/sd_file.h"

#include <string.h>
#include <sys/stat.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "models/published.h"

bool sd_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static nn_status parse(nn_network network, const nn_json *json, sd_model *m)
{
    switch (network) {
    case NN_NETWORK_UNET:
        return unet_config_parse(json, &m->unet);
    case NN_NETWORK_VAE:
        return vae_config_parse(json, &m->vae);
    default:
        return clip_text_config_parse(json, &m->text);
    }
}

static nn_status configure(const char *path, nn_network network, sd_model *m)
{
    nn_weights weights;
    nn_text text = { 0 };
    nn_json json;
    NN_TRY(nn_weights_open_network(path, network, &weights));
    nn_status status = published_config(&weights, network, &text);
    nn_weights_close(&weights);
    if (status == NN_OK) status = nn_json_parse(text.text, text.length, path, &json);
    if (status == NN_OK) {
        status = parse(network, &json, m);
        nn_json_close(&json);
    }
    nn_text_free(&text);
    return status;
}

nn_status sd_file_configure(const char *path, sd_model *m)
{
    static const nn_network networks[] = { NN_NETWORK_UNET, NN_NETWORK_VAE, NN_NETWORK_TEXT };
    nn_json json;
    for (int i = 0; i < NN_COUNT(networks); i++) NN_TRY(configure(path, networks[i], m));
    NN_TRY(nn_json_parse(published_schedule, (int64_t)strlen(published_schedule), path, &json));
    nn_status status = nn_noise_schedule_parse(&json, &m->noise);
    nn_json_close(&json);
    NN_TRY(status);
    return sd_model_check(m, path);
}

/* A vocabulary in the folder, if there is one. */
static nn_status try_folder(const char *folder, nn_clip_bpe *tokenizer, bool *found)
{
    static const char *const names[] = { "vocab.json", "tokenizer.json" };
    *found = false;
    for (int i = 0; i < NN_COUNT(names) && !*found; i++) {
        char *name = nn_format("%s/%s", folder, names[i]);
        NN_NEED(name);
        *found = nn_file_exists(name);
        nn_free(name);
    }
    return *found ? nn_clip_bpe_open(folder, tokenizer) : NN_OK;
}

nn_status sd_file_tokenizer(const char *path, nn_clip_bpe *tokenizer)
{
    const char *slash = strrchr(path, '/');
    const int n = slash ? (int)(slash - path) : 1;
    static const char *const places[] = { "/tokenizer", "" };
    bool found = false;
    for (int i = 0; i < NN_COUNT(places); i++) {
        char *folder = nn_format("%.*s%s", n, slash ? path : ".", places[i]);
        NN_NEED(folder);
        nn_status status = try_folder(folder, tokenizer, &found);
        nn_free(folder);
        NN_TRY(status);
        if (found) return NN_OK;
    }
    return nn_fail(NN_NOT_FOUND,
                   "%s: a single file holds no vocabulary, and none lies beside it; say with "
                   "--tokenizer where vocab.json and merges.txt of CLIP are",
                   path);
}
