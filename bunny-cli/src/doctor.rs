//! `bunny-cli doctor`: what this machine and this build can do.

mod fits;

use std::env;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use self::fits::{Fit, POSITIONS, fits};
use crate::{Format, args::BackendName, backend, data::show_bytes, machine::Memory, speed::Speed};

/// Says what this machine and this build can do: processor, memory, backends, cache, models that fit.
///
/// Memory and products are measured, in about a second. Nothing is downloaded.
///
/// Example: bunny-cli doctor --format json
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    system: String,
    processor: Processor,
    memory: Option<MemoryFound>,
    measured: Speed,
    backends: Vec<BackendFound>,
    cache: Option<Cache>,
    fits: Vec<Fit>,
}

#[derive(Debug, Serialize)]
struct Processor {
    name: Option<String>,
    threads: usize,
    /// Instruction sets that kernels of this program are written for.
    features: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct MemoryFound {
    total: u64,
    free: Option<u64>,
}

#[derive(Debug, Serialize)]
struct BackendFound {
    name: &'static str,
    /// What keeps it from being used, if anything does.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(
    not(feature = "hub"),
    allow(dead_code, reason = "what is downloaded alone is kept there")
)]
struct Cache {
    folder: String,
    /// Models in it.
    models: usize,
    bytes: u64,
    has_token: bool,
    offline: bool,
}

/// Runs the verb.
///
/// # Errors
/// When findings have no form in JSON.
pub fn run(args: &DoctorArgs) -> Result<()> {
    let memory = Memory::of_machine();
    let findings = Findings {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", env::consts::ARCH, env::consts::OS),
        processor: processor(),
        memory: memory.map(|memory| MemoryFound {
            total: memory.total,
            free: memory.free,
        }),
        measured: Speed::measure(),
        backends: backends(),
        cache: cache(),
        fits: fits(memory.map(|memory| memory.total)),
    };
    match args.format {
        Format::Json => {
            let mut report = serde_json::to_value(&findings)?;
            report["format_version"] = json!(1);
            println!("{report}");
        }
        Format::Text => print_text(&findings),
    }
    Ok(())
}

fn print_text(found: &Findings) {
    println!("bunny-cli   {}, {}", found.version, found.system);
    let processor = &found.processor;
    println!(
        "processor   {}, {} threads; {}",
        processor.name.as_deref().unwrap_or("unnamed"),
        processor.threads,
        match processor.features.is_empty() {
            true => "none of the instruction sets that kernels are written for".into(),
            false => processor.features.join(", "),
        }
    );
    let speed = &found.measured;
    if let Some(memory) = &found.memory {
        let free = memory.free;
        let free = free.map(|free| format!(", {} of it free", show_bytes(free as f64)));
        println!(
            "memory      {}{}",
            show_bytes(memory.total as f64),
            free.unwrap_or_default()
        );
    }
    println!(
        "            read at {}/s: a model of that size says about one token a second",
        show_bytes(speed.bytes_per_second)
    );
    println!(
        "products    {:.2} TFLOP/s in f32{}",
        speed.f32_tflops,
        speed
            .bf16_tflops
            .map_or_else(String::new, |tflops| format!(", {tflops:.2} in bf16"))
    );
    for backend in &found.backends {
        let state = backend.problem.as_deref().unwrap_or("ready");
        println!("backend     {:<8} {state}", backend.name);
    }
    match &found.cache {
        None => {
            println!("cache       none: downloads are not built in, or no home folder is known")
        }
        Some(cache) => println!(
            "cache       {}: {} models, {}; {}{}",
            cache.folder,
            cache.models,
            show_bytes(cache.bytes as f64),
            if cache.has_token {
                "a token is set"
            } else {
                "no token is set"
            },
            if cache.offline {
                "; offline, by HF_HUB_OFFLINE"
            } else {
                ""
            }
        ),
    }
    println!(
        "\nmemory to talk with a model in {POSITIONS} positions, of which this machine has enough where no * stands"
    );
    println!(
        "{:24}{:>12}{:>12}{:>12}{:>12}",
        "", "f32", "f16, bf16", "int8", "int4"
    );
    for fit in &found.fits {
        let columns: String = fit
            .bytes
            .iter()
            .map(|held| {
                let mark = if held.fits == Some(false) { "*" } else { "" };
                format!("{:>12}", format!("{}{mark}", show_bytes(held.bytes as f64)))
            })
            .collect();
        println!("{:24}{columns}", fit.model);
    }
}

fn processor() -> Processor {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = described.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    Processor {
        name,
        threads: rayon::current_num_threads(),
        features: features(),
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    [
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("FMA", std::is_x86_feature_detected!("fma")),
        ("F16C", std::is_x86_feature_detected!("f16c")),
        ("AVX-512", std::is_x86_feature_detected!("avx512f")),
        ("AVX-512 VNNI", std::is_x86_feature_detected!("avx512vnni")),
        ("AVX-512 BF16", std::is_x86_feature_detected!("avx512bf16")),
        ("AMX", bunny_kernels::has_tiles()),
    ]
    .into_iter()
    .filter_map(|(name, is_there)| is_there.then_some(name))
    .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

fn backends() -> Vec<BackendFound> {
    BackendName::ALL
        .into_iter()
        .map(|name| BackendFound {
            name: name.name(),
            problem: backend::require(name).err().map(|error| error.to_string()),
        })
        .collect()
}

#[cfg(feature = "hub")]
fn cache() -> Option<Cache> {
    let settings = bunny_weights::hub::HubSettings::from_env().ok()?;
    let models = settings.cache.read_dir().ok();
    let models = models.into_iter().flatten().flatten();
    let models = models.filter(|entry| entry.file_name().to_string_lossy().starts_with("models--"));
    Some(Cache {
        models: models.count(),
        bytes: bytes_in(&settings.cache),
        folder: settings.cache.display().to_string(),
        has_token: settings.token.is_some(),
        offline: settings.offline,
    })
}

#[cfg(not(feature = "hub"))]
fn cache() -> Option<Cache> {
    None
}

/// Bytes of the files below a folder, links not followed.
#[cfg(feature = "hub")]
fn bytes_in(folder: &std::path::Path) -> u64 {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => bytes_in(&entry.path()),
            Ok(about) if about.is_file() => about.len(),
            _ => 0,
        })
        .sum()
}
