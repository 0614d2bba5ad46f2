//! What goes into products: its mean squares, channel by channel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{DType, Tensor, backend::Backend};

/// Takes down what goes into some products. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Observer(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    /// How much each row of a pass counts.
    rows: Vec<f32>,
    /// Sums of weighted squares, by the number of the product.
    sums: Vec<Vec<f64>>,
}

impl Observer {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Sums are whole between any two products.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how much each row of the next pass counts.
    pub fn begin(&self, rows: Vec<f32>) {
        self.notes().rows = rows;
    }

    /// Adds what goes into product `product`, `[..., channels]`.
    ///
    /// # Panics
    /// When there are other rows than were spoken of.
    pub(super) fn note<B: Backend, const D: usize>(&self, product: usize, input: &Tensor<B, D>) {
        let channels = input.dims()[D - 1];
        let data = input.clone().cast(DType::F32).into_data();
        let numbers: Vec<f32> = data.into_vec().expect("the numbers are f32");
        let mut notes = self.notes();
        let Notes { rows, sums } = &mut *notes;
        assert_eq!(numbers.len(), rows.len() * channels, "rows of a pass");
        if sums.len() <= product {
            sums.resize(product + 1, Vec::new());
        }
        let sums = &mut sums[product];
        sums.resize(channels, 0.0);
        for (numbers, weight) in numbers.chunks(channels).zip(rows) {
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += f64::from(*weight) * f64::from(*number).powi(2);
            }
        }
    }

    /// The sums of each product, in the order of their numbers.
    pub fn take(&self) -> Vec<Vec<f64>> {
        std::mem::take(&mut self.notes().sums)
    }
}
