/* Captions: the ids that beam or greedy search finds. */
#include <string.h>

#include "engine/base/alloc.h"
#include "models/captioner.h"
#include "tools/verify.h"

static nn_decode_options options_of(const verify_case *v, const captioner_config *c)
{
    const json_t *args = json_object_get(v->json, "args"), *j;
    nn_decode_options o = nn_decode_defaults();
    const char *stop = json_string_value(json_object_get(args, "early_stopping"));
    o.eos = c->text.eos;
    o.n_beams = (j = json_object_get(args, "beams")) ? (int)json_integer_value(j) : 1;
    o.method = o.n_beams > 1 ? NN_DECODE_BEAM : NN_DECODE_GREEDY;
    o.max_length = (j = json_object_get(args, "max_length")) ? (int)json_integer_value(j) : 20;
    o.min_length = (j = json_object_get(args, "min_length")) ? (int)json_integer_value(j) : 0;
    o.length_penalty = (j = json_object_get(args, "length_penalty")) ? json_number_value(j) : 1;
    o.repetition_penalty =
        (j = json_object_get(args, "repetition_penalty")) ? json_number_value(j) : 1;
    o.early_stopping = json_is_true(json_object_get(args, "early_stopping")) ? NN_STOP_FIRST
                       : stop && !strcmp(stop, "never")                      ? NN_STOP_NEVER
                                                                             : NN_STOP_UNLIKELY;
    return o;
}

static nn_status caption(verify_case *v, const captioner_config *c, captioner_session *s,
                         const verify_tensor *ids, const nn_decode_options *o)
{
    int images = (int)ids->dim[0];
    int32_t *out = nn_alloc((int64_t)images * o->max_length, sizeof(*out));
    NN_NEED(out);
    nn_decoded *decoded = nn_alloc(images, sizeof(*decoded));
    nn_decode_input in = { .step = captioner_session_step,
                           .ctx = s,
                           .n_images = images,
                           .vocab = (int)c->text.vocab_size,
                           .n_prompt = (int)ids->dim[1],
                           .prompt = ids->ids };
    nn_status status = decoded ? nn_decode(o, &in, out, decoded) : NN_MEMORY;
    for (int i = 0; i < images && status == NN_OK; i++)
        status = verify_ids(v, i, out + (int64_t)i * o->max_length, decoded[i].length);
    nn_free(decoded);
    nn_free(out);
    return status;
}

static nn_status look_and_caption(verify_case *v, const captioner_config *c, nn_params *params,
                                  const verify_tensor *pixels, const verify_tensor *ids)
{
    const nn_decode_options o = options_of(v, c);
    captioner_session *s;
    float *packed = nn_alloc(pixels->n, sizeof(*packed));
    NN_NEED(packed);
    verify_to_nhwc(pixels->values, pixels->rank, pixels->dim, packed);
    nn_status status =
        captioner_session_create(c, params, v->device, pixels->dim[0],
                                 o.method == NN_DECODE_BEAM ? o.n_beams : 1, o.max_length, &s);
    if (status == NN_OK) {
        status = captioner_session_look(s, packed);
        if (status == NN_OK) status = caption(v, c, s, ids, &o);
        captioner_session_destroy(s);
    }
    nn_free(packed);
    return status;
}

static nn_status open_params(const verify_case *v, const captioner_config *c,
                             const verify_tensor *pixels, nn_params *params)
{
    nn_graph *g;
    NN_TRY(nn_graph_create(&g));
    nn_scope s = nn_root(g, params, "");
    nn_tensor *image = captioner_encode(
        s, c,
        nn_input(g, "pixels", NN_F32, NN_DIMS(1, pixels->dim[2], pixels->dim[3], pixels->dim[1])));
    captioner_logits(s, c, image, nn_input(g, "ids", NN_I32, NN_DIMS(1, 1)), NULL);
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    NN_TRY(nn_params_alloc(params, v->device, false));
    return verify_fill(v, params, NULL, 0);
}

nn_status verify_blip_generate(verify_case *v)
{
    captioner_config c = captioner_config_blip_base();
    nn_json json;
    bool preset;
    nn_params *params = NULL;
    verify_tensor pixels = { 0 }, ids = { 0 };
    NN_TRY(verify_config(v, "blip-base", NULL, &preset, &json));
    nn_status status = preset ? NN_OK : captioner_config_parse(&json, &c);
    if (status == NN_OK) status = verify_input(v, "pixels", 0, &pixels);
    if (status == NN_OK) status = verify_input(v, "ids", 0, &ids);
    if (status == NN_OK) status = nn_params_create(&params);
    if (status == NN_OK) status = open_params(v, &c, &pixels, params);
    if (status == NN_OK) status = look_and_caption(v, &c, params, &pixels, &ids);
    nn_params_destroy(params);
    verify_tensor_free(&pixels);
    verify_tensor_free(&ids);
    return status;
}
