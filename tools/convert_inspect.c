/* What a file or folder holds, in lines for people. */
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "tools/convert.h"

enum { NAMED = 10 };

/* "859,520,964" */
static const char *with_commas(int64_t n, char text[32])
{
    char digits[32];
    int length = snprintf(digits, sizeof(digits), "%lld", (long long)n), at = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = 0;
    return text;
}

/* Parameters, without the matrix that is there twice under a tied name. */
static int64_t count_parameters(const nn_weights *w, nn_network network)
{
    const nn_network_names *names = &nn_names_of[network];
    const nn_weight *source = names->tied ? nn_weights_find(w, names->same_as) : NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < w->n; i++) {
        bool again = source && w->tensor[i] != source && w->tensor[i]->data == source->data;
        if (!again) n += nn_weight_elements(w->tensor[i]);
    }
    return n;
}

/* " F16 (686)" for every dtype that occurs. */
static void print_dtypes(const nn_weights *w)
{
    int64_t n[NN_ST_COUNT] = { 0 };
    for (int64_t i = 0; i < w->n; i++) n[w->tensor[i]->dtype]++;
    for (int d = 0; d < NN_ST_COUNT; d++)
        if (n[d]) printf(" %s (%lld)", nn_st_dtype_name((nn_st_dtype)d), (long long)n[d]);
}

static nn_status print_network(const char *path, nn_network network, bool *found)
{
    nn_weights w;
    char text[32];
    NN_TRY(nn_weights_open(path, &w));
    *found = nn_weights_layout(&w, network) != NULL;
    nn_status status = *found ? nn_weights_select(&w, network, false) : NN_OK;
    if (*found && status == NN_OK) {
        printf("  %-13s %-16s %5lld tensors %16s parameters ", nn_network_name(network),
               w.layout->name, (long long)w.n, with_commas(count_parameters(&w, network), text));
        print_dtypes(&w);
        printf("\n");
    }
    nn_weights_close(&w);
    return status;
}

static void print_others(const nn_weights *w)
{
    int64_t n = 0;
    for (int64_t i = 0; i < w->n; i++) {
        const nn_weight *t = w->tensor[i];
        if (nn_weights_belongs(w, t)) continue;
        if (n == 0) printf("  of no network that is known:\n");
        if (n++ < NAMED)
            printf("    %s %s %s\n", t->name, nn_st_dtype_name(t->dtype),
                   nn_weight_shape_text(t->rank, t->dim).s);
    }
    if (n > NAMED) printf("    and %lld more\n", (long long)n - NAMED);
}

static void print_file(const nn_weights *w)
{
    char text[32];
    int64_t bytes = 0;
    for (int64_t i = 0; i < w->n_files; i++) bytes += w->file[i].map.size;
    printf("%s: %s, %lld file%s, %s bytes, %lld tensors\n", w->path, w->file[0].format->name,
           (long long)w->n_files, w->n_files == 1 ? "" : "s", with_commas(bytes, text),
           (long long)w->n);
}

static void print_metadata(const nn_weights *w)
{
    for (int64_t f = 0; f < w->n_files; f++)
        for (int64_t i = 0; i < w->file[f].n_metadata; i++)
            printf("  %s = %s\n", w->file[f].metadata[i].key, w->file[f].metadata[i].value);
}

static nn_status inspect_one(const char *path)
{
    nn_weights w;
    bool found;
    NN_TRY(nn_weights_open(path, &w));
    if (w.n_files) print_file(&w);
    nn_status status = NN_OK;
    for (int i = 0; i < NN_NETWORK_COUNT && status == NN_OK; i++)
        status = print_network(path, (nn_network)i, &found);
    print_others(&w);
    print_metadata(&w);
    nn_weights_close(&w);
    return status;
}

nn_status convert_inspect(const char *path)
{
    bool parts = false;
    for (int i = 0; i < NN_NETWORK_COUNT; i++) {
        const char *folder = convert_folder((nn_network)i);
        char *part = nn_format("%s/%s", path, folder);
        NN_NEED(part);
        nn_status status = NN_OK;
        if (folder[0] && nn_file_exists(part)) {
            parts = true;
            status = inspect_one(part);
        }
        nn_free(part);
        NN_TRY(status);
    }
    return parts ? NN_OK : inspect_one(path);
}
