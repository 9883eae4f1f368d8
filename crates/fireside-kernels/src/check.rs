//! A test of an adapter: known products, which some drivers get wrong. The browser runs it at start-up.

use burn::tensor::{DType, Tensor, TensorData};

use crate::device::{ComputeDevice, DeviceError, read_floats};
use crate::layout::{Block, Layout, Planes};
use crate::ops::{self, LinearExtras, PlaneTensors};
use crate::params::{LinearParams, MatrixShape};
use crate::twin;

const ROWS: usize = 96;
const COLUMNS: usize = 64;
/// Rounding in another order stays far below; a wrong lane or a lost barrier is far above.
const TOLERANCE: f32 = 1e-3;

/// Multiplies made-up matrices on the device and compares with the twin: one token and several,
/// which take different kernels.
///
/// # Errors
///
/// [`DeviceError::Wrong`] where the adapter computes something else, [`DeviceError::Read`] where it
/// fails.
pub async fn self_test(device: &ComputeDevice) -> Result<(), DeviceError> {
    for (layout, tokens) in [(Layout::Q4, 1), (Layout::Q8, 1), (Layout::Q4, 20)] {
        let planes = planes(layout);
        let x: Vec<f32> = (0..tokens * COLUMNS)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0)
            .collect();
        let params = LinearParams {
            matrix: MatrixShape {
                layout,
                rows: ROWS,
                columns: COLUMNS,
            },
            tokens,
            y_stride: ROWS,
            row_offset: 0,
            rows_out: ROWS,
            glu: None,
            norm: None,
            activation: None,
            cap: None,
            profile: device.profile(),
        };
        let mut expected = vec![0.0; tokens * ROWS];
        twin::linear(&planes.view(), &x, None, None, None, &params, &mut expected);
        let tensors = PlaneTensors {
            quants: device.words(planes.quants.clone())?,
            scales: Some(device.words(planes.scales.clone())?),
        };
        let x = Tensor::from_data(
            TensorData::new(x, [tokens, COLUMNS]),
            (device.burn(), DType::F32),
        );
        let y = ops::linear(&x, &tensors, LinearExtras::default(), None, params);
        let actual = read_floats(y).await?;
        let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let close = |(a, e): (&f32, &f32)| (a - e).abs() <= TOLERANCE * largest;
        if actual.len() != expected.len() || !actual.iter().zip(&expected).all(close) {
            return Err(DeviceError::Wrong {
                name: device.adapter().map_or("cpu", |a| &a.name).to_owned(),
            });
        }
    }
    Ok(())
}

fn planes(layout: Layout) -> Planes {
    let mut planes = Planes::new(layout, ROWS, COLUMNS);
    for row in 0..ROWS {
        for index in 0..COLUMNS / 32 {
            let mut quants = [0i8; 32];
            for (i, quant) in quants.iter_mut().enumerate() {
                let value = (row * 7 + index * 13 + i * 5) % 16;
                *quant = value as i8;
            }
            let minimum = if layout.has_minimum() { -1.0 } else { 0.0 };
            let block = Block {
                quants,
                scale: [0.125; 2],
                minimum: [minimum; 2],
            };
            planes.set_block(row, index, &block);
        }
    }
    planes
}
