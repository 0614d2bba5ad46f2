//! The CPU kernels on the shapes of Phi-2 and SigLIP, beside plain loops.
//!
//! `cargo bench -p bunny-kernels --bench kernels [stream] [decoding] [many] [pairs] [lowbit] [elements] [attention]`
//!
//! Every figure is the least of several runs, and what is compared takes turns. On a busy machine `CPU_TIME=1
//! RAYON_NUM_THREADS=1` reports the time of one core instead of the clock's, which other programs disturb less.

#![allow(missing_docs)]

use bunny_kernels::quantized::{Activations, Coding, Quantized, QuantizedLinear, quantize};
use bunny_kernels::*;
use half::{bf16, f16};
use std::hint::black_box;
use std::time::Instant;

fn main() {
    // `cargo bench` adds flags of its own.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{} threads, load {}",
        rayon::current_num_threads(),
        load.trim()
    );
    for (name, group) in [
        ("stream", stream as fn()),
        ("decoding", decoding),
        ("many", many),
        ("pairs", pairs),
        ("lowbit", lowbit),
        ("elements", elements),
        ("attention", attention_forms),
    ] {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            group();
        }
    }
}

/// Seconds since some moment: of the clock, or of this process's work with `CPU_TIME`.
fn now() -> f64 {
    #[cfg(target_os = "linux")]
    if std::env::var_os("CPU_TIME").is_some() {
        // The first number is the time spent running, in nanoseconds; of the main thread and of the pool's one.
        let tasks = std::fs::read_dir("/proc/self/task").expect("this process's threads");
        let nanoseconds: f64 = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<f64>().ok())
            .sum();
        return nanoseconds * 1e-9;
    }
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

/// The least time of each of several things that take turns.
fn race<const N: usize>(rounds: usize, mut runs: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::MAX; N];
    for _ in 0..rounds {
        for (best, run) in best.iter_mut().zip(&mut runs) {
            let start = now();
            run();
            *best = best.min(now() - start);
        }
    }
    best
}

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn naive_linear(x: &[f32], w: &[f32], y: &mut [f32], inner: usize) {
    let out = w.len() / inner;
    for (x, y) in x.chunks_exact(inner).zip(y.chunks_exact_mut(out)) {
        for (w, y) in w.chunks_exact(inner).zip(y) {
            *y = x.iter().zip(w).map(|(x, w)| x * w).sum();
        }
    }
}

struct Weights {
    single: Vec<f32>,
    half: Vec<f16>,
    brain: Vec<bf16>,
}

impl Weights {
    fn new(n: usize) -> Self {
        let single = noise(n, 1);
        let half = single.iter().map(|w| f16::from_f32(*w)).collect();
        let brain = single.iter().map(|w| bf16::from_f32(*w)).collect();
        Self {
            single,
            half,
            brain,
        }
    }
}

/// Few rows: a matter of memory.
fn stream() {
    for (k, n) in [(2560, 10240), (10240, 2560), (2560, 50295)] {
        let w = Weights::new(k * n);
        for m in [1, 2, 4, 8] {
            let x = noise(m * k, 2);
            let [mut y1, mut y2, mut y3] = [(); 3].map(|()| vec![0.0; m * n]);
            let [single, half, brain] = race(
                20,
                [
                    &mut || linear(&x, WeightRef::F32(&w.single), None, &mut y1, m, k, n),
                    &mut || linear(&x, WeightRef::F16(&w.half), None, &mut y2, m, k, n),
                    &mut || linear(&x, WeightRef::Bf16(&w.brain), None, &mut y3, m, k, n),
                ],
            );
            let gigabytes = (k * n) as f64 * 1e-9;
            println!(
                "{m} x {k} x {n}: f32 {:.2} ms {:.1} GB/s, f16 {:.2} ms {:.1} GB/s, bf16 {:.2} ms {:.1} GB/s",
                single * 1e3,
                4.0 * gigabytes / single,
                half * 1e3,
                2.0 * gigabytes / half,
                brain * 1e3,
                2.0 * gigabytes / brain,
            );
        }
    }
}

/// A token, or a few, through the products of layers of Phi-2, one by one and at once, and attention
/// behind 800 positions by the type that keys and values are kept in.
fn decoding() {
    const LAYERS: usize = 6;
    const WIDTH: usize = 2560;
    const WIDE: usize = 4 * WIDTH;
    // Of q, k, v and fc1, which share their input, and of the output and fc2: rows of the weight and
    // their length.
    const PRODUCTS: [(usize, usize); 6] = [
        (WIDTH, WIDTH),
        (WIDTH, WIDTH),
        (WIDTH, WIDTH),
        (WIDE, WIDTH),
        (WIDTH, WIDTH),
        (WIDTH, WIDE),
    ];
    let of_a_layer: usize = PRODUCTS.iter().map(|(out, inner)| out * inner).sum();
    let weights: Vec<bf16> = noise(of_a_layer, 1)
        .into_iter()
        .map(bf16::from_f32)
        .collect();
    // Layers of their own, so that no cache has them.
    let weights: Vec<Vec<bf16>> = (0..LAYERS).map(|_| weights.clone()).collect();
    for rows in [1, 4] {
        let x = noise(rows * WIDE, 2);
        let [mut a, mut b, mut c] =
            [(); 3].map(|()| PRODUCTS.map(|(out, _)| vec![0.0; rows * out]));
        let layer = |weights: &[bf16], ys: &mut [Vec<f32>; 6], at_once: bool| {
            let mut rest = weights;
            let mut products: Vec<Linear<'_>> = PRODUCTS
                .iter()
                .zip(ys)
                .map(|(&(out, inner), y)| {
                    let (w, after) = rest.split_at(out * inner);
                    rest = after;
                    let (x, w) = (&x[..rows * inner], WeightRef::Bf16(w));
                    Linear {
                        x,
                        w,
                        bias: None,
                        y,
                        inner,
                        out,
                    }
                })
                .collect();
            if at_once {
                stream_many(rows, &mut products[..4]);
                stream_many(rows, &mut products[4..]);
            } else {
                products
                    .chunks_mut(1)
                    .for_each(|product| stream_many(rows, product));
            }
        };
        let [single, together, within] = race(
            20,
            [
                &mut || {
                    weights
                        .iter()
                        .for_each(|weights| layer(weights, &mut a, false))
                },
                &mut || {
                    weights
                        .iter()
                        .for_each(|weights| layer(weights, &mut b, true))
                },
                // A thread of the pool waits for no other to wake it.
                &mut || {
                    rayon::scope(|_| {
                        weights
                            .iter()
                            .for_each(|weights| layer(weights, &mut c, true))
                    });
                },
            ],
        );
        let gigabytes = 2e-9 * (LAYERS * of_a_layer) as f64;
        println!(
            "decoding {rows} rows, {LAYERS} layers of Phi-2 in bf16: products one by one {:.2} ms {:.1} GB/s, at once {:.2} ms {:.1} GB/s, from within the pool {:.2} ms {:.1} GB/s",
            single * 1e3,
            gigabytes / single,
            together * 1e3,
            gigabytes / together,
            within * 1e3,
            gigabytes / within,
        );
    }

    const POSITIONS: usize = 800;
    let shape = CachedShape {
        query_heads: 32,
        kv_heads: 32,
        head_dim: 80,
        positions: CachedShape::GRAIN,
    };
    // Of every layer, keys and values of as many blocks as there must be.
    let blocks = POSITIONS.div_ceil(shape.positions);
    let numbers = shape.kv_heads * shape.positions * shape.head_dim;
    let single: Vec<[Vec<f32>; 2]> = (0..32 * blocks as u64)
        .map(|block| [noise(numbers, block), noise(numbers, block)])
        .collect();
    let brain: Vec<[Vec<bf16>; 2]> = single
        .iter()
        .map(|pair| {
            pair.each_ref()
                .map(|block| block.iter().copied().map(bf16::from_f32).collect())
        })
        .collect();
    let single: Vec<[&[f32]; 2]> = single
        .iter()
        .map(|pair| pair.each_ref().map(|b| &b[..]))
        .collect();
    let brain: Vec<[&[bf16]; 2]> = brain
        .iter()
        .map(|pair| pair.each_ref().map(|b| &b[..]))
        .collect();
    let query = noise(WIDTH, 3);
    let q = AttentionView {
        data: &query,
        strides: AttentionStrides::rows_first(32, 1, 80),
    };
    let sequence = [CachedSequence {
        first_block: 0,
        len: POSITIONS,
        first_row: 0,
        queries: 1,
    }];
    let [mut a, mut b] = [(); 2].map(|()| vec![0.0; WIDTH]);
    let [in_f32, in_bf16] = race(
        20,
        [
            &mut || {
                for layer in single.chunks_exact(blocks) {
                    let layer = CachedBlocks::F32(layer);
                    decode_attention(q, layer, &sequence, &mut a, shape, 0.1);
                }
            },
            &mut || {
                for layer in brain.chunks_exact(blocks) {
                    let layer = CachedBlocks::Bf16(layer);
                    decode_attention(q, layer, &sequence, &mut b, shape, 0.1);
                }
            },
        ],
    );
    let numbers = 2e-9 * (32 * WIDTH * POSITIONS) as f64;
    println!(
        "decoding behind {POSITIONS} positions, attention of 32 layers: keys and values in f32 {:.2} ms {:.1} GB/s, in bf16 {:.2} ms {:.1} GB/s",
        in_f32 * 1e3,
        4.0 * numbers / in_f32,
        in_bf16 * 1e3,
        2.0 * numbers / in_bf16,
    );
}

/// Many rows: a matter of arithmetic.
fn many() {
    for (m, k, n) in [
        (16, 2560, 10240),
        (64, 2560, 10240),
        (729, 1152, 4304),
        (768, 2560, 10240),
        (768, 10240, 2560),
    ] {
        let (w, x) = (Weights::new(k * n), noise(m * k, 2));
        let [mut y1, mut y2, mut y3, mut y4] = [(); 4].map(|()| vec![0.0; m * n]);
        let times = race(
            5,
            [
                &mut || linear(&x, WeightRef::F32(&w.single), None, &mut y1, m, k, n),
                &mut || linear(&x, WeightRef::F16(&w.half), None, &mut y2, m, k, n),
                &mut || linear(&x, WeightRef::Bf16(&w.brain), None, &mut y3, m, k, n),
                &mut || linear_bf16_dot(&x, WeightRef::Bf16(&w.brain), None, &mut y4, m, k, n),
            ],
        );
        let (dy, mut dx, mut dw) = (noise(m * n, 3), vec![0.0; m * k], vec![0.0; n * k]);
        let backward = race(
            3,
            [
                &mut || linear_backward_input(&dy, WeightRef::Bf16(&w.brain), &mut dx, m, k, n),
                &mut || linear_backward_weight(&dy, &x, &mut dw, m, k, n, false),
            ],
        );
        // A plain loop is too slow for all of it.
        let [naive] = race(
            1,
            [&mut || naive_linear(&x[..4 * k], &w.single, &mut y1[..4 * n], k)],
        );
        let rate = |seconds: f64| 2e-9 * (m * k * n) as f64 / seconds;
        let [single, half, brain, dot] = times.map(rate);
        let [input, weight] = backward.map(rate);
        println!(
            "{m} x {k} x {n}, GFLOP/s: f32 {single:.0}, f16 {half:.0}, bf16 {brain:.0}, bf16 dot{} {dot:.0}, for input {input:.0}, for weight {weight:.0}; plain loop {:.1}",
            if has_bf16_dot() { "" } else { " (in software)" },
            rate(naive * m as f64 / 4.0),
        );
    }
}

/// Many rows, both operands rounded to `bf16`: prefill, the tower, and steps of training.
fn pairs() {
    for (m, k, n) in [
        (768, 2560, 2560),
        (768, 2560, 10240),
        (768, 10240, 2560),
        (729, 1152, 4304),
        (3072, 160, 512),
    ] {
        let (w, x) = (Weights::new(k * n), noise(m * k, 2));
        let (dy, mut y) = (noise(m * n, 3), vec![0.0; m * n]);
        let (mut dx, mut dw) = (vec![0.0; m * k], vec![0.0; n * k]);
        let weight = WeightRef::Bf16(&w.brain);
        let times = race(
            8,
            [
                &mut || linear_bf16_dot(&x, weight, None, &mut y, m, k, n),
                &mut || linear_backward_input_bf16_dot(&dy, weight, &mut dx, m, k, n),
                &mut || linear_backward_weight_bf16_dot(&dy, &x, &mut dw, m, k, n, false),
            ],
        );
        let [forward, input, weight] = times.map(|seconds| 2e-9 * (m * k * n) as f64 / seconds);
        println!(
            "{m} x {k} x {n}, bf16 dot{}, GFLOP/s: {forward:.0}, for input {input:.0}, for weight {weight:.0}",
            if has_bf16_dot() { "" } else { " (in software)" },
        );
    }
}

/// Weights of eight and four bits beside the same in `bf16`: a token, or a few, through the products of
/// layers of Phi-2, and prefill.
fn lowbit() {
    const LAYERS: usize = 12;
    const WIDTH: usize = 2560;
    const WIDE: usize = 4 * WIDTH;
    const PRODUCTS: [[usize; 2]; 6] = [
        [WIDTH, WIDTH],
        [WIDTH, WIDTH],
        [WIDTH, WIDTH],
        [WIDE, WIDTH],
        [WIDTH, WIDTH],
        [WIDTH, WIDE],
    ];
    const FORMS: [(&str, Coding, usize); 5] = [
        ("int8, one scale a row", Coding::Int8, WIDE),
        ("int8, groups of 32", Coding::Int8, 32),
        ("int4, groups of 32", Coding::Int4, 32),
        ("int4, groups of 128", Coding::Int4, 128),
        ("int4 with zeros, groups of 128", Coding::Int4Zeros, 128),
    ];
    let layer: Vec<Vec<bf16>> = PRODUCTS
        .iter()
        .map(|[out, inner]| {
            noise(out * inner, 1)
                .into_iter()
                .map(bf16::from_f32)
                .collect()
        })
        .collect();
    let brain: Vec<Vec<Vec<bf16>>> = (0..LAYERS).map(|_| layer.clone()).collect();
    let pack = |sides: [usize; 2], weight: &[bf16], coding, group| {
        quantize(WeightRef::Bf16(weight), sides, coding, group).expect("finite numbers")
    };
    for (name, coding, group) in FORMS {
        let start = now();
        let layer: Vec<Quantized> = PRODUCTS
            .iter()
            .zip(&layer)
            .map(|(sides, weight)| pack(*sides, weight, coding, group))
            .collect();
        let rounding = now() - start;
        // Layers of their own, so that no cache has them.
        let packed: Vec<Vec<Quantized>> = (0..LAYERS).map(|_| layer.clone()).collect();
        for rows in [1, 4, 12] {
            let x = noise(rows * WIDE, 2);
            let [mut a, mut b] = [(); 2].map(|()| PRODUCTS.map(|[out, _]| vec![0.0; rows * out]));
            let mut floats = || {
                for layer in &brain {
                    let mut products: Vec<Linear<'_>> = layer
                        .iter()
                        .zip(&mut a)
                        .zip(PRODUCTS)
                        .map(|((w, y), [out, inner])| Linear {
                            x: &x[..rows * inner],
                            w: WeightRef::Bf16(w),
                            bias: None,
                            y,
                            inner,
                            out,
                        })
                        .collect();
                    stream_many(rows, &mut products[..4]);
                    stream_many(rows, &mut products[4..]);
                }
            };
            let mut codes = || {
                for layer in &packed {
                    let mut products: Vec<QuantizedLinear<'_>> = layer
                        .iter()
                        .zip(&mut b)
                        .zip(PRODUCTS)
                        .map(|((w, y), [_, inner])| QuantizedLinear {
                            x: &x[..rows * inner],
                            w: w.view(),
                            bias: None,
                            y,
                        })
                        .collect();
                    quantized::stream_many(rows, &mut products[..4]);
                    quantized::stream_many(rows, &mut products[4..]);
                }
            };
            let [floats, codes] = race(10, [&mut floats, &mut codes]);
            let numbers: usize = layer.iter().map(|w| w.sides[0] * w.sides[1]).sum();
            let bytes: usize = layer.iter().map(|w| w.view().bytes()).sum();
            let rate = |bytes: usize, seconds| (LAYERS * bytes) as f64 * 1e-9 / seconds;
            println!(
                "decoding {rows} rows, {LAYERS} layers of Phi-2: bf16 {:.2} ms {:.1} GB/s, {name} {:.2} ms {:.1} GB/s: {:.2} times as fast (rounding {:.1} ns a number)",
                floats * 1e3,
                rate(2 * numbers, floats),
                codes * 1e3,
                rate(bytes, codes),
                floats / codes,
                rounding / numbers as f64 * 1e9,
            );
        }
    }

    for (m, [n, k]) in [
        (16, [WIDE, WIDTH]),
        (768, [WIDE, WIDTH]),
        (768, [WIDTH, WIDE]),
        (729, [4304, 1152]),
    ] {
        let weight: Vec<bf16> = noise(n * k, 1).into_iter().map(bf16::from_f32).collect();
        let [rows, int8, int4] = [(Coding::Int8, k), (Coding::Int8, 32), (Coding::Int4, 32)]
            .map(|(coding, group)| pack([n, k], &weight, coding, group));
        let (x, mut y) = (noise(m * k, 2), [(); 5].map(|()| vec![0.0; m * n]));
        let [y1, y2, y3, y4, y5] = &mut y;
        let packed = |w: &Quantized, y: &mut [f32], activations| {
            quantized::linear_packed(&x, w.view(), None, y, m, activations);
        };
        let times = race(
            6,
            [
                &mut || linear_packed(&x, WeightRef::Bf16(&weight), None, y1, (m, k, n), true),
                &mut || packed(&int4, y2, Activations::Bf16),
                &mut || packed(&rows, y3, Activations::Int8),
                &mut || packed(&int8, y4, Activations::Int8),
                &mut || packed(&int4, y5, Activations::Int8),
            ],
        );
        let [bf16, opened, rows, int8, int4] = times;
        println!(
            "{m} x {k} x {n}: bf16 {:.0} GFLOP/s; times as fast: int4 with input in bf16 {:.2}, with input in int8: int8 with one scale a row {:.2}, groups of 32 {:.2}, int4 {:.2}",
            2e-9 * (m * k * n) as f64 / bf16,
            bf16 / opened,
            bf16 / rows,
            bf16 / int8,
            bf16 / int4,
        );
    }
}

/// One pass over memory, or a few.
fn elements() {
    let (rows, width) = (768, 10240);
    let (x, up) = (noise(rows * width, 3), noise(rows * width, 4));
    let [mut a, mut b, mut c, mut d, mut e] = [(); 5].map(|()| x.clone());
    let [tanh, erf, silu, gated, backward, plain] = race(
        20,
        [
            &mut || gelu_tanh(&mut a),
            &mut || gelu_erf(&mut b),
            &mut || silu(&mut c),
            &mut || silu_mul(&mut d, &up),
            &mut || gelu_tanh_backward(&x, &up, &mut e),
            &mut || {
                let sum: f32 = x
                    .iter()
                    .map(|x| 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()))
                    .sum();
                black_box(sum);
            },
        ],
    )
    .map(|seconds| seconds * 1e3);
    println!(
        "{rows} x {width}, ms: gelu tanh {tanh:.2}, its gradient {backward:.2}, gelu erf {erf:.2}, silu {silu:.2}, silu mul {gated:.2}; plain loop of gelu tanh {plain:.0}"
    );

    let width = 2560;
    let (x, weight) = (noise(rows * width, 5), noise(width, 6));
    let [mut a, mut b, mut c, mut q] = [(); 4].map(|()| x.clone());
    let positions: Vec<usize> = (0..rows).collect();
    let angles = noise(rows * 16, 7);
    let shape = RopeShape {
        batch: 1,
        heads: 32,
        rows,
        rotary_dim: 32,
    };
    let [layer, rms, backward, turn] = race(
        20,
        [
            &mut || layer_norm(&x, &weight, Some(&weight), 1e-5, &mut a),
            &mut || rms_norm(&x, &weight, 1e-5, &mut b),
            &mut || layer_norm_backward(&x, &weight, 1e-5, &up[..x.len()], &mut c, None, None),
            &mut || {
                let strides = AttentionStrides::heads_first(32, rows, 80);
                rope(
                    &mut q,
                    strides,
                    shape,
                    &positions,
                    &angles,
                    &angles,
                    Rotation::Forward,
                );
            },
        ],
    )
    .map(|seconds| seconds * 1e3);
    println!(
        "{rows} x {width}, ms: layer norm {layer:.2}, its gradient {backward:.2}, rms norm {rms:.2}, rope of 32 in 80 {turn:.2}"
    );

    let (rows, width) = (64, 50295);
    let (logits, targets) = (noise(rows * width, 8), vec![7; rows]);
    let (mut in_place, mut losses, mut other) = (logits.clone(), vec![0.0; rows], vec![0.0; rows]);
    let [loss, gradient] = race(
        10,
        [
            &mut || cross_entropy(&logits, &targets, &mut losses),
            &mut || cross_entropy_with_gradient(&mut in_place, &targets, 1.0, &mut other),
        ],
    )
    .map(|seconds| seconds * 1e3);
    println!("{rows} x {width}, ms: cross-entropy {loss:.2}, with its gradient {gradient:.2}");
}

/// Prefill, vision, decoding, and the gradient; rates count what the mask lets through.
fn attention_forms() {
    let shape = |query_heads, kv_heads, query_len, kv_len, head_dim| AttentionShape {
        batch: 1,
        query_heads,
        kv_heads,
        query_len,
        kv_len,
        head_dim,
    };
    let causal = AttentionMask::Causal { starts: None };
    for (name, shape, mask) in [
        ("Phi-2 prefill", shape(32, 32, 768, 768, 80), causal),
        ("SigLIP", shape(16, 16, 729, 729, 72), AttentionMask::None),
        ("Llama-3 prefill", shape(32, 8, 768, 768, 128), causal),
        ("a small decoder", shape(5, 5, 400, 400, 32), causal),
        (
            "a small tower",
            shape(8, 8, 64, 64, 16),
            AttentionMask::None,
        ),
        ("Phi-2 decoding", shape(32, 32, 1, 800, 80), causal),
        ("Phi-2 decoding", shape(32, 32, 1, 2048, 80), causal),
    ] {
        let AttentionShape {
            query_heads,
            kv_heads,
            query_len,
            kv_len,
            head_dim,
            ..
        } = shape;
        let queries = query_heads * query_len * head_dim;
        let keys = kv_heads * kv_len * head_dim;
        let (q, k, v) = (noise(queries, 1), noise(keys, 2), noise(keys, 3));
        let q_strides = AttentionStrides::heads_first(query_heads, query_len, head_dim);
        let kv_strides = AttentionStrides::heads_first(kv_heads, kv_len, head_dim);
        let [q_view, k_view, v_view] = [(&q, q_strides), (&k, kv_strides), (&v, kv_strides)]
            .map(|(data, strides)| AttentionView { data, strides });
        let (mut out, mut lse) = (vec![0.0; queries], vec![0.0; query_heads * query_len]);
        let (mut rough, mut rough_lse) = (out.clone(), lse.clone());
        let [forward, rounded] = race(
            10,
            [
                &mut || {
                    let lse = Some(&mut lse[..]);
                    attention(
                        q_view, k_view, v_view, &mut out, q_strides, shape, 0.1, mask, false, lse,
                    );
                },
                &mut || {
                    let lse = Some(&mut rough_lse[..]);
                    attention(
                        q_view, k_view, v_view, &mut rough, q_strides, shape, 0.1, mask, true, lse,
                    );
                },
            ],
        );
        let seen = match mask {
            AttentionMask::None => query_len * kv_len,
            _ => (kv_len - query_len + 1..=kv_len).sum(),
        };
        let product = 2e-9 * (seen * query_heads * head_dim) as f64;
        let bytes = 8e-9 * keys as f64;
        println!(
            "{name} {query_heads}/{kv_heads} heads, {query_len} x {kv_len} x {head_dim}: {:.2} ms, {:.0} GFLOP/s, keys and values at {:.1} GB/s",
            forward * 1e3,
            2.0 * product / forward,
            bytes / forward,
        );
        println!(
            "    rounded: {:.2} ms, {:.0} GFLOP/s",
            rounded * 1e3,
            2.0 * product / rounded
        );
        if query_len == 1 {
            continue;
        }
        let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
        let gradient = AttentionGradient {
            q: q_view,
            k: k_view,
            v: v_view,
            out: AttentionView {
                data: &out,
                strides: q_strides,
            },
            lse: &lse,
            dout: q_view,
            shape,
            scale: 0.1,
            mask,
            rounds: false,
        };
        let rough = AttentionGradient {
            rounds: true,
            ..gradient
        };
        let (mut dq2, mut dk2, mut dv2) = (q.clone(), k.clone(), v.clone());
        let [backward, rounded] = race(
            5,
            [
                &mut || gradient.compute(&mut dq, &mut dk, &mut dv),
                &mut || rough.compute(&mut dq2, &mut dk2, &mut dv2),
            ],
        );
        println!(
            "    its gradient: {:.2} ms, {:.0} GFLOP/s; rounded {:.2} ms, {:.0} GFLOP/s",
            backward * 1e3,
            5.0 * product / backward,
            rounded * 1e3,
            5.0 * product / rounded
        );
    }
}
