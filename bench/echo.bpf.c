/* SPDX-License-Identifier: Apache-2.0
 *
 * Sends each packet for a listener back to its sender without a change: the least that an answer in the kernel can cost.
 *
 * The program has no look-up, so the difference to the accelerator's program is the work of finding and copying a reply.
 */
#include "packet.bpf.h"

INLINE int echo(struct __sk_buff *skb, const int v6, __u32 payload)
{
	void *data = (void *)(long)skb->data;

	if (data + sizeof(struct ethhdr) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + sizeof(struct udphdr) >
	    (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	turn_around(data, v6, payload + sizeof(struct udphdr));
	return bpf_redirect(skb->ifindex, 0);
}

SEC("tcx")
int turn_around_queries(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u16 kind = protocol(skb);
	struct state *state;
	struct query query = {};

	if (kind != net16(ETH_P_IP) && kind != net16(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	state = bpf_map_lookup_elem(&state_map, &zero);
	if (!state)
		return TC_ACT_UNSPEC;
	if (kind == net16(ETH_P_IP))
		return is_query_v4(skb, state, &query) ? echo(skb, 0, query.length) : TC_ACT_UNSPEC;
	return is_query_v6(skb, state, &query) ? echo(skb, 1, query.length) : TC_ACT_UNSPEC;
}
