// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The bytes of a socket by remote end and interface. Only where user space asks for it: else everything here is dead
// code, which the verifier leaves out.
#ifndef BWMON_REMOTES_H
#define BWMON_REMOTES_H

#include "slots.h"

// Whether remote ends are told apart.
const volatile __u32 has_remotes = 0;

#define AF_INET 2

#define IPPROTO_DCCP 33
#define IPPROTO_SCTP 132
#define IPPROTO_UDPLITE 136
#define IPV4_LENGTH 20
#define IPV6_LENGTH 40

// A socket, and where its packets go or come from. User space reads this layout: src/ebpf/remotes.rs.
struct remote {
	__u64 cookie;
	__u32 address[4]; // of the other end, as in a packet; of IPv4 the mapped one
	__u16 local_port; // as in a packet, as the next one; 0 where the protocol has none
	__u16 remote_port;
	__u32 interface; // its number in the socket's network namespace; 0 where it isn't known
	__u32 protocol;
	__u32 unused;
};

struct remote_bytes {
	__u64 sent;
	__u64 received;
	char interface[INTERFACE_NAME]; // empty where it isn't known
};

// Where it is full, the entries that were used longest ago give way, and what was not read of them is the socket's
// alone. So nobody who talks to very many keeps the others from having theirs.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); // set when it is loaded
	__type(key, struct remote);
	__type(value, struct remote_bytes);
} remotes SEC(".maps");

// The interface over which a connection was asked for: it has no socket yet.
struct asked_over {
	__u32 interface;
	char name[INTERFACE_NAME];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); // set when it is loaded
	__type(key, __u64); // of the addresses and the listening socket
	__type(value, struct asked_over);
} asked_over SEC(".maps");

INLINE void read_interface(struct __sk_buff *skb, char *name)
{
	if (!reads_kernel)
		return;
	struct net_device *dev = READ((struct sk_buff *)address_of(skb), dev);
	bpf_probe_read_kernel(name, INTERFACE_NAME, &dev->name);
}

INLINE void note_interface(struct __sk_buff *skb, __u64 connection)
{
	struct asked_over over = { .interface = skb->ifindex };
	read_interface(skb, over.name);
	bpf_map_update_elem(&asked_over, &connection, &over, BPF_ANY);
}

// Of a packet, or of a connection that was asked for over an interface, where that is known.
INLINE struct remote_bytes *bytes_of(struct remote *remote, struct __sk_buff *skb, struct asked_over *over)
{
	struct remote_bytes *bytes = bpf_map_lookup_elem(&remotes, remote);
	if (bytes)
		return bytes;
	struct remote_bytes new = {};
	if (skb)
		read_interface(skb, new.interface);
	else if (over)
		__builtin_memcpy(new.interface, over->name, INTERFACE_NAME);
	// Another processor may be quicker.
	bpf_map_update_elem(&remotes, remote, &new, BPF_NOEXIST);
	return bpf_map_lookup_elem(&remotes, remote);
}

INLINE int has_ports(__u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
	       protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

// The other end of a connected socket, as the socket has it: address translation shows other addresses in a packet,
// and others in each direction.
INLINE int connected_to(struct bpf_sock *sk, struct slot *slot, struct remote *remote)
{
	__u16 port = sk->dst_port;
	if (!port || !has_ports(slot->protocol))
		return 0;
	remote->protocol = slot->protocol;
	remote->local_port = __builtin_bswap16((__u16)sk->src_port);
	remote->remote_port = port;
	if (sk->family == AF_INET) {
		remote->address[2] = __builtin_bswap32(0xffff);
		remote->address[3] = sk->dst_ip4;
		APART(4);
	} else {
		remote->address[0] = sk->dst_ip6[0];
		remote->address[1] = sk->dst_ip6[1];
		remote->address[2] = sk->dst_ip6[2];
		remote->address[3] = sk->dst_ip6[3];
		APART(6);
	}
	return 1;
}

// The other end of a packet. Returns 0 if there is none.
INLINE int addressed_to(struct __sk_buff *skb, struct slot *slot, int out, struct remote *remote)
{
	__u32 ip[IPV6_LENGTH / 4] = {};
	__u16 ports[2] = {};
	if (bpf_skb_load_bytes(skb, 0, ip, IPV4_LENGTH))
		return 0;
	__u8 *raw = (__u8 *)ip;
	__u32 before = IPV6_LENGTH;
	if (raw[0] >> 4 == 4) {
		before = (raw[0] & 15) * 4;
		remote->protocol = raw[9];
		remote->address[2] = __builtin_bswap32(0xffff);
		remote->address[3] = out ? ip[4] : ip[3];
	} else {
		if (bpf_skb_load_bytes(skb, 0, ip, IPV6_LENGTH))
			return 0;
		remote->protocol = raw[6];
#pragma clang loop unroll(full)
		for (int word = 0; word < 4; word++)
			remote->address[word] = out ? ip[6 + word] : ip[2 + word];
	}
	if (has_ports(remote->protocol) && !bpf_skb_load_bytes(skb, before, ports, sizeof(ports))) {
		remote->local_port = ports[!out];
		remote->remote_port = ports[out];
	} else if (has_ports(slot->protocol)) {
		// Behind extension headers.
		remote->protocol = slot->protocol;
		remote->local_port = __builtin_bswap16(slot->local_port);
		remote->remote_port = slot->remote_port;
	}
	return 1;
}

// Before the packet is added to the socket's slot: so the slot never has more than its remote ends together, unless
// there is no room for one.
INLINE void count_remote(struct __sk_buff *skb, struct bpf_sock *sk, struct slot *slot, __u64 cookie, __u64 bytes,
			 int out)
{
	struct remote remote = { .cookie = cookie, .interface = skb->ifindex };
	if (!connected_to(sk, slot, &remote) && !addressed_to(skb, slot, out, &remote))
		return;
	struct remote_bytes *of = bytes_of(&remote, skb, 0);
	if (!of)
		return;
	CHECKED(of);
	__sync_fetch_and_add(out ? &of->sent : &of->received, bytes);
}

#endif
