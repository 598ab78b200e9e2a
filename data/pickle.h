/* Pickles as data: what a pickle would build is described, and nothing is called.
 *
 * Source: Python's pickletools; of its opcodes those that torch.save and the pickler of the same
 * protocol emit. Every global is a name, every call a record of its name and arguments, every
 * persistent id a value; all of it is inert. Sizes are bounded by the bytes that are there. */
#ifndef DATA_PICKLE_H
#define DATA_PICKLE_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

enum {
    NN_PICKLE_BYTES = 64 << 20, /* most bytes of a pickle */
    NN_PICKLE_VALUES = 4 << 20, /* most values in it */
    NN_PICKLE_MEMO = 10000000   /* most places of the memo */
};

/* X(name, what it is called in messages) */
#define NN_PICKLE_KINDS(X)                                                                         \
    X(NONE, "None")                                                                                \
    X(BOOL, "a bool")                                                                              \
    X(INT, "an integer")                                                                           \
    X(BIG, "an integer of more than 64 bits")                                                      \
    X(REAL, "a float")                                                                             \
    X(TEXT, "a string")                                                                            \
    X(TUPLE, "a tuple")                                                                            \
    X(LIST, "a list")                                                                              \
    X(DICT, "a dict")                                                                              \
    X(GLOBAL, "a global")                                                                          \
    X(CALL, "an object")                                                                           \
    X(PERSISTENT, "a persistent id")

typedef enum nn_pickle_kind {
#define X(name, text) NN_PICKLE_##name,
    NN_PICKLE_KINDS(X)
#undef X
} nn_pickle_kind;

/* A value. Values may be shared, and a list or dict may hold itself. */
typedef struct nn_pickle {
    nn_pickle_kind kind;
    union {
        int64_t integer; /* BOOL, INT */
        double real;
        const char *text; /* TEXT: n bytes, not terminated; GLOBAL: "module name" */
        const struct nn_pickle *
            *values; /* TUPLE, LIST: n values; DICT: n keys and values in turn */
        struct {
            const struct nn_pickle *callee, *arguments;
            struct nn_pickle *filled; /* the LIST or DICT that was put into the result, or NULL */
        } call;                       /* CALL */
        const struct nn_pickle *id;   /* PERSISTENT */
    };
    int64_t n, room;
} nn_pickle;

/* Read one pickle of n bytes. Values live in the arena, texts in the bytes. `file` is for messages.
 * A violated rule is NN_FORMAT, an opcode outside the set NN_UNSUPPORTED. */
nn_status nn_pickle_read(const char *file, const unsigned char *bytes, int64_t n, nn_arena *arena,
                         const nn_pickle **value) NN_CHECKED;

/* "a list" */
const char *nn_pickle_kind_name(const nn_pickle *value);

/* Whether a TEXT has these characters. */
bool nn_pickle_is_text(const nn_pickle *value, const char *text);

/* Whether a CALL calls the global "module name". */
bool nn_pickle_calls(const nn_pickle *value, const char *global);

/* The DICT that a value is: itself, or what was put into an OrderedDict. NULL = it is none. */
const nn_pickle *nn_pickle_dict(const nn_pickle *value);

/* The value under a key of a DICT, or NULL; of several the last. */
const nn_pickle *nn_pickle_get(const nn_pickle *dict, const char *key);

#endif
