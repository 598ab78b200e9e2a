# RECAP: build, test and run. `make help` lists the targets.
#
# Objects lie in build/<configuration>/, so configurations never destroy each other; programs in bin/.

ifeq ($(origin CC),default)
CC      := gcc
endif
DEBUG   ?= 0
SAN     ?=
CPU     ?= 1
CUDA    ?= 0
CUDNN   ?= $(if $(filter sim,$(CUDA)),1,0)
MPI     ?= 0
comma   := ,
san     := $(filter-out race,$(SAN))
BUILD   ?= build/$(notdir $(CC))$(if $(filter 1,$(DEBUG)),-debug)$(if $(san),-$(subst $(comma),-,$(san)))$(if $(filter 0,$(CPU)),-nocpu)$(if $(filter 0,$(CUDA)),,-$(cuda_name))$(if $(filter 1,$(MPI)),-mpi)
BIN     ?= $(if $(filter build/gcc,$(BUILD)),bin,$(BUILD)/bin)
JOBS    ?= $(shell nproc)
FUZZ_SECONDS ?= 60
Q       := $(if $(V),,@)

WERROR  ?= -Werror
WARN    := -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wwrite-strings -Wno-psabi
OPT     := $(if $(filter 1,$(DEBUG)),-O1,-O3) -g -fno-math-errno -ffp-contract=fast
CFLAGS  := -std=c11 -D_GNU_SOURCE -pthread $(WARN) $(OPT) -I. $(if $(san),-fsanitize=$(san) -fno-omit-frame-pointer)
LDFLAGS := -pthread $(if $(san),-fsanitize=$(san))
PKGS    := libarchive jansson libutf8proc libpng libjpeg libwebp freetype2
LDLIBS  := -lm
ifeq ($(CPU),1)
CFLAGS  += -DNN_CPU -DNN_OPENMP $(shell pkg-config --cflags freetype2 2>/dev/null)
LDLIBS  := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lwebpdemux -ldnnl -l:libgomp.so.1 -lm
else
CFLAGS  += -DNN_PLAIN -Idata/plain
endif

# CUDA: 0 = none, 1 = nvcc, sim = the simulator of tests/cusim, ptx = nvcc for the PTX interpreter
# whose folder is PTXRUN, as PTX of compute_$(PTX_ARCH). CUDA=sim SAN=race has the race detector. Where only objects of
# the kernels differ, they lie in a folder of $(BUILD).
# CUDNN=1: cuDNN too, for --conv cudnn; the simulator has its own.
PTX_ARCH    ?= 80
cuda_name   := $(if $(filter 1,$(CUDA)),cuda$(if $(filter 1,$(CUDNN)),-cudnn),$(CUDA))
cuda_build  := $(BUILD)$(if $(filter race,$(SAN)),/race)$(if $(filter ptx,$(CUDA)),$(patsubst %,/compute_%,$(filter-out 80,$(PTX_ARCH))))
CUDA_HOME   ?= /usr/local/cuda
NVCC        ?= $(CUDA_HOME)/bin/nvcc
CUDA_ARCHS  ?= 80 90a
cuda_opt    := $(if $(filter sim,$(CUDA)),$(if $(SAN),-O1,-O2),-O3)
CUDAFLAGS   := -std=c++20 -I. $(if $(filter 1,$(DEBUG)),-O1,$(cuda_opt)) -DNN_CUDA $(if $(filter 1,$(CPU)),-DNN_CPU)
nvcc_arch   := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) -gencode arch=compute_80,code=compute_80
cuda_src    := $(if $(filter 0,$(CUDA)),,$(wildcard kernels/cuda/*.cu $(if $(filter 1,$(CUDNN)),kernels/cuda/cudnn/*.cu)))
ifneq ($(CUDA),0)
CFLAGS      += -DNN_CUDA
endif
ifeq ($(CUDNN),1)
CUDAFLAGS   += -DNN_CUDNN
endif
ifeq ($(CUDA),1)
CUDA_CC     := $(NVCC) $(CUDAFLAGS) -lineinfo $(nvcc_arch) \
               -Xcompiler -Wall,-Wextra,-Wno-missing-field-initializers $(if $(WERROR),-Xcompiler -Werror -Werror all-warnings)
CUDA_LIBS   := -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcudart -lcublasLt $(if $(filter 1,$(CUDNN)),-lcudnn) -lstdc++
endif
ifeq ($(CUDA),sim)
CXX         := $(if $(findstring clang,$(CC)),clang++,g++)
CUSIM_CC    := $(CXX) $(CUDAFLAGS) -g -pthread -fno-strict-aliasing -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-missing-field-initializers -Wno-deprecated-enum-enum-conversion -DNN_CUSIM \
               -Itests/cusim/include $(if $(san),-fsanitize=$(san) -fno-omit-frame-pointer) $(if $(filter race,$(SAN)),-DCUSIM_RACE)
# In a race build the kernels call the race detector at every access to memory; it is not to check itself.
CUDA_CC     := $(CUSIM_CC) $(if $(filter race,$(SAN)),-fsanitize=thread) -x c++
cusim_src   := $(wildcard tests/cusim/*.cc)
cusim_tests := $(patsubst %.cu,$(cuda_build)/%,$(filter-out $(if $(filter race,$(SAN)),,%/test_race.cu),$(wildcard tests/cusim/test_*.cu)))
CUDA_LIBS   := -lstdc++
endif
ifeq ($(CUDA),ptx)
CUDA_CC     := $(NVCC) $(CUDAFLAGS) -lineinfo --no-compress -gencode arch=compute_$(PTX_ARCH),code=compute_$(PTX_ARCH)
CUDA_LIBS   := -L$(BUILD) -Wl,-rpath,$(abspath $(BUILD)) -lcudart_ptx -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lstdc++
endif
LDLIBS      += $(CUDA_LIBS)

# MPI=1: ranks of several processes (Open MPI), with CUDA=1 also of several GPUs (NCCL). The simulator has a stand-in for
# NCCL, whose ranks are threads.
mpi_package := $(firstword $(foreach p,ompi-c ompi mpi-c,$(if $(shell pkg-config --exists $(p) 2>/dev/null && echo 1),$(p))))
nccl        := $(filter sim,$(CUDA))$(filter 1,$(if $(filter 1,$(CUDA)),$(MPI)))
ifeq ($(MPI),1)
ifeq ($(mpi_package),)
$(error MPI=1 needs Open MPI: apt-get install libopenmpi-dev openmpi-bin)
endif
CFLAGS      += -DNN_MPI $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(mpi_package)))
LDLIBS      += $(shell pkg-config --libs $(mpi_package))
endif
ifneq ($(nccl),)
CFLAGS      += -DNN_NCCL -isystem $(if $(filter sim,$(CUDA)),tests/cusim/include,$(CUDA_HOME)/include)
endif
ifeq ($(nccl),1)
LDLIBS      += -lnccl
endif

# What CPU=0 builds of data and tools: all that needs a C compiler and no library.
plain_data  := data/plain/*.c data/image_memory.c data/json.c data/safetensors*.c data/weight*.c \
               data/layout*.c data/torch_file.c data/pickle*.c data/zip.c data/resize*.c
plain_cli   := $(filter-out tools/bench_train.c tools/bench_loader.c,$(wildcard tools/bench*.c)) \
               tools/apart.c tools/cli*.c tools/device.c tools/plan_*.c tools/trainer*.c tools/verify*.c

# A layer is the .c files of its folders; the order is the order of linking.
base_src    := $(wildcard engine/base/*.c)
data_src    := $(wildcard $(if $(filter 1,$(CPU)),data/*.c data/*/*.c,$(plain_data)))
kernels_src := $(wildcard kernels/*.c kernels/ref/*.c kernels/null/*.c $(if $(filter 1,$(CPU)),kernels/cpu/onednn/*.c))
dist_src    := $(filter-out $(if $(filter 1,$(MPI)),,%/mpi.c) $(if $(nccl),,%/nccl.c),$(wildcard engine/dist/*.c))
engine_src  := $(wildcard engine/*.c engine/ops/*.c) $(dist_src)
models_src  := $(wildcard models/*.c models/block/*.c)
cli_src     := $(filter-out $(wildcard tools/recap-*.c),$(wildcard $(if $(filter 1,$(CPU)),tools/*.c,$(plain_cli))))
tools_src   := $(if $(filter 1,$(CPU)),$(wildcard tools/recap-*.c),tools/recap-bench.c tools/recap-verify.c)
unit_src    := $(wildcard tests/unit/*.c tests/model/*.c tests/torture/*.c)
optest_src  := $(wildcard tests/ops/*.c)
# What needs programs of make MPI=1 is slow.
tool_tests  := $(if $(filter 1,$(CPU)),$(filter-out %/test_mpi_train,$(wildcard tests/tools/test_*)))

# Kernels of the cpu backend are compiled once per instruction set; the best one is chosen at run time.
isa_src     := $(if $(filter 1,$(CPU)),$(wildcard kernels/cpu/*.c))
ISA_avx512   := -march=x86-64-v4 -mprefer-vector-width=512
ISA_avx2     := -march=x86-64-v3
ISA_portable :=
ISAS        := avx512 avx2 portable

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
cusim_obj := $(patsubst %.cc,$(cuda_build)/%.cc.o,$(cusim_src))
cuda_obj := $(patsubst %.cu,$(cuda_build)/%.cu.o,$(cuda_src)) $(cusim_obj)
isa_obj := $(foreach i,$(ISAS),$(patsubst kernels/cpu/%.c,$(BUILD)/kernels/cpu/$(i)/%.o,$(isa_src)))
libs := $(cuda_obj) $(foreach l,cli models engine data kernels base,$(BUILD)/lib$(l).a)
programs := $(patsubst tools/%.c,$(BIN)/%,$(tools_src))
unit_tests := $(patsubst tests/%.c,$(BUILD)/tests/%,$(unit_src))
op_test := $(if $(optest_src),$(cuda_build)/tests/op_test)
cuda_tests := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/cuda/test_*.c))
fuzzers := $(patsubst tests/%.c,build/fuzz/tests/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all help demo reproduce test test-slow unit slow fuzz fuzzers tests cusim cusim_tests cuda_tests gates ptx-check gpu-check lint format clean packages
.SECONDARY:
.DELETE_ON_ERROR:

all: $(programs)

help:
	@sed -n 's/^## //p' Makefile

## make             build the programs into bin/
## make demo        the whole of RECAP in ten minutes: corpus to report (installs missing packages first)
## make test        the fast tests, under five minutes (installs missing packages first)
## make test-slow   the fast tests, full-size networks, fuzzing and the end-to-end run
## make fuzz        every parser for FUZZ_SECONDS=60 (needs clang)
## make reproduce   all arms, seen and held-out prompts, the tables of docs/RESULTS.md
## make cusim       the programs with --device cuda on the simulator, into build/cusim/bin/
## make CUDA=1      with the cuda device, by nvcc; CUDA=1 CPU=0 needs nothing but the CUDA toolkit and a C compiler
## make gates       the CUDA kernels compile for every architecture within their budgets (needs nvcc)
## make ptx-check   the CUDA kernels under the PTX interpreter in PTXRUN=dir (needs nvcc)
## make gpu-check   on a machine with a GPU and the CUDA toolkit: right, and how fast
## make lint        layers, sizes, format and static analysis
## make format      rewrite the sources as .clang-format says
## make clean       remove build/ and bin/
## make MPI=1       with mpirun over several processes; CUDA=1 MPI=1 over several GPUs (needs Open MPI, NCCL)
## options          CC=clang  DEBUG=1  SAN=address,undefined  V=1 (show the commands)  WERROR= (warnings pass)
##                  CPU=0 (engine, reference kernels, recap-verify and recap-bench from a C
##                  compiler alone), CUDA=1 (the cuda device too; needs the CUDA toolkit),
##                  CUDA=1 CUDNN=1 (its --conv cudnn; needs cuDNN beside the toolkit)

packages:
	@tools/dev/packages

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo CC $<)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(cuda_build)/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(if $(V),,@echo CUDA $<)
	$(Q)$(CUDA_CC) -MMD -MF $(@:.o=.d) -c $< -o $@

$(cuda_build)/%.cc.o: %.cc
	@mkdir -p $(@D)
	$(if $(V),,@echo CXX $<)
	$(Q)$(CUSIM_CC) -MMD -MF $(@:.o=.d) -c $< -o $@

define isa_rule
$(BUILD)/kernels/cpu/$(1)/%.o: kernels/cpu/%.c
	@mkdir -p $$(@D)
	$(if $(V),,@echo CC $$< '($(1))')
	$(Q)$(CC) $(CFLAGS) $(ISA_$(1)) -DNN_ISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

define lib_rule
$(BUILD)/lib$(1).a: $(2)
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(eval $(call lib_rule,base,$(call obj,$(base_src))))
$(eval $(call lib_rule,data,$(call obj,$(data_src))))
$(eval $(call lib_rule,kernels,$(call obj,$(kernels_src)) $(isa_obj)))
$(eval $(call lib_rule,engine,$(call obj,$(engine_src))))
$(eval $(call lib_rule,models,$(call obj,$(models_src))))
$(eval $(call lib_rule,cli,$(call obj,$(cli_src))))

$(BIN)/%: $(BUILD)/tools/%.o $(libs)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(libs)
	$(Q)$(CC) $(LDFLAGS) $^ -lcmocka $(LDLIBS) -o $@

$(cuda_build)/tests/op_test: $(call obj,$(optest_src)) $(libs)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/tests/dist/%: $(BUILD)/tests/dist/%.o $(foreach l,engine data kernels base,$(BUILD)/lib$(l).a) $(cuda_obj)
	$(Q)$(CC) $(LDFLAGS) $^ -lcmocka $(LDLIBS) -o $@

$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/libdata.a $(BUILD)/libbase.a
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ $(LDLIBS) -o $@

$(cuda_build)/tests/cusim/test_%: $(cuda_build)/tests/cusim/test_%.cu.o $(cusim_obj)
	$(Q)$(CC) $(LDFLAGS) $^ -lstdc++ -lm -o $@

# tests/cusim/mutants: MUTANT=dir FILE=x.cu puts dir/kernels/cuda/x.cu in the place of the original. It is linked
# first, so that its inline functions are those of the program.
ifdef MUTANT
mutant := $(MUTANT)/$(notdir $(cuda_build))
mutant_with = $(mutant)/x.o $(1) $(filter-out $(cuda_build)/kernels/cuda/$(FILE).o,$(libs))

$(mutant)/x.o: $(MUTANT)/kernels/cuda/$(FILE)
	@mkdir -p $(@D)
	$(Q)$(CUDA_CC) -iquote $(MUTANT) -c $< -o $@

$(mutant)/op_test: $(call mutant_with,$(call obj,$(optest_src)))
	$(Q)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(mutant)/test_copies: $(call mutant_with,$(BUILD)/tests/unit/test_copies.o)
	$(Q)$(CC) $(LDFLAGS) $^ -lcmocka $(LDLIBS) -o $@
endif

tests: $(unit_tests) $(op_test)

cusim_tests: $(cusim_tests)

cuda_tests: $(cuda_tests)

# The README's two commands install what is missing before they build.
demo: packages
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tools/demo/run tools/demo/demo.conf out/demo

reproduce: packages
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tools/demo/run tools/demo/reproduce.conf out/reproduce

test: packages
	@$(MAKE) --no-print-directory -j$(JOBS) unit

# The cuda device is tested on the simulator, what is between it and the host by unit tests.
simulated_unit := $(patsubst %,build/cusim-test/tests/unit/test_%,copies capture fused trainer_ranks)
simulated := $(simulated_unit) $(patsubst %.cu,build/cusim-test/%,$(filter-out %/test_race.cu,$(wildcard tests/cusim/test_*.cu))) \
             $(patsubst %.c,build/cusim-test/%,$(wildcard tests/cuda/test_*.c))

mpi_tests := $(if $(mpi_package),build/mpi-test/tests/dist/comm_mpi)

unit: tests all
	$(if $(mpi_tests),@$(MAKE) --no-print-directory MPI=1 CPU=0 BUILD=build/mpi-test $(mpi_tests))
	@$(MAKE) --no-print-directory CUDA=sim CPU=0 BUILD=build/cusim-test build/cusim-test/tests/op_test $(simulated_unit) cusim_tests cuda_tests \
	    build/cusim-test/tests/dist/comm_nccl
	@BIN=$(BIN) tests/run -j 2 "build/cusim-test/tests/op_test --device cuda" \
	    "build/cusim-test/tests/op_test attention --device cuda --dtype bf16 --prefer cudnn" $(simulated) build/cusim-test/tests/dist/comm_nccl $(op_test) $(unit_tests) $(tool_tests)

test-slow: packages
	@$(MAKE) --no-print-directory -j$(JOBS) unit
	@tools/dev/slow

# What test-slow adds to the fast tests.
slow: packages
	@tools/dev/slow

fuzzers: $(patsubst build/fuzz/%,$(BUILD)/%,$(fuzzers))

fuzz:
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/fuzz CC=clang SAN=fuzzer-no-link,address,undefined fuzzers
	@tests/run -j 2 $(patsubst %,"tools/dev/fuzz % $(FUZZ_SECONDS)",$(fuzzers))

cusim:
	@$(MAKE) --no-print-directory -j$(JOBS) CUDA=sim BUILD=build/cusim all

gates:
	@CUDA_HOME=$(CUDA_HOME) tools/dev/gates

ptx-check:
	@CUDA_HOME=$(CUDA_HOME) PTXRUN=$(PTXRUN) tools/dev/ptx_check

gpu-check:
	@tools/dev/gpu_check

lint:
	@tools/dev/lint

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build bin

# The interpreter as a CUDA runtime. cuBLAS is the real one, which finds no GPU: products run by linear_gemm.
$(BUILD)/libcudart_ptx.so: $(PTXRUN)/ptxrun.cc $(PTXRUN)/fakecudart.cc tests/ptx/graphs.cc
	@mkdir -p $(@D)
	$(Q)g++ -std=c++17 -O2 -march=native -ffp-contract=off -fPIC -shared -Wl,-Bsymbolic -I$(CUDA_HOME)/include $^ -o $@
ifeq ($(CUDA),ptx)
$(programs) $(unit_tests) $(op_test): $(BUILD)/libcudart_ptx.so
endif

# What each object was made from.
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
