/* Locks that native code takes for itself, as C++ libraries do. Each kind has one who keeps others waiting for a while, and
 * needs nothing of Python meanwhile, and one who waits; PyDLL calls them with Python's lock, CDLL without. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { A_WHILE = 300000 };

static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t many = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static int is_told;
static sem_t count;
static atomic_int word, flag;

__attribute__((constructor)) static void prepare(void) { sem_init(&count, 0, 0); }

void hold_plain(void) { pthread_mutex_lock(&plain); usleep(A_WHILE); pthread_mutex_unlock(&plain); }
void take_plain(void) { pthread_mutex_lock(&plain); pthread_mutex_unlock(&plain); }

void hold_recursive(void)
{
    pthread_mutex_lock(&recursive);
    pthread_mutex_lock(&recursive);
    usleep(A_WHILE);
    pthread_mutex_unlock(&recursive);
    pthread_mutex_unlock(&recursive);
}
void take_recursive(void) { pthread_mutex_lock(&recursive); pthread_mutex_unlock(&recursive); }

void hold_shared(void) { pthread_rwlock_rdlock(&many); usleep(A_WHILE); pthread_rwlock_unlock(&many); }
void take_shared(void) { pthread_rwlock_wrlock(&many); pthread_rwlock_unlock(&many); }

void hold_semaphore(void) { usleep(A_WHILE); sem_post(&count); }
void take_semaphore(void) { sem_wait(&count); }

void hold_condition(void)
{
    usleep(A_WHILE);
    pthread_mutex_lock(&guard);
    is_told = 1;
    pthread_cond_signal(&told);
    pthread_mutex_unlock(&guard);
}
void take_condition(void)
{
    pthread_mutex_lock(&guard);
    while (!is_told)
        pthread_cond_wait(&told, &guard);
    is_told = 0;
    pthread_mutex_unlock(&guard);
}

void hold_futex(void)
{
    usleep(A_WHILE);
    atomic_store(&word, 1);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}
void take_futex(void)
{
    while (!atomic_load(&word))
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
    atomic_store(&word, 0);
}

void hold_spinning(void) { usleep(A_WHILE); atomic_store(&flag, 1); }
void take_spinning(void)
{
    while (!atomic_load(&flag))
        sched_yield();
    atomic_store(&flag, 0);
}
