/* Roles of short.c by system calls that python has not.
 *
 *     mmsg    host= port= count=      datagrams of request= bytes by sendmmsg, their answers of reply=
 *                                     bytes by recvmmsg
 *     ring    host= port= count= [rate=] [direct]
 *                                     connections by io_uring alone. direct: of sockets that have no
 *                                     descriptor, and called by a thread of the kernel */

#include "short.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BATCH = 16, DATAGRAM = 2048, BLOCK = 1 << 16 };

void mmsg(void)
{
    static char blocks[BATCH][DATAGRAM];
    struct mmsghdr headers[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_storage to;
    socklen_t length = address(option("host"), number("port", 0), &to);
    long count = number("count", 1), sent = 0, received = 0;
    int fd = socket(to.ss_family, SOCK_DGRAM, 0);
    if (connect(fd, (void *)&to, length))
        fail("connect");
    for (say("READY\n"); commanded(); say("DONE %ld %ld\n", sent * request, received * reply)) {
        for (long left = count; left > 0;) {
            int batch = left < BATCH ? left : BATCH;
            for (int sending = 1; sending >= 0; sending--) {
                memset(headers, 0, sizeof headers);
                for (int index = 0; index < batch; index++) {
                    parts[index] = (struct iovec){ blocks[index], sending ? request : DATAGRAM };
                    headers[index].msg_hdr.msg_iov = &parts[index];
                    headers[index].msg_hdr.msg_iovlen = 1;
                }
                if (sending ? sendmmsg(fd, headers, batch, 0) != batch
                            : recvmmsg(fd, headers, batch, 0, NULL) != batch)
                    fail(sending ? "sendmmsg" : "recvmmsg");
                for (int index = 0; !sending && index < batch; index++)
                    if (headers[index].msg_len != reply)
                        fail("an answer of another length");
            }
            sent += batch;
            received += batch;
            left -= batch;
        }
    }
}

/* IORING_OP_SOCKET of Linux 5.19, for older headers. */
enum { OP_SOCKET = 45 };

static int ring_fd;
static unsigned *submitted, *submissions_mask, *order, *seen, *completed, *completions_mask;
static struct io_uring_sqe *submissions;
static struct io_uring_cqe *completions;

static void open_ring(int polled)
{
    struct io_uring_params is = { .flags = polled ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 10 };
    ring_fd = syscall(SYS_io_uring_setup, 4, &is);
    if (ring_fd < 0)
        fail("io_uring_setup");
    size_t size = is.cq_off.cqes + is.cq_entries * sizeof *completions;
    size_t submissions_size = is.sq_off.array + is.sq_entries * sizeof *order;
    if (size < submissions_size)
        size = submissions_size;
    int shared = MAP_SHARED | MAP_POPULATE, both = PROT_READ | PROT_WRITE;
    char *at = mmap(NULL, size, both, shared, ring_fd, IORING_OFF_SQ_RING);
    submissions = mmap(NULL, is.sq_entries * sizeof *submissions, both, shared, ring_fd, IORING_OFF_SQES);
    if (!(is.features & IORING_FEAT_SINGLE_MMAP) || at == MAP_FAILED || submissions == MAP_FAILED)
        fail("io_uring");
    submitted = (void *)(at + is.sq_off.tail);
    submissions_mask = (void *)(at + is.sq_off.ring_mask);
    order = (void *)(at + is.sq_off.array);
    seen = (void *)(at + is.cq_off.head);
    completed = (void *)(at + is.cq_off.tail);
    completions_mask = (void *)(at + is.cq_off.ring_mask);
    completions = (void *)(at + is.cq_off.cqes);
}

/* Has one thing done; its result. */
static int done(struct io_uring_sqe what, const char *called)
{
    unsigned place = *submitted & *submissions_mask;
    submissions[place] = what;
    order[place] = place;
    __atomic_store_n(submitted, *submitted + 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(completed, __ATOMIC_ACQUIRE) == *seen) {
        unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP;
        if (syscall(SYS_io_uring_enter, ring_fd, 1, 1, flags, NULL, 0) < 0 && errno != EINTR)
            fail("io_uring_enter");
    }
    int result = completions[*seen & *completions_mask].res;
    __atomic_store_n(seen, *seen + 1, __ATOMIC_RELEASE);
    if (result < 0) {
        errno = -result;
        fail(called);
    }
    return result;
}

static struct io_uring_sqe on(int fd, int direct, int opcode, void *data, unsigned length)
{
    return (struct io_uring_sqe){ .opcode = opcode, .fd = fd, .addr = (uintptr_t)data, .len = length,
                                  .flags = direct ? IOSQE_FIXED_FILE : 0 };
}

static int ring_socket(int direct)
{
    struct io_uring_sqe opened = { .opcode = OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM };
    /* The first of the files that the ring has for itself; 0 means that it takes a descriptor. */
    opened.file_index = direct ? 1 : 0;
    return done(opened, "socket");
}

static void ring_close(int fd, int direct)
{
    struct io_uring_sqe closed = { .opcode = IORING_OP_CLOSE, .fd = direct ? 0 : fd };
    closed.file_index = direct ? 1 : 0;
    done(closed, "close");
}

void ring(void)
{
    static char block[BLOCK];
    struct sockaddr_storage to;
    socklen_t length = address(option("host"), number("port", 0), &to);
    long count = number("count", 1), rate = number("rate", 0), finished = 0;
    int direct = option("direct") != NULL, none = -1;
    open_ring(direct);
    if (direct && syscall(SYS_io_uring_register, ring_fd, IORING_REGISTER_FILES, &none, 1) < 0)
        fail("io_uring_register");
    /* Whether it can be done at all is known before READY. */
    ring_close(ring_socket(direct), direct);
    for (say("READY\n"); commanded(); say("DONE %ld %ld\n", finished * request, finished * reply)) {
        int64_t start = now();
        for (long index = 0; index < count; index++, finished++) {
            if (rate)
                sleep_until(start + index * 1000000000LL / rate);
            int fd = ring_socket(direct);
            struct io_uring_sqe connected = on(fd, direct, IORING_OP_CONNECT, &to, 0);
            connected.off = length;
            done(connected, "connect");
            for (long left = request; left > 0;)
                left -= done(on(fd, direct, IORING_OP_SEND, block, left < BLOCK ? left : BLOCK), "send");
            long got = 0;
            for (int part = 1; part > 0; got += part)
                part = done(on(fd, direct, IORING_OP_RECV, block, BLOCK), "recv");
            if (got != reply)
                fail("an answer of another length");
            ring_close(fd, direct);
        }
    }
}
