// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Connections that are not sockets yet: their packets are those of a listening socket. What they carry is kept
// apart, until the connection has a socket of its own and takes it over, in the moment in which the kernel makes
// that socket. What comes to nothing is the listening socket's after a while; user space decides that.
#ifndef BWMON_HANDSHAKES_H
#define BWMON_HANDSHAKES_H

#include "remotes.h"


#define FIN 1
#define SYN 2

// What of a packet's TCP header is of use.
struct tcp {
	__u16 ports[2]; // from and to
	__u32 sequence;
	__u32 acknowledged;
	__u8 length; // of the header: its upper four bits, in words
	__u8 flags;
	__u16 window;
};

#define IPV4_WORDS 5
#define IPV6_WORDS 10

// An IP header, and the TCP header behind it.
struct headers {
	__u32 ip[IPV6_WORDS]; // an IPv4 header and a TCP header are as long as an IPv6 header
	struct tcp tcp;
	__u32 before; // bytes of the IP header
	int is_ipv4;
};

// Whether it has them: not if the TCP header is behind IPv6 extension headers.
INLINE int load_headers(struct __sk_buff *skb, struct headers *to)
{
	if (bpf_skb_load_bytes(skb, 0, to->ip, sizeof(to->ip)))
		return 0;
	__u8 first = *(__u8 *)to->ip;
	to->is_ipv4 = first >> 4 == 4;
	to->before = to->is_ipv4 ? (first & 15) * 4 : sizeof(to->ip);
	if (to->before == IPV4_WORDS * 4) {
		to->tcp = *(struct tcp *)&to->ip[IPV4_WORDS];
		return 1;
	}
	if (!to->is_ipv4 && ((__u8 *)to->ip)[6] != IPPROTO_TCP)
		return 0;
	return !bpf_skb_load_bytes(skb, to->before, &to->tcp, sizeof(to->tcp));
}

// One line of the cache. User space reads this layout, and settles entries: src/ebpf/handshakes.rs.
#define HANDSHAKE_WAYS 3
struct handshakes {
	__u64 listener[HANDSHAKE_WAYS] OWN_LINE; // cookies
	__u32 tag[HANDSHAKE_WAYS]; // of the addresses and a sequence number; 0: none
	__u32 sent[HANDSHAKE_WAYS]; // and SETTLED
	__u32 received[HANDSHAKE_WAYS]; // and ON_LOOPBACK
};
#define ON_LOOPBACK (1u << 31)
// User space has given these bytes to the listening socket, whose they stay.
#define SETTLED (1u << 31)

// A full set gives up an entry to the next one: its bytes are the listening socket's.
#define HANDSHAKE_SETS 8192
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HANDSHAKE_SETS);
	__type(key, __u32);
	__type(value, struct handshakes);
} handshakes SEC(".maps");

INLINE struct handshakes *handshakes_of(__u64 addresses)
{
	__u32 at = (__u32)(addresses >> 40) & (HANDSHAKE_SETS - 1);
	return bpf_map_lookup_elem(&handshakes, &at);
}

// Connections of the same addresses, one after the other, are told apart by the sequence number with which either side
// begins: the kernel takes it from a clock of 64 nanoseconds. Two at the same time are in different network namespaces.
// Only these tell them apart: the kernel counts its ports up for all namespaces together, so that two processors that
// connect in the same moment can choose both the same port and the same number.
#define BY_CLIENT 1
#define BY_SERVER 2
INLINE __u32 tag_of(__u64 addresses, __u32 begin, __u32 whose)
{
	return (__u32)mix(addresses, (__u64)whose << 32 | begin) | 1;
}

#define IF_TAGGED(way)                     \
	if (ONCE(set->tag[way]) == tag) \
		return way;

#define IF_SETTLED(way)                           \
	if (ONCE(set->sent[way]) & SETTLED) \
		return way;

// A way that can be used for another connection without giving anything to anybody.
INLINE int free_way(struct handshakes *set)
{
	__u32 tag = 0;
	IF_TAGGED(0) IF_TAGGED(1) IF_TAGGED(2)
	IF_SETTLED(0) IF_SETTLED(1) IF_SETTLED(2)
	return -1;
}

INLINE int handshake_way(struct handshakes *set, __u32 tag)
{
	IF_TAGGED(0) IF_TAGGED(1) IF_TAGGED(2)
	return -1;
}

// No entry has more than this: what comes beyond it is no handshake.
#define MOST_OF_HANDSHAKE (1u << 30)

// Bytes that a listening socket has to itself; if that is closed, nobody of its network namespace.
INLINE void give_to_listener(__u64 listener, __u64 netns, __u32 sent, __u32 received)
{
	if (sent & SETTLED)
		return;
	int local = !!(received & ON_LOOPBACK);
	struct slot *slot = find_slot(listener);
	__u64 *to_sent = 0, *to_received = 0;
	if (slot) {
		CHECKED(slot);
		to_sent = &slot->sent[local];
		to_received = &slot->received[local];
	} else {
		struct outside *of = outside_of(netns);
		if (!of)
			return;
		CHECKED(of);
		to_sent = &of->sent_by_none[local];
		to_received = &of->received_by_none[local];
	}
	__sync_fetch_and_add(to_sent, sent);
	__sync_fetch_and_add(to_received, received & ~ON_LOOPBACK);
	if (!slot)
		outside_changed();
}

// What the addresses in a network namespace begin with; it is 0 where the kernel can't be read.
INLINE __u64 addresses_in(__u64 netns)
{
	return mix(seed, netns);
}

// Those of a packet: the address and the port of this host first.
INLINE __u64 addresses_of(__u64 netns, const __u32 *ip, int is_ipv4, const struct tcp *tcp, int out)
{
	__u64 addresses = addresses_in(netns);
	if (is_ipv4) {
		addresses = mix(mix(addresses, ip[out ? 3 : 4]), ip[out ? 4 : 3]);
	} else {
		for (int word = 2; word < 6; word++)
			addresses = mix(mix(addresses, ip[out ? word : word + 4]), ip[out ? word + 4 : word]);
	}
	return mix(addresses, (__u32)tcp->ports[out] << 16 | tcp->ports[!out]);
}

// The last packet on this processor that a listening socket has received and that can become a connection. If another
// processor makes the connection out of another packet at this moment, the kernel gives this one to the connection at
// once (`req_stolen` in tcp_v4_rcv()), and the hook sees it a second time.
struct last_asked {
	__u64 skb;
	__u64 bytes;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct last_asked);
} last_asked SEC(".maps");

// Forgets it where there is no packet. Only its address tells it from the next one.
INLINE void keep_asked(struct __sk_buff *skb, __u64 bytes)
{
	__u32 zero = 0;
	struct last_asked *last = reads_kernel ? bpf_map_lookup_elem(&last_asked, &zero) : 0;
	if (!last)
		return;
	last->skb = (__u64)skb;
	last->bytes = bytes;
}

INLINE int was_asked(struct __sk_buff *skb, __u64 bytes)
{
	__u32 zero = 0;
	struct last_asked *last = reads_kernel ? bpf_map_lookup_elem(&last_asked, &zero) : 0;
	if (!last || last->bytes != bytes || last->skb != (__u64)skb)
		return 0;
	last->skb = 0;
	return 1;
}

// Keeps a packet of a handshake. 0 where it can't be told of which.
INLINE int note_handshake(struct __sk_buff *skb, __u64 listener, __u64 netns, __u32 bytes, int out, int local)
{
	struct headers all;
	if (!load_headers(skb, &all))
		return 0;
	struct tcp tcp = all.tcp;
	// Before Linux 5.12 a namespace has no cookie until somebody asks for it: the slot may not have it.
	__u64 which = !reads_kernel ? 0 : netns ? netns : netns_of(address_of(skb->sk));
	__u64 addresses = addresses_of(which, all.ip, all.is_ipv4, &tcp, out);
	__u32 zero = 0;
	struct claiming *lock = bpf_map_lookup_elem(&claiming, &zero);
	struct shared *counts = bpf_map_lookup_elem(&shared, &zero);
	struct handshakes *set = handshakes_of(addresses);
	if (!set || !lock || !counts)
		return 0;
	__u32 sequence = __builtin_bswap32(tcp.sequence);
	__u32 acknowledged = __builtin_bswap32(tcp.acknowledged);
	// The server's number isn't known before it answers. Then it takes the place of the client's, which the
	// connection's own socket doesn't know any more when it has received something.
	int asks = !out && tcp.flags & SYN;
	__u32 tag = asks ? tag_of(addresses, sequence, BY_CLIENT)
			 : tag_of(addresses, out ? sequence : acknowledged - 1, BY_SERVER);
	// Where the answer wasn't seen (answers.h), the packet after it finds the client's.
	__u32 by_client = tag_of(addresses, (out ? acknowledged : sequence) - 1, BY_CLIENT);
	__u64 evicted = 0;
	__u32 evicted_sent = 0, evicted_received = 0;
	bpf_spin_lock(&lock->lock);
	int way = handshake_way(set, tag);
	if (way < 0 && !asks)
		way = handshake_way(set, by_client);
	if (way < 0) {
		way = free_way(set);
		if (way < 0) {
			way = (tag >> 1 & 0xff) * HANDSHAKE_WAYS >> 8;
			evicted = set->listener[way];
			evicted_sent = set->sent[way];
			evicted_received = set->received[way];
		}
		set->listener[way] = listener;
		ONCE(set->sent[way]) = 0;
		set->received[way] = local ? ON_LOOPBACK : 0;
	}
	int settled = ONCE(set->sent[way]) > MOST_OF_HANDSHAKE ||
		      (ONCE(set->received[way]) & ~ON_LOOPBACK) > MOST_OF_HANDSHAKE;
	if (!settled) {
		if (out)
			__sync_fetch_and_add(&set->sent[way], bytes);
		else
			__sync_fetch_and_add(&set->received[way], bytes);
	}
	BARRIER();
	ONCE(set->tag[way]) = tag;
	bpf_spin_unlock(&lock->lock);
	__sync_fetch_and_add(&counts->handshakes, 1);
	if (!out && !asks && !settled)
		keep_asked(skb, bytes);
	if (has_remotes && asks)
		note_interface(skb, mix(addresses, listener));
	if (evicted)
		give_to_listener(evicted, netns, evicted_sent, evicted_received);
	return !settled;
}

// At which socket a connection was asked for; 0 where that isn't known.
INLINE __u64 listener_of(__u64 addresses, __u32 begin)
{
	struct handshakes *set = handshakes_of(addresses);
	if (!set)
		return 0;
	int way = handshake_way(set, tag_of(addresses, begin, BY_SERVER));
	return way < 0 ? 0 : ONCE(set->listener[way]);
}

// A connection that has a socket now: gives its slot what its listening socket knows, and what was kept of its
// handshake.
INLINE void take_over(struct slot *slot, __u64 addresses, __u32 begin, struct remote *remote)
{
	__u32 zero = 0;
	struct claiming *lock = bpf_map_lookup_elem(&claiming, &zero);
	struct handshakes *set = handshakes_of(addresses);
	if (!set || !lock)
		return;
	__u32 tag = tag_of(addresses, begin, BY_SERVER), sent = 0, received = 0;
	__u64 listener = 0;
	bpf_spin_lock(&lock->lock);
	int way = handshake_way(set, tag);
	if (way >= 0) {
		listener = set->listener[way];
		sent = ONCE(set->sent[way]);
		received = set->received[way];
		ONCE(set->tag[way]) = 0;
	}
	bpf_spin_unlock(&lock->lock);
	if (!listener)
		return;
	// First, so that nobody takes it for one that was made by who has made that one.
	ONCE(slot->listener) = listener;
	BARRIER();
	struct slot *from = find_slot(listener);
	if (from) {
		slot->netns = from->netns;
		inherit_maker(slot, from);
	}
	if (sent & SETTLED)
		return;
	int local = !!(received & ON_LOOPBACK);
	received &= ~ON_LOOPBACK;
	if (has_remotes) {
		__u64 connection = mix(addresses, listener);
		struct asked_over *over = bpf_map_lookup_elem(&asked_over, &connection);
		remote->interface = local ? LOOPBACK_IFINDEX : over ? over->interface : 0;
		struct remote_bytes *of = bytes_of(remote, 0, over);
		if (of) {
			__sync_fetch_and_add(&of->sent, sent);
			__sync_fetch_and_add(&of->received, received);
		}
	}
	__sync_fetch_and_add(&slot->sent[local], sent);
	__sync_fetch_and_add(&slot->received[local], received);
}

#endif
