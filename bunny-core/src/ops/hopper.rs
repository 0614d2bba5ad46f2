//! Kernels for Hopper's tensor cores, of 16-bit numbers: `wgmma` on blocks that the copy engine fetches,
//! which CubeCL's own kernels do not use, and so in CUDA's own language.
//!
//! A variant is compiled when it is first launched, in about a second; nothing is tried out.

mod attention;
mod kernel;
mod product;

use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{
        client::ComputeClient,
        cuda::{CudaDevice, CudaRuntime},
        ir::{ElemType, FloatKind},
        prelude::*,
        server::{Handle, KernelArguments, MetadataBindingInfo, TensorMapBinding, TensorMapMeta},
        zspace::{metadata::Metadata, shape, strides},
    },
    tensor::CubeTensor,
};
use cudarc::driver::{result::device, sys::CUdevice_attribute};

use self::kernel::{Kernel, Variant};
pub use self::{
    attention::{attend, attend_backward},
    product::product,
};

type Matrix = CubeTensor<CudaRuntime>;

/// Numbers along a block: 128 bytes, what the copy engine swizzles.
const BLOCK: usize = 64;
/// The copy engine takes addresses and strides that are multiples of 16 bytes: eight numbers.
const ALIGNED: usize = 8;

/// Whether matrices of this type are multiplied here.
pub fn serves(dtype: DType, device: &CudaDevice) -> bool {
    matches!(dtype, DType::F16 | DType::BF16) && is_hopper(device)
}

/// The instructions are those of compute capability 9.x alone.
fn is_hopper(device: &CudaDevice) -> bool {
    let major = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    let capability = device::get(device.index as i32)
        // SAFETY: the device was given out by the driver just now.
        .and_then(|device| unsafe { device::get_attribute(device, major) });
    capability == Ok(9)
}

/// Launches a kernel, whose parameters are the maps, the tensors that they describe, buffers, and
/// numbers.
///
/// # Safety
/// The kernel must read and write nothing beyond them.
unsafe fn launch<V: Variant>(
    client: &ComputeClient<CudaRuntime>,
    variant: V,
    cubes: [usize; 3],
    maps: Vec<(&Matrix, TensorMapMeta)>,
    buffers: &[&Handle],
    numbers: Vec<u64>,
) {
    let maps = maps.into_iter().map(|(tensor, map)| TensorMapBinding {
        binding: tensor.handle.clone().binding(),
        map,
    });
    let buffers = buffers.iter().map(|one| (*one).clone().binding());
    let size = numbers.len();
    let arguments = KernelArguments::new()
        .with_tensor_maps(maps.collect())
        .with_buffers(buffers.collect())
        .with_info(MetadataBindingInfo::new(numbers, size));
    let [x, y, z] = cubes.map(|count| count as u32);
    let kernel = Box::new(Kernel(variant));
    // SAFETY: the caller's.
    unsafe { client.launch_unchecked(kernel, CubeCount::Static(x, y, z), arguments) };
}

/// How the matrices of a tensor lie: two dimensions of batches before theirs.
struct Layout {
    shape: [usize; 4],
    strides: [usize; 4],
    dtype: DType,
    /// Where it begins is a multiple of 16 bytes.
    aligned: bool,
}

impl Layout {
    fn new(tensor: &Matrix) -> Option<Self> {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        let missing = 4usize.checked_sub(shape.num_dims())?;
        let at = |dim: usize| dim.checked_sub(missing);
        Some(Self {
            shape: [0, 1, 2, 3].map(|dim| at(dim).map_or(1, |dim| shape[dim])),
            strides: [0, 1, 2, 3].map(|dim| at(dim).map_or(0, |dim| strides[dim])),
            dtype: tensor.dtype,
            aligned: tensor.handle.offset_start.unwrap_or(0).is_multiple_of(16),
        })
    }

    /// What the copy engine has to know in order to fetch blocks of 64 along `inner`, whose numbers
    /// lie side by side, and `high` along `outer`; `None` where it cannot.
    fn map(&self, inner: usize, outer: usize, high: usize) -> Option<TensorMapMeta> {
        let order = [0, 1, outer, inner];
        let shape = order.map(|dim| self.shape[dim]);
        let strides = order.map(|dim| match self.shape[dim] {
            // Never stepped along.
            1 => ALIGNED,
            _ => self.strides[dim],
        });
        let fits = self.aligned
            && self.strides[inner] == 1
            && self.shape[inner] > 1
            && strides[..3]
                .iter()
                .all(|stride| *stride > 0 && stride.is_multiple_of(ALIGNED));
        let kind = match self.dtype {
            DType::F16 => FloatKind::F16,
            _ => FloatKind::BF16,
        };
        fits.then(|| TensorMapMeta {
            format: TensorMapFormat::Tiled(TiledArgs {
                tile_size: shape![1, 1, high, BLOCK],
            }),
            metadata: Metadata::new(shape, strides),
            elem_stride: strides![1, 1, 1, 1],
            interleave: TensorMapInterleave::None,
            swizzle: TensorMapSwizzle::B128,
            prefetch: TensorMapPrefetch::B128,
            oob_fill: OobFill::Zero,
            storage_ty: StorageType::Scalar(ElemType::Float(kind)),
        })
    }
}
