// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Counts the IP bytes of every socket, and remembers who made it.
//
// Each socket has a slot, in an array that user space maps into its memory: a packet costs a few loads and
// an addition, and a read no call at all. Which slot it is says the socket's cookie, which the kernel never
// uses again: it stands in one of two buckets, in the way that is the slot's. The kernel's side claims
// slots that are free; user space takes them back, whenever it likes, and clears them before they are free
// again. A socket that has lost its slot gets another one with its next packet, so nothing is lost by it.
//
// Only headers of the kernel's user-space interface, and only what Linux 5.10 has.

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) typeof(type) *name

// The kernel's helper functions by their numbers (`enum bpf_func_id`).
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*const bpf_get_current_pid_tgid)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
static long (*const bpf_get_current_comm)(void *to, __u32 size) = (void *)BPF_FUNC_get_current_comm;
static __u64 (*const bpf_get_socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;
static __u64 (*const bpf_get_netns_cookie)(void *ctx) = (void *)BPF_FUNC_get_netns_cookie;
static __u64 (*const bpf_ktime_get_boot_ns)(void) = (void *)BPF_FUNC_ktime_get_boot_ns;
static long (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_lock;
static long (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_unlock;
static struct bpf_sock *(*const bpf_sk_fullsock)(struct bpf_sock *sk) = (void *)BPF_FUNC_sk_fullsock;
static struct bpf_tcp_sock *(*const bpf_tcp_sock)(struct bpf_sock *sk) = (void *)BPF_FUNC_tcp_sock;
static long (*const bpf_skb_load_bytes)(void *skb, __u32 offset, void *to, __u32 length) =
	(void *)BPF_FUNC_skb_load_bytes;

#define AF_INET 2
#define IPPROTO_TCP 6
// What a connection is in (`include/net/tcp_states.h`).
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11
#define ENDING (1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

#define FIN 1
#define SYN 2
#define LOOPBACK_IFINDEX 1

#define INLINE static __attribute__((always_inline))

// Keeps the compiler from moving what is written before it to behind what is written after it.
#define BARRIER() asm volatile("" ::: "memory")

// Keeps the compiler from joining the ends of two branches, and their loads: the verifier wants each
// load to be of one field.
#define APART(number) asm volatile("" ::"i"(number) : "memory")

#define NAME 16

// A slot's flags.
#define FILLED 1u // what is known from the beginning is written
#define RELEASED 2u // no descriptor refers to it any more
#define FINISHED 4u // and it has sent all that it had to send
#define ENDED 8u // and it will send and receive nothing more

// What left or will leave the host, and what stays on its loopback device.
enum { REMOTE, LOCAL, PLACES };

#define LINE 64
#define OWN_LINE __attribute__((aligned(LINE)))

// One socket's bytes. User space reads this layout: src/ebpf/slots.rs. What one processor counts that
// sends and another that receives is in lines of the cache apart from each other.
struct slot {
	__u64 sent[PLACES] OWN_LINE;
	__u64 made; // when the socket was made, or its listening socket: nanoseconds since boot
	__u64 netns; // the cookie of its network namespace; 0 for a socket older than this program
	__u64 listener; // the cookie of the socket at which it was accepted; 0 for none
	__u32 maker; // the process that made it; 0 for a socket older than this program
	__u32 closer; // the process that let go of it last
	__u32 flags;
	__u16 local_port;
	__u16 remote_port;
	__u32 protocol;
	__u32 begun; // a packet was seen
	__u64 received[PLACES] OWN_LINE;
	char maker_name[NAME];
	char closer_name[NAME];
	__u32 has_received; // a packet was seen that it received
	__u32 end; // TCP's sequence number behind the last packet that it will send, once it is FINISHED
	__u32 listening; // it accepts connections
};

// Whose slots are: cookies, 0 where a slot is free, and all ones where user space has taken it back and not
// cleared it yet. One line of the cache.
#define WAYS 8
struct bucket {
	__u64 cookies[WAYS] OWN_LINE;
};

// What is counted of all sockets together. User space reads this.
struct shared {
	__u64 sent[PLACES]; // bytes of sockets for which there was no slot
	__u64 received[PLACES];
	__u64 without; // packets without a slot
	__u64 claimed; // slots that were given to sockets so far
};

struct claiming {
	struct bpf_spin_lock lock;
};

// Connections that their listening sockets have to answer for until they are sockets of their own. One line
// of the cache.
#define HANDSHAKE_WAYS 3
struct handshakes {
	__u64 listener[HANDSHAKE_WAYS] OWN_LINE; // cookies
	__u32 tag[HANDSHAKE_WAYS]; // of the addresses and a sequence number; 0: none
	__u32 sent[HANDSHAKE_WAYS];
	__u32 received[HANDSHAKE_WAYS]; // and ON_LOOPBACK
};
#define ON_LOOPBACK (1u << 31)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024); // set when it is loaded
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 128); // as many as make a way for each slot
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shared);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct claiming);
} claiming SEC(".maps");

// Where one is forgotten before its connection is accepted, its bytes stay the listening socket's.
#define HANDSHAKE_SETS 8192
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HANDSHAKE_SETS);
	__type(key, __u32);
	__type(value, struct handshakes);
} handshakes SEC(".maps");

// How many buckets there are: a power of two. Slots are in the order of their ways.
const volatile __u32 bucket_count = 128;
// Nobody outside is to choose two connections of one tag.
const volatile __u64 seed = 0;

// Cookies are given out in order: sockets made one after the other are in lines of the cache one after
// the other, and fill the buckets evenly.
INLINE __u32 first_bucket(__u64 cookie)
{
	return (__u32)cookie & (bucket_count - 1);
}

// Where that one is full.
INLINE __u32 second_bucket(__u64 cookie)
{
	return (__u32)(cookie * 0xd6e8feb86659fd93ull >> 40) & (bucket_count - 1);
}

#define IF_HERE(way)                                                \
	if (*(volatile __u64 *)&bucket->cookies[way] == cookie) \
		return way;

// In which way a cookie is; -1 if it is in none.
INLINE int way_of(struct bucket *bucket, __u64 cookie)
{
	IF_HERE(0) IF_HERE(1) IF_HERE(2) IF_HERE(3) IF_HERE(4) IF_HERE(5) IF_HERE(6) IF_HERE(7)
	return -1;
}

INLINE struct slot *slot_at(__u32 bucket, int way)
{
	__u32 index = (__u32)way * bucket_count + bucket;
	return bpf_map_lookup_elem(&slots, &index);
}

// The slot of a socket that has one.
INLINE struct slot *find_slot(__u64 cookie)
{
	__u32 at = first_bucket(cookie);
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &at);
	if (!bucket)
		return 0;
	int way = way_of(bucket, cookie);
	if (way < 0) {
		at = second_bucket(cookie);
		bucket = bpf_map_lookup_elem(&buckets, &at);
		if (!bucket)
			return 0;
		way = way_of(bucket, cookie);
		if (way < 0)
			return 0;
	}
	return slot_at(at, way);
}

// A slot for a socket that has none: `own` says whether nobody else has got it one in the meantime. User
// space has cleared it.
INLINE struct slot *claim_slot(__u64 cookie, int *own)
{
	__u32 zero = 0, first_at = first_bucket(cookie), second_at = second_bucket(cookie);
	struct claiming *all = bpf_map_lookup_elem(&claiming, &zero);
	struct bucket *first = bpf_map_lookup_elem(&buckets, &first_at);
	struct bucket *second = bpf_map_lookup_elem(&buckets, &second_at);
	struct shared *counts = bpf_map_lookup_elem(&shared, &zero);
	if (!all || !first || !second || !counts)
		return 0;
	__u32 at = first_at;
	*own = 0;
	bpf_spin_lock(&all->lock);
	int way = way_of(first, cookie);
	if (way < 0) {
		at = second_at;
		way = way_of(second, cookie);
	}
	if (way < 0) {
		at = first_at;
		way = way_of(first, 0);
		if (way >= 0) {
			*(volatile __u64 *)&first->cookies[way & (WAYS - 1)] = cookie;
			*own = 1;
		}
	}
	if (way < 0) {
		at = second_at;
		way = way_of(second, 0);
		if (way >= 0) {
			*(volatile __u64 *)&second->cookies[way & (WAYS - 1)] = cookie;
			*own = 1;
		}
	}
	*(volatile __u64 *)&counts->claimed += *own;
	bpf_spin_unlock(&all->lock);
	if (way < 0)
		return 0;
	return slot_at(at, way);
}

INLINE void copy_name(char *to, const char *from)
{
	((__u64 *)to)[0] = ((const __u64 *)from)[0];
	((__u64 *)to)[1] = ((const __u64 *)from)[1];
}

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

INLINE __u64 mix(__u64 tag, __u64 with)
{
	tag = (tag ^ with) * 0x9e3779b97f4a7c15ull;
	return tag ^ tag >> 32;
}

INLINE struct handshakes *handshakes_of(__u64 addresses)
{
	__u32 at = (__u32)(addresses >> 40) & (HANDSHAKE_SETS - 1);
	return bpf_map_lookup_elem(&handshakes, &at);
}

// Connections of the same addresses in different network namespaces are told apart by the sequence number
// with which either side begins: the kernel takes it from a clock of 64 nanoseconds.
#define BY_CLIENT 1
#define BY_SERVER 2
INLINE __u32 tag_of(__u64 addresses, __u32 begin, __u32 whose)
{
	return (__u32)mix(addresses, (__u64)whose << 32 | begin) | 1;
}

#define IF_TAGGED(way)                                        \
	if (*(volatile __u32 *)&set->tag[way] == tag) \
		return way;

INLINE int handshake_way(struct handshakes *set, __u32 tag)
{
	IF_TAGGED(0) IF_TAGGED(1) IF_TAGGED(2)
	return -1;
}

// Remembers a packet of a handshake.
INLINE void note_handshake(struct __sk_buff *skb, __u64 listener, __u32 bytes, int out, int local)
{
	struct headers all;
	if (!load_headers(skb, &all))
		return;
	struct tcp tcp = all.tcp;
	__u64 addresses = seed;
	// The address and the port of this host first.
	if (all.is_ipv4) {
		addresses = mix(mix(addresses, all.ip[out ? 3 : 4]), all.ip[out ? 4 : 3]);
	} else {
		for (int word = 2; word < 6; word++)
			addresses = mix(mix(addresses, all.ip[out ? word : word + 4]),
					all.ip[out ? word + 4 : word]);
	}
	addresses = mix(addresses, (__u32)tcp.ports[out] << 16 | tcp.ports[!out]);
	struct handshakes *set = handshakes_of(addresses);
	if (!set)
		return;
	__u32 sequence = __builtin_bswap32(tcp.sequence);
	__u32 acknowledged = __builtin_bswap32(tcp.acknowledged);
	// The server's number isn't known before it answers. Then it takes the place of the client's, which the
	// connection's own socket doesn't know any more when it has received something.
	int asks = !out && tcp.flags & SYN;
	__u32 tag = asks ? tag_of(addresses, sequence, BY_CLIENT)
			 : tag_of(addresses, out ? sequence : acknowledged - 1, BY_SERVER);
	int way = handshake_way(set, tag);
	if (way < 0 && out)
		way = handshake_way(set, tag_of(addresses, acknowledged - 1, BY_CLIENT));
	if (way < 0) {
		way = handshake_way(set, 0);
		if (way < 0)
			way = (tag >> 1 & 0xff) * HANDSHAKE_WAYS >> 8;
		set->listener[way] = listener;
		set->sent[way] = 0;
		set->received[way] = local ? ON_LOOPBACK : 0;
	}
	set->tag[way] = tag;
	if (out)
		set->sent[way] += bytes;
	else
		set->received[way] += bytes;
}

// Gives a new connection's slot what its listening socket knows, and what that has answered for.
INLINE void take_over(struct slot *slot, struct bpf_sock *sk)
{
	struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return;
	__u64 addresses = seed;
	if (sk->family == AF_INET) {
		addresses = mix(mix(addresses, sk->src_ip4), sk->dst_ip4);
		APART(4);
	} else {
		__u32 mapped = __builtin_bswap32(0xffff);
		// The packets of an IPv4-mapped address are those of IPv4.
		if (!sk->src_ip6[0] && !sk->src_ip6[1] && sk->src_ip6[2] == mapped) {
			addresses = mix(mix(addresses, sk->src_ip6[3]), sk->dst_ip6[3]);
			APART(64);
		} else {
			addresses = mix(mix(addresses, sk->src_ip6[0]), sk->dst_ip6[0]);
			addresses = mix(mix(addresses, sk->src_ip6[1]), sk->dst_ip6[1]);
			addresses = mix(mix(addresses, sk->src_ip6[2]), sk->dst_ip6[2]);
			addresses = mix(mix(addresses, sk->src_ip6[3]), sk->dst_ip6[3]);
			APART(6);
		}
	}
	__u32 local_port = __builtin_bswap16((__u16)sk->src_port), remote_port = (__u16)sk->dst_port;
	addresses = mix(addresses, remote_port << 16 | local_port);
	struct handshakes *set = handshakes_of(addresses);
	if (!set)
		return;
	// It has sent nothing since its handshake.
	int way = handshake_way(set, tag_of(addresses, tcp->snd_una - 1, BY_SERVER));
	if (way < 0)
		return;
	__u64 listener = set->listener[way];
	__u64 sent = set->sent[way], received = set->received[way] & ~ON_LOOPBACK;
	int local = !!(set->received[way] & ON_LOOPBACK);
	set->tag[way] = 0;
	// First, so that nobody takes it for one that was made by who has made that one.
	*(volatile __u64 *)&slot->listener = listener;
	BARRIER();
	struct slot *from = find_slot(listener);
	if (!from)
		return;
	slot->made = from->made;
	slot->netns = from->netns;
	copy_name(slot->maker_name, from->maker_name);
	slot->maker = from->maker;
	// It may have another slot by now.
	if (from->sent[local] < sent || from->received[local] < received)
		return;
	__sync_fetch_and_add(&from->sent[local], -sent);
	__sync_fetch_and_add(&from->received[local], -received);
	__sync_fetch_and_add(&slot->sent[local], sent);
	__sync_fetch_and_add(&slot->received[local], received);
}

// A slot for a socket of which nothing is known here. User space may know more: whose the slots were that it
// took back.
INLINE struct slot *begin(struct bpf_sock *sk, __u64 cookie)
{
	int own = 0;
	struct slot *slot = claim_slot(cookie, &own);
	if (slot && own) {
		slot->protocol = sk->protocol;
		BARRIER();
		*(volatile __u32 *)&slot->flags = FILLED;
	}
	return slot;
}

// The first packet since it has this slot: now it has its ports, or never.
INLINE void first_packet(struct slot *slot, struct bpf_sock *sk)
{
	__u32 zero = 0, flags = *(volatile __u32 *)&slot->flags;
	// Where another processor is filling it, there will be a next packet.
	if (!(flags & FILLED) || !(sk = bpf_sk_fullsock(sk)))
		return;
	slot->local_port = (__u16)sk->src_port;
	slot->remote_port = (__u16)sk->dst_port;
	if (slot->maker || slot->protocol != IPPROTO_TCP || sk->state == TCP_LISTEN) {
		slot->begun = 1;
		return;
	}
	struct claiming *all = bpf_map_lookup_elem(&claiming, &zero);
	if (!all)
		return;
	bpf_spin_lock(&all->lock);
	int first = !slot->begun;
	slot->begun = 1;
	bpf_spin_unlock(&all->lock);
	if (first)
		take_over(slot, sk);
}

// A connection whose socket was released is over when the packet is acknowledged that has told so: what
// is left is the kernel's waiting, or an answer to the other side's last packet, at once. Its packets
// come one after the other, so that nobody else writes these flags any more.
INLINE void see_it_end(struct slot *slot, struct __sk_buff *skb, int out)
{
	__u32 flags = *(volatile __u32 *)&slot->flags;
	struct headers all;
	if (!(flags & RELEASED) || flags & ENDED || (!out && !(flags & FINISHED)))
		return;
	if (!load_headers(skb, &all))
		return;
	if (out && all.tcp.flags & FIN) {
		__u32 payload = skb->len - all.before - (all.tcp.length >> 4) * 4;
		slot->end = __builtin_bswap32(all.tcp.sequence) + payload + 1;
		BARRIER();
		*(volatile __u32 *)&slot->flags = flags | FINISHED;
	}
	if (!out && (__s32)(__builtin_bswap32(all.tcp.acknowledged) - slot->end) >= 0)
		*(volatile __u32 *)&slot->flags = flags | ENDED;
}

INLINE void count(struct __sk_buff *skb, int out)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return;
	__u64 bytes = skb->len;
	// The loopback device has this number in every network namespace.
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
		__u32 zero = 0;
		struct shared *all = bpf_map_lookup_elem(&shared, &zero);
		if (!all)
			return;
		__sync_fetch_and_add(out ? &all->sent[local] : &all->received[local], bytes);
		__sync_fetch_and_add(&all->without, 1);
		return;
	}
	if (out) {
		if (!slot->begun)
			first_packet(slot, sk);
		__sync_fetch_and_add(&slot->sent[local], bytes);
	} else {
		if (!slot->has_received) {
			if (!slot->begun)
				first_packet(slot, sk);
			slot->has_received = slot->begun;
		}
		__sync_fetch_and_add(&slot->received[local], bytes);
	}
	__u32 state = sk->state;
	// A socket that goes on is spared the rest.
	if (state != TCP_LISTEN && !(1u << (state & 31) & ENDING))
		return;
	if (slot->protocol != IPPROTO_TCP)
		return;
	if (state != TCP_LISTEN) {
		see_it_end(slot, skb, out);
		return;
	}
	if (!slot->listening)
		slot->listening = 1;
	note_handshake(skb, cookie, (__u32)bytes, out, local);
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

SEC("cgroup/sock_create")
int create(struct bpf_sock *sk)
{
	int own = 0;
	struct slot *slot = claim_slot(bpf_get_socket_cookie(sk), &own);
	if (slot) {
		slot->made = bpf_ktime_get_boot_ns();
		slot->netns = bpf_get_netns_cookie(sk);
		slot->maker = bpf_get_current_pid_tgid() >> 32;
		slot->protocol = sk->protocol;
		bpf_get_current_comm(slot->maker_name, NAME);
		BARRIER();
		*(volatile __u32 *)&slot->flags = FILLED;
	}
	return 1;
}

SEC("cgroup/sock_release")
int release(struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	int ended = sk->protocol != IPPROTO_TCP || sk->state == TCP_CLOSE || sk->state == TCP_LISTEN;
	struct slot *slot = find_slot(cookie);
	// One that was silent for long, or since it was accepted: it will say that it ends.
	if (!slot && !ended)
		slot = begin(sk, cookie);
	if (!slot)
		return 1;
	slot->closer = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(slot->closer_name, NAME);
	BARRIER();
	*(volatile __u32 *)&slot->flags = slot->flags | RELEASED | (ended ? ENDED : 0);
	return 1;
}

// MIT, or Apache 2.0; the kernel knows only names of licences compatible with its own.
char program_license[] SEC("license") = "Dual MIT/GPL";
