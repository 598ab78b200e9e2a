/* Values of jansson as text. */
#include <jansson.h>

#include "data/json.h"

/* jansson goes on after some failures of its callback, so the first one is remembered here. */
typedef struct sink {
    nn_text *out;
    nn_status status;
} sink;

static int add_piece(const char *bytes, size_t n, void *to)
{
    sink *s = to;
    if (s->status == NN_OK) s->status = nn_text_add_bytes(s->out, bytes, (int64_t)n);
    return s->status == NN_OK ? 0 : -1;
}

nn_status nn_json_write(nn_text *out, const json_t *value, size_t flags)
{
    sink s = { out, NN_OK };
    int failed = json_dump_callback(value, add_piece, &s, flags);
    NN_TRY(s.status);
    return failed ? nn_fail(NN_MEMORY, "out of memory while JSON is written") : NN_OK;
}
