// Functional versions of the PTX instructions, after the tables of the PTX manual.
#include <cusim_ptx.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "block.h"
#include "race.h"

namespace cusim
{

namespace
{

// Whole-warp instructions: all 32 lanes must take part.
constexpr unsigned full = 0xffffffffu;

struct mma_slot {
    float *d;
    const uint32_t *a, *b;
};

float bf16_half(uint32_t pair, int half)
{
    return bits<float>(half ? pair & 0xffff0000u : pair << 16);
}

float tf32(uint32_t v)
{
    return bits<float>(v & 0xffffe000u);
} // the low bits are not looked at

// The product of A [16][k] and B [k][8] is added to the accumulators: lane 4 g + t has the columns
// 2 t, 2 t + 1 of the rows g (d[0], d[1]) and g + 8 (d[2], d[3]).
void multiply(const float (&a)[16][16], const float (&b)[16][8], int k, void *const slots[32])
{
    typedef double row_of_eight __attribute__((vector_size(64)));
    row_of_eight sums[16] = {};
    for (int j = 0; j < k; j++) {
        row_of_eight line = {
            b[j][0], b[j][1], b[j][2], b[j][3], b[j][4], b[j][5], b[j][6], b[j][7]
        };
        for (int row = 0; row < 16; row++) sums[row] += line * double(a[row][j]);
    }
    for (int lane = 0; lane < 32; lane++) {
        float *d = static_cast<const mma_slot *>(slots[lane])->d;
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            d[i] = float(d[i] + sums[row][column]);
        }
    }
}

// Register r of A: row g + 8 (r & 1), columns 2 t + 8 (r >> 1) and the next; of B: rows
// 2 t + 8 r and the next, column g.
template <int n_b> void execute_bf16(unsigned, void *const slots[32])
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const mma_slot *s = static_cast<const mma_slot *>(slots[lane]);
        int g = lane / 4, t = lane % 4;
        for (int half = 0; half < 2; half++) {
            for (int r = 0; r < 2 * n_b; r++)
                a[g + (r & 1) * 8][2 * t + (r >> 1) * 8 + half] = bf16_half(s->a[r], half);
            for (int r = 0; r < n_b; r++) b[2 * t + r * 8 + half][g] = bf16_half(s->b[r], half);
        }
    }
    multiply(a, b, 8 * n_b, slots);
}

// Register r of A: row g + 8 (r & 1), column t + 4 (r >> 1); of B: row t + 4 r, column g.
void execute_tf32(unsigned, void *const slots[32])
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const mma_slot *s = static_cast<const mma_slot *>(slots[lane]);
        int g = lane / 4, t = lane % 4;
        for (int r = 0; r < 4; r++) a[g + (r & 1) * 8][t + (r >> 1) * 4] = tf32(s->a[r]);
        for (int r = 0; r < 2; r++) b[t + r * 4][g] = tf32(s->b[r]);
    }
    multiply(a, b, 8, slots);
}

struct ldmatrix_slot {
    uint32_t *r;
    const void *row;
};

// Lane 4 i + j gets of every matrix the elements 2 j, 2 j + 1 of row i, or of column i.
template <int n, bool transposed> void execute_ldmatrix(unsigned, void *const slots[32])
{
    for (int m = 0; m < n; m++) {
        uint16_t v[8][8];
        for (int row = 0; row < 8; row++)
            memcpy(v[row], static_cast<const ldmatrix_slot *>(slots[8 * m + row])->row, 16);
        for (int lane = 0; lane < 32; lane++) {
            int i = lane / 4, j = lane % 4 * 2;
            uint32_t low = transposed ? v[j][i] : v[i][j];
            uint32_t high = transposed ? v[j + 1][i] : v[i][j + 1];
            static_cast<const ldmatrix_slot *>(slots[lane])->r[m] = low | high << 16;
        }
    }
}

template <int n, bool transposed>
void ldmatrix(const char *name, uint32_t *r, const void *row, place at)
{
    if (int(lane()) < 8 * n) {
        need_shared(row, 16, 16, name, at);
        if (with_races) race_touch(current_thread(), row, 16, race_kind::read, race_place(at));
    }
    ldmatrix_slot slot = { r, row };
    collective(name, execute_ldmatrix<n, transposed>, full, &slot, at);
}

struct copy {
    void *to;
    const void *from; // NULL: zeros
    unsigned bytes, group;
    location at; // for the race detector
};

// Of one thread. Group numbers count from 0; copies join the group `committed`.
struct copy_queue {
    std::vector<copy> pending;
    unsigned committed = 0;
};

copy_queue queues[1024];

void copy_begin(void *to, const void *from, bool valid, unsigned bytes, place at)
{
    need_shared(to, bytes, bytes, "cp.async", at);
    if (valid) need_device(from, bytes, bytes, "cp.async", at);
    location started = with_races ? race_place(at) : 0;
    if (with_races) race_copying(current_thread(), to, bytes, started);
    memset(to, undefined_byte(), bytes);
    copy_queue &q = queues[current_thread()];
    q.pending.push_back({ to, valid ? from : nullptr, bytes, q.committed, started });
}

void finish_copy(const copy &c)
{
    if (c.from) race_touch(current_thread(), c.from, c.bytes, race_kind::read, c.at);
    race_copied(current_thread(), c.to, c.bytes, c.at);
}

} // namespace

void copy_wait(unsigned pending)
{
    copy_queue &q = queues[current_thread()];
    size_t done = 0;
    while (done < q.pending.size() && q.pending[done].group + pending < q.committed) {
        const copy &c = q.pending[done++];
        if (with_races) finish_copy(c);
        if (c.from)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
    q.pending.erase(q.pending.begin(), q.pending.begin() + std::ptrdiff_t(done));
}

void copies_drop(unsigned thread)
{
    queues[thread].pending.clear();
    queues[thread].committed = 0;
}

} // namespace cusim

using namespace cusim;

void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], place here)
{
    mma_slot slot = { d, a, b };
    collective("mma.m16n8k16.bf16", execute_bf16<2>, full, &slot, here);
}

void mma_bf16_1688(float (&d)[4], const uint32_t (&a)[2], const uint32_t b, place here)
{
    mma_slot slot = { d, a, &b };
    collective("mma.m16n8k8.bf16", execute_bf16<1>, full, &slot, here);
}

void mma_tf32_1688(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], place here)
{
    mma_slot slot = { d, a, b };
    collective("mma.m16n8k8.tf32", execute_tf32, full, &slot, here);
}

void ldmatrix_x1(uint32_t &r, const void *shared, place here)
{
    ldmatrix<1, false>("ldmatrix.x1", &r, shared, here);
}

void ldmatrix_x2(uint32_t (&r)[2], const void *shared, place here)
{
    ldmatrix<2, false>("ldmatrix.x2", r, shared, here);
}

void ldmatrix_x4(uint32_t (&r)[4], const void *shared, place here)
{
    ldmatrix<4, false>("ldmatrix.x4", r, shared, here);
}

void ldmatrix_x1_trans(uint32_t &r, const void *shared, place here)
{
    ldmatrix<1, true>("ldmatrix.x1.trans", &r, shared, here);
}

void ldmatrix_x2_trans(uint32_t (&r)[2], const void *shared, place here)
{
    ldmatrix<2, true>("ldmatrix.x2.trans", r, shared, here);
}

void ldmatrix_x4_trans(uint32_t (&r)[4], const void *shared, place here)
{
    ldmatrix<4, true>("ldmatrix.x4.trans", r, shared, here);
}

void cp_async16(void *shared, const void *global, bool valid, place here)
{
    copy_begin(shared, global, valid, 16, here);
}

void cp_async8(void *shared, const void *global, bool valid, place here)
{
    copy_begin(shared, global, valid, 8, here);
}

void cp_async4(void *shared, const void *global, bool valid, place here)
{
    copy_begin(shared, global, valid, 4, here);
}

void cp_async_commit()
{
    queues[current_thread()].committed++;
}

float exp2_approx(float v)
{
    return exp2f(v);
}

float rcp_approx(float v)
{
    return 1.0f / v;
}

float tanh_approx(float v)
{
    constexpr uint32_t dropped = 0x1fff; // of 23 bits; 10 remain: a relative error of 2^-11
    uint32_t u = __float_as_uint(tanhf(v));
    if (v != v) return v;
    return __uint_as_float((u + (dropped >> 1)) & ~dropped);
}
