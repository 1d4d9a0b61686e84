/* Looks a name up again and again with getaddrinfo(3) of the C library that it is linked with.
 *
 *     lookups NAME ADDRESS MILLISECONDS PROCESSES
 *
 * Each process writes a line for each lookup: the time of its start (CLOCK_MONOTONIC), its seconds, and "ok" or the
 * reason why the answer was not ADDRESS. MILLISECONDS is the time between the starts of two lookups. SIGTERM ends a
 * process after its present lookup.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t over;

static void end(int number)
{
    over = number;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static const char *look_up(const char *name, const char *address, char *text)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    int code = getaddrinfo(name, "80", &hints, &found);
    if (code)
        return gai_strerror(code);
    inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, INET_ADDRSTRLEN);
    freeaddrinfo(found);
    return strcmp(text, address) ? text : "ok";
}

int main(int count, char **arguments)
{
    if (count != 5)
        return 2;
    double gap = atof(arguments[3]) / 1e3, offset = 0;
    for (int child = 1; child < atoi(arguments[4]); child++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            offset = gap * child / atof(arguments[4]);
            break;
        }
    }
    char text[INET_ADDRSTRLEN];
    signal(SIGTERM, end);
    usleep(offset * 1e6);
    for (double next = now(); !over; next += gap) {
        double begun = now();
        const char *result = look_up(arguments[1], arguments[2], text);
        char line[256];
        int size = snprintf(line, sizeof line, "%.6f %.6f %s\n", begun, now() - begun, result);
        if (write(STDOUT_FILENO, line, size) != size)
            return 1;
        if (next + gap < now())
            next = now() - gap;
        else
            usleep((next + gap - now()) * 1e6);
    }
    return 0;
}
