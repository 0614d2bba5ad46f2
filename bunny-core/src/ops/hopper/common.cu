// What the kernels for Hopper share: barriers, the copy engine, descriptions of operands, 16-bit numbers.
// Operands lie in shared memory in blocks of 64 numbers, 128 bytes, side by side, swizzled as the copy
// engine leaves them.
//
//   HALF   16-bit numbers are f16, else bf16

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

#define INFINITY __int_as_float(0x7f800000)

struct alignas(64) Map {
    u64 opaque[16];
};

__device__ __forceinline__ u32 shared_address(const void *at) {
    return (u32)__cvta_generic_to_shared(at);
}

__device__ __forceinline__ void barrier_set(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 barrier, u32 phase) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra over;\n"
        "bra again;\n"
        "over:\n"
        "}" ::"r"(barrier), "r"(phase) : "memory");
}

__device__ __forceinline__ void fetch(u32 to, const Map *map, u32 barrier, int inner, int outer, int minor, int major) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to), "l"(map), "r"(barrier), "r"(inner), "r"(outer), "r"(minor),
        "r"(major) : "memory");
}

// Where a matrix lies in shared memory and how: rows of 128 bytes, swizzled by eights of them. Where the
// contiguous side is the sum's, `apart` means nothing; else it is how far blocks of 64 lie apart.
__device__ __forceinline__ u64 described(u32 at, u32 apart) {
    return (u64)((at & 0x3ffff) >> 4) | (u64)(apart >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

__device__ __forceinline__ u32 packed(float low, float high) {
    u32 both;
#if HALF
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}

__device__ __forceinline__ float widened(u16 bits) {
#if HALF
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
#else
    return __uint_as_float((u32)bits << 16);
#endif
}
