//! The one place where a backend is picked.

use anyhow::{Result, bail};
use bunny_core::{
    nn::{Activations, Packing, Precision, WeightFormat},
    ops::{narrows_cache, packs},
};
use burn::tensor::backend::{Backend, Device};

use crate::args::{BackendArgs, BackendName, DtypeName};

/// Work that runs on whichever backend was asked for.
pub trait Work {
    /// What comes of it.
    type Output;

    /// Does it on `device`; `numbers` says which number types serve there.
    fn run<B: Backend>(self, device: B::Device, numbers: Numbers) -> Result<Self::Output>;
}

/// How number types are chosen on a backend.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    backend: BackendName,
    wanted: DtypeName,
    packing: Option<Packing>,
    vision_int8: bool,
    cache_int8: bool,
    activations: Activations,
}

impl Numbers {
    /// The number types for weights that are stored in format `stored`.
    ///
    /// # Errors
    /// When the backend has no such type, or no integers where they are wanted.
    pub fn precision<B: Backend>(
        self,
        device: &B::Device,
        stored: WeightFormat,
    ) -> Result<Precision> {
        let holding = |format| Precision::holding::<B>(device, format);
        let precision = match self.wanted {
            DtypeName::Auto => Precision::suited::<B>(device, stored),
            DtypeName::F32 => holding(WeightFormat::F32),
            DtypeName::F16 => holding(WeightFormat::F16),
            DtypeName::Bf16 => holding(WeightFormat::Bf16),
        };
        if !B::supports_dtype(device, precision.weights.dtype()) {
            bail!(
                "backend `{}` has no {} numbers on this device: take another --dtype",
                self.backend.name(),
                precision.weights
            );
        }
        let option = match (self.packing, self.vision_int8) {
            (Some(_), _) => Some("--weights"),
            (None, true) => Some("--vision-weights"),
            (None, false) => None,
        };
        if let (Some(option), false) = (option, packs::<B>()) {
            bail!(
                "backend `{}` holds no weights in integers: take --backend cpu, or leave {option} out",
                self.backend.name()
            );
        }
        if self.cache_int8 && !narrows_cache::<B>() {
            bail!(
                "backend `{}` keeps keys and values as it computes them: take --backend cpu, or leave --kv-cache-dtype out",
                self.backend.name()
            );
        }
        Ok(Precision {
            packing: self.packing,
            vision_int8: self.vision_int8,
            cache_int8: self.cache_int8,
            activations: self.activations,
            ..precision
        })
    }

    /// A device for each of `ranks`: CUDA devices in turn, beginning with `first`; elsewhere ranks
    /// share it.
    pub fn devices<B: Backend>(self, first: &B::Device, ranks: usize) -> Vec<B::Device> {
        let count = match self.backend {
            BackendName::Cuda if ranks > 1 => B::device_count(first.to_id().type_id).max(1),
            _ => 1,
        };
        let turn = |rank| match count {
            1 => first.clone(),
            _ => {
                let mut id = first.to_id();
                id.index_id = ((usize::from(id.index_id) + rank) % count) as u16;
                B::Device::from_id(id)
            }
        };
        (0..ranks).map(turn).collect()
    }

    /// Whether what is held is held in the machine's own memory.
    pub fn is_in_main_memory(self) -> bool {
        matches!(self.backend, BackendName::Cpu | BackendName::Ndarray)
    }

    /// Whether attention's scores are stored for the way back: the processor's kernels compute them anew.
    pub fn stores_attention(self) -> bool {
        self.backend != BackendName::Cpu
    }

    /// The backend's name.
    pub fn backend(self) -> &'static str {
        self.backend.name()
    }
}

impl BackendArgs {
    /// The same, for work that writes no answers.
    ///
    /// # Errors
    /// When keys and values are to be kept in eight bits: there are none to keep.
    pub fn without_cache(self) -> Result<Self> {
        if self.kv_cache_dtype.is_some() {
            bail!(
                "no keys and values are kept where no answer is written: leave --kv-cache-dtype out"
            );
        }
        Ok(self)
    }

    /// Does `work` on the backend asked for.
    ///
    /// # Errors
    /// When that backend is not built in or not there, or the work fails.
    pub fn run<W: Work>(self, work: W) -> Result<W::Output> {
        let numbers = Numbers {
            backend: self.backend,
            wanted: self.dtype,
            packing: self.weights,
            vision_int8: self.vision_weights.is_some(),
            cache_int8: self.kv_cache_dtype.is_some(),
            activations: self.activations.into(),
        };
        match self.backend {
            #[cfg(feature = "flex")]
            BackendName::Cpu => work.run::<burn_flex::Flex>(Default::default(), numbers),
            #[cfg(feature = "ndarray")]
            BackendName::Ndarray => work.run::<burn_ndarray::NdArray>(Default::default(), numbers),
            #[cfg(feature = "wgpu")]
            BackendName::Wgpu => {
                require_wgpu_adapter()?;
                work.run::<burn_wgpu::Wgpu>(Default::default(), numbers)
            }
            #[cfg(feature = "cuda")]
            BackendName::Cuda => {
                require_cuda_driver()?;
                keep_kernels();
                work.run::<burn_cuda::Cuda>(Default::default(), numbers)
            }
            #[allow(
                unreachable_patterns,
                reason = "which backends are left depends on features"
            )]
            other => bail!("backend `{}` is {}", other.name(), other.how_to_build()),
        }
    }
}

/// Says what keeps a backend from being used: that it is not built in, or lacks its driver.
///
/// # Errors
/// When something does.
pub fn require(name: BackendName) -> Result<()> {
    match name {
        name if !name.is_built_in() => bail!("{}", name.how_to_build()),
        #[cfg(feature = "wgpu")]
        BackendName::Wgpu => require_wgpu_adapter(),
        #[cfg(feature = "cuda")]
        BackendName::Cuda => require_cuda_driver(),
        _ => Ok(()),
    }
}

/// Without a driver the CUDA backend would panic on a thread of its own.
#[cfg(feature = "cuda")]
fn require_cuda_driver() -> Result<()> {
    let names = ["libcuda.so.1", "libcuda.so", "nvcuda.dll"];
    let is_there = |name: &&str| {
        // SAFETY: loading the driver's library runs its initialisers, as the backend does right after.
        unsafe { libloading::Library::new(*name) }.is_ok()
    };
    if names.iter().any(is_there) {
        Ok(())
    } else {
        bail!("no CUDA driver found: install NVIDIA's driver, or take another --backend")
    }
}

/// Keeps compiled kernels beside what is known of their speed, unless a `cubecl.toml` says where: the
/// compiler takes most of the time before a first step.
#[cfg(feature = "cuda")]
fn keep_kernels() {
    use std::sync::Once;

    use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    // Before anything is compiled, and once: stages of training come here one after another.
    static SET: Once = Once::new();
    SET.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        let beside = config.autotune.cache.clone();
        config.compilation.cache.get_or_insert(beside);
        CubeClRuntimeConfig::set(config);
    });
}

/// Without an adapter the wgpu backend panics when it is first asked for anything, as here.
#[cfg(feature = "wgpu")]
fn require_wgpu_adapter() -> Result<()> {
    use std::{panic, sync::OnceLock};

    use burn_wgpu::{RuntimeOptions, graphics::AutoGraphicsApi, init_setup};

    // A device is set up once, however many stages run on it.
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    let is_there = IS_THERE.get_or_init(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let set_up =
            || init_setup::<AutoGraphicsApi>(&Default::default(), RuntimeOptions::default());
        let setup = panic::catch_unwind(set_up);
        panic::set_hook(hook);
        setup.is_ok()
    });
    match is_there {
        true => Ok(()),
        false => bail!(
            "no adapter for wgpu found: install a GPU's driver, or Mesa's software Vulkan, or take \
             another --backend"
        ),
    }
}
