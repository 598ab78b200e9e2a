/* Pickles: every value that is made can be looked at. */
#include "tests/fuzz/fuzz.h"

#include "data/pickle.h"

enum { DEEPEST = 6 };

static void look(const nn_pickle *value, int depth)
{
    const nn_pickle *dict = nn_pickle_dict(value);
    NN_ASSERT(nn_pickle_kind_name(value));
    (void)nn_pickle_is_text(value, "state_dict");
    (void)nn_pickle_calls(value, "torch._utils _rebuild_tensor_v2");
    if (dict) (void)nn_pickle_get(dict, "state_dict");
    if (depth == DEEPEST) return;
    switch (value->kind) {
    case NN_PICKLE_TUPLE:
    case NN_PICKLE_LIST:
    case NN_PICKLE_DICT:
        for (int64_t i = 0; i < value->n && i < 8; i++) look(value->values[i], depth + 1);
        break;
    case NN_PICKLE_CALL:
        look(value->call.callee, depth + 1);
        look(value->call.arguments, depth + 1);
        break;
    case NN_PICKLE_PERSISTENT:
        look(value->id, depth + 1);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nn_arena arena = { 0 };
    const nn_pickle *value;
    if (nn_pickle_read("input", data, (int64_t)n, &arena, &value) == NN_OK) look(value, 0);
    nn_arena_free(&arena);
    return 0;
}
