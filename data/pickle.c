/* A stack machine whose results are descriptions. */
#include "data/pickle.h"

#include <string.h>

#include "data/pickle_opcodes.h"
#include "engine/base/alloc.h"

typedef struct machine {
    const char *file;
    const unsigned char *bytes;
    int64_t n, at, opcode_at;
    nn_arena *arena;
    int64_t n_values;
    nn_pickle **stack;
    int64_t depth, stack_room;
    int64_t *mark; /* depths at which marks lie */
    int64_t n_marks, mark_room;
    nn_pickle **memo; /* NULL = a free place */
    int64_t n_memo, memo_room;
    bool stopped;
} machine;

static nn_status broken(const machine *m, const char *what)
{
    return nn_fail(NN_FORMAT, "%s: byte %lld: %s", m->file, (long long)m->opcode_at, what);
}

/* -- the bytes -- */

static nn_status take(machine *m, int64_t n, const unsigned char **p)
{
    if (n > m->n - m->at) return broken(m, "the pickle is cut off");
    *p = m->bytes + m->at;
    m->at += n;
    return NN_OK;
}

static nn_status take_number(machine *m, int bytes, uint64_t *value)
{
    const unsigned char *p;
    NN_TRY(take(m, bytes, &p));
    *value = 0;
    while (bytes--) *value = *value << 8 | p[bytes];
    return NN_OK;
}

/* Up to the end of the line, which is left out. */
static nn_status take_line(machine *m, const char **text, int64_t *n)
{
    const unsigned char *begin = m->bytes + m->at;
    const unsigned char *end = memchr(begin, '\n', (size_t)(m->n - m->at));
    if (!end) return broken(m, "the pickle is cut off");
    *text = (const char *)begin;
    *n = end - begin;
    m->at += *n + 1;
    return NN_OK;
}

/* -- the stack -- */

static nn_status push(machine *m, nn_pickle *value)
{
    NN_TRY(nn_grow(&m->stack, &m->stack_room, m->depth, sizeof(*m->stack)));
    m->stack[m->depth++] = value;
    return NN_OK;
}

static nn_status push_new(machine *m, nn_pickle_kind kind, nn_pickle **value)
{
    if (++m->n_values > NN_PICKLE_VALUES) return broken(m, "more values than are read");
    *value = nn_arena_alloc(m->arena, 1, sizeof(**value));
    NN_NEED(*value);
    (*value)->kind = kind;
    return push(m, *value);
}

static nn_status push_int(machine *m, nn_pickle_kind kind, int64_t integer)
{
    nn_pickle *value;
    NN_TRY(push_new(m, kind, &value));
    value->integer = integer;
    return NN_OK;
}

static int64_t floor_of(const machine *m) /* values below the last mark are out of reach */
{
    return m->n_marks ? m->mark[m->n_marks - 1] : 0;
}

static nn_status pop(machine *m, nn_pickle **value)
{
    if (!m->stack || m->depth <= floor_of(m)) return broken(m, "the stack is empty");
    *value = m->stack[--m->depth];
    return NN_OK;
}

static nn_status top(const machine *m, nn_pickle **value)
{
    if (!m->stack || m->depth <= floor_of(m)) return broken(m, "the stack is empty");
    *value = m->stack[m->depth - 1];
    return NN_OK;
}

static nn_status set_mark(machine *m)
{
    NN_TRY(nn_grow(&m->mark, &m->mark_room, m->n_marks, sizeof(*m->mark)));
    m->mark[m->n_marks++] = m->depth;
    return NN_OK;
}

/* Take off what lies above the last mark, and the mark: n values from *first on, which stay there
 * until the next push. */
static nn_status pop_to_mark(machine *m, nn_pickle ***first, int64_t *n)
{
    if (!m->n_marks) return broken(m, "no mark on the stack");
    int64_t from = m->mark[--m->n_marks];
    *first = m->stack + from;
    *n = m->depth - from;
    m->depth = from;
    return NN_OK;
}

/* -- containers -- */

static nn_status add_values(machine *m, nn_pickle *to, nn_pickle *const *values, int64_t n)
{
    if (n > to->room - to->n) {
        int64_t room = nn_max(to->n + n, 2 * to->room);
        const nn_pickle **grown = nn_arena_alloc(m->arena, room, sizeof(*grown));
        NN_NEED(grown);
        if (to->n) memcpy(grown, to->values, (size_t)to->n * sizeof(*grown));
        to->values = grown;
        to->room = room;
    }
    for (int64_t i = 0; i < n; i++) to->values[to->n++] = values[i];
    return NN_OK;
}

/* The list or dict that values are put into: an object gets one of its own. */
static nn_status container(machine *m, nn_pickle *value, nn_pickle_kind kind, nn_pickle **to)
{
    *to = value;
    if (value->kind == NN_PICKLE_CALL) {
        if (!value->call.filled) {
            if (++m->n_values > NN_PICKLE_VALUES) return broken(m, "more values than are read");
            value->call.filled = nn_arena_alloc(m->arena, 1, sizeof(*value));
            NN_NEED(value->call.filled);
            value->call.filled->kind = kind;
        }
        *to = value->call.filled;
    }
    if ((*to)->kind == kind) return NN_OK;
    return broken(m, kind == NN_PICKLE_LIST ? "values are appended to what is no list"
                                            : "items are set in what is no dict");
}

static nn_status fill(machine *m, nn_pickle_kind kind, nn_pickle *const *values, int64_t n)
{
    nn_pickle *under, *to;
    if (kind == NN_PICKLE_DICT && n % 2) return broken(m, "a key without a value");
    NN_TRY(top(m, &under));
    NN_TRY(container(m, under, kind, &to));
    return add_values(m, to, values, n);
}

static nn_status fill_from_mark(machine *m, nn_pickle_kind kind)
{
    nn_pickle **values;
    int64_t n;
    NN_TRY(pop_to_mark(m, &values, &n));
    return fill(m, kind, values, n);
}

static nn_status fill_from_stack(machine *m, nn_pickle_kind kind, int n)
{
    nn_pickle *values[2];
    for (int i = n - 1; i >= 0; i--) NN_TRY(pop(m, &values[i]));
    return fill(m, kind, values, n);
}

/* A new container of n values that lie where the stack ends. */
static nn_status gather(machine *m, nn_pickle_kind kind, nn_pickle **values, int64_t n)
{
    nn_pickle made = { .kind = kind }, *value;
    if (kind == NN_PICKLE_DICT && n % 2) return broken(m, "a key without a value");
    if (n) NN_TRY(add_values(m, &made, values, n));
    NN_TRY(push_new(m, kind, &value));
    *value = made;
    return NN_OK;
}

static nn_status gather_from_mark(machine *m, nn_pickle_kind kind)
{
    nn_pickle **values;
    int64_t n;
    NN_TRY(pop_to_mark(m, &values, &n));
    return gather(m, kind, values, n);
}

static nn_status gather_tuple(machine *m, int n)
{
    nn_pickle *values[3];
    for (int i = n - 1; i >= 0; i--) NN_TRY(pop(m, &values[i]));
    return gather(m, NN_PICKLE_TUPLE, values, n);
}

/* -- the memo -- */

static nn_status put(machine *m, uint64_t place)
{
    nn_pickle *value;
    if (place >= (uint64_t)nn_min(NN_PICKLE_MEMO, m->n))
        return broken(m, "a place of the memo beyond the length of the pickle");
    NN_TRY(top(m, &value));
    if ((int64_t)place >= m->memo_room) {
        int64_t room = nn_min(nn_max(2 * (int64_t)place, 64), nn_min(NN_PICKLE_MEMO, m->n));
        nn_pickle **grown = nn_realloc(m->memo, room, sizeof(*grown));
        NN_NEED(grown);
        memset(grown + m->memo_room, 0, (size_t)(room - m->memo_room) * sizeof(*grown));
        m->memo = grown;
        m->memo_room = room;
    }
    m->n_memo += m->memo[place] == NULL;
    m->memo[place] = value;
    return NN_OK;
}

static nn_status get(machine *m, uint64_t place)
{
    if (place >= (uint64_t)m->memo_room || !m->memo[place])
        return broken(m, "an empty place of the memo is read");
    return push(m, m->memo[place]);
}

/* -- values -- */

static nn_status push_text(machine *m, int length_bytes)
{
    uint64_t n;
    const unsigned char *p;
    nn_pickle *value;
    NN_TRY(take_number(m, length_bytes, &n));
    NN_TRY(take(m, (int64_t)n, &p));
    NN_TRY(push_new(m, NN_PICKLE_TEXT, &value));
    value->text = (const char *)p;
    value->n = (int64_t)n;
    return NN_OK;
}

static nn_status push_long(machine *m)
{
    uint64_t n, bits = 0;
    const unsigned char *p;
    NN_TRY(take_number(m, 1, &n));
    NN_TRY(take(m, (int64_t)n, &p));
    if (n > 8) return push_int(m, NN_PICKLE_BIG, 0);
    if (n && p[n - 1] & 0x80) bits = ~(uint64_t)0;
    for (int64_t i = (int64_t)n - 1; i >= 0; i--) bits = bits << 8 | p[i];
    return push_int(m, NN_PICKLE_INT, (int64_t)bits);
}

static nn_status push_float(machine *m)
{
    const unsigned char *p;
    uint64_t bits = 0;
    nn_pickle *value;
    NN_TRY(take(m, 8, &p));
    for (int i = 0; i < 8; i++) bits = bits << 8 | p[i]; /* the one number that is big-endian */
    NN_TRY(push_new(m, NN_PICKLE_REAL, &value));
    memcpy(&value->real, &bits, sizeof(bits));
    return NN_OK;
}

static nn_status push_number(machine *m, int opcode)
{
    uint64_t bits;
    switch (opcode) {
    case NONE:
        return push_int(m, NN_PICKLE_NONE, 0);
    case NEWTRUE:
        return push_int(m, NN_PICKLE_BOOL, 1);
    case NEWFALSE:
        return push_int(m, NN_PICKLE_BOOL, 0);
    case LONG1:
        return push_long(m);
    case BINFLOAT:
        return push_float(m);
    default:
        NN_TRY(take_number(m, opcode == BININT ? 4 : opcode == BININT2 ? 2 : 1, &bits));
        return push_int(m, NN_PICKLE_INT,
                        opcode == BININT ? (int32_t)(uint32_t)bits : (int64_t)bits);
    }
}

/* -- objects -- */

static nn_status push_global(machine *m, const char *module, int64_t n_module, const char *name,
                             int64_t n_name)
{
    nn_pickle *value;
    NN_TRY(push_new(m, NN_PICKLE_GLOBAL, &value));
    char *text = nn_arena_alloc(m->arena, n_module + n_name + 2, 1);
    NN_NEED(text);
    memcpy(text, module, (size_t)n_module);
    text[n_module] = ' ';
    memcpy(text + n_module + 1, name, (size_t)n_name);
    value->text = text;
    value->n = n_module + n_name + 1;
    return NN_OK;
}

static nn_status global_of_lines(machine *m)
{
    const char *module, *name;
    int64_t n_module, n_name;
    NN_TRY(take_line(m, &module, &n_module));
    NN_TRY(take_line(m, &name, &n_name));
    return push_global(m, module, n_module, name, n_name);
}

static nn_status global_of_stack(machine *m)
{
    nn_pickle *module, *name;
    NN_TRY(pop(m, &name));
    NN_TRY(pop(m, &module));
    if (name->kind != NN_PICKLE_TEXT || module->kind != NN_PICKLE_TEXT)
        return broken(m, "the name of a global is no string");
    return push_global(m, module->text, module->n, name->text, name->n);
}

static nn_status call(machine *m)
{
    nn_pickle *value, *arguments, *callee;
    NN_TRY(pop(m, &arguments));
    NN_TRY(pop(m, &callee));
    if (arguments->kind != NN_PICKLE_TUPLE) return broken(m, "arguments that are no tuple");
    NN_TRY(push_new(m, NN_PICKLE_CALL, &value));
    value->call.callee = callee;
    value->call.arguments = arguments;
    return NN_OK;
}

static nn_status persistent(machine *m)
{
    nn_pickle *value, *id;
    NN_TRY(pop(m, &id));
    NN_TRY(push_new(m, NN_PICKLE_PERSISTENT, &value));
    value->id = id;
    return NN_OK;
}

/* -- the machine -- */

static nn_status run_memo(machine *m, int opcode)
{
    uint64_t place;
    if (opcode == MEMOIZE) return put(m, (uint64_t)m->n_memo);
    NN_TRY(take_number(m, opcode == BINPUT || opcode == BINGET ? 1 : 4, &place));
    return opcode == BINPUT || opcode == LONG_BINPUT ? put(m, place) : get(m, place);
}

static nn_status run_frame(machine *m, int opcode)
{
    uint64_t number;
    if (opcode == FRAME) return take_number(m, 8, &number);
    NN_TRY(take_number(m, 1, &number));
    return number <= 5 ? NN_OK : broken(m, "a protocol above 5");
}

static nn_status drop(machine *m, int opcode)
{
    nn_pickle *value, **values;
    int64_t n;
    if (opcode == POP_MARK) return pop_to_mark(m, &values, &n);
    if (opcode == POP && m->n_marks && m->depth == floor_of(m)) { /* as Python has it */
        m->n_marks--;
        return NN_OK;
    }
    return pop(m, &value);
}

static nn_status run_container(machine *m, int opcode)
{
    switch (opcode) {
    case EMPTY_TUPLE:
        return gather(m, NN_PICKLE_TUPLE, NULL, 0);
    case EMPTY_LIST:
        return gather(m, NN_PICKLE_LIST, NULL, 0);
    case EMPTY_DICT:
        return gather(m, NN_PICKLE_DICT, NULL, 0);
    case TUPLE:
        return gather_from_mark(m, NN_PICKLE_TUPLE);
    case LIST:
        return gather_from_mark(m, NN_PICKLE_LIST);
    case DICT:
        return gather_from_mark(m, NN_PICKLE_DICT);
    case TUPLE1:
        return gather_tuple(m, 1);
    case TUPLE2:
        return gather_tuple(m, 2);
    case TUPLE3:
        return gather_tuple(m, 3);
    case APPEND:
        return fill_from_stack(m, NN_PICKLE_LIST, 1);
    case APPENDS:
        return fill_from_mark(m, NN_PICKLE_LIST);
    case SETITEM:
        return fill_from_stack(m, NN_PICKLE_DICT, 2);
    case SETITEMS:
        return fill_from_mark(m, NN_PICKLE_DICT);
    default:
        return nn_fail(NN_UNSUPPORTED, "%s: byte %lld: the pickle opcode 0x%02x is not read",
                       m->file, (long long)m->opcode_at, (unsigned)opcode);
    }
}

static nn_status run(machine *m, int opcode)
{
    switch (opcode) {
    case PROTO:
    case FRAME:
        return run_frame(m, opcode);
    case MARK:
        return set_mark(m);
    case POP:
    case POP_MARK:
    case BUILD:
        return drop(m, opcode); /* the state of an object is not kept */
    case NONE:
    case NEWTRUE:
    case NEWFALSE:
    case BININT:
    case BININT1:
    case BININT2:
    case LONG1:
    case BINFLOAT:
        return push_number(m, opcode);
    case BINUNICODE:
    case BINSTRING:
        return push_text(m, 4);
    case SHORT_BINUNICODE:
    case SHORT_BINSTRING:
        return push_text(m, 1);
    case BINPUT:
    case LONG_BINPUT:
    case MEMOIZE:
    case BINGET:
    case LONG_BINGET:
        return run_memo(m, opcode);
    case GLOBAL:
        return global_of_lines(m);
    case STACK_GLOBAL:
        return global_of_stack(m);
    case REDUCE:
    case NEWOBJ:
        return call(m);
    case BINPERSID:
        return persistent(m);
    case STOP:
        m->stopped = true;
        return NN_OK;
    default:
        return run_container(m, opcode);
    }
}

static nn_status run_all(machine *m, const nn_pickle **value)
{
    while (!m->stopped) {
        const unsigned char *opcode;
        m->opcode_at = m->at;
        NN_TRY(take(m, 1, &opcode));
        NN_TRY(run(m, *opcode));
    }
    nn_pickle *last;
    NN_TRY(pop(m, &last));
    *value = last;
    return NN_OK;
}

nn_status nn_pickle_read(const char *file, const unsigned char *bytes, int64_t n, nn_arena *arena,
                         const nn_pickle **value)
{
    machine m = { .file = file, .bytes = bytes, .n = n, .arena = arena };
    if (n > NN_PICKLE_BYTES)
        return nn_fail(NN_FORMAT, "%s: a pickle of %lld bytes, at most %d are read", file,
                       (long long)n, NN_PICKLE_BYTES);
    nn_status status = run_all(&m, value);
    nn_free(m.stack);
    nn_free(m.mark);
    nn_free(m.memo);
    return status;
}
