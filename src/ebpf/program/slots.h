// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Each socket has a slot, in an array that user space maps into its memory: a packet costs a few loads and an
// addition, and a read no call at all. The socket's cookie, which the kernel never uses again, selects two
// buckets of eight ways: it stands in the way of its slot. The kernel's side claims slots that are free; user
// space takes them back, whenever it likes, and clears them before they are free again. A socket that has lost
// its slot gets another one with its next packet, so nothing is lost by it.
#ifndef BWMON_SLOTS_H
#define BWMON_SLOTS_H

#include "kernel.h"

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
// The loopback device has this number in every network namespace.
#define LOOPBACK_IFINDEX 1

// A slot's flags.
#define FILLED 1u // what is known from the beginning is written
#define RELEASED 2u // no descriptor refers to it any more
#define FINISHED 4u // and it has sent all that it had to send
#define ENDED 8u // and it will send and receive nothing more
#define EXACT 16u // `maker_when` and `closer_when` are when those processes began
#define NAME_OF_CLOSER 32u // `name` is the closer's
#define MULTIPATH 64u // a Multipath TCP socket; its subflows have slots of their own
#define SUBFLOW 128u // one of those

// What was seen of a socket.
#define SEEN 1u // a packet
#define HAS_INODE 2u // that it was accepted

// What left or will leave the host, and what stays on its loopback device.
enum { REMOTE, LOCAL, PLACES };

#define LINE 64
#define OWN_LINE __attribute__((aligned(LINE)))

// One socket's bytes. User space reads this layout: src/ebpf/slots.rs. What one processor counts that
// sends and another that receives is in lines of the cache apart from each other.
struct slot {
	__u64 sent[PLACES] OWN_LINE;
	__u64 netns; // the cookie of its network namespace; 0 where that isn't known
	__u64 listener; // the cookie of the socket at which it was accepted; 0 for none
	__u64 maker_when; // in nanoseconds since boot: when its maker began (EXACT), or when it was made
	__u32 maker; // the process that made it, or its listening socket; 0 where that isn't known
	__u32 flags;
	__u16 local_port;
	__u16 remote_port;
	__u32 protocol;
	__u32 begun; // what was seen of it
	__u32 user; // the place of its user in `users`
	__u64 received[PLACES] OWN_LINE;
	char name[NAME]; // the maker's, or the closer's
	__u64 closer_when; // when the process began that let go of it last (EXACT)
	__u32 closer; // that process
	__u32 has_received; // a packet was seen that it received
	__u32 end; // TCP's sequence number behind the last packet that it will send, once it is FINISHED; until then AGE
	__u32 listening; // it accepts connections
	__u32 token; // of its Multipath TCP connection; 0 for none
	__u32 inode; // by which descriptors name it; 0 where that isn't known (yet)
};

// The sockets that have slots, by their cookies: 0 where a slot is free, and all ones where user space has
// taken it back and not cleared it yet. One line of the cache.
#define WAYS 8
struct bucket {
	__u64 cookies[WAYS] OWN_LINE;
};

// What is counted of all sockets together. User space reads this.
struct shared {
	__u64 claimed; // slots that were given to sockets so far
	__u64 freed; // slots that are free again; user space and the kernel's side add to it
	__u64 outside; // changes of `outside`
	__u64 handshakes; // packets of handshakes
	__u64 frames; // frames that packet sockets have sent
};

struct claiming {
	struct bpf_spin_lock lock;
};

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

// How many slots the users have, by a hash of their numbers; user space takes off those that it frees.
#define USERS 4096
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, USERS);
	__type(key, __u32);
	__type(value, __u64);
} users SEC(".maps");

// Bytes that are in no slot, for each network namespace (0 where that isn't known).
struct outside {
	__u64 sent[PLACES]; // of sockets for which there was no slot
	__u64 received[PLACES];
	__u64 sent_by_none[PLACES]; // there was no socket for them (any more)
	__u64 received_by_none[PLACES];
	__u64 pings[PLACES]; // sent by sockets that the kernel uses in all namespaces: answers to pings
	__u64 resets[PLACES]; // and what refuses connections
};
#define NAMESPACES 4096
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NAMESPACES);
	__type(key, __u64);
	__type(value, struct outside);
} outside SEC(".maps");

// How many buckets there are: a power of two. Slots are in the order of their ways.
const volatile __u32 bucket_count = 128;
// Nobody outside is to choose two connections of one tag, or two users of one place.
const volatile __u64 seed = 0;

INLINE __u64 mix(__u64 tag, __u64 with)
{
	tag = (tag ^ with) * 0x9e3779b97f4a7c15ull;
	return tag ^ tag >> 32;
}

// The place of a user in `users`. The superuser has the first one for itself, and is not limited: nobody else
// keeps it from anything.
INLINE __u32 place_of_user(__u32 user)
{
	return user ? (__u32)(mix(seed, user) >> 32) % (USERS - 1) + 1 : 0;
}

// Where it isn't known whose a socket is: as if it were somebody's of whom nothing is known.
#define SOMEBODY 1

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

#define IF_HERE(way)                          \
	if (ONCE(bucket->cookies[way]) == cookie) \
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

// Gives a slot the maker of another one: that last, so that it is never there without the rest.
INLINE void inherit_maker(struct slot *slot, struct slot *from)
{
	slot->maker_when = from->maker_when;
	((__u64 *)slot->name)[0] = ((__u64 *)from->name)[0];
	((__u64 *)slot->name)[1] = ((__u64 *)from->name)[1];
	BARRIER();
	ONCE(slot->maker) = from->maker;
}

// A user may have twice as many slots as are free: nobody can fill them all, and each who tries leaves room for
// the next.
#define SHARE_OF_FREE 2
// Cookies can be chosen, by making many sockets and keeping some. So the last free ways of a bucket are for those
// who have few of the others.
#define RESERVED_WAYS 2
#define FEW_WAYS 4

INLINE __u64 free_slots(struct shared *counts)
{
	__u64 taken = ONCE(counts->claimed) - ONCE(counts->freed), all = bucket_count * (__u64)WAYS;
	return taken < all ? all - taken : 0;
}

// Whether a user may have another way of a bucket, if one is free.
INLINE int has_way_for(struct bucket *bucket, __u32 at, __u32 user)
{
	int open = 0, own = 0;
	if (!user)
		return 1;
#pragma clang loop unroll(disable)
	for (int way = 0; way < WAYS; way++)
		open += !ONCE(bucket->cookies[way & (WAYS - 1)]);
	if (open > RESERVED_WAYS)
		return 1;
#pragma clang loop unroll(disable)
	for (int way = 0; way < WAYS; way++) {
		struct slot *slot = slot_at(at, way);
		own += slot && ONCE(bucket->cookies[way & (WAYS - 1)]) && ONCE(slot->user) == user;
	}
	return own < FEW_WAYS;
}

// When a socket was made, in 65 microseconds. Cookies don't tell: each processor gives out its own 4096 of them.
#define AGE ((__u32)(bpf_ktime_get_boot_ns() >> 16))

// A way of a bucket that a socket has which is open and was silent ever since it was made: it loses nothing with
// its slot but who made it, and somebody who has bytes needs it. The oldest one: the newest may be about to send. -1 if there is none.
INLINE int silent_way(struct bucket *bucket, __u32 at, __u64 *cookie)
{
	int oldest = -1;
	__u32 made = 0;
#pragma clang loop unroll(disable)
	for (int way = 0; way < WAYS; way++) {
		__u64 whose = ONCE(bucket->cookies[way & (WAYS - 1)]);
		struct slot *slot = slot_at(at, way);
		if (!slot || !whose || whose == ~0ull)
			continue;
		if (oldest >= 0 && (__s32)(slot->end - made) >= 0)
			continue;
		if (ONCE(slot->flags) & (RELEASED | MULTIPATH) || !(ONCE(slot->flags) & FILLED))
			continue;
		if (slot->begun || slot->listening || slot->listener)
			continue;
		if (slot->sent[REMOTE] || slot->sent[LOCAL] || slot->received[REMOTE] || slot->received[LOCAL])
			continue;
		*cookie = whose;
		made = slot->end;
		oldest = way;
	}
	return oldest;
}

// A slot for a socket that has none: `own` says whether nobody else has got it one in the meantime. User
// space has cleared it.
INLINE struct slot *claim_slot(__u64 cookie, __u32 user, int *own)
{
	__u32 zero = 0, first_at = first_bucket(cookie), second_at = second_bucket(cookie);
	struct claiming *all = bpf_map_lookup_elem(&claiming, &zero);
	struct bucket *first = bpf_map_lookup_elem(&buckets, &first_at);
	struct bucket *second = bpf_map_lookup_elem(&buckets, &second_at);
	struct shared *counts = bpf_map_lookup_elem(&shared, &zero);
	__u64 *has = bpf_map_lookup_elem(&users, &user);
	if (!all || !first || !second || !counts || !has)
		return 0;
	if (user && ONCE(*has) >= SHARE_OF_FREE * free_slots(counts))
		return 0;
	int in_first = has_way_for(first, first_at, user), in_second = has_way_for(second, second_at, user);
	__u32 at = first_at;
	*own = 0;
	bpf_spin_lock(&all->lock);
	int way = way_of(first, cookie);
	if (way < 0) {
		at = second_at;
		way = way_of(second, cookie);
	}
	if (way < 0 && in_first) {
		at = first_at;
		way = way_of(first, 0);
		if (way >= 0) {
			ONCE(first->cookies[way & (WAYS - 1)]) = cookie;
			*own = 1;
		}
	}
	if (way < 0 && in_second) {
		at = second_at;
		way = way_of(second, 0);
		if (way >= 0) {
			ONCE(second->cookies[way & (WAYS - 1)]) = cookie;
			*own = 1;
		}
	}
	bpf_spin_unlock(&all->lock);
	if (way < 0)
		return 0;
	if (*own) {
		__sync_fetch_and_add(&counts->claimed, 1);
		__sync_fetch_and_add(has, 1);
	}
	return slot_at(at, way);
}

// Where there is no free slot: that of a silent socket, made as good as new.
INLINE struct slot *claim_silent(__u64 cookie, __u32 user)
{
	__u32 zero = 0, at = first_bucket(cookie);
	struct claiming *all = bpf_map_lookup_elem(&claiming, &zero);
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &at);
	struct shared *counts = bpf_map_lookup_elem(&shared, &zero);
	__u64 *has = bpf_map_lookup_elem(&users, &user);
	if (!all || !bucket || !counts || !has)
		return 0;
	if (user && ONCE(*has) >= SHARE_OF_FREE * (free_slots(counts) + WAYS))
		return 0;
	__u64 silent = 0;
	int way = silent_way(bucket, at, &silent);
	if (way < 0) {
		at = second_bucket(cookie);
		bucket = bpf_map_lookup_elem(&buckets, &at);
		if (!bucket)
			return 0;
		way = silent_way(bucket, at, &silent);
	}
	if (way < 0)
		return 0;
	struct slot *slot = slot_at(at, way);
	if (!slot)
		return 0;
	int own = 0;
	bpf_spin_lock(&all->lock);
	if (ONCE(bucket->cookies[way & (WAYS - 1)]) == silent && !slot->begun) {
		// Nobody takes it for the new one's before it is.
		ONCE(slot->flags) = 0;
		ONCE(bucket->cookies[way & (WAYS - 1)]) = cookie;
		own = 1;
	}
	bpf_spin_unlock(&all->lock);
	if (!own)
		return 0;
	__sync_fetch_and_add(&counts->claimed, 1);
	__sync_fetch_and_add(&counts->freed, 1);
	__u32 before = slot->user;
	__u64 *had = bpf_map_lookup_elem(&users, &before);
	if (had)
		__sync_fetch_and_add(had, -1);
	__sync_fetch_and_add(has, 1);
	slot->netns = 0;
	slot->maker = 0;
	slot->maker_when = 0;
	slot->closer = 0;
	slot->closer_when = 0;
	slot->token = 0;
	slot->inode = 0;
	slot->local_port = 0;
	slot->remote_port = 0;
	((__u64 *)slot->name)[0] = 0;
	((__u64 *)slot->name)[1] = 0;
	return slot;
}

// To be said after something was added to it: user space reads it again.
INLINE void outside_changed(void)
{
	__u32 zero = 0;
	struct shared *counts = bpf_map_lookup_elem(&shared, &zero);
	if (counts)
		__sync_fetch_and_add(&counts->outside, 1);
}

// What is counted outside the slots in a network namespace.
INLINE struct outside *outside_of(__u64 netns)
{
	struct outside *of = bpf_map_lookup_elem(&outside, &netns);
	if (of)
		return of;
	struct outside none = {};
	// Another processor may be quicker.
	bpf_map_update_elem(&outside, &netns, &none, BPF_NOEXIST);
	of = bpf_map_lookup_elem(&outside, &netns);
	if (of)
		return of;
	// There are too many namespaces: user space has made this one.
	netns = 0;
	return bpf_map_lookup_elem(&outside, &netns);
}

#endif
