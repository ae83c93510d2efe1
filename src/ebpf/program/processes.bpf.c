// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Reports every process that is forked, calls exec or ends, with its command line.
//
// sched_process_exec runs in the context of the new program: its arguments are in memory, and nothing can
// change them before they are read. So no process is too short-lived to be named. A ring buffer keeps the
// events in the order in which they took place.
//
// Only headers of the kernel's user-space interface. The few fields of the kernel's own structures are
// declared here; the loader finds their offsets in the BTF of the running kernel (CO-RE). Works from
// Linux 5.10 on.

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) typeof(type) *name
#define INLINE static __attribute__((always_inline))

// The kernel's helper functions by their numbers (`enum bpf_func_id`).
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*const bpf_get_current_pid_tgid)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
static long (*const bpf_get_current_comm)(void *to, __u32 size) = (void *)BPF_FUNC_get_current_comm;
static long (*const bpf_probe_read_kernel)(void *to, __u32 size, const void *from) =
	(void *)BPF_FUNC_probe_read_kernel;
static long (*const bpf_probe_read_user)(void *to, __u32 size, const void *from) =
	(void *)BPF_FUNC_probe_read_user;
static long (*const bpf_probe_read_user_str)(void *to, __u32 size, const void *from) =
	(void *)BPF_FUNC_probe_read_user_str;
static void *(*const bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) =
	(void *)BPF_FUNC_ringbuf_reserve;
static void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
static __u64 (*const bpf_ringbuf_query)(void *ring, __u64 what) = (void *)BPF_FUNC_ringbuf_query;

// The fields of the kernel's structures that are read.
#define CORE __attribute__((preserve_access_index))

typedef struct {
	int counter;
} atomic_t;

struct ns_common {
	unsigned int inum;
} CORE;

struct net {
	struct ns_common ns;
} CORE;

struct nsproxy {
	struct net *net_ns;
} CORE;

struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
} CORE;

struct signal_struct {
	atomic_t live; // threads that have not begun to exit
} CORE;

struct task_struct {
	int pid, tgid;
	struct task_struct *group_leader;
	__u64 start_boottime;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
} CORE;

#define READ(to, field) bpf_probe_read_kernel(&(to), sizeof(to), &(field))

#define NAME 16

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

struct settings {
	__u32 prompt; // user space is woken for each event
	__u32 netns; // and else for those of other network namespaces than this one
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
	int pid = 0, tgid = 0;

	if (!result || *result)
		return;
	READ(pid, current->pid);
	READ(tgid, current->tgid);
	*result = bpf_get_current_pid_tgid() == ((__u64)tgid << 32 | (__u32)pid) ? 1 : 2;
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

	if (!to || to->prompt || netns != to->netns)
		flags = 0;
	else if (is_crowded())
		flags = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(event, flags);
}

INLINE __u32 netns_of(struct task_struct *task)
{
	struct nsproxy *nsproxy = 0;
	struct net *net = 0;
	__u32 inum = 0;

	READ(nsproxy, task->nsproxy);
	if (!nsproxy)
		return 0;
	READ(net, nsproxy->net_ns);
	READ(inum, net->ns.inum);
	return inum;
}

INLINE void identify(struct event *event, struct task_struct *task, __u32 kind)
{
	struct task_struct *leader = 0;

	READ(leader, task->group_leader);
	READ(event->start, leader->start_boottime);
	READ(event->pid, task->tgid);
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
	unsigned long end = 0, env_start = 0, env_end = 0;
	char last = 0;

	READ(span.start, mm->arg_start);
	READ(end, mm->arg_end);
	if (end <= span.start)
		return span;
	// A title may be longer than the arguments were, and goes on where the environment was.
	bpf_probe_read_user(&last, 1, (void *)(end - 1));
	if (last) {
		READ(env_start, mm->env_start);
		READ(env_end, mm->env_end);
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
	struct mm_struct *mm = 0;
	struct span span = {};

	READ(mm, task->mm);
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
	struct task_struct *parent = (void *)ctx->args[0], *leader = 0;
	struct task_struct *task = (void *)ctx->args[1];
	int pid = 0, tgid = 0;
	struct event *event;

	READ(pid, task->pid);
	READ(tgid, task->tgid);
	if (pid != tgid)
		return 0; // a thread
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		lose();
		return 0;
	}
	identify(event, task, FORK);
	READ(event->parent, parent->tgid);
	READ(leader, parent->group_leader);
	READ(event->parent_start, leader->start_boottime);
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
	struct signal_struct *signal = 0;
	int live = 0;

	check(task);
	READ(signal, task->signal);
	READ(live, signal->live.counter);
	if (live > 0)
		return 0; // other threads go on
	return report(task, EXIT);
}

// MIT, or Apache 2.0; the kernel knows only names of licences compatible with its own.
char program_license[] SEC("license") = "Dual MIT/GPL";
