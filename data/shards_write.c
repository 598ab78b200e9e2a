/* Writes tars whose bytes are a function of their samples alone. */
#include "data/shards.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "engine/base/alloc.h"

struct nn_shard_writer {
    char *prefix;
    int64_t per_shard, number; /* number of the next shard */
    int64_t in_shard;
    struct archive *archive; /* NULL between shards */
    locale_t utf8;
    nn_writer file;
    nn_status status; /* of the file, as the callback saw it */
};

/* Never fails towards libarchive, which would not free its buffers then: an error stays in status,
 * where every step looks for it, and what follows is dropped. */
static la_ssize_t write_block(struct archive *a, void *ctx, const void *bytes, size_t n)
{
    nn_shard_writer *w = ctx;
    (void)a;
    if (w->status == NN_OK) w->status = nn_writer_add(&w->file, bytes, (int64_t)n);
    return (la_ssize_t)n;
}

/* Of a step of libarchive that went well or not. */
static nn_status outcome(nn_shard_writer *w, bool well)
{
    if (w->status == NN_OK && !well) {
        const char *text = archive_error_string(w->archive);
        w->status = nn_fail(NN_IO, "%s: cannot write the shard: %s", w->file.path,
                            text ? text : "libarchive does not say why");
    }
    return w->status;
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
    return outcome(w, archive_write_open(w->archive, w, NULL, write_block, NULL) == ARCHIVE_OK);
}

static void drop_shard(nn_shard_writer *w)
{
    if (!w->archive) return;
    if (w->status == NN_OK) w->status = NN_INTERRUPTED; /* the end mark is not written any more */
    archive_write_free(w->archive);
    w->archive = NULL;
    nn_writer_abort(&w->file);
}

static nn_status end_shard(nn_shard_writer *w)
{
    if (!w->archive) return NN_OK;
    nn_status status = outcome(w, archive_write_close(w->archive) == ARCHIVE_OK);
    if (status != NN_OK) {
        drop_shard(w);
        return status;
    }
    archive_write_free(w->archive);
    w->archive = NULL;
    return nn_writer_commit(&w->file);
}

/* libarchive turns names from UTF-8 into the locale's encoding and back, and fails where that has
 * no such letters, as the "C" locale of a program that chose none. So this thread has another one
 * meanwhile. */
static bool write_header(const nn_shard_writer *w, struct archive_entry *entry)
{
    const locale_t before = uselocale(w->utf8);
    const bool good = archive_write_header(w->archive, entry) >= ARCHIVE_WARN;
    uselocale(before);
    return good;
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
    bool good = write_header(w, entry) &&
                archive_write_data(w->archive, bytes.data, (size_t)bytes.n) == bytes.n;
    archive_entry_free(entry);
    nn_free(name);
    return outcome(w, good);
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
    w->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (w->prefix && w->utf8) {
        *out = w;
        return NN_OK;
    }
    nn_status status =
        w->prefix ? nn_fail(NN_UNSUPPORTED, "this system lacks the locale C.UTF-8, which names in "
                                            "tar files need")
                  : NN_MEMORY;
    nn_shard_writer_abort(w);
    return status;
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
    if (w->utf8) freelocale(w->utf8);
    nn_free(w->prefix);
    nn_free(w);
}
