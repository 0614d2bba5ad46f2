//! Numbers back from the device, waited for or not.

use burn::tensor::{BasicOps, Tensor, TensorData, backend::Backend, try_read_sync};

/// Reads a tensor back.
///
/// # Panics
/// When the device has failed: nothing computed on it can be had any more.
pub(super) async fn read<B: Backend, const D: usize, K: BasicOps<B>>(
    tensor: Tensor<B, D, K>,
) -> TensorData {
    let data = tensor.into_data_async().await;
    data.unwrap_or_else(|error| panic!("the device has failed: {error}"))
}

/// Blocks the thread until `work` is done.
///
/// # Panics
/// In a browser, whose one thread must not wait.
pub(super) fn wait<T>(work: impl Future<Output = T>) -> T {
    try_read_sync(work).expect("a thread that may wait")
}
