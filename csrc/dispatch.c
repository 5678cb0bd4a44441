/* Which instruction set runs here: the best one that is compiled in and that this processor has,
   unless one is forced. The choice is the only state the C side keeps. */
#include <stdatomic.h>
#include <string.h>

#include "fastopt.h"

extern const fo_kernels fo_kernels_base;
#ifdef FO_HAVE_AVX2
extern const fo_kernels fo_kernels_avx2;
#endif
#ifdef FO_HAVE_AVX512
extern const fo_kernels fo_kernels_avx512;
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static int bit(int value, int n) { return (value >> n) & 1; }
static int os_saves(unsigned mask) { return (_xgetbv(0) & mask) == mask; }
static int has_avx2(void) {
    int a[4], b[4];
    __cpuid(a, 1);
    __cpuidex(b, 7, 0);
    return bit(a[2], 27) && bit(a[2], 28) && bit(b[1], 5) && os_saves(0x6);
}
static int has_avx512(void) {
    int b[4];
    __cpuidex(b, 7, 0);
    return has_avx2() && bit(b[1], 16) && bit(b[1], 17) && bit(b[1], 30) && bit(b[1], 31) &&
           os_saves(0xe6);
}
#else
#ifdef FO_HAVE_AVX2
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2");
}
#endif
#ifdef FO_HAVE_AVX512
static int has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif
#endif

static int always(void) { return 1; }

static const struct {
    const fo_kernels *kernels;
    int (*runs_here)(void);
} table[] = {
#ifdef FO_HAVE_AVX512
    {&fo_kernels_avx512, has_avx512},
#endif
#ifdef FO_HAVE_AVX2
    {&fo_kernels_avx2, has_avx2},
#endif
    {&fo_kernels_base, always},
};

static _Atomic(const fo_kernels *) current;

const char *fo_isa_available(int k) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].runs_here() && k-- == 0) return table[i].kernels->isa;
    return NULL;
}

int fo_set_isa(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].runs_here() && strcmp(table[i].kernels->isa, name) == 0) {
            atomic_store(&current, table[i].kernels);
            return 1;
        }
    return 0;
}

const fo_kernels *fo_current(void) {
    const fo_kernels *kernels = atomic_load_explicit(&current, memory_order_acquire);
    if (!kernels) {
        fo_set_isa(fo_isa_available(0));
        kernels = atomic_load(&current);
    }
    return kernels;
}

fo_sparse *fo_sparse_rule(int rule, int dtype, int index_type) {
    return fo_current()->rules[rule].sparse[dtype][index_type];
}
