//! Kernels in CUDA's own language, as CubeCL launches them.

use std::{fmt::Debug, hash::Hash};

use burn_cubecl::cubecl::{CompilationError, Compiler, CubeTask, cuda::CudaCompiler, prelude::*};
use cubecl_cpp::shared::SharedMemory;

/// One group of four warps fetches, two work.
pub const THREADS: u32 = 384;
/// Where blocks begin in shared memory is a multiple of this.
pub const ALIGNMENT: usize = 1024;
/// What the kernels share.
const COMMON: &str = include_str!("common.cu");

/// A family of kernels, of which this is one.
pub trait Variant: Debug + Copy + Eq + Hash + Send + Sync + 'static {
    /// The kernel's name in its text.
    const NAME: &'static str;
    /// What its variants have in common.
    const TEXT: &'static str;

    /// The constants that tell it from the others.
    fn constants(&self) -> Vec<(&'static str, u32)>;

    /// The instructions that it is made of.
    fn instructions(&self) -> String;

    /// The shared memory that it takes.
    fn shared_bytes(&self) -> usize;
}

/// A kernel to launch.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<V>(pub V);

impl<V: Variant> Kernel<V> {
    fn text(&self) -> String {
        let constants = self.0.constants().into_iter();
        let defined = constants.map(|(name, value)| format!("#define {name} {value}\n"));
        let defined: String = defined.collect();
        defined + &self.0.instructions() + COMMON + V::TEXT
    }
}

impl<V: Variant> KernelMetadata for Kernel<V> {
    fn id(&self) -> KernelId {
        // Compiled kernels outlive the program: another text is another kernel.
        let digest = const { digest(COMMON) ^ digest(V::TEXT).rotate_left(1) };
        KernelId::new::<Self>()
            .info((self.0, digest))
            .cube_dim(CubeDim::new_1d(THREADS))
    }

    fn address_type(&self) -> StorageType {
        AddressType::default().unsigned_type()
    }
}

impl<V: Variant> CubeTask<CudaCompiler> for Kernel<V> {
    fn compile(
        &self,
        compiler: &mut CudaCompiler,
        options: &<CudaCompiler as Compiler>::CompilationOptions,
        mode: ExecutionMode,
        address_type: StorageType,
    ) -> Result<CompiledKernel<CudaCompiler>, CompilationError> {
        // CubeCL asks its own form of a kernel how much shared memory to give it: one without a body
        // answers.
        let empty = KernelDefinition {
            buffers: Vec::new(),
            tensor_maps: Vec::new(),
            scalars: Vec::new(),
            cube_dim: CubeDim::new_1d(THREADS),
            body: Scope::root(false),
            options: KernelOptions::default(),
        };
        let mut form = compiler.compile(empty, options, mode, address_type)?;
        let word = form.body.address_type;
        form.body.shared_memories.push(SharedMemory::Array {
            index: 0,
            item: word,
            length: self.0.shared_bytes().div_ceil(word.size()),
            align: 16,
            offset: 0,
        });
        Ok(CompiledKernel {
            entrypoint_name: V::NAME.into(),
            debug_name: Some(V::NAME),
            source: self.text(),
            cube_dim: CubeDim::new_1d(THREADS),
            debug_info: None,
            repr: Some(form),
        })
    }
}

/// Where an instruction finds its left operand, 64 rows.
#[derive(Debug, Clone, Copy)]
pub enum Left {
    /// In shared memory, row by row or turned.
    Shared { turned: bool },
    /// In registers.
    Registers,
}

/// A function `name` around one instruction: 64 rows, 16 numbers along the sum, times `columns`, whose
/// operands are as many registers as a thread has sums.
pub fn instruction(
    name: &str,
    columns: usize,
    half: bool,
    left: Left,
    right_turned: bool,
) -> String {
    let sums = columns / 2;
    let listed = |from: usize, to: usize, one: &dyn Fn(usize) -> String| {
        let all: Vec<String> = (from..to).map(one).collect();
        all.join(", ")
    };
    let register = |at: usize| format!("%{at}");
    let results = listed(0, sums, &register);
    let bound = listed(0, sums, &|at| format!("\"+f\"(sums[{at}])"));
    let kind = if half { "f16" } else { "bf16" };
    let operation = format!("wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{kind}.{kind}");
    let right_turned = u8::from(right_turned);
    match left {
        Left::Shared { turned } => {
            let turned = u8::from(turned);
            let [left, right, adds] = [sums, sums + 1, sums + 2];
            format!(
                "__device__ __forceinline__ void {name}(float (&sums)[{sums}], unsigned long long left, \
                 unsigned long long right, int adds) {{\n\
                 asm volatile(\"{{\\n.reg .pred adds;\\nsetp.ne.b32 adds, %{adds}, 0;\\n\"\n\
                 \"{operation} {{{results}}}, %{left}, %{right}, adds, 1, 1, {turned}, {right_turned};\\n}}\"\n\
                 : {bound} : \"l\"(left), \"l\"(right), \"r\"(adds));\n}}\n"
            )
        }
        Left::Registers => {
            let left = listed(sums, sums + 4, &register);
            let right = sums + 4;
            format!(
                "__device__ __forceinline__ void {name}(float (&sums)[{sums}], unsigned a, unsigned b, \
                 unsigned c, unsigned d, unsigned long long right) {{\n\
                 asm volatile(\"{operation} {{{results}}}, {{{left}}}, %{right}, 1, 1, 1, {right_turned};\"\n\
                 : {bound} : \"r\"(a), \"r\"(b), \"r\"(c), \"r\"(d), \"l\"(right));\n}}\n"
            )
        }
    }
}

/// Tells texts apart (FNV-1a).
const fn digest(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}
