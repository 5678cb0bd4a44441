/* The only parallel region of the package, and what makes it safe in other people's processes.

   - One thread never enters OpenMP.
   - GNU's OpenMP hangs in the child of a process that used threads, so such a child runs serially.
   - GNU's OpenMP keeps a pool per calling thread. Two Python threads at once would start two
     teams for the same cores: the second one runs serially instead.
   - The number of threads is always a num_threads clause: omp_set_num_threads would change the
     other libraries that share the runtime. Nothing is used that some OpenMP runtime lacks. */
#include "fastopt.h"

#ifdef _OPENMP
#include <omp.h>
#include <stdatomic.h>

static atomic_flag busy = ATOMIC_FLAG_INIT;
static atomic_int forked;

#ifdef _WIN32
#include <windows.h>
#define give_way() SwitchToThread()
static void guard_forks(void) {}
#else
#include <pthread.h>
#include <sched.h>
#define give_way() sched_yield()

static void after_fork_in_child(void) {
    atomic_store(&forked, 1);
    atomic_flag_clear(&busy); /* by a thread that does not exist here */
}

/* Called with busy held, so once only; a child needs no guard of its own, it stays serial. */
static void guard_forks(void) {
    static int guarded;
    if (!guarded) guarded = pthread_atfork(NULL, NULL, after_fork_in_child) == 0;
}
#endif

int fo_parallel(fo_body *body, void *ctx, int threads) {
    if (threads <= 1 || atomic_load(&forked) || atomic_flag_test_and_set(&busy)) {
        body(ctx, 0, 1);
        return 1;
    }
    guard_forks();
    int team = 1;
#pragma omp parallel num_threads(threads)
    {
        const int k = omp_get_thread_num(), n = omp_get_num_threads();
        if (k == 0) team = n;
        body(ctx, k, n);
    }
    atomic_flag_clear(&busy);
    return team;
}

void fo_wait(fo_barrier *barrier, int n) {
    enum { SPINS = 2000 }; /* some microseconds */
    const int phase = atomic_load(&barrier->phase);
    if (atomic_fetch_add(&barrier->waiting, 1) == n - 1) {
        atomic_store(&barrier->waiting, 0);
        atomic_store(&barrier->phase, phase + 1);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&barrier->phase, memory_order_acquire) == phase;)
        if (++spins > SPINS) give_way();
}

const char *fo_openmp(void) { return "openmp"; }
int fo_forked(void) { return atomic_load(&forked); }
void fo_stay_serial(void) { atomic_store(&forked, 1); }

#else

int fo_parallel(fo_body *body, void *ctx, int threads) {
    (void)threads;
    body(ctx, 0, 1);
    return 1;
}

void fo_wait(fo_barrier *barrier, int n) { (void)barrier, (void)n; }

const char *fo_openmp(void) { return "none"; }
int fo_forked(void) { return 0; }
void fo_stay_serial(void) {}

#endif
