// The reference product behind cuBLASLt: sums in double precision.
#include <cmath>
#include <vector>

#include <cuda_bf16.h>

#include "cublaslt.h"
#include "runtime.h"

namespace cusim
{

namespace
{

float load(const void *data, uint32_t type, int64_t i)
{
    if (type == CUDA_R_32F) return static_cast<const float *>(data)[i];
    return __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[i]);
}

void store(void *data, uint32_t type, int64_t i, double v)
{
    if (type == CUDA_R_32F)
        static_cast<float *>(data)[i] = float(v);
    else
        static_cast<__nv_bfloat16 *>(data)[i] = __float2bfloat16_rn(float(v));
}

int64_t offset(const cublasLtMatrixLayoutOpaque &l, int batch, int64_t row, int64_t col)
{
    int64_t in = l.order == CUBLASLT_ORDER_COL ? row + col * l.ld : row * l.ld + col;
    return batch * l.batch_stride + in;
}

// op(M) row by row.
std::vector<double> read(const matrix &m, int batch, bool transposed)
{
    int64_t rows = int64_t(m.layout.rows), cols = int64_t(m.layout.cols);
    if (transposed) std::swap(rows, cols);
    std::vector<double> out(size_t(rows * cols));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            int64_t at = transposed ? offset(m.layout, batch, j, i) : offset(m.layout, batch, i, j);
            out[size_t(i * cols + j)] = load(m.data, m.layout.type, at);
        }
    return out;
}

double activate(uint32_t epilogue, double v)
{
    constexpr double root = 0.7978845608028654; // sqrt(2 / pi)
    if (epilogue & CUBLASLT_EPILOGUE_GELU)
        return 0.5 * v * (1 + tanh(root * (v + 0.044715 * v * v * v)));
    if (epilogue & CUBLASLT_EPILOGUE_RELU) return v < 0 ? 0 : v;
    return v;
}

struct extent {
    int64_t m, n, k;
};

void finish_row(const product &p, int batch, int64_t row, const std::vector<double> &sums)
{
    const cublasLtMatmulDescOpaque &e = p.desc;
    uint32_t type = p.d.layout.type, bias_type = e.bias_type < 0 ? type : uint32_t(e.bias_type);
    double bias = 0;
    if (e.epilogue & CUBLASLT_EPILOGUE_BIAS)
        bias = load(e.bias, bias_type, batch * e.bias_stride + row);
    for (int64_t j = 0; j < int64_t(sums.size()); j++) {
        double v = p.alpha * sums[size_t(j)];
        if (p.beta != 0)
            v +=
                double(p.beta) * load(p.c.data, p.c.layout.type, offset(p.c.layout, batch, row, j));
        store(p.d.data, type, offset(p.d.layout, batch, row, j), activate(e.epilogue, v + bias));
    }
}

// The sums over k of op(A)'s rows or op(B)'s columns go where the bias pointer points.
void write_bias_gradient(const product &p, int batch, const extent &x, const std::vector<double> &a,
                         const std::vector<double> &b)
{
    const cublasLtMatmulDescOpaque &e = p.desc;
    uint32_t type = e.bias_type < 0 ? p.d.layout.type : uint32_t(e.bias_type);
    bool of_a = e.epilogue & CUBLASLT_EPILOGUE_BGRADA;
    for (int64_t i = 0; i < (of_a ? x.m : x.n); i++) {
        double sum = 0;
        for (int64_t l = 0; l < x.k; l++)
            sum += of_a ? a[size_t(i * x.k + l)] : b[size_t(l * x.n + i)];
        store(e.bias, type, batch * e.bias_stride + i, sum);
    }
}

} // namespace

void product_run(const product &p)
{
    bool trans_a = p.desc.trans_a != CUBLAS_OP_N, trans_b = p.desc.trans_b != CUBLAS_OP_N;
    extent x = { int64_t(p.d.layout.rows), int64_t(p.d.layout.cols),
                 int64_t(trans_a ? p.a.layout.rows : p.a.layout.cols) };
    for (int batch = 0; batch < p.d.layout.batches; batch++) {
        std::vector<double> a = read(p.a, batch, trans_a), b = read(p.b, batch, trans_b);
        for (int64_t i = 0; i < x.m; i++) {
            std::vector<double> sums(size_t(x.n), 0.0);
            for (int64_t l = 0; l < x.k; l++) {
                double scale = a[size_t(i * x.k + l)];
                const double *row = b.data() + l * x.n;
                for (int64_t j = 0; j < x.n; j++) sums[size_t(j)] += scale * row[j];
            }
            finish_row(p, batch, i, sums);
        }
        if (p.desc.epilogue & (CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB))
            write_bias_gradient(p, batch, x, a, b);
    }
}

} // namespace cusim
