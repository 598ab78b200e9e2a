/* Archives: entries lie inside the file and apart from each other. */
#include "tests/fuzz/fuzz.h"

#include "data/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const nn_map map = { data, (int64_t)n };
    nn_arena arena = { 0 };
    nn_zip zip;
    if (nn_zip_read("input", &map, &arena, &zip) == NN_OK) {
        int64_t all = 0;
        for (int64_t i = 0; i < zip.n; i++) {
            const nn_zip_entry *e = &zip.entry[i];
            NN_ASSERT(e->data >= data && e->data + e->bytes <= data + n);
            NN_ASSERT(nn_zip_find(&zip, e->name) == e);
            all += e->bytes;
        }
        NN_ASSERT(all <= map.size);
    }
    nn_arena_free(&arena);
    return 0;
}
