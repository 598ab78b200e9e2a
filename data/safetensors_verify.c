/* Checking a file against the checksums that it was written with. */
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/checksum.h"

/* In the order of the data; those without bytes have the same checksum, wherever they are. */
static int by_place(const void *a, const void *b)
{
    const nn_weight *x = *(const nn_weight *const *)a, *y = *(const nn_weight *const *)b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static uint64_t checksum_at(const nn_weight *table, int64_t i)
{
    const unsigned char *row = (const unsigned char *)table->data + 8 * i;
    uint64_t sum = 0;
    for (int k = 7; k >= 0; k--) sum = sum << 8 | row[k];
    return sum;
}

#define DAMAGED "is damaged: its bytes do not have the checksum that they were saved with"

/* order: the tensors in the order of the data, the table last. */
static nn_status compare(const char *path, const nn_weight_file *file, const nn_weight *table,
                         const nn_weight *const *order)
{
    const int64_t n = file->n - 1; /* besides the table */
    const int64_t header = (const unsigned char *)order[0]->data - file->map.data;
    if (order[n] != table || table->dtype != NN_ST_U8 || table->bytes != 8 * (n + 2) ||
        nn_checksum_of(table->data, 8 * (n + 1)) != checksum_at(table, n + 1))
        return nn_fail(NN_FORMAT, "%s: its table of checksums " DAMAGED, path);
    if (nn_checksum_of(file->map.data, header) != checksum_at(table, 0))
        return nn_fail(NN_FORMAT, "%s: its header " DAMAGED, path);
    for (int64_t i = 0; i < n; i++)
        if (nn_checksum_of(order[i]->data, order[i]->bytes) != checksum_at(table, i + 1))
            return nn_fail(NN_FORMAT, "%s: tensor '%.200s' " DAMAGED, path, order[i]->name);
    return NN_OK;
}

nn_status nn_safetensors_verify(const char *path, const nn_weight_file *file)
{
    const nn_weight *table = nn_weight_file_find(file, NN_SAFETENSORS_CHECKSUMS);
    if (!table) return nn_fail(NN_FORMAT, "%s: has no checksums", path);
    const nn_weight **order = nn_alloc(file->n, sizeof(*order));
    NN_NEED(order);
    for (int64_t i = 0; i < file->n; i++) order[i] = &file->tensor[i];
    qsort(order, (size_t)file->n, sizeof(*order), by_place);
    const nn_status status = compare(path, file, table, order);
    nn_free(order);
    return status;
}
