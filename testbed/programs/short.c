/* Connections and processes that come and go too fast for workload.py, for the tests and the bench.
 *
 *     short NAME ROLE [KEY=VALUE]...
 *
 * The same protocol as workload.py's: NAME makes the command line recognisable, and the process is
 * called so too; READY when set up; `go` on stdin, answered by `DONE SENT RECEIVED`, payload bytes
 * so far; stdin's end is its end, and whatever happens it ends after a minute. Every connection is
 * a request of request= bytes and an answer of reply= bytes, after which the server closes.
 *
 *     server  port= [host=] mode=loop|thread|fork|prefork|reuseport [workers=] [think=]
 *     churn   host= port= count= [rate=] [local=] [parallel]    one process, many connections
 *     spawn   host= port= count= rate= live= child=              many processes, one connection each
 *     once    host= port= live= [wait=] [early]                  one of those: what spawn executes
 *     steady  host= port= count= rate=                           a UDP socket made at once, many datagrams
 *     hog     [life=]                                            takes a core
 *     mmsg, ring                                                 calls.c
 *
 * think= is how many microseconds a server takes to answer, live= how many one has after the start of its main(). What a process lives from
 * exec to exit the spawner sees, and says: `LIVED MEDIAN LEAST GREATEST`, in microseconds.
 * wait= is how many microseconds one is silent before it connects; early: after it has connected. A
 * steady process ends with its last datagram. life= is in seconds. mptcp: MPTCP in the place of TCP.
 * The workers of a server called `...parent` are called `...worker`, in place. */

#include "short.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum { LIFE = 600, BLOCK = 1 << 16, WORKERS = 64, MOST = 10000 };

static char **options;
static char *name;
static long think;
long request, reply;

void fail(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
    _exit(1);
}

/* One write each, so that lines of several processes stay whole. */
void say(const char *format, ...)
{
    char line[200];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (write(1, line, length) != length)
        fail("write");
}

/* The value of an option; "" for one without; NULL if it isn't there. */
char *option(const char *key)
{
    size_t length = strlen(key);
    for (char **word = options; *word; word++)
        if (strncmp(*word, key, length) == 0 && ((*word)[length] == '=' || !(*word)[length]))
            return *word + length + ((*word)[length] == '=');
    return NULL;
}

long number(const char *key, long otherwise)
{
    char *value = option(key);
    return value ? atol(value) : otherwise;
}

int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void sleep_until(int64_t when)
{
    struct timespec time = { when / 1000000000, when % 1000000000 };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {}
}

/* A line of stdin; 0 at its end. */
int commanded(void)
{
    char byte;
    while (read(0, &byte, 1) == 1)
        if (byte == '\n')
            return 1;
    return 0;
}

socklen_t address(const char *host, int port, struct sockaddr_storage *to)
{
    memset(to, 0, sizeof *to);
    struct sockaddr_in *four = (void *)to;
    struct sockaddr_in6 *six = (void *)to;
    if (strchr(host, ':')) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        inet_pton(AF_INET6, host, &six->sin6_addr);
        return sizeof *six;
    }
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    inet_pton(AF_INET, host, &four->sin_addr);
    return sizeof *four;
}

static int stream(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, option("mptcp") ? IPPROTO_MPTCP : 0);
    if (fd < 0)
        fail("socket");
    return fd;
}

/* Sends or receives exactly so many bytes; 0 if the other side ended before. */
static int transfer(int fd, int sending, long bytes)
{
    static __thread char block[BLOCK];
    while (bytes > 0) {
        size_t most = bytes < BLOCK ? bytes : BLOCK;
        ssize_t part = sending ? send(fd, block, most, MSG_NOSIGNAL) : recv(fd, block, most, 0);
        if (part <= 0)
            return 0;
        bytes -= part;
    }
    return 1;
}

static void serve(int fd)
{
    if (transfer(fd, 0, request)) {
        if (think)
            usleep(think);
        transfer(fd, 1, reply);
    }
    close(fd);
}

static void *serve_in_thread(void *fd)
{
    serve((int)(intptr_t)fd);
    return NULL;
}

static int listening(int reuseport)
{
    struct sockaddr_storage at;
    char *host = option("host");
    socklen_t length = address(host ? host : "0.0.0.0", number("port", 0), &at);
    int on = 1, fd = stream(at.ss_family);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuseport)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, (void *)&at, length) || listen(fd, 4096))
        fail("listen");
    return fd;
}

static void server(void)
{
    const char *mode = option("mode");
    int reuseport = !strcmp(mode, "reuseport"), many = reuseport || !strcmp(mode, "prefork");
    int workers = many ? number("workers", 3) : 0, sockets[WORKERS];
    for (int index = 0; index == 0 || (reuseport && index < workers); index++)
        sockets[index] = listening(reuseport);
    signal(SIGCHLD, SIG_IGN);
    for (int index = 0; index < workers; index++) {
        if (fork() != 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(LIFE);
        char *parent = strstr(name, "parent");
        if (parent)
            memcpy(parent, "worker", 6);
        prctl(PR_SET_NAME, name);
        for (int other = 0; reuseport && other < workers; other++)
            if (other != index)
                close(sockets[other]);
        for (;;)
            serve(accept(sockets[reuseport ? index : 0], NULL, NULL));
    }
    for (int index = 0; reuseport && index < workers; index++)
        close(sockets[index]);
    say("READY\n");
    struct pollfd ready[2] = { { .fd = 0, .events = POLLIN },
                               { .fd = many ? -1 : sockets[0], .events = POLLIN } };
    for (;;) {
        poll(ready, 2, -1);
        if (ready[0].revents && !commanded())
            return;
        if (!(ready[1].revents & POLLIN))
            continue;
        int fd = accept4(sockets[0], NULL, NULL, SOCK_CLOEXEC);
        if (!strcmp(mode, "loop")) {
            serve(fd);
        } else if (!strcmp(mode, "thread")) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, serve_in_thread, (void *)(intptr_t)fd))
                fail("pthread_create");
            pthread_detach(thread);
        } else {
            if (fork() == 0) {
                alarm(LIFE);
                close(sockets[0]);
                serve(fd);
                _exit(0);
            }
            close(fd);
        }
    }
}

static int connected(void)
{
    struct sockaddr_storage from, to;
    socklen_t length = address(option("host"), number("port", 0), &to);
    int on = 1, fd = stream(to.ss_family);
    if (option("local")) {
        address(to.ss_family == AF_INET6 ? "::" : "0.0.0.0", number("local", 0), &from);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (void *)&from, length))
            fail("bind");
    }
    if (connect(fd, (void *)&to, length))
        fail("connect");
    return fd;
}

/* The answer, and the end of the stream: the server closes first. */
static void answered(int fd)
{
    char byte;
    if (!transfer(fd, 0, reply) || recv(fd, &byte, 1, 0) != 0)
        fail("answer");
}

static void churn(void)
{
    static int open[MOST];
    long count = number("count", 1), rate = number("rate", 0), done = 0;
    int parallel = option("parallel") != NULL;
    for (say("READY\n"); commanded(); say("DONE %ld %ld\n", done * request, done * reply)) {
        int64_t start = now();
        for (long index = 0; index < count; index++, done++) {
            if (rate)
                sleep_until(start + index * 1000000000LL / rate);
            int fd = open[parallel ? index : 0] = connected();
            if (!parallel && !transfer(fd, 1, request))
                fail("request");
            if (parallel)
                continue;
            answered(fd);
            close(fd);
        }
        for (long index = 0; parallel && index < count; index++)
            if (!transfer(open[index], 1, request))
                fail("request");
        for (long index = 0; parallel && index < count; index++) {
            answered(open[index]);
            close(open[index]);
        }
    }
}

static void once(int64_t began)
{
    prctl(PR_SET_TIMERSLACK, 1);
    int64_t speaks = began + number("wait", 0) * 1000;
    if (!option("early"))
        sleep_until(speaks);
    int fd = connected();
    sleep_until(speaks);
    if (!transfer(fd, 1, request))
        fail("request");
    answered(fd);
    sleep_until(began + number("live", 0) * 1000);
    /* The socket is closed by the exit. */
    _exit(0);
}

static void steady(void)
{
    static char block[BLOCK];
    struct sockaddr_storage to;
    socklen_t length = address(option("host"), number("port", 0), &to);
    int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (void *)&to, length))
        fail("connect");
    say("READY\n");
    if (!commanded())
        return;
    int64_t start = now();
    long count = number("count", 1), rate = number("rate", 1);
    for (long index = 0; index < count; index++) {
        sleep_until(start + index * 1000000000LL / rate);
        if (send(fd, block, request, 0) != request)
            fail("send");
    }
    say("DONE %ld 0\n", count * request);
}

static struct life { pid_t pid; int64_t began, lived; } lives[MOST];
static long born;

/* Who has ended until then; `when` 0: everybody. */
static void reap(int64_t when)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, when ? WNOHANG : 0);
        int64_t left = when - now();
        if (pid > 0) {
            if (status != 0)
                fail("a child failed");
            for (long index = born; index-- > 0;)
                if (lives[index].pid == pid && !lives[index].lived) {
                    lives[index].lived = now() - lives[index].began;
                    break;
                }
        } else if (!when || left <= 0) {
            return;
        } else {
            struct timespec time = { left / 1000000000, left % 1000000000 };
            sigtimedwait(&child, NULL, &time);
        }
    }
}

static int shorter(const void *one, const void *other)
{
    int64_t a = ((struct life *)one)->lived, b = ((struct life *)other)->lived;
    return (a > b) - (a < b);
}

static void spawn(char **argv)
{
    extern char **environ;
    long count = number("count", 1), rate = number("rate", 100), total = 0;
    sigset_t child, none;
    posix_spawnattr_t attributes;
    sigemptyset(&none);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    /* To be awake when a child is executed and when it ends, or it would measure its own delays.
     * The children are ordinary processes. */
    struct sched_param first = { .sched_priority = 1 };
    sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
    char *words[20] = { argv[0], option("child"), "once" };
    for (int index = 0; index < 16 && options[index]; index++)
        words[3 + index] = options[index];
    for (say("READY\n"); commanded(); ) {
        int64_t start = now();
        for (born = 0; born < count; born++) {
            reap(start + born * 1000000000LL / rate);
            if (posix_spawn(&lives[born].pid, argv[0], NULL, &attributes, words, environ))
                fail("posix_spawn");
            lives[born].began = now();
            lives[born].lived = 0;
        }
        reap(0);
        qsort(lives, count, sizeof *lives, shorter);
        say("LIVED %ld %ld %ld\n", (long)lives[count / 2].lived / 1000,
            (long)lives[0].lived / 1000, (long)lives[count - 1].lived / 1000);
        total += count;
        say("DONE %ld %ld\n", total * request, total * reply);
    }
}

int main(int argc, char **argv)
{
    int64_t began = now();
    if (argc < 3)
        return 2;
    name = argv[1];
    options = argv + 3;
    if (number("count", 1) > MOST || number("workers", 1) > WORKERS)
        return 2;
    prctl(PR_SET_NAME, name);
    alarm(number("life", LIFE));
    request = number("request", 0);
    reply = number("reply", 0);
    think = number("think", 0);
    const char *role = argv[2];
    if (!strcmp(role, "once"))
        once(began);
    else if (!strcmp(role, "server"))
        server();
    else if (!strcmp(role, "churn"))
        churn();
    else if (!strcmp(role, "spawn"))
        spawn(argv);
    else if (!strcmp(role, "steady"))
        steady();
    else if (!strcmp(role, "mmsg"))
        mmsg();
    else if (!strcmp(role, "ring"))
        ring();
    else if (!strcmp(role, "hog"))
        for (say("READY\n"); ;) {}
    return 0;
}
