/* Webdataset shards: plain tar files in which consecutive members with the same key are one sample.
 *
 * The key of a member is its path up to the first dot of the base name, the rest is its kind:
 *
 *     000012.png   the image (.png, .jpg, .jpeg or .webp)
 *     000012.txt   its alt-text
 *     000012.json  its captions and what is known about it (data/captions.h)
 *
 * Members of other kinds are passed over. What is broken is skipped, counted by kind and listed in
 * a report; the rest of the corpus stays usable. */
#ifndef DATA_SHARDS_H
#define DATA_SHARDS_H

#include "engine/base/file.h"
#include "engine/base/str.h"

/* X(name, word in the listing) */
#define NN_SHARD_FAULT_LIST(X)                                                                     \
    X(NAME, "unsafe-name")                                                                         \
    X(MEMBER, "bad-member")                                                                        \
    X(SIZE, "too-large")                                                                           \
    X(NO_IMAGE, "no-image")                                                                        \
    X(NO_CAPTION, "no-caption")                                                                    \
    X(DUPLICATE, "duplicate-key")                                                                  \
    X(DAMAGED, "damaged-tar")                                                                      \
    X(CONTENT, "bad-content")

typedef enum nn_shard_fault {
#define X(name, word) NN_SHARD_##name,
    NN_SHARD_FAULT_LIST(X)
#undef X
        NN_SHARD_FAULTS
} nn_shard_fault;

const char *nn_shard_fault_word(nn_shard_fault fault);

/* What was skipped. A zeroed report is empty; strict makes the first fault an error instead.
 * Owner: nn_shard_report_free. */
typedef struct nn_shard_report {
    bool strict;
    int64_t count[NN_SHARD_FAULTS];
    nn_text lines; /* one JSON object a line; the first 100,000 faults */
} nn_shard_report;

/* Count and list one fault. NN_OK, or NN_FORMAT when the report is strict. */
nn_status nn_shard_report_add(nn_shard_report *report, nn_shard_fault fault, const char *shard,
                              const char *member, const char *detail) NN_CHECKED;
int64_t nn_shard_report_total(const nn_shard_report *report);

/* Write the listing to path; without faults an old listing is removed. */
nn_status nn_shard_report_save(const nn_shard_report *report, const char *path) NN_CHECKED;
void nn_shard_report_free(nn_shard_report *report);

/* Borrowed bytes, not terminated; data NULL when there are none. */
typedef struct nn_span {
    const char *data;
    int64_t n;
} nn_span;

/* One sample: views into the mapped shard, valid as long as the nn_shards. */
typedef struct nn_sample {
    const char *key, *shard; /* shard: path of the tar */
    const char *format;      /* "png", "jpg", "jpeg" or "webp" */
    uint64_t id;             /* of shard file name and key: the same wherever the corpus lies */
    nn_span image, alt, json;
} nn_sample;

/* Hash of the image's encoded bytes: the key of whatever is cached about it. */
uint64_t nn_sample_content(const nn_sample *sample);

typedef struct nn_shard_limits {
    int64_t image_bytes, text_bytes, json_bytes; /* 0 = 64 MiB, 64 KiB, 1 MiB */
} nn_shard_limits;

typedef struct nn_shards nn_shards;

/* Map and index shards. spec: one tar, a directory (its *.tar, sorted by name), or a list in braces
 * ("train-{000000..000011}.tar", "{a,b}.tar"); "pipe:COMMAND", also with lists, is the tar that a
 * command writes (data/shards_pipe.h). limits NULL: the defaults. Only headers are read here.
 * Errors: a shard that cannot be opened; the first fault if the report is strict. */
nn_status nn_shards_open(const char *spec, const nn_shard_limits *limits, nn_shard_report *report,
                         nn_shards **out) NN_CHECKED;

/* The same for one tar in memory, which must outlive the result. */
nn_status nn_shards_open_memory(const void *tar, int64_t n, const char *name,
                                const nn_shard_limits *limits, nn_shard_report *report,
                                nn_shards **out) NN_CHECKED;
void nn_shards_close(nn_shards *shards);

int64_t nn_shards_count(const nn_shards *shards);
const nn_sample *nn_shards_at(const nn_shards *shards, int64_t i); /* any thread */

/* Hash of the names of all samples in their order, begun with `start`. */
uint64_t nn_shards_hash(const nn_shards *shards, uint64_t start);

/* The paths that a spec stands for. Owner: nn_file_list_free. */
nn_status nn_shards_expand(const char *spec, char ***paths, int64_t *n) NN_CHECKED;

/* Writes samples to prefix-000000.tar, prefix-000001.tar, ...: equal samples give equal bytes, and
 * a shard is there completely or not at all. */
typedef struct nn_shard_writer nn_shard_writer;
nn_status nn_shard_writer_open(const char *prefix, int64_t samples_per_shard,
                               nn_shard_writer **out) NN_CHECKED;

/* Writes one tar of this path: for copies of shards under their own names. */
nn_status nn_shard_writer_open_file(const char *path, nn_shard_writer **out) NN_CHECKED;

/* Append a sample: key, format, image, and alt and json where they have data; the rest is not read.
 * NN_ARGUMENT for a key that could not be read back. After any error only abort is left. */
nn_status nn_shard_writer_add(nn_shard_writer *w, const nn_sample *sample) NN_CHECKED;

/* Commit the last shard and free w, whatever comes back. */
nn_status nn_shard_writer_close(nn_shard_writer *w) NN_CHECKED;
void nn_shard_writer_abort(nn_shard_writer *w); /* drops the unfinished shard; frees w */

/* Whether key can name a sample: not empty, UTF-8, relative, no "..", no dot in the base name. */
bool nn_shard_key_valid(const char *key);

#endif
