//! LoRA adapters merged into the weights they belong to.

use std::ops::Range;

use bunny_kernels::add_product;
use bunny_weights::{CheckpointError, StoredTensor, adapter::AdapterLayer, convert};

use super::weights::float_type;

/// Adds `scale · B A` of an adapter's layer to some rows, in f32, of the weight that it stands beside,
/// which is of `shape`, `[out, in]`, and gives them DoRA's lengths where it has them. Of a table of tokens
/// the rows are `Aᵀ Bᵀ`.
///
/// # Errors
/// When the adapter's shapes are not those of the weight, or it holds no floats.
pub(super) fn add_adapter(
    layer: &AdapterLayer,
    weight: &mut [f32],
    rows: Range<usize>,
    shape: &[usize],
) -> Result<(), CheckpointError> {
    let AdapterLayer { a, b, .. } = layer;
    let rank = a.shape.first().copied().unwrap_or(0);
    let (output, input) = (shape[0], shape[1..].iter().product());
    let (first, second) = match layer.is_table {
        true => ([rank, output], [input, rank]),
        false => ([rank, input], [output, rank]),
    };
    for (stored, wanted) in [(a, first), (b, second)] {
        if stored.shape != wanted {
            return Err(misshapen(stored, &wanted));
        }
    }
    let (a, b) = (floats(a)?, floats(b)?);
    let scale = layer.scale as f32;
    let count = rows.len();
    // `[rows, rank]` and `[rank, columns]`
    let (mut left, right): (Vec<f32>, Vec<f32>) = match layer.is_table {
        true => {
            let of_row = |row: usize| (0..rank).map(move |rank| (rank, row));
            let left = rows.clone().flat_map(of_row);
            let left = left.map(|(rank, row)| a[rank * output + row]).collect();
            (left, transposed(&b, input, rank))
        }
        false => (b[rows.start * rank..rows.end * rank].to_vec(), a),
    };
    left.iter_mut().for_each(|number| *number *= scale);
    add_product(&left, &right, weight, count, rank, input);
    if let Some(magnitude) = &layer.magnitude {
        let lengths = floats(magnitude)?;
        let lengths = &lengths[rows];
        for (row, length) in weight.chunks_exact_mut(input).zip(lengths) {
            let squares: f64 = row.iter().map(|number| f64::from(*number).powi(2)).sum();
            let factor = f64::from(*length) / squares.sqrt();
            row.iter_mut()
                .for_each(|number| *number = (f64::from(*number) * factor) as f32);
        }
    }
    Ok(())
}

/// Adds what an adapter's layer adds to some of its biases, in f32.
///
/// # Errors
/// When it holds no floats, or not as many as there are biases.
pub(super) fn add_bias(
    layer: &AdapterLayer,
    bias: &mut [f32],
    places: Range<usize>,
    count: usize,
) -> Result<(), CheckpointError> {
    let Some(added) = &layer.bias else {
        return Ok(());
    };
    let numbers = floats(added)?;
    if numbers.len() != count {
        return Err(misshapen(added, &[count]));
    }
    let scale = layer.scale as f32;
    bias.iter_mut()
        .zip(&numbers[places])
        .for_each(|(bias, added)| *bias += scale * added);
    Ok(())
}

fn misshapen(stored: &StoredTensor, wanted: &[usize]) -> CheckpointError {
    CheckpointError::Mismatch {
        place: stored.file.display().to_string(),
        missing: Vec::new(),
        misshapen: vec![format!(
            "{} is {:?}, expected {wanted:?}",
            stored.name, stored.shape
        )],
        unexpected: Vec::new(),
    }
}

fn floats(stored: &StoredTensor) -> Result<Vec<f32>, CheckpointError> {
    let dtype = float_type(stored)?;
    Ok(convert::to_f32(&stored.bytes, dtype).expect("the type is a float"))
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(numbers: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let places = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
    places.map(|place| numbers[place]).collect()
}
