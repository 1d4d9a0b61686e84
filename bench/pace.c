/* Sends A and AAAA queries at even intervals from SOCKETS sockets, and prints a line of JSON.
 *
 *     pace PORT RATE SECONDS MODE FILE [ADDRESS]
 *
 * PORT is a port of ADDRESS, which is 127.0.0.1 by default. RATE is in queries a second, and FILE has a line "NAME TYPE"
 * for each query. The queries of FILE are sent in turn, again and again. MODE is one of:
 *   wait   a query is sent when its time has come and the previous query has its reply, as a stub resolver does
 *   open   a query is sent when its time has come
 *   tcp    each query has a TCP connection of its own to 127.0.0.1, with CONNECTIONS at a time; RATE is the largest rate
 *
 * A query without a reply in TIMEOUT is lost. A latency is the time from the call that sends a query to the return of
 * the call that receives its reply, in microseconds. "late" counts the queries that were sent after their time, because
 * the previous reply came late. SIGTERM ends the sending early.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS 128
#define CONNECTIONS 32
#define SOURCES 64 /* source addresses of connections: one has too few ports for all connections in TIME_WAIT */
#define IDS 65536
#define SECOND 1000000000LL
#define TIMEOUT (3 * SECOND)

struct query {
    int size;
    unsigned char packet[280];
};

static struct query *queries;
static long count;
static int sockets[SOCKETS];
static long long sent_at[IDS]; /* 0 if no query with this message id waits for a reply */
static float *latencies;
static long answered, lost, late, codes[16];
static volatile sig_atomic_t over;

static void end(int number)
{
    over = number;
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int encode(struct query *query, char *line)
{
    char *type = strchr(line, ' '), *rest;
    unsigned char *at = query->packet + 12;
    if (!type || type - line > 253)
        return 0;
    *type++ = 0;
    memcpy(query->packet, "\0\0\1\0\0\1\0\0\0\0\0\0", 12);
    for (char *label = strtok_r(line, ".", &rest); label; label = strtok_r(NULL, ".", &rest)) {
        size_t size = strlen(label);
        *at++ = size;
        memcpy(at, label, size);
        at += size;
    }
    memcpy(at, strncmp(type, "AAAA", 4) ? "\0\0\1\0\1" : "\0\0\34\0\1", 5);
    query->size = at + 5 - query->packet;
    return 1;
}

static void read_queries(const char *path)
{
    char line[512];
    FILE *file = fopen(path, "r");
    if (!file)
        fail(path);
    for (long room = 0; fgets(line, sizeof line, file);) {
        if (count == room && !(queries = realloc(queries, (room += 65536) * sizeof *queries)))
            fail("realloc");
        count += encode(&queries[count], line);
    }
    fclose(file);
}

static void open_sockets(int port, const char *host)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        fail(host);
    for (int number = 0; number < SOCKETS; number++) {
        sockets[number] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (sockets[number] < 0 || connect(sockets[number], (void *)&address, sizeof address))
            fail("socket");
    }
}

static void send_query(long number)
{
    struct query *query = &queries[number % count];
    int id = number % IDS;
    query->packet[0] = id >> 8;
    query->packet[1] = id;
    lost += sent_at[id] != 0;
    sent_at[id] = now();
    while (send(sockets[number % SOCKETS], query->packet, query->size, 0) < 0) {
        if (errno == ECONNREFUSED) /* the error of an earlier query, or of this one, which is then lost */
            break;
        if (errno != EAGAIN && errno != EINTR)
            fail("send");
    }
}

static void receive_all(int socket)
{
    unsigned char reply[4096];
    ssize_t size;
    while ((size = recv(socket, reply, sizeof reply, 0)) >= 0) {
        int id = size < 12 ? 0 : reply[0] << 8 | reply[1];
        if (size < 12 || !sent_at[id])
            continue;
        latencies[answered++] = (now() - sent_at[id]) / 1e3;
        codes[reply[3] & 15]++;
        sent_at[id] = 0;
    }
}

static void wait_for(int descriptor, long long until)
{
    long long left = until - now();
    struct timespec timeout = {left > 0 ? left / SECOND : 0, left > 0 ? left % SECOND : 0};
    struct pollfd ready = {descriptor, POLLIN, 0};
    ppoll(&ready, descriptor >= 0, &timeout, NULL);
}

static long send_in_turn(long total, double gap, long long begin)
{
    long number = 0;
    for (; number < total && !over; number++) {
        long long due = begin + number * gap;
        int socket = sockets[number % SOCKETS];
        if (now() < due)
            wait_for(-1, due);
        else
            late++;
        send_query(number);
        for (long long end = now() + TIMEOUT; sent_at[number % IDS] && now() < end;) {
            wait_for(socket, end);
            receive_all(socket);
        }
    }
    return number;
}

static void receive_until(int selector, long long until)
{
    struct epoll_event events[SOCKETS];
    do {
        wait_for(selector, until);
        int ready = epoll_wait(selector, events, SOCKETS, 0);
        for (int number = 0; number < ready; number++)
            receive_all(events[number].data.fd);
    } while (now() < until);
}

static long send_open(long total, double gap, long long begin)
{
    long number = 0;
    int selector = epoll_create1(0);
    for (int number = 0; number < SOCKETS; number++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = sockets[number]};
        epoll_ctl(selector, EPOLL_CTL_ADD, sockets[number], &event);
    }
    for (; number < total && !over; number++) {
        long long due = begin + number * gap;
        if (now() > due + gap)
            late++;
        receive_until(selector, due);
        send_query(number);
    }
    for (long long end = now() + TIMEOUT; answered + lost < number && now() < end;)
        receive_until(selector, now() + SECOND / 100);
    return number;
}

static int open_connection(int port, long number)
{
    struct sockaddr_in address = {.sin_family = AF_INET}, source = {.sin_family = AF_INET};
    int one = 1, connection = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % SOURCES);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    setsockopt(connection, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (connection < 0 || bind(connection, (void *)&source, sizeof source))
        fail("bind");
    if (connect(connection, (void *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect");
    return connection;
}

/* Sends the query of a connection when it is open, and reads its reply. Returns 0 when the connection can be closed. */
static int go_on(int connection, int events, long number)
{
    struct query *query = &queries[number % count];
    unsigned char message[4096] = {query->size >> 8, query->size, number >> 8, number};
    if (events & EPOLLIN) {
        ssize_t size = recv(connection, message, sizeof message, 0);
        if (size >= 14 && message[2] == (number >> 8 & 255) && message[3] == (number & 255)) {
            latencies[answered++] = (now() - sent_at[number % IDS]) / 1e3;
            codes[message[5] & 15]++;
        }
        return 0;
    }
    if (events & (EPOLLERR | EPOLLHUP))
        return 0;
    memcpy(message + 4, query->packet + 2, query->size - 2);
    return send(connection, message, query->size + 2, 0) == query->size + 2;
}

static long send_over_connections(int port, long total, long long end)
{
    long next = 0, open = 0, numbers[CONNECTIONS];
    int connections[CONNECTIONS], selector = epoll_create1(0);
    memset(connections, -1, sizeof connections);
    while (!over && (now() < end || open)) {
        for (int slot = 0; slot < CONNECTIONS && next < total && now() < end; slot++) {
            struct epoll_event event = {.events = EPOLLOUT, .data.u32 = slot};
            if (connections[slot] >= 0)
                continue;
            sent_at[next % IDS] = now();
            connections[slot] = open_connection(port, next);
            numbers[slot] = next++;
            epoll_ctl(selector, EPOLL_CTL_ADD, connections[slot], &event);
            open++;
        }
        struct epoll_event events[CONNECTIONS];
        int ready = epoll_wait(selector, events, CONNECTIONS, 1000);
        if (!ready)
            break;
        for (int number = 0; number < ready; number++) {
            int slot = events[number].data.u32;
            if (go_on(connections[slot], events[number].events, numbers[slot])) {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = slot};
                epoll_ctl(selector, EPOLL_CTL_MOD, connections[slot], &event);
            } else {
                close(connections[slot]);
                connections[slot] = -1;
                open--;
            }
        }
        if (next == total && !open)
            break;
    }
    return next;
}

static int compare(const void *left, const void *right)
{
    float one = *(const float *)left, other = *(const float *)right;
    return (one > other) - (one < other);
}

static double percentile(double share)
{
    return answered ? latencies[(long)(share * (answered - 1))] : -1;
}

int main(int arguments, char **argument)
{
    if (arguments != 6 && arguments != 7)
        return 2;
    double rate = atof(argument[2]);
    long total = rate * atof(argument[3]);
    int port = atoi(argument[1]);
    read_queries(argument[5]);
    latencies = malloc((total + 1) * sizeof *latencies);
    if (!count || !latencies)
        return 2;
    prctl(PR_SET_TIMERSLACK, 1);
    signal(SIGTERM, end);
    long long begin = now();
    if (!strcmp(argument[4], "tcp")) {
        total = send_over_connections(port, total, begin + SECOND * atof(argument[3]));
    } else {
        open_sockets(port, arguments == 7 ? argument[6] : "127.0.0.1");
        total = (strcmp(argument[4], "open") ? send_in_turn : send_open)(total, SECOND / rate, begin);
    }
    double seconds = (now() - begin) / 1e9;
    qsort(latencies, answered, sizeof *latencies, compare);
    printf("{\"sent\": %ld, \"answered\": %ld, \"late\": %ld, \"seconds\": %.3f, \"codes\": {\"NOERROR\": %ld, "
           "\"SERVFAIL\": %ld, \"NXDOMAIN\": %ld, \"REFUSED\": %ld}, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, "
           "\"p999\": %.1f, \"slowest\": %.1f}\n",
           total, answered, late, seconds, codes[0], codes[2], codes[3], codes[5], percentile(.5), percentile(.9),
           percentile(.99), percentile(.999), percentile(1));
    return 0;
}
