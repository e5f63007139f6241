/* Preloaded, it says so before a process dies of SIGSEGV. */
#include <signal.h>
#include <unistd.h>

static void tell(int number)
{
    static const char text[] = "tell_fault was told\n";
    if (write(2, text, sizeof text - 1) < 0)
        _exit(1);
    raise(number);
}

__attribute__((constructor)) static void install(void)
{
    struct sigaction action = {.sa_handler = tell, .sa_flags = SA_RESETHAND};
    sigaction(SIGSEGV, &action, 0);
}
