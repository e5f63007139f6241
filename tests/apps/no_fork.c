/* Preloaded, it has no process forked as long as the file named by NO_FORK is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

pid_t fork(void)
{
    const char *path = getenv("NO_FORK");
    if (path && access(path, F_OK) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return ((pid_t (*)(void))dlsym(RTLD_NEXT, "fork"))();
}
