/* SPDX-License-Identifier: Apache-2.0
 *
 * Sends each packet for a listener back to its sender without a change: the least that an answer in the kernel can cost.
 *
 * The program has no look-up, so the difference to the accelerator's program is the work of finding and copying a reply.
 */
#include "packet.bpf.h"

INLINE int echo(struct __sk_buff *skb, const int v6)
{
	const __u32 udp_at = sizeof(struct ethhdr) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	void *data = (void *)(long)skb->data;
	struct udphdr *udp = data + udp_at;

	if ((void *)(udp + 1) > (void *)(long)skb->data_end)
		return PASS_ON;
	turn_around(data, v6, net16(udp->len));
	return bpf_redirect(skb->ifindex, 0);
}

SEC("tcx")
int turn_around_queries(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct state *state;

	if (is_other(skb))
		return PASS_ON;
	state = bpf_map_lookup_elem(&state_map, &zero);
	if (!state)
		return PASS_ON;
	if (skb->protocol == net16(ETH_P_IP))
		return query_v4(skb, state) ? echo(skb, 0) : PASS_ON;
	return query_v6(skb, state) ? echo(skb, 1) : PASS_ON;
}
