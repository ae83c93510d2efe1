// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What is read of the kernel's own structures. Their layout differs from kernel to kernel: only the names count
// here, and the loader puts in the offsets that the running kernel's type information (BTF) tells.
#ifndef BWMON_KERNEL_H
#define BWMON_KERNEL_H

#include "helpers.h"

// Whether the running kernel tells its types and lets them be read. Where it doesn't, everything that reads them
// is dead code, which the verifier leaves out.
const volatile __u32 reads_kernel = 0;

// Whether the running kernel has a field of this name and kind.
#define HAS(field) __builtin_preserve_field_info(field, 2)

// Bytes of an interface's name, its end included (IFNAMSIZ).
#define INTERFACE_NAME 16

struct net {
	__u64 net_cookie;
} RELOCATED;
// Before Linux 5.12.
struct atomic64 {
	__u64 counter;
} RELOCATED;
struct net___atomic {
	struct atomic64 net_cookie;
} RELOCATED;

struct net_reference {
	struct net *net;
} RELOCATED;

struct sock_common {
	unsigned short skc_family;
	unsigned char skc_state;
	struct net_reference skc_net;
	struct atomic64 skc_cookie;
} RELOCATED;

struct user_number {
	__u32 val;
} RELOCATED;

struct inode {
	unsigned long i_ino;
} RELOCATED;

struct socket {
	int state;
} RELOCATED;

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
} RELOCATED;

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	struct user_number sk_uid;
} RELOCATED;

struct tcp_ulp_ops {
	char name[16];
} RELOCATED;

struct inet_connection_sock {
	struct tcp_ulp_ops *icsk_ulp_ops;
	void *icsk_ulp_data;
} RELOCATED;

struct mptcp_subflow_context {
	__u32 token;
	struct sock *conn;
} RELOCATED;

struct mptcp_sock {
	__u32 token;
} RELOCATED;

// Whether the running kernel has Multipath TCP at all: a program that reads a structure which the kernel doesn't have
// is refused, unless the verifier sees that nothing leads there.
#define HAS_MULTIPATH (HAS(((struct mptcp_subflow_context *)0)->token) && HAS(((struct mptcp_sock *)0)->token))

struct list_head {
	struct list_head *next;
} RELOCATED;

struct adjacent_list {
	struct list_head upper;
	struct list_head lower;
} RELOCATED;

struct net_device {
	char name[INTERFACE_NAME];
	int ifindex;
	struct net_reference nd_net;
	struct adjacent_list adj_list;
} RELOCATED;

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned int len;
	unsigned char *head;
	unsigned char *data;
	__u16 network_header;
	__u16 protocol;
} RELOCATED;

struct task_struct {
	struct task_struct *group_leader;
	__u64 start_boottime;
} RELOCATED;

// The address of a structure that the verifier knows as a pointer of a kind with which it allows no sums. What
// was put on the stack is read back as a number. Where a place in a map is at hand, address_by is cheaper.
INLINE void *address_of(const void *pointer)
{
	const void *kept = pointer;
	void *address = 0;
	bpf_probe_read_kernel(&address, sizeof(address), &kept);
	return address;
}

// The same, by a place in a map that nobody else uses meanwhile, which has what it had afterwards.
INLINE void *address_by(__u64 *place, const void *pointer)
{
	__u64 had = *place;
	ONCE(*place) = (__u64)pointer;
	__u64 address = ONCE(*place);
	ONCE(*place) = had;
	return (void *)address;
}

INLINE __u64 netns_cookie_of(struct net *net)
{
	__u64 cookie = 0;
	if (HAS(net->net_cookie)) {
		bpf_probe_read_kernel(&cookie, sizeof(cookie), &net->net_cookie);
	} else {
		struct net___atomic *old = (void *)net;
		bpf_probe_read_kernel(&cookie, sizeof(cookie), &old->net_cookie);
	}
	return cookie;
}

// The network namespace of a socket.
INLINE __u64 netns_of(struct sock *sk)
{
	return netns_cookie_of(READ(sk, __sk_common.skc_net.net));
}

// The same of one that the verifier knows; 0 where the kernel can't be read.
INLINE __u64 netns_if_known(const void *sk)
{
	return reads_kernel ? netns_of(address_of(sk)) : 0;
}

// The cookie of a socket that the kernel knows by its address, 0 for one that was never asked for it.
INLINE __u64 cookie_of(struct sock *sk)
{
	__u64 cookie = 0;
	bpf_probe_read_kernel(&cookie, sizeof(cookie), &sk->__sk_common.skc_cookie);
	return cookie;
}

// The user to whom a socket belongs, in the initial user namespace.
INLINE __u32 user_of(struct sock *sk)
{
	__u32 user = 0;
	bpf_probe_read_kernel(&user, sizeof(user), &sk->sk_uid);
	return user;
}

// The inode number of a socket, by which descriptors name it; 0 for a connection that nobody has accepted.
INLINE __u64 inode_of(struct sock *sk)
{
	struct socket_alloc *socket = (void *)READ(sk, sk_socket);
	return socket ? READ(socket, vfs_inode.i_ino) : 0;
}

// When the process that runs began, in nanoseconds since boot.
INLINE __u64 current_start(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct *leader = READ(task, group_leader);
	return READ(leader, start_boottime);
}

// What the subflow of a Multipath TCP socket knows of that; 0 for any other TCP socket.
INLINE struct mptcp_subflow_context *subflow_of(struct sock *sk)
{
	if (!HAS_MULTIPATH)
		return 0;
	struct inet_connection_sock *icsk = (void *)sk;
	struct tcp_ulp_ops *ops = READ(icsk, icsk_ulp_ops);
	if (!ops)
		return 0;
	__u64 name = 0;
	bpf_probe_read_kernel(&name, sizeof(name), &ops->name);
	// "mptcp" and its end.
	if ((name & 0xffffffffffffull) != 0x00706374706dull)
		return 0;
	return READ(icsk, icsk_ulp_data);
}

#endif
