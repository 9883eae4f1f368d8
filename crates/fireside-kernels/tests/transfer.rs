//! Tensors from host memory and back.

use burn::tensor::Tensor;
use fireside_kernels::device::{ComputeDevice, DeviceChoice, read_floats, read_words};

/// The CPU and, where there is one, an adapter.
fn devices() -> Vec<ComputeDevice> {
    let adapter = pollster::block_on(ComputeDevice::open(DeviceChoice::Gpu)).ok();
    std::iter::once(ComputeDevice::cpu())
        .chain(adapter)
        .collect()
}

#[test]
fn what_goes_up_comes_back() {
    for device in devices() {
        let words: Vec<u32> = (0..999).map(|i| i * 0x0101_0101).collect();
        let tensor = device.words(words.clone()).unwrap();
        assert_eq!(pollster::block_on(read_words(tensor)).unwrap(), words);
        let floats: Vec<f32> = (0..70).map(|i| i as f32 / 7.0).collect();
        let tensor = device.floats(floats.clone()).unwrap();
        assert_eq!(pollster::block_on(read_floats(tensor)).unwrap(), floats);
        assert_eq!(device.unwritten_words(33).unwrap().dims(), [33]);
    }
}

#[test]
fn a_tensor_with_strides_is_read_in_its_own_order_or_refused() {
    for device in devices() {
        let floats: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let tensor: Tensor<2> = device
            .floats(floats)
            .unwrap()
            .reshape([2, 3])
            .swap_dims(0, 1);
        match pollster::block_on(read_floats(tensor)) {
            Ok(read) => assert_eq!(read, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("strides"), "{message}");
                assert!(device.adapter().is_some(), "{message}");
            }
        }
    }
}
