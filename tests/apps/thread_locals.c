/* A library with a variable of each thread's, such as many have. */

#ifndef MODEL
#define MODEL
#endif

static __thread long kept MODEL = 7;

long *where(void)
{
    return &kept;
}

long get(void)
{
    return kept;
}

void set(long value)
{
    kept = value;
}
