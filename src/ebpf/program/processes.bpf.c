// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Reports every process that is forked, calls exec or ends, with its command line.
//
// sched_process_exec runs in the context of the new program: its arguments are in memory, and nothing can
// change them before they are read. So no process is too short-lived to be named. A ring buffer keeps the
// events in the order in which they took place.
//
// The few fields of the kernel's own structures are declared here; the loader finds their offsets in the BTF
// of the running kernel (CO-RE). Works from Linux 5.10 on.

#include "helpers.h"

typedef struct {
	int counter;
} atomic_t;

struct ns_common {
	unsigned int inum;
} RELOCATED;

struct net {
	struct ns_common ns;
} RELOCATED;

struct nsproxy {
	struct net *net_ns;
} RELOCATED;

struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
} RELOCATED;

struct signal_struct {
	atomic_t live; // threads that have not begun to exit
} RELOCATED;

struct task_struct {
	int pid, tgid;
	struct task_struct *group_leader;
	__u64 start_boottime;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
} RELOCATED;

enum { FORK, EXEC, EXIT };

// The arguments could not be read, or are gone.
#define UNREAD 0xffffffffu

// What is reported. User space reads this layout: src/ebpf/processes.rs.
struct event {
	__u64 start; // of the process: nanoseconds since boot
	__u64 parent_start;
	__u32 pid; // in the initial PID namespace, as all numbers here
	__u32 parent;
	__u32 kind;
	__u32 netns; // inode of the network namespace; 0 where it has none any more
	__u32 length; // of the arguments, in bytes
	__u32 unused;
	char name[NAME];
	char arguments[];
};

// As much of a command line as user space reads in /proc/PID/cmdline.
#define MOST 65536
// A record has one of these sizes, because the verifier wants them to be constants.
#define SMALL 512
#define MIDDLE 8192

// A title that was written over the arguments has no more (PAGE_SIZE in `fs/proc/base.c`).
#define TITLE 4096

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} events SEC(".maps");

// For which events user space is woken, beside when a quarter of the ring is full.
enum { NONE, OTHERS, ALL };

struct settings {
	__u32 wake;
	__u32 netns; // OTHERS: those of other network namespaces than this one
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

// Events for which the ring had no room.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

// Whether what is read of the kernel's structures is what its helper functions say: 1 if it is, 2 if not.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} checked SEC(".maps");

INLINE void check(struct task_struct *current)
{
	__u32 first = 0;
	__u32 *result = bpf_map_lookup_elem(&checked, &first);

	if (!result || *result)
		return;
	__u64 read = (__u64)READ(current, tgid) << 32 | (__u32)READ(current, pid);
	*result = bpf_get_current_pid_tgid() == read ? 1 : 2;
}

INLINE void lose(void)
{
	__u32 first = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &first);

	if (count)
		__sync_fetch_and_add(count, 1);
}

// Whether a quarter of the ring is full.
INLINE int is_crowded(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 4;
}

// Waking a thread costs more than all else here. Where nobody is in a hurry it is done when a quarter of
// the ring is full.
INLINE void submit(struct event *event, __u32 netns)
{
	__u32 first = 0;
	struct settings *to = bpf_map_lookup_elem(&settings, &first);
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (!to || to->wake == ALL)
		flags = 0;
	// Events for which nobody was woken may be waiting before it.
	else if (to->wake == OTHERS && netns != to->netns)
		flags = BPF_RB_FORCE_WAKEUP;
	else if (is_crowded())
		flags = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(event, flags);
}

INLINE __u32 netns_of(struct task_struct *task)
{
	struct nsproxy *nsproxy = READ(task, nsproxy);
	struct net *net = nsproxy ? READ(nsproxy, net_ns) : 0;

	return net ? READ(net, ns.inum) : 0;
}

INLINE void identify(struct event *event, struct task_struct *task, __u32 kind)
{
	struct task_struct *leader = READ(task, group_leader);

	event->start = READ(leader, start_boottime);
	event->pid = READ(task, tgid);
	event->kind = kind;
	event->netns = netns_of(task);
	event->parent = 0;
	event->parent_start = 0;
	event->length = UNREAD;
	event->unused = 0;
	bpf_get_current_comm(event->name, NAME);
}

struct span {
	unsigned long start;
	__u32 length;
	__u32 title; // it ends with the first NUL
};

// Where the command line is, by the rules of /proc/PID/cmdline.
INLINE struct span command_line(struct mm_struct *mm)
{
	struct span span = {};
	unsigned long end = READ(mm, arg_end);
	char last = 0;

	span.start = READ(mm, arg_start);
	if (end <= span.start)
		return span;
	// A title may be longer than the arguments were, and goes on where the environment was.
	bpf_probe_read_user(&last, 1, (void *)(end - 1));
	if (last) {
		unsigned long env_start = READ(mm, env_start), env_end = READ(mm, env_end);

		if (env_start == end && env_end > end)
			end = env_end;
		span.title = 1;
	}
	span.length = end - span.start > MOST ? MOST : end - span.start;
	if (span.title && span.length > TITLE)
		span.length = TITLE;
	return span;
}

// Reports `task` without its arguments: all that there is room for, or all that there is.
INLINE void report_bare(struct task_struct *task, __u32 kind, __u32 length)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		lose();
		return;
	}
	identify(event, task, kind);
	event->length = length;
	submit(event, event->netns);
}

// Reports `task` with its arguments in a record of this size, a constant.
#define REPORT(size)                                                                                        \
	do {                                                                                                \
		struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event) + (size) + 8, 0);         \
		if (!event)                                                                                 \
			goto bare;                                                                          \
		identify(event, task, kind);                                                                \
		__u64 length = span.length;                                                                 \
		/* Where the compiler knows it already, the verifier doesn't. */                            \
		asm volatile("" : "+r"(length));                                                            \
		if (length > (size))                                                                        \
			length = (size);                                                                    \
		if (bpf_probe_read_user(event->arguments, length, (void *)span.start) == 0)                 \
			event->length = length;                                                             \
		submit(event, event->netns);                                                                \
	} while (0)

// The same for a title. One that is longer than `most` is cut for a program that begins, and left out for a
// process that ends: it is known with a longer one.
#define REPORT_TITLE(size, most)                                                                            \
	do {                                                                                                \
		struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event) + (size) + 8, 0);         \
		if (!event)                                                                                 \
			goto bare;                                                                          \
		identify(event, task, kind);                                                                \
		/* Room for the NUL that is always written. */                                              \
		long length = bpf_probe_read_user_str(event->arguments, (size) + 1, (void *)span.start);    \
		if (length > 0 && !(kind == EXIT && length > (most)))                                       \
			event->length = length > span.length ? span.length : length;                        \
		submit(event, event->netns);                                                                \
	} while (0)

INLINE int report(struct task_struct *task, __u32 kind)
{
	struct mm_struct *mm = READ(task, mm);
	struct span span = {};

	if (mm)
		span = command_line(mm);
	if (!span.length) {
		report_bare(task, kind, mm ? 0 : UNREAD);
		return 0;
	}
	// Long arguments must not take the room of other processes' events.
	if (span.length > SMALL && is_crowded()) {
		if (span.title) {
			span.length = SMALL;
			REPORT_TITLE(SMALL, SMALL);
			return 0;
		}
		// What exec has reported of it is longer, or as long.
		if (kind == EXIT)
			goto bare;
		span.length = SMALL;
	}
	if (span.title)
		REPORT_TITLE(TITLE, TITLE + 1);
	else if (span.length <= SMALL)
		REPORT(SMALL);
	else if (span.length <= MIDDLE)
		REPORT(MIDDLE);
	else
		REPORT(MOST);
	return 0;
bare:
	report_bare(task, kind, UNREAD);
	return 0;
}

// TP_PROTO(struct task_struct *self, struct task_struct *task)
SEC("raw_tp/sched_process_fork")
int process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (void *)ctx->args[0], *leader;
	struct task_struct *task = (void *)ctx->args[1];
	struct event *event;

	if (READ(task, pid) != READ(task, tgid))
		return 0; // a thread
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		lose();
		return 0;
	}
	identify(event, task, FORK);
	event->parent = READ(parent, tgid);
	leader = READ(parent, group_leader);
	event->parent_start = READ(leader, start_boottime);
	submit(event, event->netns);
	return 0;
}

// TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
SEC("raw_tp/sched_process_exec")
int process_exec(struct bpf_raw_tracepoint_args *ctx)
{
	return report((void *)ctx->args[0], EXEC);
}

// TP_PROTO(struct task_struct *p), from Linux 6.16 on with `bool group_dead`, and before its memory is
// given up: its command line is the last title that it had.
SEC("raw_tp/sched_process_exit")
int process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	struct signal_struct *signal = READ(task, signal);

	check(task);
	if (READ(signal, live.counter) > 0)
		return 0; // other threads go on
	return report(task, EXIT);
}

// MIT, or Apache 2.0; the kernel knows only names of licences compatible with its own.
char program_license[] SEC("license") = "Dual MIT/GPL";
