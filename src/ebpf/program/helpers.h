// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What every program here needs: sections, map definitions, and the kernel's helper functions by their numbers
// (`enum bpf_func_id`). Only headers of the kernel's user-space interface.
#ifndef BWMON_HELPERS_H
#define BWMON_HELPERS_H

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) typeof(type) *name

#define INLINE static __attribute__((always_inline))

// Keeps the compiler from moving what is written before it to behind what is written after it.
#define BARRIER() asm volatile("" ::: "memory")

// Keeps the compiler from joining the ends of two branches, and their loads: the verifier wants each
// load to be of one field.
#define APART(number) asm volatile("" ::"i"(number) : "memory")

// Keeps the compiler from computing with a pointer before it is known to lead somewhere.
#define CHECKED(pointer) asm volatile("" : "+r"(pointer))

// A load or store that happens once, where another processor or user space has the same memory.
#define ONCE(place) (*(volatile typeof(place) *)&(place))

// Bytes of a process's short name, its end included (TASK_COMM_LEN).
#define NAME 16

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) =
	(void *)BPF_FUNC_map_update_elem;
static __u64 (*const bpf_get_current_pid_tgid)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
static __u64 (*const bpf_get_current_uid_gid)(void) = (void *)BPF_FUNC_get_current_uid_gid;
static __u64 (*const bpf_get_current_task)(void) = (void *)BPF_FUNC_get_current_task;
static long (*const bpf_get_current_comm)(void *to, __u32 size) = (void *)BPF_FUNC_get_current_comm;
static __u64 (*const bpf_get_socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;
static __u64 (*const bpf_get_netns_cookie)(void *ctx) = (void *)BPF_FUNC_get_netns_cookie;
static __u64 (*const bpf_ktime_get_boot_ns)(void) = (void *)BPF_FUNC_ktime_get_boot_ns;
static long (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_lock;
static long (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_unlock;
static struct bpf_sock *(*const bpf_sk_fullsock)(struct bpf_sock *sk) = (void *)BPF_FUNC_sk_fullsock;
static long (*const bpf_skb_load_bytes)(void *skb, __u32 offset, void *to, __u32 length) =
	(void *)BPF_FUNC_skb_load_bytes;
static long (*const bpf_probe_read_kernel)(void *to, __u32 length, const void *from) =
	(void *)BPF_FUNC_probe_read_kernel;
static long (*const bpf_probe_read_user)(void *to, __u32 length, const void *from) =
	(void *)BPF_FUNC_probe_read_user;
static long (*const bpf_probe_read_user_str)(void *to, __u32 length, const void *from) =
	(void *)BPF_FUNC_probe_read_user_str;
static void *(*const bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) =
	(void *)BPF_FUNC_ringbuf_reserve;
static void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;
static __u64 (*const bpf_ringbuf_query)(void *ring, __u64 what) = (void *)BPF_FUNC_ringbuf_query;

// A structure of the kernel's own: the loader puts in the offsets of its fields.
#define RELOCATED __attribute__((preserve_access_index))

// Reads a field, which is a number or a pointer, of a structure at an address: 0 where it can't be read.
#define READ(structure, field)                                                                             \
	({                                                                                                 \
		typeof((structure)->field) value_ = 0;                                                     \
		bpf_probe_read_kernel(&value_, sizeof(value_), &(structure)->field);                       \
		value_;                                                                                    \
	})

#endif
