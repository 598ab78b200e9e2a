/* Writes tars whose bytes are a function of their samples alone. */
#include "data/shards.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "engine/base/alloc.h"

struct nn_shard_writer {
    char *prefix;
    int64_t per_shard, number; /* number of the next shard */
    int64_t in_shard;
    struct archive *archive; /* NULL between shards */
    nn_writer file;
    nn_status status; /* of the file, as the callback saw it */
};

static la_ssize_t write_block(struct archive *a, void *ctx, const void *bytes, size_t n)
{
    nn_shard_writer *w = ctx;
    if (w->status == NN_OK) w->status = nn_writer_add(&w->file, bytes, (int64_t)n);
    if (w->status == NN_OK) return (la_ssize_t)n;
    archive_set_error(a, EIO, "write failed");
    return -1;
}

/* The file's own error where there is one, else libarchive's. */
static nn_status failed(nn_shard_writer *w, struct archive *a)
{
    if (w->status != NN_OK) return w->status;
    const char *text = archive_error_string(a);
    return nn_fail(NN_IO, "%s: cannot write the shard: %s", w->file.path, text ? text : "unknown");
}

static nn_status begin_shard(nn_shard_writer *w, const char *path)
{
    nn_status status = nn_writer_open(path, &w->file);
    if (status != NN_OK) {
        nn_writer_abort(&w->file);
        return status;
    }
    w->archive = archive_write_new();
    w->in_shard = 0;
    w->status = NN_OK;
    if (!w->archive) {
        nn_writer_abort(&w->file);
        return nn_fail(NN_MEMORY, "out of memory for a tar writer");
    }
    archive_write_set_format_pax_restricted(w->archive);
    archive_write_set_bytes_in_last_block(w->archive, 512);
    if (archive_write_open(w->archive, w, NULL, write_block, NULL) != ARCHIVE_OK)
        return failed(w, w->archive);
    return NN_OK;
}

static void drop_shard(nn_shard_writer *w)
{
    if (!w->archive) return;
    archive_write_fail(w->archive);
    archive_write_free(w->archive);
    w->archive = NULL;
    nn_writer_abort(&w->file);
}

static nn_status end_shard(nn_shard_writer *w)
{
    if (!w->archive) return NN_OK;
    if (archive_write_close(w->archive) != ARCHIVE_OK) {
        nn_status status = failed(w, w->archive);
        drop_shard(w);
        return status;
    }
    archive_write_free(w->archive);
    w->archive = NULL;
    nn_status status = nn_writer_commit(&w->file);
    if (status != NN_OK) nn_writer_abort(&w->file);
    return status;
}

static nn_status add_member(nn_shard_writer *w, const char *key, const char *suffix, nn_span bytes)
{
    if (!bytes.data) return NN_OK;
    char *name = nn_format("%s.%s", key, suffix);
    NN_NEED(name);
    struct archive_entry *entry = archive_entry_new();
    if (!entry) {
        nn_free(name);
        return nn_fail(NN_MEMORY, "out of memory for a tar entry");
    }
    archive_entry_set_pathname_utf8(entry, name);
    archive_entry_set_size(entry, bytes.n);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 0, 0);
    bool good = archive_write_header(w->archive, entry) >= ARCHIVE_WARN &&
                archive_write_data(w->archive, bytes.data, (size_t)bytes.n) == bytes.n;
    archive_entry_free(entry);
    nn_free(name);
    return good ? NN_OK : failed(w, w->archive);
}

static nn_status begin_next(nn_shard_writer *w)
{
    char *path = nn_format("%s-%06lld.tar", w->prefix, (long long)w->number);
    NN_NEED(path);
    nn_status status = begin_shard(w, path);
    nn_free(path);
    if (status == NN_OK) w->number++;
    return status;
}

static nn_status create(const char *prefix, int64_t per_shard, nn_shard_writer **out)
{
    nn_shard_writer *w = nn_alloc(1, sizeof(*w));
    NN_NEED(w);
    w->per_shard = per_shard;
    w->prefix = nn_strdup(prefix);
    if (!w->prefix) {
        nn_free(w);
        return NN_MEMORY;
    }
    *out = w;
    return NN_OK;
}

nn_status nn_shard_writer_open(const char *prefix, int64_t samples_per_shard, nn_shard_writer **out)
{
    if (samples_per_shard < 1)
        return nn_fail(NN_ARGUMENT, "%lld samples a shard; at least 1 is needed",
                       (long long)samples_per_shard);
    return create(prefix, samples_per_shard, out);
}

nn_status nn_shard_writer_open_file(const char *path, nn_shard_writer **out)
{
    nn_shard_writer *w;
    NN_TRY(create(path, INT64_MAX, &w));
    nn_status status = begin_shard(w, path);
    if (status != NN_OK) {
        nn_shard_writer_abort(w);
        return status;
    }
    *out = w;
    return NN_OK;
}

nn_status nn_shard_writer_add(nn_shard_writer *w, const nn_sample *s)
{
    if (!nn_shard_key_valid(s->key) || !s->format || !s->image.n)
        return nn_fail(NN_ARGUMENT,
                       "sample '%s' cannot be stored: a key is relative, has no '..' and no dot in "
                       "its base name, and the image has bytes",
                       s->key);
    if (w->archive && w->in_shard == w->per_shard) NN_TRY(end_shard(w));
    if (!w->archive) NN_TRY(begin_next(w));
    NN_TRY(add_member(w, s->key, s->format, s->image));
    NN_TRY(add_member(w, s->key, "txt", s->alt));
    NN_TRY(add_member(w, s->key, "json", s->json));
    w->in_shard++;
    return NN_OK;
}

nn_status nn_shard_writer_close(nn_shard_writer *w)
{
    nn_status status = end_shard(w);
    nn_shard_writer_abort(w);
    return status;
}

void nn_shard_writer_abort(nn_shard_writer *w)
{
    if (!w) return;
    drop_shard(w);
    nn_free(w->prefix);
    nn_free(w);
}
