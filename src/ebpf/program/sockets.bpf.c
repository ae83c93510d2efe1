// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Counts the IP bytes of every socket, and remembers who made it.
//
// Each socket with traffic has a slot, in an array that user space maps into its memory: a packet
// costs a few loads and an addition, and a read no call at all. Which slot it is stands in the socket's
// own storage, beside its maker; both are inherited by the sockets that it accepts. A slot names its
// socket by the cookie, which the kernel never uses again. Where it names another one, or none, the
// socket takes a new slot: so user space may take any slot back at any time, and nothing is lost by it.
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
static void *(*const bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) =
	(void *)BPF_FUNC_sk_storage_get;

static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) =
	(void *)BPF_FUNC_map_update_elem;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static long (*const bpf_skb_load_bytes)(void *skb, __u32 offset, void *to, __u32 length) =
	(void *)BPF_FUNC_skb_load_bytes;

#define AF_INET 2
#define IPPROTO_TCP 6
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define LOOPBACK_IFINDEX 1

// Keeps the compiler from joining the ends of two branches, and their loads: the verifier wants each
// load to be of one field.
#define APART(number) asm volatile("" ::"i"(number) : "memory")

#define NAME 16

// A slot's flags.
#define ACCEPTED 1u // inherited from a listening socket
#define RELEASED 2u // no descriptor refers to it any more
#define ENDED 4u    // and it will send and receive nothing more
#define LISTENING 8u // it accepts connections

// What left or will leave the host, and what stays on its loopback device.
enum { REMOTE, LOCAL, PLACES };

#define LINE 64
#define OWN_LINE __attribute__((aligned(LINE)))

// One socket's bytes. User space reads this layout: src/ebpf/slots.rs. What one processor counts that
// sends and another that receives is in lines of the cache apart from each other, and from what both
// only read.
struct slot {
	__u64 cookie OWN_LINE; // 0: free
	__u64 made; // when the socket was made, or its listening socket: nanoseconds since boot
	__u64 netns; // the cookie of its network namespace; 0 for a socket older than this program
	__u64 listener; // the cookie of the socket at which it was accepted
	__u32 maker; // the process that made it; 0 for a socket older than this program
	__u32 closer; // the process that let go of it last
	__u32 flags;
	__u16 local_port;
	__u16 remote_port;
	__u32 protocol;
	__u64 sent[PLACES] OWN_LINE;
	char maker_name[NAME];
	char closer_name[NAME];
	__u64 received[PLACES] OWN_LINE;
};

// What a socket carries with it.
struct origin {
	__u64 cookie; // of the socket that it was written for
	__u64 made;
	__u64 netns;
	__u64 listener;
	__u32 maker;
	__u32 closer;
	__u32 flags;
	__u32 slot;
	char maker_name[NAME];
	char closer_name[NAME];
};

// Bytes of sockets for which there was no slot, and how far slots were used. User space reads this.
struct shared {
	__u64 returned; // slots given back: written by user space
	__u64 used;     // slots that were ever used
	__u64 sent[PLACES];
	__u64 received[PLACES];
	__u64 without; // packets without a slot
};

struct allocator {
	struct bpf_spin_lock lock;
	__u32 fresh; // the next slot that was never used
	__u32 taken; // how many of those given back were taken again
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024); // set when it is loaded
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

// The slots given back, in a ring.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024); // as many as there are slots
	__type(key, __u32);
	__type(value, __u64);
} returns SEC(".maps");

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
	__type(value, struct allocator);
} allocators SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct origin);
} origins SEC(".maps");

// A connection that its listening socket has to answer for until it is a socket of its own.
struct handshake_key {
	__u64 listener;
	__u32 local[4]; // an IPv4 address in its IPv4-mapped form
	__u32 remote[4];
	__u16 local_port; // in network byte order
	__u16 remote_port;
	__u32 unused;
};

struct handshake {
	__u64 sent;
	__u64 received;
};

// Where one is forgotten before its connection is accepted, its bytes stay the listening socket's.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct handshake_key);
	__type(value, struct handshake);
} handshakes SEC(".maps");

// How many slots there are: a power of two.
const volatile __u32 capacity = 1024;

static __attribute__((always_inline)) int take_slot(__u32 *taken)
{
	__u32 zero = 0;
	struct allocator *allocator = bpf_map_lookup_elem(&allocators, &zero);
	struct shared *all = bpf_map_lookup_elem(&shared, &zero);
	if (!allocator || !all)
		return 0;
	__u32 returned = (__u32)*(volatile __u64 *)&all->returned;
	__u32 turn = 0, fresh = 0;
	int again = 0, found = 1;
	bpf_spin_lock(&allocator->lock);
	// Those never used come last, so that no more memory is touched than is needed.
	if (allocator->taken != returned) {
		turn = allocator->taken++;
		again = 1;
	} else if (allocator->fresh < capacity) {
		fresh = allocator->fresh++;
		// Here, or a smaller one might come later: what is beyond isn't read.
		all->used = fresh + 1;
	} else {
		found = 0;
	}
	bpf_spin_unlock(&allocator->lock);
	if (!found)
		return 0;
	if (!again) {
		*taken = fresh;
		return 1;
	}
	// It was written before it was counted, and is not written again before it is given back again.
	__u32 place = turn & (capacity - 1);
	__u64 *slot = bpf_map_lookup_elem(&returns, &place);
	if (!slot)
		return 0;
	*taken = (__u32)*slot;
	return 1;
}

static __attribute__((always_inline)) void copy_name(char *to, const char *from)
{
	((__u64 *)to)[0] = ((const __u64 *)from)[0];
	((__u64 *)to)[1] = ((const __u64 *)from)[1];
}

static __attribute__((always_inline)) void map_ipv4(__u32 *address, __u32 v4)
{
	address[0] = address[1] = 0;
	address[2] = __builtin_bswap32(0xffff);
	address[3] = v4;
}

// Remembers a packet of a handshake. One whose TCP header is behind IPv6 extension headers is left out.
static __attribute__((always_inline)) void note_handshake(struct __sk_buff *skb, __u64 listener, __u64 bytes,
							  int out)
{
	struct handshake_key key = {.listener = listener};
	__u8 first = 0;
	__u16 ports[2];
	__u32 at, source[4], destination[4];
	if (bpf_skb_load_bytes(skb, 0, &first, sizeof(first)))
		return;
	if (first >> 4 == 4) {
		__u32 ends[2];
		if (bpf_skb_load_bytes(skb, 12, ends, sizeof(ends)))
			return;
		map_ipv4(source, ends[0]);
		map_ipv4(destination, ends[1]);
		at = (first & 15) * 4;
	} else {
		__u8 next = 0;
		if (bpf_skb_load_bytes(skb, 6, &next, sizeof(next)) || next != IPPROTO_TCP ||
		    bpf_skb_load_bytes(skb, 8, source, sizeof(source)) ||
		    bpf_skb_load_bytes(skb, 24, destination, sizeof(destination)))
			return;
		at = 40;
	}
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return;
	__builtin_memcpy(key.local, out ? source : destination, sizeof(key.local));
	__builtin_memcpy(key.remote, out ? destination : source, sizeof(key.remote));
	key.local_port = ports[!out];
	key.remote_port = ports[out];
	struct handshake *known = bpf_map_lookup_elem(&handshakes, &key);
	if (known) {
		__sync_fetch_and_add(out ? &known->sent : &known->received, bytes);
		return;
	}
	struct handshake begun = {.sent = out ? bytes : 0, .received = out ? 0 : bytes};
	bpf_map_update_elem(&handshakes, &key, &begun, BPF_ANY);
}

// Gives a new connection's slot what its listening socket has answered for.
static __attribute__((always_inline)) void take_over(struct slot *slot, struct slot *listener, __u64 cookie,
						     struct bpf_sock *sk, int local)
{
	struct handshake_key key = {.listener = cookie};
	if (sk->family == AF_INET) {
		map_ipv4(key.local, sk->src_ip4);
		map_ipv4(key.remote, sk->dst_ip4);
		APART(4);
	} else {
		key.local[0] = sk->src_ip6[0];
		key.local[1] = sk->src_ip6[1];
		key.local[2] = sk->src_ip6[2];
		key.local[3] = sk->src_ip6[3];
		key.remote[0] = sk->dst_ip6[0];
		key.remote[1] = sk->dst_ip6[1];
		key.remote[2] = sk->dst_ip6[2];
		key.remote[3] = sk->dst_ip6[3];
		APART(6);
	}
	key.local_port = __builtin_bswap16((__u16)sk->src_port);
	key.remote_port = (__u16)sk->dst_port;
	struct handshake *known = bpf_map_lookup_elem(&handshakes, &key);
	if (!known)
		return;
	__u64 sent = known->sent, received = known->received;
	bpf_map_delete_elem(&handshakes, &key);
	__sync_fetch_and_add(&listener->sent[local], -sent);
	__sync_fetch_and_add(&listener->received[local], -received);
	slot->sent[local] = sent;
	slot->received[local] = received;
}

// What a socket got from its listening socket is made its own.
static __attribute__((always_inline)) void adopt(struct origin *origin, __u64 cookie)
{
	if (origin->cookie == cookie)
		return;
	if (origin->cookie) {
		origin->flags = ACCEPTED;
		origin->listener = origin->cookie;
	}
	origin->closer = 0;
	origin->cookie = cookie;
}

static __attribute__((always_inline)) struct slot *slot_of(struct origin *origin, __u64 cookie)
{
	__u32 index = origin->slot;
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	if (slot && *(volatile __u64 *)&slot->cookie == cookie)
		return slot;
	return 0;
}

// A slot for a socket that has none.
static __attribute__((always_inline)) struct slot *begin(struct origin *origin, __u64 cookie,
							 struct bpf_sock *sk, int local)
{
	__u32 index;
	if (!take_slot(&index))
		return 0;
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	if (!slot)
		return 0;
	slot->sent[REMOTE] = slot->sent[LOCAL] = 0;
	slot->received[REMOTE] = slot->received[LOCAL] = 0;
	if (origin->cookie && origin->cookie != cookie) {
		struct slot *listener = slot_of(origin, origin->cookie);
		if (listener)
			take_over(slot, listener, origin->cookie, sk, local);
	}
	adopt(origin, cookie);
	slot->made = origin->made;
	slot->netns = origin->netns;
	slot->maker = origin->maker;
	slot->closer = origin->closer;
	slot->flags = origin->flags;
	slot->listener = origin->listener;
	slot->local_port = (__u16)sk->src_port;
	slot->remote_port = (__u16)sk->dst_port;
	slot->protocol = sk->protocol;
	copy_name(slot->maker_name, origin->maker_name);
	copy_name(slot->closer_name, origin->closer_name);
	asm volatile("" ::: "memory");
	*(volatile __u64 *)&slot->cookie = cookie;
	origin->slot = index;
	return slot;
}

static __attribute__((always_inline)) void count(struct __sk_buff *skb, int out)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	__u64 bytes = skb->len;
	// The loopback device has this number in every network namespace.
	int local = skb->ifindex == LOOPBACK_IFINDEX;
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct origin *origin = bpf_sk_storage_get(&origins, sk, 0, 0);
	struct slot *slot = origin ? slot_of(origin, cookie) : 0;
	if (!slot) {
		if (!origin)
			origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (origin)
			slot = begin(origin, cookie, sk, local);
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
	__sync_fetch_and_add(out ? &slot->sent[local] : &slot->received[local], bytes);
	if (sk->state == TCP_LISTEN && sk->protocol == IPPROTO_TCP) {
		if (!(slot->flags & LISTENING))
			slot->flags |= LISTENING;
		note_handshake(skb, cookie, bytes, out);
	}
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
	struct origin *origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (origin) {
		origin->cookie = bpf_get_socket_cookie(sk);
		origin->made = bpf_ktime_get_boot_ns();
		origin->netns = bpf_get_netns_cookie(sk);
		origin->maker = bpf_get_current_pid_tgid() >> 32;
		origin->slot = capacity;
		bpf_get_current_comm(origin->maker_name, NAME);
	}
	return 1;
}

SEC("cgroup/sock_release")
int release(struct bpf_sock *sk)
{
	struct origin *origin = bpf_sk_storage_get(&origins, sk, 0, 0);
	if (!origin)
		return 1;
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct slot *slot = slot_of(origin, cookie);
	__u32 flags = RELEASED;
	if (sk->protocol != IPPROTO_TCP || sk->state == TCP_CLOSE || sk->state == TCP_LISTEN)
		flags |= ENDED;
	adopt(origin, cookie);
	flags |= origin->flags;
	origin->flags = flags;
	origin->closer = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(origin->closer_name, NAME);
	if (slot) {
		slot->closer = origin->closer;
		copy_name(slot->closer_name, origin->closer_name);
		asm volatile("" ::: "memory");
		*(volatile __u32 *)&slot->flags = flags;
	}
	return 1;
}

// MIT, or Apache 2.0; the kernel knows only names of licences compatible with its own.
char program_license[] SEC("license") = "Dual MIT/GPL";
