//! A test of an adapter: known products, which some drivers get wrong. The browser runs it at start-up, once the
//! weights are there.

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

/// A product to be tested, as a model has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// How its weights are stored.
    pub layout: Layout,
    /// It is added to something.
    pub residual: bool,
    /// Columns of x: one and several take different kernels.
    pub tokens: usize,
}

/// Multiplies made-up matrices on the device and compares with the twin. Products that the model has too cost no
/// shader of their own.
///
/// # Errors
///
/// [`DeviceError::Wrong`] where the adapter computes something else, [`DeviceError::Read`] where it
/// fails.
pub async fn self_test(device: &ComputeDevice, products: &[Product]) -> Result<(), DeviceError> {
    for Product {
        layout,
        residual,
        tokens,
    } in products.iter().copied()
    {
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
        let added: Vec<f32> = (0..tokens * ROWS).map(|i| (i % 7) as f32).collect();
        let addend = residual.then_some(added.as_slice());
        twin::linear(
            &planes.view(),
            &x,
            None,
            None,
            addend,
            &params,
            &mut expected,
        );
        let tensors = PlaneTensors {
            quants: device.words(planes.quants.clone())?,
            scales: match planes.scales.as_slice() {
                [] => None,
                scales => Some(device.words(scales.to_vec())?),
            },
        };
        let matrix = |values: Vec<f32>, width: usize| -> Tensor<2> {
            let data = TensorData::new(values, [tokens, width]);
            Tensor::from_data(data, (device.burn(), DType::F32))
        };
        let (x, added) = (matrix(x, COLUMNS), matrix(added, ROWS));
        let y = device.launch(|| {
            let extras = LinearExtras {
                residual: residual.then_some(&added),
                ..LinearExtras::default()
            };
            ops::linear(&x, &tensors, extras, None, params)
        })?;
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
    let value = |row: usize, column: usize| (row * 7 + column / 32 * 13 + column % 32 * 5) % 16;
    for row in 0..ROWS {
        if layout.scale_group() == 0 {
            let values: Vec<f32> = (0..COLUMNS)
                .map(|i| value(row, i) as f32 / 8.0 - 1.0)
                .collect();
            planes.set_row(row, &values);
            continue;
        }
        for index in 0..COLUMNS / 32 {
            let mut quants = [0i8; 32];
            for (i, quant) in quants.iter_mut().enumerate() {
                *quant = value(row, index * 32 + i) as i8;
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
