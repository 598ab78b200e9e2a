/* The diffusers folder: reading and writing. */
#include "models/stable_diffusion.h"

#include <string.h>

#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/weights.h"
#include "models/sd_file.h"

static const nn_prefix unet_names = { "unet.", "" }, text_names = { "text.", "" };

nn_status sd_model_configure(const char *dir, const char *vae_dir, sd_model *m)
{
    nn_json json;
    NN_TRY(nn_json_open_config(dir, "unet/config.json", &json));
    nn_status status = unet_config_parse(&json, &m->unet);
    nn_json_close(&json);
    NN_TRY(status);
    NN_TRY(nn_json_open_config(dir, "text_encoder/config.json", &json));
    status = clip_text_config_parse(&json, &m->text);
    nn_json_close(&json);
    NN_TRY(status);
    NN_TRY(nn_json_open_config(vae_dir, "vae/config.json", &json));
    status = vae_config_parse(&json, &m->vae);
    nn_json_close(&json);
    NN_TRY(status);
    NN_TRY(nn_json_open_config(dir, "scheduler/scheduler_config.json", &json));
    status = nn_noise_schedule_parse(&json, &m->noise);
    nn_json_close(&json);
    NN_TRY(status);
    return sd_model_check(m, dir);
}

nn_status sd_model_check(const sd_model *m, const char *path)
{
    if (m->unet.cross_attention_dim == m->text.hidden_size) return NN_OK;
    return nn_fail(NN_SHAPE,
                   "%s: the UNet expects a context %lld wide, the text encoder gives %lld", path,
                   (long long)m->unet.cross_attention_dim, (long long)m->text.hidden_size);
}

/* A graph of everything, built only for the parameters that it declares. */
static nn_status declare(sd_model *m)
{
    nn_graph *g;
    NN_TRY(nn_graph_create(&g));
    int64_t side = 1 << (m->unet.n_blocks - 1), vae_side = vae_stride(&m->vae);
    nn_tensor *ids = nn_input(g, "ids", NN_I32, NN_DIMS(1, m->text.max_positions));
    nn_tensor *latent = nn_input(g, "latent", NN_F32, NN_DIMS(1, side, side, m->unet.in_channels));
    nn_tensor *t = nn_input(g, "t", NN_F32, NN_DIMS(1));
    nn_tensor *image =
        nn_input(g, "image", NN_F32, NN_DIMS(1, vae_side, vae_side, m->vae.in_channels));
    nn_tensor *code = nn_input(g, "code", NN_F32, NN_DIMS(1, 1, 1, m->vae.latent_channels));
    sd_unet(m, g, latent, t, sd_text(m, g, ids, false), false);
    vae_encode(nn_root(g, m->vae_params, ""), &m->vae, image);
    vae_decode(nn_root(g, m->vae_params, ""), &m->vae, code);
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    return status;
}

static nn_status load_part(nn_params *params, const char *from, const char *part,
                           nn_network network, const nn_prefix *names)
{
    char *path = sd_is_file(from) ? nn_strdup(from) : nn_format("%s/%s", from, part);
    NN_NEED(path);
    nn_status status = nn_params_load_network(params, path, network, names);
    nn_free(path);
    return status;
}

static nn_status fill(const char *dir, sd_start start, uint64_t seed, sd_model *m)
{
    NN_TRY(load_part(m->vae_params, dir, "vae", NN_NETWORK_VAE, NULL));
    if (start == SD_SCRATCH) return nn_params_init(m->params, seed);
    NN_TRY(load_part(m->params, dir, "unet", NN_NETWORK_UNET, &unet_names));
    return load_part(m->params, dir, "text_encoder", NN_NETWORK_TEXT, &text_names);
}

static nn_status open_tokenizer(const char *dir, nn_clip_bpe *tokenizer)
{
    char *path = nn_format("%s/tokenizer", dir);
    NN_NEED(path);
    nn_status status = nn_clip_bpe_open(path, tokenizer);
    nn_free(path);
    return status;
}

/* Configured and with its tokenizer: allocate and fill. */
static nn_status load(const char *from, nn_device *device, sd_start start, uint64_t seed,
                      bool with_grads, sd_model *m)
{
    if (m->tokenizer.end >= m->text.vocab_size)
        return nn_fail(NN_SHAPE, "%s: the tokenizer has ids up to %d, the text encoder knows %lld",
                       from, m->tokenizer.end, (long long)m->text.vocab_size);
    NN_TRY(nn_params_create(&m->params));
    NN_TRY(nn_params_create(&m->vae_params));
    NN_TRY(declare(m));
    m->params->frozen = m->vae_params->frozen = start == SD_FROZEN;
    NN_TRY(nn_params_alloc(m->params, device, with_grads));
    NN_TRY(nn_params_alloc(m->vae_params, device, false));
    return fill(from, start, seed, m);
}

static nn_status open_model(const char *dir, nn_device *device, sd_start start, uint64_t seed,
                            bool with_grads, sd_model *m)
{
    NN_TRY(sd_model_configure(dir, dir, m));
    NN_TRY(open_tokenizer(dir, &m->tokenizer));
    return load(dir, device, start, seed, with_grads, m);
}

nn_status sd_model_open(const char *dir, nn_device *device, sd_start start, uint64_t seed,
                        bool with_grads, sd_model *out)
{
    *out = (sd_model){ 0 };
    nn_status status = open_model(dir, device, start, seed, with_grads, out);
    if (status != NN_OK) sd_model_close(out);
    return status;
}

static nn_status open_any(const char *path, const char *tokenizer, nn_device *device, sd_model *m)
{
    const bool file = sd_is_file(path);
    NN_TRY(file ? sd_file_configure(path, m) : sd_model_configure(path, path, m));
    if (tokenizer)
        NN_TRY(nn_clip_bpe_open(tokenizer, &m->tokenizer));
    else
        NN_TRY(file ? sd_file_tokenizer(path, &m->tokenizer) : open_tokenizer(path, &m->tokenizer));
    return load(path, device, SD_FROZEN, 0, false, m);
}

nn_status sd_model_open_any(const char *path, const char *tokenizer, nn_device *device,
                            sd_model *out)
{
    *out = (sd_model){ 0 };
    nn_status status = open_any(path, tokenizer, device, out);
    if (status != NN_OK) sd_model_close(out);
    return status;
}

void sd_model_close(sd_model *m)
{
    nn_params_destroy(m->params);
    nn_params_destroy(m->vae_params);
    nn_clip_bpe_close(&m->tokenizer);
    nn_noise_schedule_deinit(&m->noise);
    *m = (sd_model){ 0 };
}

static nn_status copy_file(const char *from, const char *to, const char *name, bool needed)
{
    char *src = nn_format("%s/%s", from, name), *dst = nn_format("%s/%s", to, name);
    nn_map map = { 0 };
    nn_status status = src && dst ? NN_OK : NN_MEMORY;
    if (status == NN_OK && (needed || nn_file_exists(src))) {
        status = nn_map_open(src, &map);
        if (status == NN_OK)
            status = nn_file_write(dst, map.data ? (const void *)map.data : "", map.size);
        nn_map_close(&map);
    }
    nn_free(src);
    nn_free(dst);
    return status;
}

static nn_status copy_parts(const char *from, const char *dir)
{
    static const char *const folders[] = { "unet", "text_encoder", "vae", "scheduler",
                                           "tokenizer" };
    static const struct {
        const char *name;
        bool needed;
    } files[] = { { "unet/config.json", true },
                  { "text_encoder/config.json", true },
                  { "vae/config.json", true },
                  { "scheduler/scheduler_config.json", true },
                  { "tokenizer/vocab.json", false },
                  { "tokenizer/merges.txt", false },
                  { "tokenizer/tokenizer.json", false },
                  { "tokenizer/tokenizer_config.json", false },
                  { "tokenizer/special_tokens_map.json", false },
                  { "model_index.json", false } };
    for (int i = 0; i < NN_COUNT(folders); i++) {
        char *path = nn_format("%s/%s", dir, folders[i]);
        NN_NEED(path);
        nn_status status = nn_file_make_dir(path);
        nn_free(path);
        NN_TRY(status);
    }
    for (int i = 0; i < NN_COUNT(files); i++)
        NN_TRY(copy_file(from, dir, files[i].name, files[i].needed));
    return NN_OK;
}

/* The codec's weights as they are, in whatever form the other folder has them. */
static nn_status copy_codec(const char *from, const char *dir)
{
    nn_weights w;
    nn_weight *all = NULL;
    char *src = nn_format("%s/vae", from);
    char *dst = nn_format("%s/vae/diffusion_pytorch_model.safetensors", dir);
    nn_status status = src && dst ? NN_OK : NN_MEMORY;
    if (status == NN_OK) status = nn_weights_open_network(src, NN_NETWORK_VAE, &w);
    if (status == NN_OK) {
        all = nn_alloc(w.n, sizeof(*all));
        for (int64_t i = 0; all && i < w.n; i++) all[i] = *w.tensor[i];
        status = all ? nn_safetensors_write(dst, all, w.n, NULL, 0) : NN_MEMORY;
        nn_weights_close(&w);
    }
    nn_free(all);
    nn_free(src);
    nn_free(dst);
    return status;
}

static nn_status save_part(const sd_model *m, const char *dir, const char *file,
                           const nn_prefix *names)
{
    char *path = nn_format("%s/%s", dir, file);
    NN_NEED(path);
    nn_status status = nn_params_save(m->params, path, names, 1, NN_F32);
    nn_free(path);
    return status;
}

nn_status sd_model_save(const sd_model *m, const char *from, const char *dir)
{
    NN_TRY(copy_parts(from, dir));
    NN_TRY(copy_codec(from, dir));
    NN_TRY(save_part(m, dir, "unet/diffusion_pytorch_model.safetensors", &unet_names));
    return save_part(m, dir, "text_encoder/model.safetensors", &text_names);
}

nn_status sd_tokenize(const sd_model *m, const char *prompt, int32_t *ids, bool *truncated)
{
    nn_tokens tokens = { 0 };
    nn_status status = nn_clip_bpe_encode_padded(&m->tokenizer, prompt, (int)m->text.max_positions,
                                                 m->tokenizer.end, NN_OVERLONG_TRUNCATE, &tokens);
    if (status == NN_OK) {
        memcpy(ids, tokens.ids, (size_t)m->text.max_positions * sizeof(*ids));
        *truncated = tokens.truncated;
    }
    nn_tokens_free(&tokens);
    return status;
}
