/* Empties the CPU caches of its core again and again, as other containers on a node do.
 *
 *     neighbour OCTETS MICROSECONDS
 *
 * Writes to each cache line of a block of OCTETS, sleeps for MICROSECONDS, and so on until it is killed. Ends with its
 * parent.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define LINE 64

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    long octets = atol(arguments[1]);
    struct timespec pause = {0, atol(arguments[2]) * 1000};
    volatile char *block = calloc(octets, 1);
    if (!block)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        for (long at = 0; at < octets; at += LINE)
            block[at]++;
        nanosleep(&pause, NULL);
    }
}
