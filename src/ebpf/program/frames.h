// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What no socket of the internet protocols has: frames that packet sockets send, and packets for which there is
// no socket. The control groups' hooks see neither, tracepoints do.
#ifndef BWMON_FRAMES_H
#define BWMON_FRAMES_H

#include "slots.h"

#define AF_PACKET 17
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

struct raw_tracepoint {
	__u64 arguments[3];
};

struct packet_sock {
	int ifindex; // of the device that it is bound to
} RELOCATED;

struct iphdr {
	__u8 protocol;
} RELOCATED;

struct ipv6hdr {
	__u8 nexthdr;
} RELOCATED;

enum skb_drop_reason {
	SKB_DROP_REASON_NO_SOCKET = 3,
};

// A packet socket, and who has sent its first frame. User space reads this: src/ebpf/frames.rs.
struct packet_socket {
	__u64 sent[PLACES];
	__u64 netns;
	__u64 sender_when; // when that process began, in nanoseconds since boot
	char name[NAME];
	__u32 sender;
	__u32 user; // the place of its user in `packet_users`
};

#define PACKET_SOCKETS 1024
// How many of them a user other than the superuser may have.
#define PACKET_SOCKETS_OF_USER 64
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PACKET_SOCKETS);
	__type(key, __u64); // the socket's inode
	__type(value, struct packet_socket);
} packet_sockets SEC(".maps");

// How many the users have, by a hash of their numbers; user space takes off those that it forgets.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, USERS);
	__type(key, __u32);
	__type(value, __u64);
} packet_users SEC(".maps");

// The last frame of a packet socket on a processor, and the device to which it was sent.
struct last_frame {
	struct sk_buff *skb;
	struct net_device *dev;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct last_frame);
} last_frames SEC(".maps");

INLINE int is_empty(struct list_head *list)
{
	return (__u64)READ(list, next) == (__u64)list;
}

// Whether a frame was queued before, at a device on top of this one: a frame that goes to a VLAN, a bond or a tunnel
// is queued at each device in turn.
INLINE int is_queued_again(struct sk_buff *skb, struct sock *sk, struct net_device *dev)
{
	__u32 zero = 0;
	struct packet_sock *packet = (void *)sk;
	struct last_frame *last = bpf_map_lookup_elem(&last_frames, &zero);
	if (!last)
		return 0;
	int bound = HAS(packet->ifindex) ? READ(packet, ifindex) : 0;
	if (bound && bound == READ(dev, ifindex)) {
		last->skb = skb;
		last->dev = dev;
		return 0;
	}
	// One that is bound to no device may send to any.
	int below = bound || !is_empty(&dev->adj_list.upper);
	int again = below && last->skb == skb && last->dev != dev;
	// The next frame may be at the same place in memory.
	last->skb = again && is_empty(&dev->adj_list.lower) ? 0 : skb;
	if (!again)
		last->dev = dev;
	return again;
}

INLINE struct packet_socket *packet_socket_of(struct sock *sk, __u64 inode)
{
	struct packet_socket *socket = bpf_map_lookup_elem(&packet_sockets, &inode);
	if (socket)
		return socket;
	struct packet_socket new = { .netns = netns_of(sk), .user = place_of_user(user_of(sk)) };
	__u32 user = new.user;
	__u64 *has = bpf_map_lookup_elem(&packet_users, &user);
	if (!has || (user && ONCE(*has) >= PACKET_SOCKETS_OF_USER))
		return 0;
	new.sender = bpf_get_current_pid_tgid() >> 32;
	new.sender_when = current_start();
	bpf_get_current_comm(new.name, NAME);
	if (!bpf_map_update_elem(&packet_sockets, &inode, &new, BPF_NOEXIST))
		__sync_fetch_and_add(has, 1);
	return bpf_map_lookup_elem(&packet_sockets, &inode);
}

// At each packet that is sent: the kernel tells the types of what is handed over here, so that most packets cost two
// loads.
SEC("tp_btf/net_dev_queue")
int queue(struct raw_tracepoint *tracepoint)
{
	struct sk_buff *skb = (void *)tracepoint->arguments[0];
	struct sock *sk = skb->sk;
	if (!sk || sk->__sk_common.skc_family != AF_PACKET)
		return 0;
	struct net_device *dev = READ(skb, dev);
	if (is_queued_again(skb, sk, dev))
		return 0;
	int local = READ(dev, ifindex) == LOOPBACK_IFINDEX;
	__u64 bytes = READ(skb, len);
	__u32 zero = 0;
	struct packet_socket *socket = packet_socket_of(sk, inode_of(sk));
	if (!socket) {
		struct outside *of = outside_of(netns_of(sk));
		if (!of)
			return 0;
		CHECKED(of);
		__sync_fetch_and_add(&of->sent[local], bytes);
		outside_changed();
		return 0;
	}
	CHECKED(socket);
	__sync_fetch_and_add(&socket->sent[local], bytes);
	struct shared *counts = bpf_map_lookup_elem(&shared, &zero);
	if (counts)
		__sync_fetch_and_add(&counts->frames, 1);
	return 0;
}

SEC("raw_tp/kfree_skb")
int drop(struct raw_tracepoint *tracepoint)
{
	if ((__u32)tracepoint->arguments[2] !=
	    __builtin_preserve_enum_value(*(enum skb_drop_reason *)SKB_DROP_REASON_NO_SOCKET, 1))
		return 0;
	struct sk_buff *skb = (void *)tracepoint->arguments[0];
	unsigned char *ip = READ(skb, head) + READ(skb, network_header);
	__u16 kind = __builtin_bswap16(READ(skb, protocol));
	__u8 protocol = 0;
	if (kind == ETH_P_IP)
		protocol = READ((struct iphdr *)ip, protocol);
	else if (kind == ETH_P_IPV6)
		protocol = READ((struct ipv6hdr *)ip, nexthdr);
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	struct net_device *dev = READ(skb, dev);
	if (!dev)
		return 0;
	int local = READ(dev, ifindex) == LOOPBACK_IFINDEX;
	// What was pulled off the front belongs to the packet.
	__u64 bytes = READ(skb, len) + (READ(skb, data) - ip);
	struct outside *of = outside_of(netns_cookie_of(READ(dev, nd_net.net)));
	if (!of)
		return 0;
	CHECKED(of);
	__sync_fetch_and_add(&of->received_by_none[local], bytes);
	outside_changed();
	return 0;
}

#endif
