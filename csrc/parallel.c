/* The only parallel region of the package, and what makes it safe in other people's processes.

   - One thread never enters OpenMP.
   - GNU's OpenMP hangs in the child of a process that used threads, so such a child runs serially.
   - GNU's OpenMP keeps a pool per calling thread. Two Python threads at once would start two
     teams for the same cores: the second one runs serially instead. */
#include <stdatomic.h>

#include "fastopt.h"

#ifdef _OPENMP
#include <omp.h>

static atomic_flag busy = ATOMIC_FLAG_INIT;
static atomic_int used, forked;

#ifndef _WIN32
#include <pthread.h>
static void after_fork_in_child(void) {
    atomic_store(&forked, 1);
    atomic_flag_clear(&busy);
}
static void guard_forks(void) {
    if (!atomic_exchange(&used, 1)) pthread_atfork(NULL, NULL, after_fork_in_child);
}
#else
static void guard_forks(void) {}
#endif

int fo_parallel(fo_body *body, void *ctx, int threads) {
    if (threads <= 1 || atomic_load(&forked) || atomic_flag_test_and_set(&busy)) {
        body(ctx, 0, 1);
        return 1;
    }
    guard_forks();
    int used_threads = 1;
#pragma omp parallel num_threads(threads)
    {
        const int k = omp_get_thread_num(), n = omp_get_num_threads();
        if (k == 0) used_threads = n;
        body(ctx, k, n);
    }
    atomic_flag_clear(&busy);
    return used_threads;
}

const char *fo_openmp(void) { return "openmp"; }
int fo_forked(void) { return atomic_load(&forked); }

#else

int fo_parallel(fo_body *body, void *ctx, int threads) {
    (void)threads;
    body(ctx, 0, 1);
    return 1;
}

const char *fo_openmp(void) { return "none"; }
int fo_forked(void) { return 0; }

#endif
