/* Looking at batches of pictures with trained weights. */
#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "models/detector.h"

struct detector_session {
    nn_graph *graph;
    nn_plan *plan;
    nn_tensor *pixels, *logits, *features;
};

static nn_status build(detector_session *s, const detector_config *c, nn_params *params,
                       nn_device *device, int64_t images)
{
    NN_TRY(nn_graph_create(&s->graph));
    nn_graph_compute(s->graph, nn_device_storage(device));
    nn_scope root = nn_root(s->graph, params, "");
    s->pixels = nn_input(s->graph, "pixels", NN_F32, NN_DIMS(images, c->size, c->size, 3));
    nn_tensor *map = detector_map(root, c, s->pixels);
    s->logits = nn_precise(s->graph, detector_logits(root, c, map));
    s->features = detector_features(root, map);
    nn_keep(s->logits);
    nn_keep(s->features);
    return NN_OK;
}

nn_status detector_session_create(const detector_config *c, nn_params *params, nn_device *device,
                                  int64_t images, detector_session **out)
{
    detector_session *s = nn_alloc(1, sizeof(*s));
    NN_NEED(s);
    nn_status status = build(s, c, params, device, images);
    if (status == NN_OK)
        status = nn_plan_create(s->graph, device, &(nn_plan_options){ .frozen = true }, &s->plan);
    if (status != NN_OK) {
        detector_session_destroy(s);
        return status;
    }
    *out = s;
    return NN_OK;
}

void detector_session_destroy(detector_session *s)
{
    if (!s) return;
    nn_plan_destroy(s->plan);
    nn_graph_destroy(s->graph);
    nn_free(s);
}

nn_status detector_session_look(detector_session *s, const float *pixels, float *logits,
                                float *features)
{
    NN_TRY(nn_plan_write(s->plan, s->pixels, pixels));
    NN_TRY(nn_plan_run(s->plan, 0));
    if (logits) NN_TRY(nn_plan_read(s->plan, s->logits, logits));
    if (features) NN_TRY(nn_plan_read(s->plan, s->features, features));
    return NN_OK;
}

static nn_status read_config(const char *directory, detector_config *config)
{
    nn_json json;
    NN_TRY(nn_json_open_config(directory, "config.json", &json));
    nn_status status = detector_config_parse(&json, config);
    nn_json_close(&json);
    return status;
}

/* Building the graph once declares the parameters. */
static nn_status load(const char *directory, nn_device *device, const detector_config *config,
                      nn_params *params)
{
    detector_session s = { 0 };
    nn_status status = build(&s, config, params, device, 1);
    if (status == NN_OK) status = nn_graph_status(s.graph);
    nn_graph_destroy(s.graph);
    if (status == NN_OK) status = nn_params_alloc(params, device, false);
    if (status == NN_OK) status = nn_params_load(params, directory, NULL, 0, NULL);
    return status;
}

nn_status detector_open(const char *directory, nn_device *device, detector_config *config,
                        nn_params **params)
{
    NN_TRY(read_config(directory, config));
    NN_TRY(nn_params_create(params));
    nn_status status = load(directory, device, config, *params);
    if (status == NN_OK) return NN_OK;
    nn_params_destroy(*params);
    *params = NULL;
    return status;
}
