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
#define SMALL 192
#define LARGE 1280
#define WAYS 16
#define SETS 2048
#define ROTATIONS 32
#define TTLS 15
#define HIT_COUNTERS 1024
#define LARGE_CLASS 0x10000
#define TAG_SHIFT 17
#define TAG_BITS 15
#define PRIME 0x9fb21c651e98df25
#define DENIALS 0x80
#define DENIAL_MIN_DEPTH 2
#define DENIAL_MAX_DEPTH 8
#define CASE 0x2020202020202020
#define UNLIKE 0x736e6423736e22 /* the labels ns and dns, with CASE: such names have other answers */
#define UNLIKE_MASK 0xffffffffffffff
#define NAME_AT 10
#define LABELS 12
#define OPT_SIZE 11
#define KEY_MIN 15 /* ten octets of header, the root's label, type and class */
#define TAIL_MIN 2
#define SECOND 1000000000ULL

/* Nearly all replies need only the head, the key and the first octets of the tail: three or four cache lines. */
struct head {
	__u32 serial;
	__u32 sum;
	__u64 until;
	__u64 next;
	__u64 uses;
	__u64 header;
	__u16 header_end;
	__u16 key_len;
	__u16 kept_end;
	__u16 tail_len;
	__u16 hit_counter;
	__u8 rotations;
	__u8 table;
	__u8 ttls;
	__u8 pad[11];
};

struct offsets {
	__u16 ttl_at[TTLS];
	__u16 pad;
	__u16 order[ROTATIONS];
};

struct small {
	struct head head;
	__u64 key[KEY_MAX / 8];
	__u8 tail[SMALL];
	struct offsets offsets;
};

struct large {
	struct head head;
	__u64 key[KEY_MAX / 8];
	__u8 tail[LARGE];
	struct offsets offsets;
};

struct set {
	__u32 way[WAYS];
};

/* Values that the program keeps across calls of kernel helpers, for each CPU. `here` explains why not on the stack. */
struct work {
	volatile __u64 key[KEY_MAX / 8];
	volatile __u64 now, sum, steps;
	volatile __s64 error;
	volatile __u32 cpu, at, length, table, slot, tail_len, first_serial, serial, check, longer, ttl;
	volatile __u32 question_end, kept_end, payload_len, labels, depths, place_changes;
	volatile __u32 order;
	volatile __u8 starts[16];
	__u8 pad[40]; /* so that no cache line has values of two CPUs */
};

struct counts {
	__u64 octets, stale, expired, unknown, torn, failed, spare_0, spare_1;
	__u64 hits[HIT_COUNTERS];
};

extern struct map sets_map, small_map, large_map, counts_map, work_map;

static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*const bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)BPF_FUNC_get_smp_processor_id;
static long (*const bpf_skb_load_bytes)(void *skb, __u32 at, volatile void *to, __u32 n) =
	(void *)BPF_FUNC_skb_load_bytes;
static long (*const bpf_skb_store_bytes)(void *skb, __u32 at, const volatile void *from, __u32 n, __u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;
static long (*const bpf_skb_change_tail)(void *skb, __u32 n, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static long (*const bpf_l4_csum_replace)(void *skb, __u32 at, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
static long (*const bpf_csum_update)(void *skb, __u32 sum) = (void *)BPF_FUNC_csum_update;

/* Keeps the loads before it from changing places with the loads after it, as CPUs of the ARM family permit. An atomic
 * exchange is a full barrier (Linux, Documentation/atomic_t.txt, "ORDERING").
 */
#define order_loads(work) __sync_lock_test_and_set(&here(work)->order, 0)

/* Returns the word of the entry with the key of `work`, or 0. A set has at most one entry for each tag. */
INLINE __u32 find_word(struct work *work, __u64 seed)
{
	__u64 hash = seed ^ (work->table + 1) * PRIME;
	struct set *set;
	__u32 tag, i;

#pragma unroll
	for (i = 0; i < KEY_MAX / 8; i++) {
		hash = (hash ^ work->key[i]) * PRIME;
		hash ^= hash >> 32;
	}
	work->at = hash & (SETS - 1);
	set = bpf_map_lookup_elem(&sets_map, (void *)&here(work)->at);
	if (!set)
		return 0;
	tag = hash >> (64 - TAG_BITS) | 1;
#pragma unroll
	for (i = 0; i < WAYS; i++) {
		__u32 word = fresh(set->way[i]);
		if (word >> TAG_SHIFT == tag)
			return word;
	}
	return 0;
}

/* A large slot differs from a small one only in the length of the tail. */
INLINE int has_key(struct small *slot, struct work *work)
{
	__u64 differ = 0;
	__u32 i;

	if (slot->head.key_len != work->length || slot->head.table != work->table)
		return 0;
#pragma unroll
	for (i = 0; i < KEY_MAX / 8; i++)
		differ |= work->key[i] ^ slot->key[i];
	return !differ;
}

INLINE const struct offsets *find_offsets(struct small *slot, const int is_large)
{
	return is_large ? &((struct large *)slot)->offsets : &slot->offsets;
}

/* Lowers the TTLs of the reply in the packet by `work->steps`, and corrects `work->sum`. Returns 0 if done.
 *
 * The few branches keep the verifier's work small. A kernel helper fails for an offset that is not in the packet.
 */
INLINE long lower_ttls(struct __sk_buff *skb, struct small *slot, struct work *work, __u32 reply_at, const int is_large)
{
	const struct offsets *offsets = find_offsets(slot, is_large);
	__u32 before, after, i;
	__s64 left;

	work->error = 0;
#pragma unroll
	for (i = 0; i < TTLS; i++) {
		if (i >= slot->head.ttls)
			break;
		work->at = reply_at + offsets->ttl_at[i];
		work->error |= bpf_skb_load_bytes(skb, work->at, &here(work)->ttl, sizeof(work->ttl));
		before = work->ttl;
		left = (__s64)net32(before) - (__s64)work->steps;
		after = net32(left & ~(left >> 63)); /* not below 0 */
		work->ttl = after;
		work->sum += fold((__u64)~before + after) << 8 * (work->at & 1); /* the octets change places at odd offsets */
		work->error |= bpf_skb_store_bytes(skb, work->at, &here(work)->ttl, sizeof(work->ttl), 0);
	}
	return work->error;
}

INLINE struct counts *counts(struct work *work)
{
	return bpf_map_lookup_elem(&counts_map, (void *)&here(work)->cpu);
}

/* Adds 1 to a counter, and passes the packet on. */
#define COUNT(COUNTER)                                                                                                 \
	({                                                                                                             \
		struct counts *mine = counts(work);                                                                    \
		if (mine)                                                                                              \
			mine->COUNTER++;                                                                               \
		return PASS_ON;                                                                                        \
	})

INLINE struct small *find_slot(struct work *work, const int is_large)
{
	return is_large ? bpf_map_lookup_elem(&large_map, (void *)&here(work)->at)
			: bpf_map_lookup_elem(&small_map, (void *)&here(work)->at);
}

/* Answers from the entry whose first slot is `work->slot`. `v6`, `is_large` and `is_denial` are constants.
 *
 * The packet keeps its message ID and the octets up to `kept_end`, mostly the question.
 */
INLINE int reply(struct __sk_buff *skb, struct state *state, struct work *work, const int v6, const int is_large, const int is_denial)
{
	const __u32 udp_at = sizeof(struct ethhdr) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	const __u32 reply_at = udp_at + sizeof(struct udphdr) + 2;
	__u32 length, change, hit_counter;
	struct small *first = find_slot(work, is_large), *slot = first;
	struct counts *mine;
	struct udphdr *udp;
	void *data;
	long error;

	if (!first)
		COUNT(unknown);
	work->first_serial = work->serial = fresh(first->head.serial);
	order_loads(work);
	if (!has_key(first, work))
		COUNT(unknown);
	work->now = bpf_ktime_get_ns();
	if (fresh(state->valid_until) <= work->now || fresh(state->place_changes) != work->place_changes)
		COUNT(stale);
	if (first->head.until <= work->now)
		COUNT(expired);
	if (first->head.rotations > 1) {
		length = ((__u64)bpf_get_prandom_u32() * first->head.rotations >> 32) & (ROTATIONS - 1);
		work->at = find_offsets(first, is_large)->order[length];
		slot = find_slot(work, is_large);
		if (!slot)
			COUNT(unknown);
		work->serial = fresh(slot->head.serial);
		order_loads(work);
		if (!has_key(slot, work))
			COUNT(unknown);
	}
	work->sum = slot->head.sum;
	work->kept_end = is_denial ? work->question_end : slot->head.kept_end;
	length = slot->head.tail_len;
	if (((work->first_serial | work->serial) & 1) || is_outside(length, TAIL_MIN, is_large ? LARGE : SMALL))
		COUNT(unknown);
	work->tail_len = length;
	work->payload_len = work->kept_end + length;
	if (bpf_skb_change_tail(skb, reply_at + work->payload_len, 0))
		COUNT(failed);
	/* From here on the packet is answered or dropped: its octets change. */
	length = work->tail_len; /* not kept on the stack during a call: see `is_outside` */
	if (is_outside(length, TAIL_MIN, is_large ? LARGE : SMALL))
		return TC_ACT_SHOT;
	error = bpf_skb_store_bytes(skb, reply_at + work->kept_end, slot->tail, length, 0);
	if (!is_denial && !error && slot->head.next && slot->head.next <= work->now) {
		work->steps = (work->now - slot->head.next) / SECOND + 1;
		error = lower_ttls(skb, slot, work, reply_at, is_large);
	}
	mine = counts(work);
	if (!mine)
		return TC_ACT_SHOT;
	data = (void *)(long)skb->data;
	udp = data + udp_at;
	if (error || (void *)(udp + 1) + 2 + NAME_AT > (void *)(long)skb->data_end) {
		mine->torn++;
		return TC_ACT_SHOT;
	}
	*(__u64 *)((void *)(udp + 1) + 2) = fresh(slot->head.header);
	*(__u16 *)((void *)(udp + 1) + 2 + sizeof(__u64)) = fresh(slot->head.header_end);
	hit_counter = fresh(slot->head.hit_counter);
	order_loads(work); /* all of the slots is read before the last look at the serials */
	if (fresh(slot->head.serial) != work->serial || fresh(first->head.serial) != work->first_serial) {
		mine->torn++;
		return TC_ACT_SHOT;
	}
	mine->hits[hit_counter & (HIT_COUNTERS - 1)]++;
	mine->octets += work->payload_len + 2;
	__sync_fetch_and_add(&first->head.uses, 1);
	length = work->payload_len + sizeof(*udp) + 2;
	/* A sender on the same node may leave a partial sum, which covers the pseudo-header with the length. */
	work->longer = fold((__u64)(__u16)~udp->len + net16(length));
	work->check = udp->check;
	change = turn_around(data, v6, length);
	if (v6)
		bpf_csum_update(skb, change);
	if (work->check) {
		bpf_l4_csum_replace(skb, udp_at + 6, 0, work->longer, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
		bpf_l4_csum_replace(skb, udp_at + 6, 0, fold(work->sum + work->longer), BPF_F_MARK_MANGLED_0);
	}
	return bpf_redirect(skb->ifindex, 0);
}

/* Finds where the labels of the name begin. Returns 0 if the name is malformed, or has more than LABELS labels. */
INLINE int split_name(struct work *work)
{
	const volatile __u8 *key = (void *)here(work)->key;
	__u32 at = NAME_AT, i;

#pragma unroll
	for (i = 0; i < LABELS; i++) {
		__u32 length = key[at];
		if (!length) {
			work->labels = i;
			return at + 5 == work->question_end;
		}
		work->starts[i] = at;
		at += length + 1;
		if (length > 63 || at >= KEY_MAX)
			return 0;
	}
	return 0;
}

/* Makes the key of the denial for all names below the label at `at`. Returns the word of the denial, or 0. */
INLINE __u32 find_denial(struct __sk_buff *skb, struct work *work, __u64 seed, __u32 payload_at, __u32 at)
{
	__u32 length = work->length, i;

	work->key[1] = (work->key[1] & 0xffff) | (__u64)(at - NAME_AT) << 16;
#pragma unroll
	for (i = 2; i < KEY_MAX / 8; i++)
		work->key[i] = 0;
	length -= at;
	if (is_outside(length, KEY_MIN - NAME_AT, KEY_MAX - NAME_AT - 1) ||
	    bpf_skb_load_bytes(skb, payload_at + at, (void *)here(work)->key + NAME_AT + 1, length))
		return 0;
	return find_word(work, seed);
}

/* Sets a bit of `work->depths` for each depth whose label may have a denial. Other labels need no look-up. */
INLINE void find_depths(struct state *state, struct work *work)
{
	__u32 depth, at;

	work->depths = 0;

#pragma unroll
	for (depth = DENIAL_MIN_DEPTH; depth <= DENIAL_MAX_DEPTH; depth++) {
		__u64 hash;
		__u32 length, last;
		if (!(state->denial_depths >> depth & 1) || work->labels < depth)
			continue;
		at = here(work)->starts[(work->labels - depth) & 15];
		if (at > KEY_MAX - sizeof(hash))
			continue;
		length = *(volatile __u8 *)((void *)here(work)->key + at);
		last = length > sizeof(hash) - 1 ? at + length - (sizeof(hash) - 1) : at;
		if (last > KEY_MAX - sizeof(hash))
			continue;
		hash = *(volatile __u64 *)((void *)here(work)->key + at) * PRIME;
		hash = (hash ^ *(volatile __u64 *)((void *)here(work)->key + last)) * PRIME >> 48;
		if (here(state)->denial_labels[hash >> 6] >> (hash & 63) & 1)
			work->depths |= 1 << depth;
	}
}

/* Answers a query whose key is unknown from a denial: a reply that all names below a nonexistent label share. */
INLINE int deny(struct __sk_buff *skb, struct state *state, struct work *work, const int v6)
{
	const __u32 payload_at = sizeof(struct ethhdr) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
				 sizeof(struct udphdr) + 2;
	__u32 depth, at, end_at, word = 0;
	__u64 end;

	if (!state->denial_depths)
		COUNT(unknown);
	at = work->length - ((work->key[1] >> 8 & 0xff) == 1 ? OPT_SIZE : 0); /* the last octet of ARCOUNT */
	if (is_outside(at, NAME_AT + 5 + sizeof(end), KEY_MAX))
		COUNT(unknown);
	work->question_end = at;
	end_at = at - 4 - sizeof(end);
	settle(end_at);
	end = *(volatile __u64 *)((void *)here(work)->key + end_at) | CASE;
	if (end != state->denial_ends[0] && end != state->denial_ends[1] && end != state->denial_ends[2] &&
	    end != state->denial_ends[3])
		COUNT(unknown);
	end = *(volatile __u64 *)((void *)here(work)->key + NAME_AT) | CASE;
	if ((end & UNLIKE_MASK) == UNLIKE || !split_name(work))
		COUNT(unknown);
	find_depths(state, work);
	if (!work->depths)
		COUNT(unknown);
	work->table |= DENIALS;
#pragma unroll
	for (depth = DENIAL_MAX_DEPTH; depth >= DENIAL_MIN_DEPTH; depth--) {
		if (!(work->depths >> depth & 1))
			continue;
		at = here(work)->starts[(work->labels - depth) & 15];
		word = find_denial(skb, work, state->seed, payload_at, at);
		if (word) {
			at = here(work)->starts[(work->labels - depth) & 15]; /* read again: not kept on the stack */
			work->length += 1 - (at - NAME_AT);
			break;
		}
	}
	work->at = work->slot = word & (LARGE_CLASS - 1);
	if (!word || word & LARGE_CLASS)
		COUNT(unknown);
	return reply(skb, state, work, v6, 0, 1);
}

INLINE int answer(struct __sk_buff *skb, struct state *state, __u64 found, const int v6)
{
	const __u32 udp_at = sizeof(struct ethhdr) + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	__u32 cpu = bpf_get_smp_processor_id(), length, i;
	struct work *work = bpf_map_lookup_elem(&work_map, &cpu);
	struct udphdr *udp;
	__u32 word;

	asm volatile("" : "+r"(found)); /* kept in one register, not on the stack: see `here` */
	if (!work)
		return PASS_ON;
	work->cpu = cpu;
	udp = (void *)(long)skb->data + udp_at;
	if ((void *)(udp + 1) > (void *)(long)skb->data_end)
		COUNT(failed);
	length = net16(udp->len) - sizeof(*udp) - 2;
	work->length = length;
	work->table = (__u32)found - 1;
	work->place_changes = found >> 32;
#pragma unroll
	for (i = 0; i < KEY_MAX / 8; i++)
		work->key[i] = 0;
	if (is_outside(length, KEY_MIN, KEY_MAX) ||
	    bpf_skb_load_bytes(skb, udp_at + sizeof(*udp) + 2, work->key, length))
		COUNT(unknown);
	word = find_word(work, state->seed);
	work->at = work->slot = word & (LARGE_CLASS - 1);
	if (!word)
		return deny(skb, state, work, v6);
	return word & LARGE_CLASS ? reply(skb, state, work, v6, 1, 0) : reply(skb, state, work, v6, 0, 0);
}

SEC("tcx")
int answers(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 found;
	struct state *state;

	if (is_other(skb))
		return PASS_ON;
	state = bpf_map_lookup_elem(&state_map, &zero);
	if (!state)
		return PASS_ON;
	if (skb->protocol == net16(ETH_P_IP)) {
		found = query_v4(skb, state);
		return found ? answer(skb, state, found, 0) : PASS_ON;
	}
	found = query_v6(skb, state);
	return found ? answer(skb, state, found, 1) : PASS_ON;
}
