/* The directory of a run's checkpoints. */
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/str.h"
#include "engine/checkpoint_internal.h"

/* The step in "step-00000300.safetensors", -1 for other names. */
static int64_t step_of(const char *name)
{
    char *end;
    if (!nn_starts_with(name, "step-") || name[5] < '0' || name[5] > '9') return -1;
    int64_t step = strtoll(name + 5, &end, 10);
    return strcmp(end, ".safetensors") == 0 ? step : -1;
}

/* What a killed run left half-written. */
static bool is_leftover(const char *name)
{
    return nn_starts_with(name, "step-") && strstr(name, ".safetensors.part-");
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = step_of(*(char *const *)a), y = step_of(*(char *const *)b);
    return (x < y) - (x > y);
}

nn_status checkpoint_list(const char *directory, char ***names, int64_t *n)
{
    int64_t all, kept = 0;
    NN_TRY(nn_file_list(directory, names, &all));
    for (int64_t i = 0; i < all; i++) {
        if (step_of((*names)[i]) >= 0)
            (*names)[kept++] = (*names)[i];
        else
            nn_free((*names)[i]);
    }
    *n = kept;
    if (kept) qsort(*names, (size_t)kept, sizeof(**names), newest_first);
    return NN_OK;
}

static bool readable(const char *path)
{
    nn_weight_file file;
    if (nn_safetensors_open(path, &file) != NN_OK) return false;
    nn_weight_file_close(&file);
    return true;
}

static nn_status remove_beyond(const char *directory, char *const *names, int64_t n, int keep,
                               int64_t just_written)
{
    int kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if (step_of(names[i]) > just_written) continue;
        char *path = nn_format("%s/%s", directory, names[i]);
        NN_NEED(path);
        nn_status status = NN_OK;
        if (kept >= keep)
            status = nn_file_remove(path);
        else
            kept += readable(path);
        nn_free(path);
        NN_TRY(status);
    }
    return NN_OK;
}

nn_status checkpoint_remove_leftovers(const char *directory)
{
    char **names;
    int64_t n;
    NN_TRY(nn_file_list(directory, &names, &n));
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && status == NN_OK; i++) {
        if (!is_leftover(names[i])) continue;
        char *path = nn_format("%s/%s", directory, names[i]);
        status = path ? nn_file_remove(path) : NN_MEMORY;
        nn_free(path);
    }
    nn_file_list_free(names, n);
    return status;
}

nn_status checkpoint_remove_older(const char *directory, int keep, int64_t just_written)
{
    char **names;
    int64_t n;
    if (keep <= 0) return NN_OK;
    NN_TRY(checkpoint_list(directory, &names, &n));
    nn_status status = remove_beyond(directory, names, n, keep, just_written);
    nn_file_list_free(names, n);
    return status;
}
