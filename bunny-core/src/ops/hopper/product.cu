// Products of matrices of 16-bit numbers on Hopper's tensor cores, their sums in f32. kernel.rs writes the
// constants below and the function `multiply` before this text.
//
//   COLUMNS        columns of a tile of results, 256 or 128; it has 128 rows
//   STAGES         blocks of operands in flight
//   LEFT_TURNED    left lies column by column (m is contiguous), else row by row (k is)
//   RIGHT_TURNED   right lies row by row (n is contiguous), else column by column (k is)
//   WIDE           results are f32, else of the operands' type
//   HALF           that type is f16, else bf16
//   BIASED         a bias is added to each row
//   KEPT           some results are dropped, as dropout of the results would
//   ONTO           results are added to what is there
//
// One group of four warps fetches blocks of 64 along the sum by the copy engine, two multiply them, each
// 64 rows of the tile. Blocks take turns: a full and a free barrier for each say whose turn it is.

// What product.rs sends along, in this order.
struct Problem {
    u64 rows, columns, depth;
    u64 batches, inner_batches;
    u64 row_stride, batch_stride, inner_batch_stride;
    // Factors of the sums and of what dropout keeps, as the bits of floats.
    u64 scale, keep_scale;
    u64 key, second_key, bound;
};

#define ROWS 128
#define DEPTH 64
#define LEFT_BYTES (ROWS * DEPTH * 2)
#define RIGHT_BYTES (COLUMNS * DEPTH * 2)
#define STAGE_BYTES (LEFT_BYTES + RIGHT_BYTES)
// Tiles that share their columns of the right operand follow each other.
#define BAND 16

// Sums of two pairs.
__device__ __forceinline__ u32 added(u32 one, u32 other) {
    return packed(widened((u16)one) + widened((u16)other), widened((u16)(one >> 16)) + widened((u16)(other >> 16)));
}

// The hash behind Keep::factor of plain.rs.
__device__ __forceinline__ u32 mixed(u32 key) {
    key = (key ^ (key >> 16)) * MIX_FIRST;
    key = (key ^ (key >> 15)) * MIX_SECOND;
    return key ^ (key >> 16);
}

struct Place {
    u32 row, column, minor, major;
    u64 batch_offset;
};

__device__ __forceinline__ Place place(u64 tile, u32 down, u32 across, const Problem &problem) {
    u32 batch = tile / ((u64)down * across);
    u32 rest = tile - (u64)batch * down * across;
    u32 band = rest / (BAND * across);
    u32 height = min((u32)BAND, down - band * BAND);
    u32 in_band = rest - band * BAND * across;
    Place at;
    at.row = (band * BAND + in_band % height) * ROWS;
    at.column = in_band / height * COLUMNS;
    at.major = batch / (u32)problem.inner_batches;
    at.minor = batch - at.major * (u32)problem.inner_batches;
    at.batch_offset = at.major * problem.batch_stride + at.minor * problem.inner_batch_stride;
    return at;
}

#if WIDE
typedef float Out;
#else
typedef u16 Out;
#endif

// Two rows of a thread's, eight apart; four threads side by side hold pairs of columns.
__device__ __forceinline__ void put(Out *out, const float (&sums)[COLUMNS / 2], const Problem &problem, u32 row,
                                    u32 column) {
    u32 lane = threadIdx.x % 4;
    u64 strides = problem.row_stride | problem.batch_stride | problem.inner_batch_stride;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 at = row + half * 8;
        Out *line = out + (u64)at * problem.row_stride;
        bool inside = at < problem.rows;
#if WIDE
#pragma unroll
        for (int block = 0; block < COLUMNS / 8; block++) {
            u32 first = column + block * 8 + lane * 2;
            float low = sums[block * 4 + half * 2], high = sums[block * 4 + half * 2 + 1];
            if (inside && first + 2 <= problem.columns && strides % 2 == 0) {
                float2 *to = (float2 *)(line + first);
#if ONTO
                low += to->x, high += to->y;
#endif
                *to = make_float2(low, high);
            } else if (inside) {
                if (first < problem.columns) line[first] = ONTO ? line[first] + low : low;
                if (first + 1 < problem.columns) line[first + 1] = ONTO ? line[first + 1] + high : high;
            }
        }
#else
        bool aligned = strides % 8 == 0;
#pragma unroll
        for (int block = 0; block < COLUMNS / 32; block++) {
            // Four blocks of eight columns: each thread's pairs are exchanged so that it holds one block.
            u32 mine[4];
#pragma unroll
            for (int part = 0; part < 4; part++) {
                int from = (block * 4 + part) * 4 + half * 2;
                mine[part] = packed(sums[from], sums[from + 1]);
            }
#pragma unroll
            for (int step = 1; step < 4; step *= 2) {
                bool odd = lane & step;
#pragma unroll
                for (int low = 0; low < 4; low++) {
                    if (low & step) continue;
                    u32 given = odd ? mine[low] : mine[low | step];
                    u32 got = __shfl_xor_sync(0xffffffff, given, step);
                    if (odd) mine[low] = got;
                    else mine[low | step] = got;
                }
            }
            u32 first = column + block * 32 + lane * 8;
            if (inside && aligned && first + 8 <= problem.columns) {
                uint4 *to = (uint4 *)(line + first);
#if ONTO
                uint4 there = *to;
                mine[0] = added(mine[0], there.x), mine[1] = added(mine[1], there.y);
                mine[2] = added(mine[2], there.z), mine[3] = added(mine[3], there.w);
#endif
                *to = make_uint4(mine[0], mine[1], mine[2], mine[3]);
            } else if (inside) {
#pragma unroll
                for (int part = 0; part < 8; part++) {
                    if (first + part >= problem.columns) break;
                    u32 own = mine[part / 2] >> part % 2 * 16 & 0xffff;
                    line[first + part] = (u16)(ONTO ? added(own, line[first + part]) : own);
                }
            }
        }
#endif
    }
}

extern "C" __global__ void __launch_bounds__(384, 1)
    hopper_product(const __grid_constant__ Map left, const __grid_constant__ Map right, const void *, const void *,
#if BIASED
                   Out *__restrict__ out, const u16 *__restrict__ bias, const __grid_constant__ Problem problem) {
#else
                   Out *__restrict__ out, const __grid_constant__ Problem problem) {
#endif
    extern __shared__ unsigned char room[];
    __shared__ u64 barriers[2 * STAGES];
    u32 operands = (shared_address(room) + 1023) / 1024 * 1024;
    u32 full = shared_address(barriers), vacant = full + 8 * STAGES;
    u32 group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (u32 stage = 0; stage < STAGES; stage++) {
            barrier_set(full + 8 * stage, 1);
            barrier_set(vacant + 8 * stage, 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    u32 down = (problem.rows + ROWS - 1) / ROWS, across = (problem.columns + COLUMNS - 1) / COLUMNS;
    u64 tiles = problem.batches * down * across;
    u32 steps = (problem.depth + DEPTH - 1) / DEPTH;
    u32 stage = 0, phase = 0;

    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            for (u64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
                Place at = place(tile, down, across, problem);
                for (u32 step = 0; step < steps; step++) {
                    barrier_wait(vacant + 8 * stage, phase ^ 1);
                    u32 ready = full + 8 * stage, to = operands + stage * STAGE_BYTES;
                    barrier_expect(ready, STAGE_BYTES);
                    int depth = step * DEPTH;
#if LEFT_TURNED
#pragma unroll
                    for (int block = 0; block < ROWS / 64; block++)
                        fetch(to + block * 64 * DEPTH * 2, &left, ready, at.row + block * 64, depth, at.minor, at.major);
#else
                    fetch(to, &left, ready, depth, at.row, at.minor, at.major);
#endif
                    to += LEFT_BYTES;
#if RIGHT_TURNED
#pragma unroll
                    for (int block = 0; block < COLUMNS / 64; block++)
                        fetch(to + block * 64 * DEPTH * 2, &right, ready, at.column + block * 64, depth, at.minor, at.major);
#else
                    fetch(to, &right, ready, depth, at.column, at.minor, at.major);
#endif
                    if (++stage == STAGES) stage = 0, phase ^= 1;
                }
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        u32 half = group - 1, warp = threadIdx.x / 32 % 4;
        float sums[COLUMNS / 2];
        for (u64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            Place at = place(tile, down, across, problem);
            u32 before = STAGES;
            for (u32 step = 0; step < steps; step++) {
                barrier_wait(full + 8 * stage, phase);
                u32 block = operands + stage * STAGE_BYTES;
                u32 rows = block + half * 64 * DEPTH * 2, columns = block + LEFT_BYTES;
                asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
                for (int part = 0; part < DEPTH / 16; part++) {
                    // Sixteen along the sum: 32 bytes of each row, or sixteen rows of 128 bytes.
                    u64 l = described(rows + part * (LEFT_TURNED ? 2048 : 32), 64 * DEPTH * 2);
                    u64 r = described(columns + part * (RIGHT_TURNED ? 2048 : 32), 64 * DEPTH * 2);
                    multiply(sums, l, r, step > 0 || part > 0);
                }
                asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                // All but the products just begun are done: their operands may be overwritten.
                asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                if (before < STAGES && threadIdx.x % 128 == 0) barrier_arrive(vacant + 8 * before);
                before = stage;
                if (++stage == STAGES) stage = 0, phase ^= 1;
            }
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            if (threadIdx.x % 128 == 0) barrier_arrive(vacant + 8 * before);
            u32 row = at.row + half * 64 + warp * 16 + threadIdx.x % 32 / 4;
            float scale = __uint_as_float((u32)problem.scale);
#pragma unroll
            for (int block = 0; block < COLUMNS / 8; block++) {
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    u32 column = at.column + block * 8 + threadIdx.x % 4 * 2 + side;
                    float more = 0.0f;
#if BIASED
                    if (column < problem.columns) more = widened(bias[column]);
#endif
#pragma unroll
                    for (int lower = 0; lower < 2; lower++) {
                        float &sum = sums[block * 4 + lower * 2 + side];
                        sum = sum * scale + more;
#if KEPT
                        u32 place = (row + lower * 8) * (u32)problem.columns + column;
                        u32 drawn = mixed(mixed(place ^ (u32)problem.key) ^ (u32)problem.second_key);
                        sum = drawn < (u32)problem.bound ? 0.0f : sum * __uint_as_float((u32)problem.keep_scale);
#endif
                    }
                }
            }
            put(out + at.batch_offset, sums, problem, row, at.column);
        }
    }
}
