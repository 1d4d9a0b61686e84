/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds packets that are queries for a listener in the shared memory, and turns a packet into a reply to its sender.
 *
 * Offsets into a packet are constants for each address family. The kernel's verifier accepts a variable offset only from
 * a process with CAP_PERFMON.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#define INLINE static inline __attribute__((always_inline))
#define SEC(name) __attribute__((section(name), used))
#define net16(x) __builtin_bswap16(x)
#define net32(x) __builtin_bswap32(x)
#define fresh(x) (*(volatile typeof(x) *)&(x)) /* reads memory that user space may write meanwhile */

/* For a process without CAP_PERFMON, the kernel adds a barrier after nearly each store on the stack, but not in a map.
 * With these two macros, the compiler computes a value where it is used, and does not keep it on the stack.
 */
#define here(pointer) ({ typeof(pointer) same_pointer = (pointer); asm volatile("" : "+r"(same_pointer)); same_pointer; })
#define PASS_ON ({ int verdict; asm volatile("%0 = -1" : "=r"(verdict)); verdict; }) /* TC_ACT_UNSPEC: to the sockets */

/* The verifier of kernels before 6.17 needs the next two macros. A process without CAP_PERFMON must also follow the rules
 * for memory where a CPU computes by speculation, for instance with `pointer + 0` instead of `pointer + variable`. And
 * the range of a variable is known only in the register that was compared, so a variable is not kept on the stack
 * between its comparison and its use. Kernels before 6.8 learn nothing from a comparison with 0.
 */

/* Keeps the compiler from moving a constant from the computation of `variable` to the address that is made with it. */
#define settle(variable) asm volatile("" : "+w"(variable))

/* True if `variable` is less than `low` or greater than `high`: two comparisons, where the compiler would make one, of
 * `variable - low` in another register. `low` is at least 2.
 */
#define is_outside(variable, low, high)                                                                                \
	((variable) > (high) || ({ asm volatile("" : : "w"(variable)); (variable) < (low); }))

#define PLACES 16
#define DENIAL_ENDS 4
#define DENIAL_LABELS 1024

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;

struct place {
	__u64 address[2];
	__u32 listener; /* port in network order (2 octets), address family, number of the answer table */
	__u8 pad[4];
};

struct state {
	__u64 valid_until;
	__u64 seed;
	__u32 places;
	__u32 pad;
	__u64 denial_ends[DENIAL_ENDS];
	__u32 denial_depths;
	__u32 place_changes; /* odd while the places change */
	struct place place[PLACES];
	__u64 denial_labels[DENIAL_LABELS];
};

/* The loader replaces the address of a map by the map's descriptor. */
struct map {
	char unused;
};
extern struct map state_map;

INLINE __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Returns the number of the answer table of the listener with this address and port, plus 1, or 0.
 *
 * The upper 32 bits of the result are `place_changes`. If that field has another value later, the result may be wrong.
 */
INLINE __u64 find_table(struct state *state, const int v6, __u64 high, __u64 low, __u16 port)
{
	__u32 changes = fresh(state->place_changes), wanted = port | (v6 ? 6 : 4) << 16, places, i;

	if (changes & 1)
		return 0;
	places = fresh(state->places);
#pragma unroll
	for (i = 0; i < PLACES; i++) {
		struct place *place = &state->place[i];
		__u32 listener;
		if (i >= places)
			return 0;
		listener = fresh(place->listener);
		if ((listener & 0xffffff) == wanted && place->address[0] == high && (!v6 || place->address[1] == low))
			return (__u64)changes << 32 | ((listener >> 24) + 1);
	}
	return 0;
}

/* For a whole UDP datagram without IP options from another host, query_* return the result of find_table; else 0. */

INLINE __u64 query_v4(struct __sk_buff *skb, struct state *state)
{
	struct iphdr *ip = (void *)(long)skb->data + sizeof(struct ethhdr);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 length;

	if ((void *)(udp + 1) > (void *)(long)skb->data_end)
		return 0;
	if (*(__u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP || (ip->frag_off & net16(0xbfff)))
		return 0;
	length = net16(udp->len);
	if (net16(ip->tot_len) != length + sizeof(*ip) || skb->len < length + sizeof(*ip) + sizeof(struct ethhdr))
		return 0;
	if (!ip->saddr || ip->saddr == ip->daddr || (ip->saddr & net32(0xff000000)) == net32(0x7f000000) ||
	    (ip->saddr & net32(0xe0000000)) == net32(0xe0000000) || !udp->source)
		return 0;
	return find_table(state, 0, ip->daddr, 0, udp->dest);
}

INLINE __u64 query_v6(struct __sk_buff *skb, struct state *state)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + sizeof(struct ethhdr);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 *from = (void *)&ip->saddr, *to = (void *)&ip->daddr, length;

	if ((void *)(udp + 1) > (void *)(long)skb->data_end)
		return 0;
	if (ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return 0;
	length = net16(udp->len);
	if (net16(ip->payload_len) != length || skb->len < length + sizeof(*ip) + sizeof(struct ethhdr))
		return 0;
	/* No multicast sender, no address that begins with 96 zero bits, and not the address of the listener. */
	if ((from[0] & net32(0xff000000)) == net32(0xff000000) || !(from[0] | from[1] | from[2]) ||
	    !((from[0] ^ to[0]) | (from[1] ^ to[1]) | (from[2] ^ to[2]) | (from[3] ^ to[3])) || !udp->source || !udp->check)
		return 0;
	return find_table(state, 1, (__u64)to[1] << 32 | to[0], (__u64)to[3] << 32 | to[2], udp->dest);
}

/* Returns 1 for a packet that is not IP, is for another host, has a VLAN tag, or consists of several packets (GSO). */
INLINE int is_other(struct __sk_buff *skb)
{
	if (skb->protocol != net16(ETH_P_IP) && skb->protocol != net16(ETH_P_IPV6))
		return 1;
	return skb->vlan_present || skb->gso_size || skb->pkt_type != 0 /* PACKET_HOST */;
}

/* Exchanges the addresses and ports. Writes new IP headers, and the UDP length. The caller corrects the UDP checksum.
 *
 * Returns the change of the sum of the IPv6 header. The sums of the other headers do not change.
 */
INLINE __u32 turn_around(void *data, const int v6, __u32 udp_len)
{
	struct ethhdr *eth = data;
	struct udphdr *udp = data + sizeof(*eth) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	__u16 mac[3], *from = (void *)eth->h_source, *to = (void *)eth->h_dest, port = udp->source;
	__u32 change = 0;

	mac[0] = from[0];
	mac[1] = from[1];
	mac[2] = from[2];
	from[0] = to[0];
	from[1] = to[1];
	from[2] = to[2];
	to[0] = mac[0];
	to[1] = mac[1];
	to[2] = mac[2];
	udp->source = udp->dest;
	udp->dest = port;
	udp->len = net16(udp_len);
	if (v6) {
		struct ipv6hdr *ip6 = data + sizeof(*eth);
		__u32 *head = (void *)ip6;
		struct in6_addr sender = ip6->saddr;
		__u64 sum = (__u64)~head[0] + ~head[1];
		head[0] = net32(0x60000000);
		ip6->payload_len = net16(udp_len);
		ip6->hop_limit = 64;
		ip6->saddr = ip6->daddr;
		ip6->daddr = sender;
		change = fold(sum + head[0] + head[1]);
	} else {
		struct iphdr *ip = data + sizeof(*eth);
		__u16 *word = (void *)ip;
		__u32 sender = ip->saddr, sum = 0, i;
		ip->tos = 0;
		ip->tot_len = net16(udp_len + sizeof(*ip));
		ip->id = 0;
		ip->frag_off = net16(0x4000);
		ip->ttl = 64;
		ip->saddr = ip->daddr;
		ip->daddr = sender;
		ip->check = 0;
#pragma unroll
		for (i = 0; i < 10; i++)
			sum += word[i];
		ip->check = ~fold(sum);
	}
	return change;
}
