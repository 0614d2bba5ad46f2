// Attention on Hopper's tensor cores, without the matrix of scores ever leaving a processor, forward and
// back (Dao et al., FlashAttention, 2022 and 2023). kernel.rs writes the constants below and the functions
// `meet` (64 rows times STEP rows turned, from shared memory) and `gather` (64 rows in registers times
// rows of CHANNELS numbers) before this text.
//
//   PART       0: forward; 1: what each query's gradients have in common; 2: gradients of keys and values;
//              3: gradients of queries
//   CHANNELS   numbers of a head, a multiple of 8, at most 128
//   STEP       rows that come by at a time: 128 forward, 64 back
//   SIGHT      what a query sees: 0 all keys, 1 those up to its position, 2 of these those from a first one
//              on, 3 those of its segment
//
// A tile has 128 rows that stay in shared memory; one group of four warps fetches what comes by, two work
// on 64 of the rows each.

// What attention.rs sends along, in this order.
struct Problem {
    u64 queries, keys, heads, group, first_position;
    // Room for the queries of a head, a multiple of 128.
    u64 room;
    // The bits of a float.
    u64 scale;
    // From row to row, head to head and text to text of up to two tensors of rows.
    u64 row, head, batch;
    u64 other_row, other_head, other_batch;
};

#define BLOCKS ((CHANNELS + 63) / 64)
#define HELD_ROWS 128
#define HELD_BYTES (BLOCKS * HELD_ROWS * 128)
#define PASSING_BYTES (BLOCKS * STEP * 128)
#define LOG2E 1.4426950408889634f
// Steps of 16 along the channels.
#define DEPTHS ((CHANNELS + 15) / 16)

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Whether the query at `row` sees a key.
__device__ __forceinline__ bool sees(const Problem &problem, const int *bounds, u32 batch, u32 row, u32 key) {
    if (key >= problem.keys || row >= problem.queries) return false;
    u32 position = row + (u32)problem.first_position;
#if SIGHT >= 1
    if (key > position) return false;
#endif
#if SIGHT == 2
    if ((int)key < bounds[batch]) return false;
#endif
#if SIGHT == 3
    const int *segments = bounds + (u64)batch * problem.keys;
    if (segments[key] != segments[position]) return false;
#endif
    return true;
}

// 128 or STEP rows of a tensor, block after block.
__device__ __forceinline__ void fetch_rows(u32 to, const Map *map, u32 barrier, u32 first, u32 high, u32 head, u32 batch) {
#pragma unroll
    for (u32 block = 0; block < BLOCKS; block++) fetch(to + block * high * 128, map, barrier, block * 64, first, head, batch);
}

__device__ __forceinline__ void begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void finish() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// 64 of the rows held times the rows that come by, turned.
__device__ __forceinline__ void meet_all(float (&sums)[STEP / 2], u32 held, u32 passing) {
#pragma unroll
    for (int depth = 0; depth < DEPTHS; depth++) {
        u32 left = held + depth / 4 * HELD_ROWS * 128 + depth % 4 * 32;
        u32 right = passing + depth / 4 * STEP * 128 + depth % 4 * 32;
        meet(sums, described(left, 0), described(right, 0), depth > 0);
    }
}

// Shares of 64 rows, rounded, times the rows that come by.
__device__ __forceinline__ void gather_all(float (&sums)[CHANNELS / 2], const u32 (&shares)[STEP / 4], u32 passing) {
#pragma unroll
    for (int depth = 0; depth < STEP / 16; depth++) {
        u64 right = described(passing + depth * 16 * 128, STEP * 128);
        gather(sums, shares[depth * 4], shares[depth * 4 + 1], shares[depth * 4 + 2], shares[depth * 4 + 3], right);
    }
}

__device__ __forceinline__ void pack(u32 (&to)[STEP / 4], const float (&from)[STEP / 2]) {
#pragma unroll
    for (int at = 0; at < STEP / 4; at++) to[at] = packed(from[at * 2], from[at * 2 + 1]);
}

// A thread's two rows, `row` and the one eight below.
__device__ __forceinline__ void put_rows(u16 *out, const float (&sums)[CHANNELS / 2], u32 row, u32 rows, u64 stride, float upper, float lower) {
#pragma unroll
    for (int block = 0; block < CHANNELS / 8; block++) {
        u32 column = block * 8 + threadIdx.x % 4 * 2;
        if (row < rows) *(u32 *)(out + row * stride + column) = packed(sums[block * 4] * upper, sums[block * 4 + 1] * upper);
        if (row + 8 < rows) *(u32 *)(out + (row + 8) * stride + column) = packed(sums[block * 4 + 2] * lower, sums[block * 4 + 3] * lower);
    }
}

#define FETCHER_REGISTERS asm volatile("setmaxnreg.dec.sync.aligned.u32 40;")
#define WORKER_REGISTERS asm volatile("setmaxnreg.inc.sync.aligned.u32 232;")

#if PART == 0

#define STAGES 2

extern "C" __global__ void __launch_bounds__(384, 1)
    hopper_attention(const __grid_constant__ Map query, const __grid_constant__ Map key, const __grid_constant__ Map value,
                     const void *, const void *, const void *, u16 *__restrict__ out, float *__restrict__ logs,
                     const int *__restrict__ bounds, const __grid_constant__ Problem problem) {
    extern __shared__ unsigned char room[];
    __shared__ u64 barriers[1 + 3 * STAGES];
    u32 held = (shared_address(room) + 1023) / 1024 * 1024, passing = held + HELD_BYTES;
    u32 there = shared_address(barriers), keys_full = there + 8, values_full = keys_full + 8 * STAGES,
        vacant = values_full + 8 * STAGES;
    u32 group = threadIdx.x / 128;
    u32 first = (gridDim.x - 1 - blockIdx.x) * HELD_ROWS, head = blockIdx.y, batch = blockIdx.z;
    if (threadIdx.x == 0) {
        barrier_set(there, 1);
        for (u32 stage = 0; stage < STAGES; stage++) {
            barrier_set(keys_full + 8 * stage, 1);
            barrier_set(values_full + 8 * stage, 1);
            barrier_set(vacant + 8 * stage, 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    u32 end = problem.keys;
#if SIGHT >= 1
    end = min(end, (u32)problem.first_position + min(first + HELD_ROWS, (u32)problem.queries));
#endif
    u32 steps = (end + STEP - 1) / STEP;
    u32 stage = 0, phase = 0;
    if (group == 0) {
        FETCHER_REGISTERS;
        if (threadIdx.x == 0) {
            barrier_expect(there, HELD_BYTES);
            fetch_rows(held, &query, there, first, HELD_ROWS, head, batch);
            for (u32 step = 0; step < steps; step++) {
                barrier_wait(vacant + 8 * stage, phase ^ 1);
                u32 to = passing + stage * 2 * PASSING_BYTES, shared_head = head / (u32)problem.group;
                barrier_expect(keys_full + 8 * stage, PASSING_BYTES);
                fetch_rows(to, &key, keys_full + 8 * stage, step * STEP, STEP, shared_head, batch);
                barrier_expect(values_full + 8 * stage, PASSING_BYTES);
                fetch_rows(to + PASSING_BYTES, &value, values_full + 8 * stage, step * STEP, STEP, shared_head, batch);
                if (++stage == STAGES) stage = 0, phase ^= 1;
            }
        }
        return;
    }
    WORKER_REGISTERS;
    u32 half = group - 1, warp = threadIdx.x / 32 % 4;
    u32 row = first + half * 64 + warp * 16 + threadIdx.x % 32 / 4;
    float factor = __uint_as_float((u32)problem.scale) * LOG2E;
    float scores[STEP / 2], seen[CHANNELS / 2];
    u32 shares[STEP / 4];
#pragma unroll
    for (int at = 0; at < CHANNELS / 2; at++) seen[at] = 0.0f;
    // Of each of the two rows: the largest score so far, times the factor, and the sum of shares.
    float largest[2] = {-1e30f, -1e30f}, sum[2] = {0.0f, 0.0f};
    barrier_wait(there, 0);
    for (u32 step = 0; step < steps; step++) {
        u32 at = passing + stage * 2 * PASSING_BYTES;
        barrier_wait(keys_full + 8 * stage, phase);
        begin();
        meet_all(scores, held + half * 64 * 128, at);
        finish();
        u32 from = step * STEP;
        // Whether all these queries see all these keys.
        bool whole = from + STEP <= problem.keys && first + HELD_ROWS <= problem.queries;
#if SIGHT >= 1
        whole = whole && from + STEP <= first + (u32)problem.first_position + 1;
#endif
#if SIGHT >= 2
        whole = false;
#endif
#pragma unroll
        for (int line = 0; line < 2; line++) {
            float most = largest[line];
#pragma unroll
            for (int block = 0; block < STEP / 8; block++) {
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    float &score = scores[block * 4 + line * 2 + side];
                    score *= factor;
                    u32 key = from + block * 8 + threadIdx.x % 4 * 2 + side;
                    if (!whole && !sees(problem, bounds, batch, row + line * 8, key)) score = -INFINITY;
                    most = fmaxf(most, score);
                }
            }
            most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
            float shrinks = power_of_two(largest[line] - most);
            largest[line] = most;
            float added = 0.0f;
#pragma unroll
            for (int block = 0; block < STEP / 8; block++) {
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    float &score = scores[block * 4 + line * 2 + side];
                    score = power_of_two(score - most);
                    added += score;
                }
            }
            sum[line] = sum[line] * shrinks + added;
#pragma unroll
            for (int block = 0; block < CHANNELS / 8; block++) {
                seen[block * 4 + line * 2] *= shrinks;
                seen[block * 4 + line * 2 + 1] *= shrinks;
            }
        }
        pack(shares, scores);
        barrier_wait(values_full + 8 * stage, phase);
        begin();
        gather_all(seen, shares, at + PASSING_BYTES);
        finish();
        if (threadIdx.x % 128 == 0) barrier_arrive(vacant + 8 * stage);
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
    float inverse[2];
#pragma unroll
    for (int line = 0; line < 2; line++) {
        sum[line] += __shfl_xor_sync(0xffffffff, sum[line], 1);
        sum[line] += __shfl_xor_sync(0xffffffff, sum[line], 2);
        // A query that sees nothing gets zeros.
        inverse[line] = sum[line] > 0.0f ? 1.0f / sum[line] : 0.0f;
        // Such that shares are 2 to the power of a score less this; rows that are none have no shares.
        float log = sum[line] > 0.0f ? largest[line] + __log2f(sum[line]) : INFINITY;
        if (threadIdx.x % 4 == 0) logs[((u64)batch * problem.heads + head) * problem.room + row + line * 8] = log;
    }
    put_rows(out + batch * problem.batch + head * problem.head, seen, row, problem.queries, problem.row, inverse[0], inverse[1]);
}

#elif PART == 1

// The product of each query's output and its gradient, a warp a query; zero for rows that are none.
extern "C" __global__ void __launch_bounds__(384)
    hopper_attention(const u16 *__restrict__ seen, const u16 *__restrict__ gradient, float *__restrict__ common,
                     const __grid_constant__ Problem problem) {
    u32 row = blockIdx.x * 12 + threadIdx.x / 32, head = blockIdx.y, batch = blockIdx.z, lane = threadIdx.x % 32;
    if (row >= problem.room) return;
    float sum = 0.0f;
    if (row < problem.queries) {
        seen += batch * problem.batch + head * problem.head + row * problem.row;
        gradient += batch * problem.other_batch + head * problem.other_head + row * problem.other_row;
        for (u32 at = lane; at < CHANNELS; at += 32) sum += widened(seen[at]) * widened(gradient[at]);
    }
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (lane == 0) common[((u64)batch * problem.heads + head) * problem.room + row] = sum;
}

#else

// Keys stay and queries come by (part 2), or the other way round (part 3).
#define KEYS_STAY (PART == 2)
#define STAGES 3

extern "C" __global__ void __launch_bounds__(384, 1)
    hopper_attention(const __grid_constant__ Map query, const __grid_constant__ Map key, const __grid_constant__ Map value,
                     const __grid_constant__ Map gradient, const void *, const void *, const void *, const void *,
#if KEYS_STAY
                     u16 *__restrict__ of_keys, u16 *__restrict__ of_values,
#else
                     u16 *__restrict__ of_queries,
#endif
                     const float *__restrict__ logs, const float *__restrict__ common, const int *__restrict__ bounds,
                     const __grid_constant__ Problem problem) {
    extern __shared__ unsigned char room[];
    __shared__ u64 barriers[1 + 2 * STAGES];
    u32 held = (shared_address(room) + 1023) / 1024 * 1024, passing = held + 2 * HELD_BYTES;
    u32 there = shared_address(barriers), full = there + 8, vacant = full + 8 * STAGES;
    u32 group = threadIdx.x / 128;
    u32 tile = KEYS_STAY ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
    u32 first = tile * HELD_ROWS, batch = blockIdx.z;
    if (threadIdx.x == 0) {
        barrier_set(there, 1);
        for (u32 stage = 0; stage < STAGES; stage++) {
            barrier_set(full + 8 * stage, 1);
            barrier_set(vacant + 8 * stage, 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    // The rows that come by, of each head that they come from.
    u32 from = 0, to = KEYS_STAY ? problem.queries : problem.keys;
#if SIGHT >= 1 && KEYS_STAY
    from = first > problem.first_position ? (first - (u32)problem.first_position) / STEP * STEP : 0;
#elif SIGHT >= 1
    to = min(to, (u32)problem.first_position + min(first + HELD_ROWS, (u32)problem.queries));
#endif
    u32 steps = to > from ? (to - from + STEP - 1) / STEP : 0;
    u32 sharers = KEYS_STAY ? problem.group : 1;
    u32 stage = 0, phase = 0;
    if (group == 0) {
        FETCHER_REGISTERS;
        if (threadIdx.x == 0) {
            u32 held_head = blockIdx.y;
            barrier_expect(there, 2 * HELD_BYTES);
            fetch_rows(held, KEYS_STAY ? &key : &query, there, first, HELD_ROWS, held_head, batch);
            fetch_rows(held + HELD_BYTES, KEYS_STAY ? &value : &gradient, there, first, HELD_ROWS, held_head, batch);
            for (u32 sharer = 0; sharer < sharers; sharer++) {
                u32 head = KEYS_STAY ? held_head * sharers + sharer : held_head / (u32)problem.group;
                for (u32 step = 0; step < steps; step++) {
                    barrier_wait(vacant + 8 * stage, phase ^ 1);
                    u32 ready = full + 8 * stage, place = passing + stage * 2 * PASSING_BYTES;
                    barrier_expect(ready, 2 * PASSING_BYTES);
                    fetch_rows(place, KEYS_STAY ? &query : &key, ready, from + step * STEP, STEP, head, batch);
                    fetch_rows(place + PASSING_BYTES, KEYS_STAY ? &gradient : &value, ready, from + step * STEP, STEP, head, batch);
                    if (++stage == STAGES) stage = 0, phase ^= 1;
                }
            }
        }
        return;
    }
    WORKER_REGISTERS;
    u32 half = group - 1, warp = threadIdx.x / 32 % 4;
    u32 row = first + half * 64 + warp * 16 + threadIdx.x % 32 / 4;
    float scale = __uint_as_float((u32)problem.scale), factor = scale * LOG2E;
    float shares[STEP / 2], slopes[STEP / 2], scores_sum[CHANNELS / 2];
    u32 rounded[STEP / 4];
#pragma unroll
    for (int at = 0; at < CHANNELS / 2; at++) scores_sum[at] = 0.0f;
#if KEYS_STAY
    float values_sum[CHANNELS / 2];
#pragma unroll
    for (int at = 0; at < CHANNELS / 2; at++) values_sum[at] = 0.0f;
#else
    u64 of_row = ((u64)batch * problem.heads + blockIdx.y) * problem.room + row;
    float row_log[2] = {logs[of_row], logs[of_row + 8]}, row_common[2] = {common[of_row], common[of_row + 8]};
#endif
    barrier_wait(there, 0);
    for (u32 sharer = 0; sharer < sharers; sharer++) {
        for (u32 step = 0; step < steps; step++) {
            u32 at = passing + stage * 2 * PASSING_BYTES, mine = held + half * 64 * 128;
            u32 start = from + step * STEP;
#if KEYS_STAY
            u64 of_start = ((u64)batch * problem.heads + blockIdx.y * sharers + sharer) * problem.room + start;
            float2 column_log[STEP / 8], column_common[STEP / 8];
#pragma unroll
            for (int block = 0; block < STEP / 8; block++) {
                column_log[block] = *(const float2 *)(logs + of_start + block * 8 + threadIdx.x % 4 * 2);
                column_common[block] = *(const float2 *)(common + of_start + block * 8 + threadIdx.x % 4 * 2);
            }
#endif
            barrier_wait(full + 8 * stage, phase);
            begin();
            meet_all(shares, mine, at);
            meet_all(slopes, mine + HELD_BYTES, at + PASSING_BYTES);
            finish();
#if KEYS_STAY
            bool whole = first + HELD_ROWS <= problem.keys && start + STEP <= problem.queries;
#if SIGHT >= 1
            whole = whole && first + HELD_ROWS <= start + (u32)problem.first_position + 1;
#endif
#else
            bool whole = start + STEP <= problem.keys && first + HELD_ROWS <= problem.queries;
#if SIGHT >= 1
            whole = whole && start + STEP <= first + (u32)problem.first_position + 1;
#endif
#endif
#if SIGHT >= 2
            whole = false;
#endif
#pragma unroll
            for (int block = 0; block < STEP / 8; block++) {
#pragma unroll
                for (int part = 0; part < 4; part++) {
                    int line = part / 2, side = part % 2;
                    u32 column = start + block * 8 + threadIdx.x % 4 * 2 + side;
#if KEYS_STAY
                    float log = side ? column_log[block].y : column_log[block].x;
                    float both = side ? column_common[block].y : column_common[block].x;
                    bool seen = whole || sees(problem, bounds, batch, column, row + line * 8);
#else
                    float log = row_log[line], both = row_common[line];
                    bool seen = whole || sees(problem, bounds, batch, row + line * 8, column);
#endif
                    float &share = shares[block * 4 + part], &slope = slopes[block * 4 + part];
                    share = seen ? power_of_two(share * factor - log) : 0.0f;
                    slope = share * (slope - both) * scale;
                }
            }
#if KEYS_STAY
            pack(rounded, shares);
            begin();
            gather_all(values_sum, rounded, at + PASSING_BYTES);
            finish();
#endif
            pack(rounded, slopes);
            begin();
            gather_all(scores_sum, rounded, at);
            finish();
            if (threadIdx.x % 128 == 0) barrier_arrive(vacant + 8 * stage);
            if (++stage == STAGES) stage = 0, phase ^= 1;
        }
    }
    u64 offset = batch * problem.batch + blockIdx.y * problem.head;
#if KEYS_STAY
    put_rows(of_keys + offset, scores_sum, row, problem.keys, problem.row, 1.0f, 1.0f);
    put_rows(of_values + offset, values_sum, row, problem.keys, problem.row, 1.0f, 1.0f);
#else
    put_rows(of_queries + offset, scores_sum, row, problem.queries, problem.row, 1.0f, 1.0f);
#endif
}

#endif
