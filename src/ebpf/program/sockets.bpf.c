// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Counts the IP bytes of every socket, and remembers who made it and who let go of it. Nothing here decides
// anything about a packet: all of them pass.
//
// Only headers of the kernel's user-space interface, and only what Linux 5.10 has; what is read of the kernel's
// own structures (kernel.h) is left out where it doesn't tell their layout.

#include "handshakes.h"

#include "frames.h"

#include "answers.h"

#define IPPROTO_ICMP 1
#define IPPROTO_ICMPV6 58
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

// What a connection is in (`include/net/tcp_states.h`).
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11
#define ENDING (1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

INLINE __u32 exact(void)
{
	return reads_kernel ? EXACT : 0;
}

// A subflow of a Multipath TCP socket is made by the kernel: its maker is who has made that one.
INLINE __u32 join_multipath(struct slot *slot, struct sock *sk)
{
	struct mptcp_subflow_context *subflow = subflow_of(sk);
	if (!subflow)
		return 0;
	slot->token = READ(subflow, token);
	struct sock *whole = READ(subflow, conn);
	__u64 cookie = whole ? cookie_of(whole) : 0;
	struct slot *from = cookie ? find_slot(cookie) : 0;
	if (from && from->maker)
		inherit_maker(slot, from);
	return SUBFLOW;
}

// The inode that descriptors name: of a subflow it is the whole connection's.
INLINE __u64 inode_named(struct slot *slot, struct sock *sk)
{
	struct mptcp_subflow_context *subflow = slot->token ? subflow_of(sk) : 0;
	if (subflow)
		sk = READ(subflow, conn);
	return sk ? inode_of(sk) : 0;
}

// An accepted connection has its inode as soon as it is accepted. Whether that is known stands in the line of the
// cache of who sends, and is asked by who sends: that it receives is answered, too.
INLINE void find_inode(struct slot *slot, struct sock *sk)
{
	__u64 inode = inode_named(slot, sk);
	if (!inode)
		return;
	slot->inode = inode;
	slot->begun |= HAS_INODE;
}

// A slot for a socket of which nothing is known here, and that `user` has. User space may know more: which
// sockets had the slots that it took back.
INLINE struct slot *begin(struct bpf_sock *sk, __u64 cookie)
{
	int own = 0;
	__u32 user = SOMEBODY;
	__u64 netns = 0;
	struct sock *kernels = 0;
	if (reads_kernel) {
		kernels = address_of(sk);
		user = place_of_user(user_of(kernels));
		netns = netns_of(kernels);
	}
	struct slot *slot = claim_slot(cookie, user, &own);
	if (!slot) {
		slot = claim_silent(cookie, user);
		own = !!slot;
	}
	if (!slot || !own)
		return slot;
	slot->protocol = sk->protocol;
	slot->user = user;
	slot->netns = netns;
	__u32 flags = FILLED | exact();
	if (reads_kernel) {
		if (sk->protocol == IPPROTO_TCP)
			flags |= join_multipath(slot, kernels);
		slot->inode = inode_named(slot, kernels);
	}
	BARRIER();
	ONCE(slot->flags) = flags;
	return slot;
}

// The same for a connection that nobody has accepted yet: what is known of its listening socket needs no reading.
INLINE struct slot *begin_at(struct slot *listening, __u64 cookie)
{
	int own = 0;
	__u32 user = listening->user;
	struct slot *slot = claim_slot(cookie, user, &own);
	if (!slot || !own)
		return slot;
	slot->protocol = IPPROTO_TCP;
	slot->user = user;
	slot->netns = listening->netns;
	BARRIER();
	ONCE(slot->flags) = FILLED | exact();
	return slot;
}

// The kernel answers pings, and refuses connections, through sockets of its own, one on each processor, which it
// puts into the network namespace in question for each packet. What such a socket sends in another namespace than
// that of its slot is counted there.
INLINE int count_elsewhere(struct slot *slot, struct bpf_sock *sk, __u64 bytes, int local)
{
	int pings = slot->protocol == IPPROTO_ICMP || slot->protocol == IPPROTO_ICMPV6;
	if (!pings && (slot->protocol != IPPROTO_TCP || sk->state != TCP_CLOSE))
		return 0;
	__u64 netns = netns_of(address_of(sk));
	if (netns == slot->netns)
		return 0;
	struct outside *of = outside_of(netns);
	if (!of)
		return 0;
	CHECKED(of);
	__sync_fetch_and_add(pings ? &of->pings[local] : &of->resets[local], bytes);
	outside_changed();
	return 1;
}

// The first packet since it has this slot: now it has its ports, or never.
INLINE void first_packet(struct slot *slot, struct bpf_sock *sk)
{
	// Where another processor is filling it, there will be a next packet.
	if (!(ONCE(slot->flags) & FILLED) || !(sk = bpf_sk_fullsock(sk)))
		return;
	slot->local_port = (__u16)sk->src_port;
	slot->remote_port = (__u16)sk->dst_port;
	slot->begun |= SEEN;
}

// A connection whose socket was released is over when the packet is acknowledged that has told so: what
// is left is the kernel's waiting, or an answer to the other side's last packet, at once. Its packets
// come one after the other, so that nobody else writes these flags any more.
INLINE void see_it_end(struct slot *slot, struct __sk_buff *skb, int out)
{
	__u32 flags = ONCE(slot->flags);
	struct headers all;
	if (!(flags & RELEASED) || flags & ENDED || (!out && !(flags & FINISHED)))
		return;
	if (!load_headers(skb, &all))
		return;
	if (out && all.tcp.flags & FIN) {
		__u32 payload = skb->len - all.before - (all.tcp.length >> 4) * 4;
		slot->end = __builtin_bswap32(all.tcp.sequence) + payload + 1;
		BARRIER();
		ONCE(slot->flags) = flags | FINISHED;
	}
	if (!out && (__s32)(__builtin_bswap32(all.tcp.acknowledged) - slot->end) >= 0)
		ONCE(slot->flags) = flags | ENDED;
}

INLINE void count(struct __sk_buff *skb, int out)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return;
	__u64 bytes = skb->len;
	int local = skb->ifindex == LOOPBACK_IFINDEX;
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct slot *slot = find_slot(cookie);
	if (!slot) {
		struct bpf_sock *full = bpf_sk_fullsock(sk);
		if (!full)
			return;
		slot = begin(full, cookie);
	}
	if (!slot) {
		struct outside *of = outside_of(netns_if_known(sk));
		if (!of)
			return;
		CHECKED(of);
		__sync_fetch_and_add(out ? &of->sent[local] : &of->received[local], bytes);
		outside_changed();
		return;
	}
	__u32 state = sk->state;
	if (state == TCP_LISTEN && slot->protocol == IPPROTO_TCP) {
		if (!slot->listening)
			slot->listening = 1;
		if (!slot->begun)
			first_packet(slot, sk);
		if (note_handshake(skb, cookie, slot->netns, (__u32)bytes, out, local))
			return;
	}
	if (out) {
		if (reads_kernel && !slot->maker && !slot->listener && count_elsewhere(slot, sk, bytes, local))
			return;
		if (!slot->begun)
			first_packet(slot, sk);
		if (reads_kernel && slot->listener && !(slot->begun & HAS_INODE))
			find_inode(slot, address_of(sk));
		if (has_remotes)
			count_remote(skb, sk, slot, cookie, bytes, out);
		__sync_fetch_and_add(&slot->sent[local], bytes);
	} else {
		if (!slot->has_received) {
			// It is counted with the handshake.
			if (was_asked(skb, bytes))
				return;
			if (!slot->begun)
				first_packet(slot, sk);
			slot->has_received = slot->begun & SEEN;
		}
		if (has_remotes)
			count_remote(skb, sk, slot, cookie, bytes, out);
		__sync_fetch_and_add(&slot->received[local], bytes);
	}
	// A socket that goes on is spared the rest.
	if (1u << (state & 31) & ENDING && slot->protocol == IPPROTO_TCP)
		see_it_end(slot, skb, out);
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	count(skb, 0);
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	count(skb, 1);
	return 1;
}

// Of a Multipath TCP socket: by which its slot is known for its own. The kernel gives one that was accepted the
// cookie of its listening socket.
INLINE __u32 short_address(struct bpf_sock *sk)
{
	return (__u32)((__u64)address_of(sk) >> 4);
}

SEC("cgroup/sock_create")
int create(struct bpf_sock *sk)
{
	int own = 0;
	__u64 cookie = bpf_get_socket_cookie(sk);
	__u32 user = place_of_user((__u32)bpf_get_current_uid_gid());
	struct slot *slot = claim_slot(cookie, user, &own);
	if (!slot)
		slot = claim_silent(cookie, user);
	if (slot) {
		__u32 flags = FILLED | exact();
		slot->maker_when = reads_kernel ? current_start() : bpf_ktime_get_boot_ns();
		slot->netns = bpf_get_netns_cookie(sk);
		slot->maker = bpf_get_current_pid_tgid() >> 32;
		slot->protocol = sk->protocol;
		slot->user = user;
		slot->end = AGE;
		bpf_get_current_comm(slot->name, NAME);
		if (reads_kernel) {
			slot->inode = inode_of(address_by(&slot->closer_when, sk));
			if (sk->protocol == IPPROTO_MPTCP) {
				flags |= MULTIPATH;
				slot->end = short_address(sk);
			}
		}
		BARRIER();
		ONCE(slot->flags) = flags;
	}
	return 1;
}

INLINE void let_go(struct slot *slot, __u32 flags)
{
	slot->closer = bpf_get_current_pid_tgid() >> 32;
	if (reads_kernel)
		slot->closer_when = current_start();
	// Who has made it is of no use where it was accepted.
	if (!slot->maker || slot->listener) {
		bpf_get_current_comm(slot->name, NAME);
		flags |= NAME_OF_CLOSER;
	}
	BARRIER();
	ONCE(slot->flags) = slot->flags | flags | RELEASED;
}

// No socket has such a cookie.
#define COOKIE_OF_TOKEN (1ull << 62)

// A Multipath TCP connection is let go of as a whole, and its subflows go on: a slot of its own says by whom.
INLINE void let_go_of_multipath(struct bpf_sock *sk, struct slot *made)
{
	if (made && made->end == short_address(sk))
		let_go(made, ENDED);
	__u32 token = READ((struct mptcp_sock *)address_of(sk), token);
	if (!token)
		return;
	struct slot *slot = begin(sk, COOKIE_OF_TOKEN | token);
	if (!slot)
		return;
	slot->token = token;
	let_go(slot, MULTIPATH | ENDED);
}

SEC("cgroup/sock_release")
int release(struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	int ended = sk->protocol != IPPROTO_TCP || sk->state == TCP_CLOSE || sk->state == TCP_LISTEN;
	struct slot *slot = find_slot(cookie);
	if (reads_kernel && HAS_MULTIPATH && sk->protocol == IPPROTO_MPTCP) {
		let_go_of_multipath(sk, slot);
		return 1;
	}
	// One that was silent for long, or since it was accepted: it will say that it ends.
	if (!slot && !ended)
		slot = begin(sk, cookie);
	if (slot)
		let_go(slot, ended ? ENDED : 0);
	return 1;
}

// A connection that was asked for from outside is a socket of its own from now on, accepted or not.
SEC("sockops")
int establish(struct bpf_sock_ops *ops)
{
	// No answer to any question.
	ops->reply = -1;
	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || !ops->is_fullsock)
		return 1;
	// The kernel is done with the packet that has made it: the next one may be at the same address.
	keep_asked(0, 0);
	struct bpf_sock *sk = ops->sk;
	if (!sk)
		return 1;
	__u64 addresses = addresses_in(netns_if_known(sk));
	struct remote remote = { .protocol = IPPROTO_TCP };
	remote.address[2] = __builtin_bswap32(0xffff);
	if (ops->family == AF_INET) {
		remote.address[3] = ops->remote_ip4;
		addresses = mix(mix(addresses, ops->local_ip4), ops->remote_ip4);
		APART(4);
	} else {
		__u32 mapped = __builtin_bswap32(0xffff);
		// The packets of an IPv4-mapped address are those of IPv4.
		if (!ops->local_ip6[0] && !ops->local_ip6[1] && ops->local_ip6[2] == mapped) {
			remote.address[3] = ops->remote_ip6[3];
			addresses = mix(mix(addresses, ops->local_ip6[3]), remote.address[3]);
			APART(64);
		} else {
			remote.address[0] = ops->remote_ip6[0];
			remote.address[1] = ops->remote_ip6[1];
			remote.address[2] = ops->remote_ip6[2];
			remote.address[3] = ops->remote_ip6[3];
			addresses = mix(mix(addresses, ops->local_ip6[0]), ops->remote_ip6[0]);
			addresses = mix(mix(addresses, ops->local_ip6[1]), ops->remote_ip6[1]);
			addresses = mix(mix(addresses, ops->local_ip6[2]), ops->remote_ip6[2]);
			addresses = mix(mix(addresses, ops->local_ip6[3]), ops->remote_ip6[3]);
			APART(6);
		}
	}
	// As they are in a packet.
	__u16 local_port = __builtin_bswap16((__u16)ops->local_port);
	__u16 remote_port = (__u16)(ops->remote_port >> 16);
	addresses = mix(addresses, (__u32)remote_port << 16 | local_port);
	__u32 first = ops->snd_una - 1;
	__u64 cookie = bpf_get_socket_cookie(ops);
	struct slot *slot = find_slot(cookie);
	if (!slot) {
		__u64 at = listener_of(addresses, first);
		struct slot *listening = at ? find_slot(at) : 0;
		if (listening && (ONCE(listening->flags) & (FILLED | SUBFLOW)) == FILLED)
			slot = begin_at(listening, cookie);
	}
	if (!slot)
		slot = begin(sk, cookie);
	if (!slot)
		return 1;
	// Nobody takes it for one that is silent.
	slot->local_port = (__u16)ops->local_port;
	slot->remote_port = remote_port;
	slot->begun = SEEN;
	remote.cookie = cookie;
	remote.local_port = local_port;
	remote.remote_port = remote_port;
	take_over(slot, addresses, first, &remote);
	return 1;
}

// MIT, or Apache 2.0; the kernel knows only names of licences compatible with its own.
char program_license[] SEC("license") = "Dual MIT/GPL";
