//! Weights of GGUF files are the same numbers here: only the order of what stands for them is another.

use bunny_kernels::{
    WeightRef,
    quantized::{Codes, QuantizedRef, Zeros, dequantize_rows},
};
use half::f16;

const SIDES: [usize; 2] = [3, 96];

/// The blocks of 32 numbers: what stands before their codes, as f16, and their codes.
fn blocks(bytes: &[u8], before: usize, codes: usize) -> impl Iterator<Item = (Vec<f16>, &[u8])> {
    bytes.chunks_exact(2 * before + codes).map(move |block| {
        let (halves, codes) = block.split_at(2 * before);
        let halves = halves.as_chunks::<2>().0.iter().copied();
        (halves.map(f16::from_le_bytes).collect(), codes)
    })
}

/// Byte j of a block has number j in its lower half and number j + 16 in its upper one; here they are
/// numbers 2 j and 2 j + 1.
fn in_order(codes: &[u8]) -> impl Iterator<Item = u8> {
    let low = codes.iter().map(|byte| byte & 15);
    let numbers: Vec<u8> = low.chain(codes.iter().map(|byte| byte >> 4)).collect();
    (0..16).map(move |j| numbers[2 * j] | numbers[2 * j + 1] << 4)
}

fn assert_numbers(codes: Codes<'_>, scales: &[f16], expected: &[u8]) {
    let weight = QuantizedRef::new(codes, WeightRef::F16(scales), SIDES, 32).unwrap();
    let mut numbers = vec![f32::NAN; SIDES[0] * SIDES[1]];
    dequantize_rows(weight, &[0, 1, 2], &mut numbers);
    // Zeros of either sign are equal.
    let expected = expected.as_chunks::<4>().0.iter().copied();
    assert!(expected.map(f32::from_le_bytes).eq(numbers));
}

#[test]
fn q8_0_is_int8_in_groups_of_32() {
    let file = include_bytes!("fixtures/gguf/Q8_0.blocks");
    let scales: Vec<f16> = blocks(file, 1, 32).map(|(halves, _)| halves[0]).collect();
    let codes: Vec<u8> = blocks(file, 1, 32)
        .flat_map(|(_, codes)| codes.to_vec())
        .collect();
    let expected = include_bytes!("fixtures/gguf/Q8_0.numbers");
    assert_numbers(Codes::Int8(&codes), &scales, expected);
}

#[test]
fn q4_0_is_int4_in_groups_of_32() {
    let file = include_bytes!("fixtures/gguf/Q4_0.blocks");
    let scales: Vec<f16> = blocks(file, 1, 16).map(|(halves, _)| halves[0]).collect();
    let codes: Vec<u8> = blocks(file, 1, 16)
        .flat_map(|(_, codes)| in_order(codes))
        .collect();
    let expected = include_bytes!("fixtures/gguf/Q4_0.numbers");
    assert_numbers(Codes::Int4(&codes, Zeros::Eight), &scales, expected);
}

#[test]
fn q4_1_is_int4_with_minima_in_groups_of_32() {
    let file = include_bytes!("fixtures/gguf/Q4_1.blocks");
    let [scales, minima] = [0, 1]
        .map(|at| -> Vec<f16> { blocks(file, 2, 16).map(|(halves, _)| halves[at]).collect() });
    let codes: Vec<u8> = blocks(file, 2, 16)
        .flat_map(|(_, codes)| in_order(codes))
        .collect();
    let zeros = Zeros::Minima(WeightRef::F16(&minima));
    let expected = include_bytes!("fixtures/gguf/Q4_1.numbers");
    assert_numbers(Codes::Int4(&codes, zeros), &scales, expected);
}
