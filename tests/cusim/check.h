// What cusim's tests are written with: checks that end the program, memory on the device, launches,
// and programs that must die.
#ifndef CUSIM_CHECK_H
#define CUSIM_CHECK_H

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <cuda_runtime.h>

typedef unsigned short bf16_bits;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool with_asan = true;
#else
constexpr bool with_asan = false;
#endif

#if defined(CUSIM_RACE)
constexpr bool with_race_detector = true;
#else
constexpr bool with_race_detector = false;
#endif

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

// The stream that LAUNCH uses, made by begin_tests.
inline cudaStream_t stream;
inline int n_passed;

#define LAUNCH(kernel, grid, block, shared, ...)                                                   \
    cusim_launch(#kernel, kernel, dim3(grid), dim3(block), size_t(shared), stream, __VA_ARGS__)

template <class T> struct on_device {
    T *p = nullptr;
    size_t n;
    explicit on_device(size_t count) : n(count) { EXPECT(cudaMalloc(&p, n * sizeof(T)) == 0); }
    explicit on_device(const std::vector<T> &v) : on_device(v.size())
    {
        EXPECT(cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice) == 0);
    }
    on_device(const on_device &) = delete;
    ~on_device() { cudaFree(p); }
    std::vector<T> read() const
    {
        std::vector<T> v(n);
        EXPECT(cudaStreamSynchronize(stream) == 0);
        EXPECT(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost) == 0);
        return v;
    }
};

// What `run` says on its way to death, empty if it lives.
inline std::string last_words(void (*run)())
{
    int ends[2];
    EXPECT(pipe(ends) == 0);
    fflush(nullptr);
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        run();
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char part[4096];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) said.append(part, size_t(n));
    close(ends[0]);
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    return status == 0 ? "" : said;
}

// The program must die, saying every one of the texts.
template <class... T> void must_die(const char *name, void (*run)(), const T &...texts)
{
    std::string said = last_words(run);
    for (const char *text : { texts... })
        if (said.find(text) == std::string::npos) {
            fprintf(stderr, "%s: expected \"%s\" in:\n%s\n", name, text,
                    said.empty() ? "(it lived)" : said.c_str());
            exit(1);
        }
    n_passed++;
}

#define MUST_DIE(run, ...) must_die(#run, run, __VA_ARGS__)
#define PASS(test)                                                                                 \
    do {                                                                                           \
        test;                                                                                      \
        n_passed++;                                                                                \
    } while (0)

inline void begin_tests()
{
    EXPECT(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
}

inline int end_tests()
{
    EXPECT(cudaStreamDestroy(stream) == cudaSuccess);
    printf("%d passed, 0 failed\n", n_passed);
    return 0;
}

#endif
