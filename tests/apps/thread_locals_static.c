/* The same, whose variable the thread has but once: as in some allocators, and in OpenMP. */

#define MODEL __attribute__((tls_model("initial-exec")))
#include "thread_locals.c"
