// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Answers to those who connect over IPv6 (SYN-ACKs). Before Linux 6.6 the control groups' hook doesn't see them: it
// passes over what belongs to another socket than the one that sends it, and an answer belongs to the connection that
// is asked for. A tracepoint does.
#ifndef BWMON_ANSWERS_H
#define BWMON_ANSWERS_H

#include "frames.h"
#include "handshakes.h"

#define AF_INET6 10
#define TCP_NEW_SYN_RECV 12

struct packet6 {
	__u32 ip[IPV6_WORDS];
	struct tcp tcp;
};

// Adds an answer to what is kept of its handshake. One that the hook has seen has put the server's number in the
// place of the client's there, and isn't found.
SEC("tp_btf/net_dev_queue")
int answer(struct raw_tracepoint *tracepoint)
{
	struct sk_buff *skb = (void *)tracepoint->arguments[0];
	struct sock *sk = skb->sk;
	if (!sk || sk->__sk_common.skc_family != AF_INET6 || sk->__sk_common.skc_state != TCP_NEW_SYN_RECV)
		return 0;
	struct net_device *dev = READ(skb, dev);
	// What goes to a VLAN or a bridge is queued at the device below once more, and is counted there.
	if (!is_empty(&dev->adj_list.lower))
		return 0;
	unsigned char *ip = READ(skb, head) + READ(skb, network_header);
	struct packet6 all = {};
	if (bpf_probe_read_kernel(&all, sizeof(all), ip) || ((__u8 *)all.ip)[6] != IPPROTO_TCP)
		return 0;
	__u64 addresses = addresses_of(netns_of(sk), all.ip, 0, &all.tcp, 1);
	struct handshakes *set = handshakes_of(addresses);
	if (!set)
		return 0;
	int way = handshake_way(set, tag_of(addresses, __builtin_bswap32(all.tcp.acknowledged) - 1, BY_CLIENT));
	if (way >= 0)
		__sync_fetch_and_add(&set->sent[way], READ(skb, len) - (__u32)(ip - READ(skb, data)));
	return 0;
}

#endif
