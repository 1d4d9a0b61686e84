/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers DNS queries in the kernel from finished replies. A worker writes the replies into shared memory: see layout.py.
 *
 * The program runs for each packet that arrives at the interface (tcx ingress). A packet that it does not answer goes on
 * to the sockets. It answers a packet if an entry has the same octets after the message ID. The worker may write the
 * memory at any time, so the program reads a slot's serial before the slot and once more after the reply is copied.
 */
#include "packet.bpf.h"

#define KEY_MAX 96
#define SMALL 224
#define LARGE 1248
#define WAYS 8
#define SETS 8192
#define ROTATIONS 32
#define TTLS 15
#define HIT_COUNTERS 1024
#define LARGE_CLASS 0x80000000
#define PRIME 0x9fb21c651e98df25
#define KEY_MIN 15 /* ten octets of header, the root's label, type and class */
#define SECOND 1000000000ULL

struct head {
	__u32 serial;
	__u16 key_len;
	__u16 reply_len;
	__u16 key_sum;
	__u16 reply_sum;
	__u16 hit_counter;
	__u8 rotations;
	__u8 table;
	__u64 until;
	__u64 next;
	__u16 ttl_at[TTLS];
	__u8 ttls;
	__u8 pad;
	__u16 order[ROTATIONS];
};

struct small {
	struct head head;
	__u64 key[KEY_MAX / 8];
	__u8 reply[SMALL];
};

struct large {
	struct head head;
	__u64 key[KEY_MAX / 8];
	__u8 reply[LARGE];
};

struct set {
	__u64 way[WAYS];
};

struct counts {
	__u64 hits[HIT_COUNTERS];
	__u64 octets, stale, expired, unknown, torn, failed, spare_0, spare_1;
};

extern struct map sets_map, small_map, large_map, uses_map, counts_map;

static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*const bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)BPF_FUNC_get_smp_processor_id;
static long (*const bpf_skb_load_bytes)(void *skb, __u32 at, void *to, __u32 n) = (void *)BPF_FUNC_skb_load_bytes;
static long (*const bpf_skb_store_bytes)(void *skb, __u32 at, const void *from, __u32 n, __u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;
static long (*const bpf_skb_change_tail)(void *skb, __u32 n, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static long (*const bpf_l4_csum_replace)(void *skb, __u32 at, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
static long (*const bpf_csum_update)(void *skb, __u32 sum) = (void *)BPF_FUNC_csum_update;

struct found {
	struct head *first; /* the entry's first slot */
	struct head *slot;  /* the slot of the reply */
	void *reply;
	__u32 first_serial, serial;
};

/* Returns the entry's word in its set, or 0. Of two keys with the same tag, a set has one. */
INLINE __u64 find_word(const __u64 *key, __u64 seed, __u8 table)
{
	__u64 hash = seed ^ (table + 1) * PRIME;
	struct set *set;
	__u32 at, i;

#pragma unroll
	for (i = 0; i < KEY_MAX / 8; i++) {
		hash = (hash ^ key[i]) * PRIME;
		hash ^= hash >> 32;
	}
	at = hash & (SETS - 1);
	set = bpf_map_lookup_elem(&sets_map, &at);
	if (!set)
		return 0;
#pragma unroll
	for (i = 0; i < WAYS; i++) {
		__u64 word = fresh(set->way[i]);
		if (word >> 32 == (hash >> 32 | 1))
			return word;
	}
	return 0;
}

INLINE int same(const __u64 *key, const __u64 *other)
{
	__u64 differ = 0;
	__u32 i;
#pragma unroll
	for (i = 0; i < KEY_MAX / 8; i++)
		differ |= key[i] ^ other[i];
	return !differ;
}

/* The functions for the two classes of slots differ in the map and in the limit of a reply. */
#define FIND(CLASS, LIMIT)                                                                                             \
	INLINE int is_of_##CLASS(struct CLASS *slot, const __u64 *key, __u32 length, __u8 table)                       \
	{                                                                                                              \
		return slot->head.key_len == length && slot->head.table == table && same(key, slot->key);              \
	}                                                                                                              \
                                                                                                                       \
	INLINE int find_##CLASS(__u32 at, const __u64 *key, __u32 length, __u8 table, struct found *found)             \
	{                                                                                                              \
		struct CLASS *slot = bpf_map_lookup_elem(&CLASS##_map, &at);                                           \
		__u32 rotations;                                                                                       \
		if (!slot)                                                                                             \
			return 0;                                                                                      \
		found->first = &slot->head;                                                                            \
		found->first_serial = found->serial = fresh(slot->head.serial);                                        \
		if (!is_of_##CLASS(slot, key, length, table))                                                          \
			return 0;                                                                                      \
		rotations = slot->head.rotations;                                                                      \
		if (rotations > 1) {                                                                                   \
			__u64 turn = (__u64)bpf_get_prandom_u32() * rotations >> 32;                                   \
			at = slot->head.order[turn & (ROTATIONS - 1)];                                                 \
			slot = bpf_map_lookup_elem(&CLASS##_map, &at);                                                 \
			if (!slot)                                                                                     \
				return 0;                                                                              \
			found->serial = fresh(slot->head.serial);                                                      \
			if (!is_of_##CLASS(slot, key, length, table))                                                  \
				return 0;                                                                              \
		}                                                                                                      \
		found->slot = &slot->head;                                                                             \
		found->reply = slot->reply;                                                                            \
		return !((found->first_serial | found->serial) & 1);                                                   \
	}
FIND(small, SMALL)
FIND(large, LARGE)

/* Lowers the TTLs of the reply in the packet by `steps`. Adds the change of the reply's sum to `sum`. Returns 0 if done.
 *
 * The few branches keep the verifier's work small. A helper fails for an offset that is not in the packet.
 */
INLINE long lower_ttls(struct __sk_buff *skb, struct head *slot, __u32 reply_at, __u64 steps, __u64 *sum)
{
	__u32 ttls = slot->ttls, i;
	long error = 0;

#pragma unroll
	for (i = 0; i < TTLS; i++) {
		__u32 at = slot->ttl_at[i], before = 0, after;
		__s64 left;
		if (i >= ttls)
			break;
		error |= bpf_skb_load_bytes(skb, reply_at + at, &before, sizeof(before));
		left = (__s64)net32(before) - (__s64)steps;
		after = net32(left & ~(left >> 63)); /* not below 0 */
		error |= bpf_skb_store_bytes(skb, reply_at + at, &after, sizeof(after), 0);
		*sum += fold((__u64)~before + after) << 8 * (at & 1); /* at an odd offset, the octets have exchanged places */
	}
	return error;
}

INLINE int answer(struct __sk_buff *skb, struct state *state, struct query *query, const int v6)
{
	const __u32 udp_at = sizeof(struct ethhdr) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	const __u32 reply_at = udp_at + sizeof(struct udphdr) + 2;
	__u64 key[KEY_MAX / 8] = {}, now = bpf_ktime_get_ns(), word, next, sum, *uses;
	__u32 cpu = bpf_get_smp_processor_id(), length = query->length - 2, slot, reply_len, udp_len, change;
	__u16 check, key_sum;
	struct found found;
	struct counts *counts = bpf_map_lookup_elem(&counts_map, &cpu);
	struct udphdr *udp;
	void *data;
	long error;

	if (!counts)
		return TC_ACT_UNSPEC;
	if (fresh(state->valid_until) <= now) {
		counts->stale++;
		return TC_ACT_UNSPEC;
	}
	if (length < KEY_MIN || length > KEY_MAX || bpf_skb_load_bytes(skb, reply_at, key, length))
		goto unknown;
	word = find_word(key, state->seed, query->table);
	slot = word & (LARGE_CLASS - 1);
	if (!word || !(word & LARGE_CLASS ? find_large(slot, key, length, query->table, &found)
					  : find_small(slot, key, length, query->table, &found)))
		goto unknown;
	if (found.first->until <= now) {
		counts->expired++;
		return TC_ACT_UNSPEC;
	}
	data = (void *)(long)skb->data;
	udp = data + udp_at;
	if ((void *)(udp + 1) > (void *)(long)skb->data_end)
		goto failed;
	check = udp->check;
	key_sum = found.slot->key_sum;
	sum = found.slot->reply_sum;
	next = found.slot->next;
	reply_len = found.slot->reply_len;
	if (reply_len < KEY_MIN || reply_len > (word & LARGE_CLASS ? LARGE : SMALL))
		goto unknown;
	udp_len = sizeof(*udp) + 2 + reply_len;
	if (bpf_skb_change_tail(skb, udp_at + udp_len, 0))
		goto failed;
	/* From here on the packet is answered or dropped: its octets change. */
	if (word & LARGE_CLASS)
		error = reply_len > LARGE || bpf_skb_store_bytes(skb, reply_at, found.reply, reply_len, 0);
	else
		error = reply_len > SMALL || bpf_skb_store_bytes(skb, reply_at, found.reply, reply_len, 0);
	if (!error && next && next <= now)
		error = lower_ttls(skb, found.slot, reply_at, (now - next) / SECOND + 1, &sum);
	data = (void *)(long)skb->data;
	if (error || fresh(found.slot->serial) != found.serial || fresh(found.first->serial) != found.first_serial ||
	    data + udp_at + sizeof(*udp) > (void *)(long)skb->data_end) {
		counts->torn++;
		return TC_ACT_SHOT;
	}
	change = turn_around(data, v6, udp_len);
	if (v6)
		bpf_csum_update(skb, change);
	if (check) {
		/* A sender on the same node may leave a partial sum, which covers the pseudo-header with the length. */
		__u32 longer = fold((__u64)(__u16)~net16(query->length + sizeof(*udp)) + net16(udp_len));
		change = fold((__u64)(__u16)~key_sum + sum + longer);
		bpf_l4_csum_replace(skb, udp_at + 6, 0, longer, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
		bpf_l4_csum_replace(skb, udp_at + 6, 0, change, BPF_F_MARK_MANGLED_0);
	}
	counts->hits[found.first->hit_counter & (HIT_COUNTERS - 1)]++;
	counts->octets += reply_len + 2;
	if (word & LARGE_CLASS)
		slot += state->small;
	uses = bpf_map_lookup_elem(&uses_map, &slot);
	if (uses)
		__sync_fetch_and_add(uses, 1);
	return bpf_redirect(skb->ifindex, 0);
unknown:
	counts->unknown++;
	return TC_ACT_UNSPEC;
failed:
	counts->failed++;
	return TC_ACT_UNSPEC;
}

SEC("tcx")
int answers(struct __sk_buff *skb)
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
		return is_query_v4(skb, state, &query) ? answer(skb, state, &query, 0) : TC_ACT_UNSPEC;
	return is_query_v6(skb, state, &query) ? answer(skb, state, &query, 1) : TC_ACT_UNSPEC;
}
