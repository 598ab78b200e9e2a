/* Finding the networks, and what each must consist of. */
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "engine/nn.h"
#include "engine/weights.h"
#include "tools/convert.h"

static const char *const folders[NN_NETWORK_COUNT] = {
    [NN_NETWORK_UNET] = "unet",
    [NN_NETWORK_VAE] = "vae",
    [NN_NETWORK_TEXT] = "text_encoder",
    [NN_NETWORK_BLIP] = "",
};

const char *convert_folder(nn_network network)
{
    return folders[network];
}

nn_status convert_find(const convert_model *m, const char *name, char **path)
{
    const char *const places[] = { m->in, m->like };
    for (int i = 0; i < NN_COUNT(places) && places[i]; i++) {
        *path = nn_format("%s/%s", places[i], name);
        NN_NEED(*path);
        if (nn_file_exists(*path)) return NN_OK;
        nn_free(*path);
    }
    *path = NULL;
    return NN_OK;
}

/* A graph that nobody runs declares the parameters. */
static void declare(const convert_model *m, nn_network network, nn_graph *g, nn_params *params)
{
    nn_scope root = nn_root(g, params, "");
    const unet_config *u = &m->unet;
    const vae_config *v = &m->vae;
    int64_t side = 1 << (u->n_blocks - 1), f = vae_stride(v), size = m->blip.vision.image_size;
    switch (network) {
    case NN_NETWORK_UNET:
        unet(root, u, nn_input(g, "x", NN_F32, NN_DIMS(1, side, side, u->in_channels)),
             nn_input(g, "t", NN_F32, NN_DIMS(1)),
             nn_input(g, "context", NN_F32, NN_DIMS(1, 1, u->cross_attention_dim)), false);
        break;
    case NN_NETWORK_VAE:
        vae_encode(root, v, nn_input(g, "image", NN_F32, NN_DIMS(1, f, f, v->in_channels)));
        vae_decode(root, v, nn_input(g, "code", NN_F32, NN_DIMS(1, 1, 1, v->latent_channels)));
        break;
    case NN_NETWORK_TEXT:
        clip_text(nn_at(root, "text_model"), &m->text,
                  nn_input(g, "ids", NN_I32, NN_DIMS(1, m->text.max_positions)), false);
        break;
    default:
        captioner_logits(root, &m->blip,
                         captioner_encode(root, &m->blip,
                                          nn_input(g, "pixels", NN_F32, NN_DIMS(1, size, size, 3))),
                         nn_input(g, "ids", NN_I32, NN_DIMS(1, 1)), NULL);
    }
}

/* The configuration and the weights must be of the same network. */
static nn_status check(convert_model *m, nn_network network)
{
    convert_net *net = &m->net[network];
    nn_graph *g;
    NN_TRY(convert_configure(m, network));
    NN_TRY(nn_params_create(&net->params));
    NN_TRY(nn_graph_create(&g));
    declare(m, network, g, net->params);
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    return nn_params_check(net->params, &net->weights, NULL, 0, NULL);
}

/* Open the weights of one network; a path that has none is left out. */
static nn_status open_network(const char *path, nn_network network, bool averaged, convert_net *net)
{
    NN_TRY(nn_weights_open(path, &net->weights));
    net->there = nn_weights_layout(&net->weights, network) != NULL;
    if (net->there) return nn_weights_select(&net->weights, network, averaged);
    nn_weights_close(&net->weights);
    return NN_OK;
}

static nn_status open_part(convert_model *m, nn_network network, bool *parts)
{
    char *path = nn_format("%s/%s", m->in, folders[network]);
    NN_NEED(path);
    nn_status status = NN_OK;
    if (folders[network][0] && nn_file_exists(path)) {
        *parts = true;
        status = nn_weights_open_network(path, network, &m->net[network].weights);
        m->net[network].there = status == NN_OK;
    }
    nn_free(path);
    return status;
}

/* Tell what is left behind: schedules, averages, optimizers, other people's networks. */
static nn_status note_others(const char *path)
{
    enum { NAMED = 10 };
    nn_weights w;
    int64_t n = 0;
    NN_TRY(nn_weights_open(path, &w));
    for (int64_t i = 0; i < w.n; i++) {
        const nn_weight *t = w.tensor[i];
        if (nn_weights_belongs(&w, t) || n++ >= NAMED) continue;
        nn_log(NN_LOG_INFO, "%s: tensor '%s' %s is of no network that is known", path, t->name,
               nn_weight_shape_text(t->rank, t->dim).s);
    }
    if (n > NAMED) nn_log(NN_LOG_INFO, "%s: nor are %lld more", path, (long long)n - NAMED);
    nn_weights_close(&w);
    return NN_OK;
}

static nn_status open_all(convert_model *m, bool averaged)
{
    bool parts = false;
    int n = 0;
    for (int i = 0; i < NN_NETWORK_COUNT; i++) NN_TRY(open_part(m, (nn_network)i, &parts));
    for (int i = 0; i < NN_NETWORK_COUNT && !parts; i++)
        NN_TRY(open_network(m->in, (nn_network)i, averaged && i == NN_NETWORK_UNET, &m->net[i]));
    if (parts && averaged)
        return nn_fail(NN_ARGUMENT, "%s: is a folder; only single files of LDM hold averages",
                       m->in);
    for (int i = 0; i < NN_NETWORK_COUNT; i++) {
        if (m->net[i].there) NN_TRY(check(m, (nn_network)i));
        n += m->net[i].there;
    }
    if (!n) return nn_fail(NN_NOT_FOUND, "%s: holds no network that is known", m->in);
    return parts ? NN_OK : note_others(m->in);
}

nn_status convert_open(const char *in, const char *like, bool averaged, convert_model *out)
{
    *out = (convert_model){ .in = in,
                            .like = like,
                            .unet = unet_config_sd14(),
                            .vae = vae_config_sd14(),
                            .text = clip_text_config_sd14(),
                            .blip = captioner_config_blip_base() };
    nn_status status = open_all(out, averaged);
    if (status != NN_OK) convert_close(out);
    return status;
}

void convert_close(convert_model *m)
{
    for (int i = 0; i < NN_NETWORK_COUNT; i++) {
        nn_weights_close(&m->net[i].weights);
        nn_params_destroy(m->net[i].params);
        nn_text_free(&m->net[i].config);
    }
    *m = (convert_model){ 0 };
}
