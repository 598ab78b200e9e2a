// The products of cusim's cuBLASLt against plain loops, and what it refuses.
#include <cmath>

#include <cublasLt.h>
#include <cuda_bf16.h>

#include "tests/cusim/check.h"

static cublasLtHandle_t blas;

// A column-major matrix of either type with a margin between its columns.
struct operand {
    int rows, cols, ld, batches;
    cudaDataType_t type;
    std::vector<float> v; // in f32, rounded to the type
    void *p = nullptr;
    cublasLtMatrixLayout_t layout = nullptr;

    operand(cudaDataType_t t, int r, int c, int margin, int b, int salt)
        : rows(r), cols(c), ld(r + margin), batches(b), type(t), v(size_t(ld) * size_t(c * b))
    {
        for (size_t i = 0; i < v.size(); i++) v[i] = float((int(i) * 37 + salt) % 23 - 11) / 4;
        size_t bytes = v.size() * width();
        EXPECT(cudaMalloc(&p, bytes) == cudaSuccess);
        std::vector<bf16_bits> half(v.size());
        for (size_t i = 0; i < v.size(); i++) half[i] = __bfloat16_as_ushort(v[i]);
        const void *from = t == CUDA_R_32F ? static_cast<const void *>(v.data()) : half.data();
        EXPECT(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
        describe();
    }
    operand(const operand &) = delete;
    ~operand()
    {
        cublasLtMatrixLayoutDestroy(layout);
        cudaFree(p);
    }
    size_t width() const { return type == CUDA_R_32F ? 4 : 2; }
    int64_t step() const { return int64_t(ld) * cols; }
    void describe()
    {
        int64_t stride = step();
        EXPECT(cublasLtMatrixLayoutCreate(&layout, type, uint64_t(rows), uint64_t(cols), ld) == 0);
        EXPECT(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                &batches, 4) == 0);
        EXPECT(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                &stride, 8) == 0);
    }
    float at(int batch, int i, int j) const { return v[size_t(batch * step() + j * ld + i)]; }
    std::vector<float> read() const
    {
        std::vector<float> out(v.size());
        std::vector<bf16_bits> half(v.size());
        void *to = type == CUDA_R_32F ? static_cast<void *>(out.data()) : half.data();
        EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
        EXPECT(cudaMemcpy(to, p, v.size() * width(), cudaMemcpyDeviceToHost) == cudaSuccess);
        if (type != CUDA_R_32F)
            for (size_t i = 0; i < half.size(); i++)
                out[i] = __bfloat162float(__ushort_as_bfloat16(half[i]));
        return out;
    }
};

struct recipe {
    cudaDataType_t in, out;
    bool ta, tb;
    int m, n, k, batches;
    cublasLtEpilogue_t epilogue;
    float alpha, beta;
};

static cublasLtMatmulDesc_t describe(const recipe &r, const void *bias)
{
    cublasLtMatmulDesc_t d = nullptr;
    cublasOperation_t ops[2] = { r.ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                 r.tb ? CUBLAS_OP_T : CUBLAS_OP_N };
    EXPECT(cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F) == 0);
    EXPECT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, ops, 4) == 0);
    EXPECT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSB, ops + 1, 4) == 0);
    EXPECT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &r.epilogue, 4) == 0);
    EXPECT(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                          sizeof bias) == 0);
    return d;
}

static double expected(const recipe &r, const operand &a, const operand &b, const operand &c,
                       const operand &bias, int batch, int i, int j)
{
    double sum = 0;
    for (int l = 0; l < r.k; l++)
        sum += double(r.ta ? a.at(batch, l, i) : a.at(batch, i, l)) *
               (r.tb ? b.at(batch, j, l) : b.at(batch, l, j));
    double v = r.alpha * sum;
    if (r.beta != 0) v += r.beta * c.at(batch, i, j);
    if (r.epilogue & CUBLASLT_EPILOGUE_BIAS) v += bias.at(0, i, 0);
    if (r.epilogue & CUBLASLT_EPILOGUE_RELU) v = v < 0 ? 0 : v;
    return v;
}

static void check_product(const recipe &r)
{
    operand a(r.in, r.ta ? r.k : r.m, r.ta ? r.m : r.k, 3, r.batches, 1);
    operand b(r.in, r.tb ? r.n : r.k, r.tb ? r.k : r.n, 0, r.batches, 2);
    operand c(r.out, r.m, r.n, 5, r.batches, 3), bias(r.out, r.m, 1, 0, 1, 4);
    cublasLtMatmulDesc_t desc = describe(r, bias.p);
    EXPECT(cublasLtMatmul(blas, desc, &r.alpha, a.p, a.layout, b.p, b.layout, &r.beta, c.p,
                          c.layout, c.p, c.layout, nullptr, nullptr, 0, stream) == 0);
    cublasLtMatmulDescDestroy(desc);
    std::vector<float> d = c.read();
    for (int batch = 0; batch < r.batches; batch++)
        for (int j = 0; j < r.n; j++)
            for (int i = 0; i < c.ld; i++) {
                size_t at = size_t(batch * c.step() + j * c.ld + i);
                double e = i < r.m ? expected(r, a, b, c, bias, batch, i, j) : c.v[at];
                double off = r.out == CUDA_R_32F ? 1e-5 : 1.0 / 256;
                EXPECT(fabs(d[at] - e) <= off * (1 + fabs(e)));
            }
}

static void test_products()
{
    cudaDataType_t types[3][2] = { { CUDA_R_32F, CUDA_R_32F },
                                   { CUDA_R_16BF, CUDA_R_16BF },
                                   { CUDA_R_16BF, CUDA_R_32F } };
    for (auto &t : types)
        for (int flip = 0; flip < 4; flip++)
            for (auto epilogue :
                 { CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU_BIAS })
                for (int batches = 1; batches <= 3; batches += 2)
                    PASS(check_product({ t[0], t[1], bool(flip & 1), bool(flip & 2), 7, 5, 9,
                                         batches, epilogue, 0.5f, batches == 3 ? 2.0f : 0 }));
}

// The sums of op(A)'s rows go where the bias pointer points.
static void test_bias_gradient()
{
    recipe r = { CUDA_R_32F, CUDA_R_32F, false, true, 6, 4, 11, 1, CUBLASLT_EPILOGUE_BGRADA, 1, 0 };
    operand a(r.in, 6, 11, 2, 1, 1), b(r.in, 4, 11, 0, 1, 2), d(r.out, 6, 4, 0, 1, 3);
    operand sums(r.out, 6, 1, 0, 1, 4);
    cublasLtMatmulDesc_t desc = describe(r, sums.p);
    EXPECT(cublasLtMatmul(blas, desc, &r.alpha, a.p, a.layout, b.p, b.layout, &r.beta, d.p,
                          d.layout, d.p, d.layout, nullptr, nullptr, 0, stream) == 0);
    cublasLtMatmulDescDestroy(desc);
    std::vector<float> got = sums.read();
    for (int i = 0; i < 6; i++) {
        double sum = 0;
        for (int l = 0; l < 11; l++) sum += a.at(0, i, l);
        EXPECT(fabs(got[size_t(i)] - sum) < 1e-4);
    }
}

struct attempt {
    cublasLtMatmulDesc_t desc;
    operand a, b, d;
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulHeuristicResult_t found = {};
    int n = 0;
    attempt(cudaDataType_t in, int k_of_b)
        : desc(describe({ in, in, false, false, 8, 8, 8, 1, CUBLASLT_EPILOGUE_DEFAULT, 1, 0 },
                        nullptr)),
          a(in, 8, 8, 0, 1, 1), b(in, k_of_b, 8, 0, 1, 2), d(in, 8, 8, 0, 1, 3)
    {
        EXPECT(cublasLtMatmulPreferenceCreate(&preference) == 0);
    }
    attempt(const attempt &) = delete;
    ~attempt()
    {
        cublasLtMatmulPreferenceDestroy(preference);
        cublasLtMatmulDescDestroy(desc);
    }
    cublasStatus_t ask()
    {
        return cublasLtMatmulAlgoGetHeuristic(blas, desc, a.layout, b.layout, d.layout, d.layout,
                                              preference, 1, &found, &n);
    }
    cublasStatus_t run(size_t shift, void *workspace, size_t bytes)
    {
        float one = 1, none = 0;
        return cublasLtMatmul(blas, desc, &one, static_cast<char *>(a.p) + shift, a.layout, b.p,
                              b.layout, &none, d.p, d.layout, d.p, d.layout,
                              n ? &found.algo : nullptr, workspace, bytes, stream);
    }
};

static void test_refusals()
{
    attempt t(CUDA_R_32F, 8), wrong(CUDA_R_32F, 7);
    EXPECT(wrong.ask() == CUBLAS_STATUS_INVALID_VALUE && wrong.n == 0);
    EXPECT(wrong.run(0, nullptr, 0) == CUBLAS_STATUS_INVALID_VALUE);
    int64_t ld = 7;
    EXPECT(cublasLtMatrixLayoutSetAttribute(t.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, 8) == 0);
    EXPECT(t.ask() == CUBLAS_STATUS_INVALID_VALUE);
    ld = 8;
    EXPECT(cublasLtMatrixLayoutSetAttribute(t.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, 4) ==
           CUBLAS_STATUS_INVALID_VALUE);
    EXPECT(cublasLtMatrixLayoutSetAttribute(t.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, 8) == 0);
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    EXPECT(t.run(2, nullptr, 0) == CUBLAS_STATUS_INVALID_VALUE); // half of a float
    EXPECT(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, 4) ==
           0);
    EXPECT(t.run(0, nullptr, 0) == CUBLAS_STATUS_INVALID_VALUE); // no bias
    cublasLtMatrixLayoutDestroy(t.b.layout);
    EXPECT(cublasLtMatrixLayoutCreate(&t.b.layout, CUDA_R_16BF, 8, 8, 8) == 0);
    EXPECT(t.ask() == CUBLAS_STATUS_NOT_SUPPORTED); // f32 times bf16
}

// An algorithm wants the alignment and the workspace that it was asked for with.
static void test_algorithm()
{
    attempt t(CUDA_R_32F, 8);
    size_t room = 4096;
    void *workspace = nullptr;
    EXPECT(cudaMalloc(&workspace, room) == cudaSuccess);
    EXPECT(cublasLtMatmulPreferenceSetAttribute(
               t.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room) == 0);
    EXPECT(t.ask() == CUBLAS_STATUS_SUCCESS && t.n == 1 && t.found.workspaceSize <= room);
    EXPECT(t.run(0, workspace, t.found.workspaceSize) == CUBLAS_STATUS_SUCCESS);
    EXPECT(t.run(0, workspace, t.found.workspaceSize - 1) == CUBLAS_STATUS_INVALID_VALUE);
    EXPECT(t.run(0, static_cast<char *>(workspace) + 4, t.found.workspaceSize) ==
           CUBLAS_STATUS_INVALID_VALUE);
    EXPECT(t.run(4, workspace, t.found.workspaceSize) == CUBLAS_STATUS_NOT_SUPPORTED);
    t.found.algo.data[1] ^= 1; // of another problem
    EXPECT(t.run(0, workspace, t.found.workspaceSize) == CUBLAS_STATUS_INVALID_VALUE);
    EXPECT(cudaFree(workspace) == cudaSuccess);
}

static void point_at(attempt &t, void *vector)
{
    EXPECT(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector,
                                          sizeof vector) == 0);
}

// The vector of an epilogue has the type of D, and the alignment that was seen with the question.
static void test_vector()
{
    attempt t(CUDA_R_32F, 8);
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cudaDataType_t half = CUDA_R_16BF;
    void *uneven = static_cast<char *>(t.b.p) + 4;
    EXPECT(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, 4) ==
           0);
    point_at(t, uneven);
    EXPECT(t.ask() == CUBLAS_STATUS_SUCCESS && t.run(0, nullptr, 0) == CUBLAS_STATUS_SUCCESS);
    point_at(t, nullptr);
    EXPECT(t.ask() == CUBLAS_STATUS_SUCCESS);
    point_at(t, uneven);
    EXPECT(t.run(0, nullptr, 0) == CUBLAS_STATUS_NOT_SUPPORTED);
    EXPECT(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &half, 4) ==
           0);
    EXPECT(t.ask() == CUBLAS_STATUS_NOT_SUPPORTED);
    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
}

static void product_behind_its_memory()
{
    attempt t(CUDA_R_32F, 8);
    t.run(16, nullptr, 0);
    cudaStreamSynchronize(stream);
}

static void product_on_the_host()
{
    static float host[64];
    attempt t(CUDA_R_32F, 8);
    float *p = host;
    std::swap(t.a.p, reinterpret_cast<void *&>(p));
    t.run(0, nullptr, 0);
    cudaStreamSynchronize(stream);
}

int main()
{
    begin_tests();
    EXPECT(cublasLtCreate(&blas) == CUBLAS_STATUS_SUCCESS);
    test_products();
    PASS(test_bias_gradient());
    PASS(test_refusals());
    PASS(test_algorithm());
    PASS(test_vector());
    MUST_DIE(product_behind_its_memory, "A is not in device memory with all of its 64 elements");
    MUST_DIE(product_on_the_host, "A is not in device memory");
    EXPECT(cublasLtDestroy(blas) == CUBLAS_STATUS_SUCCESS);
    return end_tests();
}
