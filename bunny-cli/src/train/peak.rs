//! What devices can do at best, as far as that is known without being told: the utilisation (MFU) is a share
//! of it.

use bunny_core::{checkpoint::Precision, nn::WeightFormat};
use burn::tensor::backend::{Backend, Device};

use crate::{
    backend::Numbers,
    speed::{bf16_tflops, f32_tflops},
};

/// NVIDIA's GPUs by words of their names, the first that fits, with 10¹² operations a second of dense products
/// of 16-bit numbers that are summed in f32. Of data-centre GPUs their data sheets say twice as much, "with
/// sparsity"; of the others the architectures' white papers have a row for it.
const GPUS: [(&[&str], f64); 20] = [
    (&["GB200"], 2500.0),
    (&["B200"], 2250.0),
    (&["GH200"], 989.0),
    (&["H200"], 989.0),
    (&["H100", "PCIe"], 756.0),
    (&["H100", "NVL"], 835.0),
    (&["H100"], 989.0),
    (&["H800"], 989.0),
    (&["H20"], 148.0),
    (&["A100"], 312.0),
    (&["A800"], 312.0),
    (&["A40"], 149.7),
    (&["A30"], 165.0),
    (&["L40S"], 362.0),
    (&["L40"], 181.0),
    (&["L4"], 121.0),
    (&["RTX", "A6000"], 154.8),
    (&["RTX", "6000", "Ada"], 364.2),
    (&["RTX", "4090"], 165.2),
    (&["RTX", "3090"], 71.0),
];

/// Words that make another device of one, or a part.
const OTHERS: [&str; 6] = ["D", "Laptop", "Max", "MIG", "SUPER", "Ti"];

/// 10¹² operations a second in the type of the activations: of a processor as they are measured here, of a
/// known GPU as its maker says. `None` of others.
pub fn tflops<B: Backend>(
    device: &B::Device,
    numbers: Numbers,
    precision: Precision,
) -> Option<f64> {
    if numbers.is_in_main_memory() {
        let in_bf16 = matches!(precision.weights, WeightFormat::Bf16);
        return in_bf16
            .then(bf16_tflops)
            .flatten()
            .or_else(|| Some(f32_tflops()));
    }
    // Of f32 it hangs on how a GPU multiplies it.
    let has_sixteen_bits = precision.compute.size() == 2;
    let name = has_sixteen_bits.then(|| cuda_name(numbers, device.to_id().index_id.into()));
    of_gpu(&name??)
}

/// What the driver calls a CUDA device.
#[cfg(feature = "cuda")]
fn cuda_name(numbers: Numbers, index: usize) -> Option<String> {
    use cudarc::driver::result::device;

    let is_cuda = numbers.backend() == crate::args::BackendName::Cuda.name();
    let device = device::get(index as i32).ok().filter(|_| is_cuda)?;
    device::get_name(device).ok()
}

#[cfg(not(feature = "cuda"))]
fn cuda_name(_: Numbers, _: usize) -> Option<String> {
    None
}

fn of_gpu(name: &str) -> Option<f64> {
    let words: Vec<&str> = name.split([' ', '-']).collect();
    let has = |word: &&str| words.contains(word);
    if OTHERS.iter().any(has) {
        return None;
    }
    let mut known = GPUS.iter();
    let (_, tflops) = known.find(|(wanted, _)| wanted.iter().all(has))?;
    Some(*tflops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_by_the_name_that_its_driver_gives() {
        for (name, tflops) in [
            ("NVIDIA H200", Some(989.0)),
            ("NVIDIA GH200 480GB", Some(989.0)),
            ("NVIDIA H100 80GB HBM3", Some(989.0)),
            ("NVIDIA H100 PCIe", Some(756.0)),
            ("NVIDIA A100-SXM4-80GB", Some(312.0)),
            ("NVIDIA A100 80GB PCIe", Some(312.0)),
            ("NVIDIA L4", Some(121.0)),
            ("NVIDIA L40S", Some(362.0)),
            ("NVIDIA GeForce RTX 4090", Some(165.2)),
            ("NVIDIA RTX 6000 Ada Generation", Some(364.2)),
            // Others, parts of one, and what nobody has looked up.
            ("NVIDIA GeForce RTX 3090 Ti", None),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
            ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
            ("NVIDIA A10G", None),
            ("NVIDIA GeForce GTX 1080", None),
        ] {
            assert_eq!(of_gpu(name), tflops, "{name}");
        }
    }

    #[test]
    fn a_processor_is_measured() {
        let tflops = f32_tflops();
        // From a slow core's plain code to more than any host reaches.
        assert!((1e-5..1e3).contains(&tflops), "{tflops}");
    }
}
