/* Folders and files that other programs open. */
#include <string.h>

#include "data/json.h"
#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "tools/convert.h"

/* -- tensors -- */

/* The tensors of a file under way. */
typedef struct tensors {
    nn_weight *item;
    int64_t n;
    nn_arena arena;
} tensors;

/* Add all that a network must consist of, as a layout has it. */
static nn_status add_network(const convert_net *net, const nn_layout *layout, tensors *t)
{
    const nn_params *p = net->params;
    const nn_network_names *published = &nn_names_of[layout->network];
    const char **names = nn_alloc(p->n, sizeof(*names));
    NN_NEED(names);
    for (int64_t i = 0; i < p->n; i++) names[i] = p->items[i]->name;
    nn_weight *out = t->item + t->n;
    nn_status status = nn_weights_export(&net->weights, names, p->n, layout, &t->arena, out);
    nn_free(names);
    NN_TRY(status);
    t->n += p->n;
    for (int64_t i = 0; i < p->n && published->twin; i++) {
        if (strcmp(p->items[i]->name, published->twin_of) != 0) continue;
        t->item[t->n] = out[i];
        t->item[t->n++].name = published->twin;
    }
    return NN_OK;
}

/* Bytes of a tensor whose data is the tensor that it is made from. */
static nn_status fetch(void *ctx, const nn_weight *to, int64_t at, int64_t n, void *out)
{
    const nn_weight *from = to->data;
    (void)ctx;
    if (from->dtype == to->dtype) {
        memcpy(out, (const char *)from->data + at, (size_t)n);
        return NN_OK;
    }
    int64_t size = nn_st_dtype_bits(to->dtype) / 8;
    return nn_weight_convert(from, at / size, n / size, to->dtype, out);
}

static nn_status write_tensors(const char *path, const tensors *t, convert_dtype dtype)
{
    static const nn_st_dtype written[] = {
        [CONVERT_F32] = NN_ST_F32, [CONVERT_F16] = NN_ST_F16, [CONVERT_BF16] = NN_ST_BF16
    };
    static const nn_st_source source = { fetch, NULL };
    if (dtype == CONVERT_KEEP) return nn_safetensors_write(path, t->item, t->n, NULL, 0);
    nn_weight *to = nn_alloc(t->n, sizeof(*to));
    NN_NEED(to);
    for (int64_t i = 0; i < t->n; i++) {
        to[i] = t->item[i];
        to[i].data = &t->item[i];
        if (!nn_weight_is_float(&to[i])) continue;
        to[i].dtype = written[dtype];
        to[i].bytes = nn_weight_elements(&to[i]) * nn_st_dtype_bits(to[i].dtype) / 8;
    }
    nn_status status = nn_safetensors_write_from(path, to, t->n, NULL, 0, &source);
    nn_free(to);
    return status;
}

static const nn_layout *layout_of(nn_network network, bool ldm)
{
    const nn_layout *own = nn_layout_find("diffusers", network);
    if (ldm) return nn_layout_find("ldm", network);
    return own ? own : nn_layout_find("transformers", network);
}

/* Networks `first` to `last` as one file. */
static nn_status write_networks(const convert_model *m, int first, int last, bool ldm,
                                convert_dtype dtype, const char *path)
{
    tensors t = { 0 };
    int64_t n = 0;
    for (int i = first; i <= last; i++) n += m->net[i].there ? m->net[i].params->n + 1 : 0;
    t.item = nn_alloc(n, sizeof(*t.item));
    NN_NEED(t.item);
    nn_status status = NN_OK;
    for (int i = first; i <= last && status == NN_OK; i++)
        if (m->net[i].there) status = add_network(&m->net[i], layout_of((nn_network)i, ldm), &t);
    if (status == NN_OK) status = write_tensors(path, &t, dtype);
    nn_free(t.item);
    nn_arena_free(&t.arena);
    return status;
}

nn_status convert_write_file(const convert_model *m, convert_dtype dtype, bool ldm, const char *out)
{
    int n = 0;
    for (int i = 0; i < NN_NETWORK_COUNT; i++) n += m->net[i].there;
    if (ldm && m->net[NN_NETWORK_BLIP].there)
        return nn_fail(NN_ARGUMENT, "%s: holds BLIP, for which there is no layout ldm", m->in);
    if (!ldm && n > 1)
        return nn_fail(NN_ARGUMENT,
                       "%s: holds %d networks; one file has room for them in the layout ldm, a "
                       "folder in the others",
                       m->in, n);
    return write_networks(m, 0, NN_NETWORK_COUNT - 1, ldm, dtype, out);
}

/* -- folders -- */

static nn_status copy_file(const convert_model *m, const char *name, const char *out, bool *found)
{
    char *from, *to = nn_format("%s/%s", out, name), *bytes = NULL;
    int64_t n;
    NN_NEED(to);
    nn_status status = convert_find(m, name, &from);
    *found = status == NN_OK && from;
    if (*found) status = nn_file_read(from, NN_JSON_TOKENIZER_BYTES, &bytes, &n);
    if (*found && status == NN_OK) status = nn_file_write(to, bytes, n);
    nn_free(bytes);
    nn_free(from);
    nn_free(to);
    return status;
}

nn_status convert_copy_files(const convert_model *m, const char *const *names, const char *out,
                             int *n)
{
    for (*n = 0; *names; names++) {
        bool found;
        NN_TRY(copy_file(m, *names, out, &found));
        *n += found;
    }
    return NN_OK;
}

nn_status convert_write_text(const char *out, const char *name, const char *text, int64_t n)
{
    char *path = nn_format("%s/%s", out, name);
    NN_NEED(path);
    nn_status status = nn_file_write(path, text, n);
    nn_free(path);
    return status;
}

/* config.json and the weights of one network into a folder. */
static nn_status write_network(const convert_model *m, nn_network network, convert_dtype dtype,
                               const char *folder)
{
    bool diffusers = network == NN_NETWORK_UNET || network == NN_NETWORK_VAE;
    const nn_text *config = &m->net[network].config;
    NN_TRY(nn_file_make_dir(folder));
    NN_TRY(convert_write_text(folder, "config.json", config->text, config->length));
    char *path =
        nn_format("%s/%s.safetensors", folder, diffusers ? "diffusion_pytorch_model" : "model");
    NN_NEED(path);
    nn_status status = write_networks(m, (int)network, (int)network, false, dtype, path);
    nn_free(path);
    return status;
}

static const char processor[] =
    "{\n  \"do_convert_rgb\": true,\n  \"do_normalize\": true,\n  \"do_rescale\": true,\n"
    "  \"do_resize\": true,\n  \"image_mean\": [0.48145466, 0.4578275, 0.40821073],\n"
    "  \"image_processor_type\": \"BlipImageProcessor\",\n"
    "  \"image_std\": [0.26862954, 0.26130258, 0.27577711],\n"
    "  \"processor_class\": \"BlipProcessor\",\n  \"resample\": 3,\n"
    "  \"rescale_factor\": 0.00392156862745098,\n";

static nn_status write_captioner(const convert_model *m, const char *out)
{
    static const char *const words[] = {
        "vocab.txt",  "tokenizer.json",        "vocab.json",
        "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
        NULL
    };
    static const char *const pictures[] = { "preprocessor_config.json", "processor_config.json",
                                            NULL };
    long long side = (long long)m->blip.vision.image_size;
    nn_text text = { 0 };
    int n;
    NN_TRY(convert_copy_files(m, words, out, &n));
    if (!n)
        nn_log(NN_LOG_WARN,
               "%s: has no tokenizer; give --like a folder that has one, or copy it "
               "to %s",
               m->in, out);
    NN_TRY(convert_copy_files(m, pictures, out, &n));
    if (n) return NN_OK;
    nn_status status = nn_text_add(&text, "%s  \"size\": {\"height\": %lld, \"width\": %lld}\n}\n",
                                   processor, side, side);
    if (status == NN_OK)
        status = convert_write_text(out, "preprocessor_config.json", text.text, text.length);
    nn_text_free(&text);
    return status;
}

nn_status convert_write_folder(const convert_model *m, convert_dtype dtype, const char *out)
{
    int n = 0;
    for (int i = 0; i < NN_NETWORK_COUNT; i++) n += m->net[i].there;
    bool several = n > 1;
    for (int i = 0; i < NN_NETWORK_COUNT; i++) {
        if (!m->net[i].there) continue;
        char *folder =
            several ? nn_format("%s/%s", out, convert_folder((nn_network)i)) : nn_strdup(out);
        NN_NEED(folder);
        nn_status status = write_network(m, (nn_network)i, dtype, folder);
        nn_free(folder);
        NN_TRY(status);
    }
    if (m->net[NN_NETWORK_BLIP].there) return write_captioner(m, out);
    return several ? convert_write_pipeline(m, out) : NN_OK;
}
