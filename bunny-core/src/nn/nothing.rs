//! A backend whose tensors are shapes: nothing is allocated, nothing is computed, no device is
//! asked for. Models are described on it.

use std::pin::Pin;

use burn::tensor::{
    DType, Shape, TensorData,
    backend::{DTypeUsageSet, Device, DeviceId, DeviceOps, ExecutionError},
};
use burn_ir::{OperationIr, TensorId, TensorIr};
use burn_router::{BackendRouter, MultiBackendBridge, RouterTensor, RunnerChannel, RunnerClient};

/// The backend whose tensors are shapes: see [`describe`](super::describe).
pub type Nothing = BackendRouter<Blank>;

/// The device of [`Nothing`], and whatever else a backend has.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Blank;

impl Device for Blank {
    fn from_id(_: DeviceId) -> Self {
        Self
    }

    fn to_id(&self) -> DeviceId {
        DeviceId::new(0, 0)
    }
}

impl DeviceOps for Blank {}

impl RunnerClient for Blank {
    type Device = Self;

    fn register_op(&self, _: OperationIr) {}

    fn read_tensor_async(
        &self,
        _: TensorIr,
    ) -> Pin<Box<dyn Future<Output = Result<TensorData, ExecutionError>> + Send>> {
        unreachable!("a described tensor holds no numbers")
    }

    fn sync(&self) -> Result<(), ExecutionError> {
        Ok(())
    }

    fn create_empty_handle(&self) -> TensorId {
        TensorId::new(0)
    }

    fn register_tensor_data(&self, data: TensorData) -> RouterTensor<Self> {
        RouterTensor::new(TensorId::new(0), data.shape, data.dtype, *self)
    }

    fn device(&self) -> Self {
        *self
    }

    fn seed(&self, _: u64) {}

    fn dtype_usage(&self, _: DType) -> DTypeUsageSet {
        DTypeUsageSet::all()
    }
}

impl RunnerChannel for Blank {
    type Device = Self;
    type Bridge = Self;
    type Client = Self;
    type FloatElem = f32;
    type IntElem = i32;
    type BoolElem = u8;

    fn name(_: &Self) -> String {
        "nothing".into()
    }

    fn init_client(_: &Self) -> Self {
        Self
    }

    fn get_tensor_handle(_: &TensorIr, _: &Self) {}

    fn register_tensor(client: &Self, _: (), shape: Shape, dtype: DType) -> RouterTensor<Self> {
        RouterTensor::new(TensorId::new(0), shape, dtype, *client)
    }
}

impl MultiBackendBridge for Blank {
    type TensorHandle = ();
    type Device = Self;

    fn change_backend_float(_: (), _: Shape, _: &Self) {}

    fn change_backend_int(_: (), _: Shape, _: &Self) {}

    fn change_backend_bool(_: (), _: Shape, _: &Self) {}
}
