//! Tensors from host memory and back.
//!
//! On wgpu this goes to the runtime's client, past Burn's own operations: those are kernels that are
//! compiled when they run, and one use of them links their whole compiler into a browser module.

use burn::backend::DispatchDevice;
use burn::tensor::Bytes;
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_wgpu::{CubeBackend, CubeTensor};
use cubecl::Device as CubeDevice;

use crate::counters;
use crate::device::{ComputeDevice, DeviceError};
use crate::launch;
use crate::queue::Queue;

fn failed(reason: impl std::fmt::Debug) -> DeviceError {
    DeviceError::Read {
        reason: format!("{reason:?}"),
    }
}

/// A row of four-byte elements on wgpu: a copy of `bytes`, or unwritten memory for `length` elements.
fn row(device: &CubeDevice, length: usize, bytes: Option<Bytes>, dtype: DType) -> CubeTensor {
    let client = device.client();
    let handle = match bytes {
        Some(bytes) => {
            debug_assert!(!launch::is_waiting(), "an upload comes before what waits");
            client.create(bytes)
        }
        None => client.empty(length * 4),
    };
    let shape = Shape::new([length]);
    CubeTensor::new_contiguous(client, device.clone(), shape, handle, dtype)
}

async fn read(tensor: CubeTensor) -> Result<Vec<u8>, DeviceError> {
    // The handle's bytes are in the order of memory, which is the tensor's only without strides.
    if !tensor.is_contiguous() || tensor.elem_size() != 4 {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        return Err(DeviceError::Read {
            reason: format!(
                "a tensor of {:?} with shape {shape:?} and strides {strides:?} cannot be read, expected contiguous elements of four bytes",
                tensor.dtype
            ),
        });
    }
    Queue::of(&tensor.device)?.check()?;
    let read = tensor.client.read_async(vec![tensor.handle.clone()]);
    let bytes = read.await.map_err(|error| DeviceError::Read {
        reason: error.to_string(),
    })?;
    counters::submits(2);
    let own = tensor.meta.num_elements() * 4;
    bytes
        .first()
        .and_then(|bytes| bytes.get(..own))
        .map(<[u8]>::to_vec)
        .ok_or_else(|| failed("a short read"))
}

impl ComputeDevice {
    /// Uploads words as a tensor.
    ///
    /// # Errors
    ///
    /// The device is none that can be uploaded to.
    pub fn words(&self, words: Vec<u32>) -> Result<Tensor<1, Int>, DeviceError> {
        let DispatchDevice::Cube(device) = self.burn().as_dispatch() else {
            return cpu::words(self, words);
        };
        let length = words.len();
        // Handed over, not copied: the largest are as large as a model's largest matrix.
        let tensor = row(device, length, Some(Bytes::from_elems(words)), DType::U32);
        Ok(Tensor::from_primitive::<CubeBackend>(tensor))
    }

    /// Uploads a row of floats as a tensor.
    ///
    /// # Errors
    ///
    /// The device is none that can be uploaded to.
    pub fn floats(&self, values: Vec<f32>) -> Result<Tensor<1>, DeviceError> {
        let DispatchDevice::Cube(device) = self.burn().as_dispatch() else {
            return cpu::floats(self, values);
        };
        let length = values.len();
        // Handed over, not copied: the largest are as large as a model's largest matrix.
        let tensor = row(device, length, Some(Bytes::from_elems(values)), DType::F32);
        Ok(Tensor::from_primitive::<CubeBackend>(tensor))
    }

    /// Memory for words, of any content: it must be written before it is read.
    ///
    /// # Errors
    ///
    /// The device is none that can be uploaded to.
    pub fn unwritten_words(&self, length: usize) -> Result<Tensor<1, Int>, DeviceError> {
        let DispatchDevice::Cube(device) = self.burn().as_dispatch() else {
            return cpu::words(self, vec![0; length]);
        };
        let tensor = row(device, length, None, DType::U32);
        Ok(Tensor::from_primitive::<CubeBackend>(tensor))
    }
}

/// Reads a tensor of words back.
///
/// # Errors
///
/// The device's failure, that of an earlier launch included; a tensor with strides of its own.
pub async fn read_words<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<u32>, DeviceError> {
    counters::read(tensor.shape().num_elements() * 4);
    match tensor.clone().try_into_primitive::<CubeBackend>() {
        Ok(own) => Ok(bytemuck::pod_collect_to_vec(&read(own).await?)),
        Err(_) => cpu::read_words(tensor).await,
    }
}

/// Reads a tensor of floats back.
///
/// # Errors
///
/// The device's failure, that of an earlier launch included; a tensor with strides of its own.
pub async fn read_floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, DeviceError> {
    counters::read(tensor.shape().num_elements() * 4);
    match tensor.clone().try_into_primitive::<CubeBackend>() {
        Ok(own) => Ok(bytemuck::pod_collect_to_vec(&read(own).await?)),
        Err(_) => cpu::read_floats(tensor).await,
    }
}

/// Flex tensors, through Burn.
#[cfg(not(target_arch = "wasm32"))]
mod cpu {
    use burn::tensor::{DType, Int, Tensor, TensorData};

    use super::failed;
    use crate::device::{ComputeDevice, DeviceError};

    pub(super) fn words(
        device: &ComputeDevice,
        words: Vec<u32>,
    ) -> Result<Tensor<1, Int>, DeviceError> {
        let length = words.len();
        let data = TensorData::new(words, [length]);
        Ok(Tensor::from_data(data, (device.burn(), DType::U32)))
    }

    pub(super) fn floats(
        device: &ComputeDevice,
        values: Vec<f32>,
    ) -> Result<Tensor<1>, DeviceError> {
        let length = values.len();
        let data = TensorData::new(values, [length]);
        Ok(Tensor::from_data(data, (device.burn(), DType::F32)))
    }

    pub(super) async fn read_words<const D: usize>(
        tensor: Tensor<D, Int>,
    ) -> Result<Vec<u32>, DeviceError> {
        let data = tensor.into_data_async().await.map_err(failed)?;
        data.try_into_vec().map_err(failed)
    }

    pub(super) async fn read_floats<const D: usize>(
        tensor: Tensor<D>,
    ) -> Result<Vec<f32>, DeviceError> {
        let data = tensor.into_data_async().await.map_err(failed)?;
        data.try_into_vec().map_err(failed)
    }
}

/// A browser has no device but the adapter's.
#[cfg(target_arch = "wasm32")]
mod cpu {
    use burn::tensor::{Int, Tensor};

    use super::failed;
    use crate::device::{ComputeDevice, DeviceError};

    pub(super) fn words(_: &ComputeDevice, _: Vec<u32>) -> Result<Tensor<1, Int>, DeviceError> {
        Err(failed("a device without an adapter"))
    }

    pub(super) fn floats(_: &ComputeDevice, _: Vec<f32>) -> Result<Tensor<1>, DeviceError> {
        Err(failed("a device without an adapter"))
    }

    pub(super) async fn read_words<const D: usize>(
        _: Tensor<D, Int>,
    ) -> Result<Vec<u32>, DeviceError> {
        Err(failed("a tensor of another device"))
    }

    pub(super) async fn read_floats<const D: usize>(_: Tensor<D>) -> Result<Vec<f32>, DeviceError> {
        Err(failed("a tensor of another device"))
    }
}
