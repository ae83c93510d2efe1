// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The hooks that bwmon uses, with programs that do nothing: what no program at them can do without.

#define SEC(name) __attribute__((section(name), used))

SEC("cgroup_skb/ingress")
int ingress(void *packet)
{
	return packet != 0;
}

SEC("cgroup_skb/egress")
int egress(void *packet)
{
	return packet != 0;
}

SEC("cgroup/sock_create")
int create(void *socket)
{
	return socket != 0;
}

SEC("cgroup/sock_release")
int release(void *socket)
{
	return socket != 0;
}

SEC("sockops")
int establish(void *operation)
{
	return operation != 0;
}

SEC("raw_tp/net_dev_queue")
int queue(void *tracepoint)
{
	return tracepoint == 0;
}

SEC("raw_tp/kfree_skb")
int drop(void *tracepoint)
{
	return tracepoint == 0;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
