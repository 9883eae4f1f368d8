//! A weight matrix on a device: one or more parts of planes, and the product with it.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use fireside_kernels::device::{ComputeDevice, DeviceError};
use fireside_kernels::layout::{Layout, Planes, padded};
use fireside_kernels::ops::{self, LinearExtras, PlaneTensors};
use fireside_kernels::params::{Activation, EmbedParams, LinearParams, MatrixShape, Profile};

use crate::error::ModelError;
use crate::pack::Packer;

/// Rows of a matrix that share a layout and fit a binding.
#[derive(Module, Debug)]
pub struct MatrixPart {
    quants: Tensor<1, Int>,
    scales: Option<Tensor<1, Int>>,
    #[module(skip)]
    pub(crate) shape: PartShape,
}

/// Where a part lies in its matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartShape {
    pub(crate) matrix: MatrixShape,
    /// Its first row; of a matrix of experts, the first of its experts.
    pub(crate) offset: usize,
}

/// A matrix of some rows and columns, stored in parts.
#[derive(Module, Debug)]
pub struct Matrix {
    pub(crate) parts: Vec<MatrixPart>,
    #[module(skip)]
    pub(crate) rows: usize,
}

/// What a product does besides multiplying.
#[derive(Debug, Clone, Copy, Default)]
pub struct Product<'a> {
    /// Gain, width and epsilon of a norm on the input, fused where that pays.
    pub norm: Option<(&'a Tensor<1>, usize, f32)>,
    /// Added to every row.
    pub bias: Option<&'a Tensor<1>>,
    /// Added to the result.
    pub residual: Option<&'a Tensor<2>>,
    /// Rows are gate and up halves: multiply the activated gate with the up half.
    pub gate: Option<Activation>,
    /// A function of the result, after the bias.
    pub activation: Option<Activation>,
    /// A soft cap on the result.
    pub cap: Option<f32>,
}

impl Matrix {
    /// Packs and uploads the rows of one or more tensors, part by part.
    ///
    /// Sources of different layouts become parts of their own; parts too large for a binding are
    /// cut. `gated` matrices (gate rows, then up rows) must stay in one part; `None` is given
    /// when they cannot.
    pub(crate) fn load(
        packer: &Packer<'_>,
        device: &ComputeDevice,
        gated: bool,
    ) -> Result<Option<Self>, ModelError> {
        let columns = packer.columns.map_or(packer.width, <[_]>::len);
        let rows = packer.rows()?;
        let mut parts = Vec::new();
        if let Some(layout) = packer.layout()? {
            let most =
                Planes::rows_within(layout, columns, device.max_binding()).ok_or_else(|| {
                    ModelError::AdapterTooSmall {
                        what: format!("64 rows of {columns} weights"),
                        needs: Planes::bytes(layout, 64, columns).1,
                        allows: device.max_binding(),
                    }
                })?;
            if gated && rows > most {
                return Ok(None);
            }
            let mut first = 0;
            while first < rows {
                let count = most.min(rows - first);
                parts.push(MatrixPart::upload(
                    packer.pack(layout, first, count)?,
                    first,
                    device,
                )?);
                first += count;
            }
        } else {
            if gated {
                return Ok(None);
            }
            let mut offset = 0;
            for source in packer.sources {
                let own = Packer {
                    source: packer.source,
                    sources: std::slice::from_ref(source),
                    width: packer.width,
                    columns: packer.columns,
                    hollow: packer.hollow,
                };
                if let Some(matrix) = Self::load(&own, device, false)? {
                    parts.extend(matrix.parts.into_iter().map(|mut part| {
                        part.shape.offset += offset;
                        part
                    }));
                }
                offset += own.rows()?;
            }
        }
        for source in packer.sources {
            packer.source.release(&source.tensor);
        }
        Ok(Some(Self { parts, rows }))
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.parts.first().map_or(0, |p| p.shape.matrix.columns)
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        let of = |p: &MatrixPart| {
            let shape = p.shape.matrix;
            Planes::bytes(shape.layout, shape.rows, shape.columns).0
        };
        self.parts.iter().map(of).sum()
    }

    /// The layouts in use, one per part.
    pub fn layouts(&self) -> impl Iterator<Item = Layout> + '_ {
        self.parts.iter().map(|p| p.shape.matrix.layout)
    }

    /// The product of the matrix with each row of `x`.
    pub fn product(&self, x: &Tensor<2>, extra: Product<'_>, profile: Profile) -> Tensor<2> {
        let tokens = x.dims()[0];
        let width = if extra.gate.is_some() {
            self.rows / 2
        } else {
            self.rows
        };
        let y_stride = padded(width);
        let mut out = None;
        for (index, part) in self.parts.iter().enumerate() {
            let matrix = part.shape.matrix;
            let offset = part.shape.offset;
            let last = index + 1 == self.parts.len();
            let rows_out = match (extra.gate, last) {
                (Some(_), _) => y_stride,
                (None, true) => y_stride - offset,
                (None, false) => matrix.rows,
            };
            out = Some(ops::linear(
                x,
                &part.planes(),
                LinearExtras {
                    gain: extra.norm.map(|(gain, ..)| gain),
                    bias: extra.bias,
                    residual: extra.residual,
                },
                out,
                LinearParams {
                    matrix,
                    tokens,
                    y_stride,
                    row_offset: offset,
                    rows_out,
                    glu: extra.gate.map(|activation| (self.rows / 2, activation)),
                    norm: extra.norm.map(|(_, width, eps)| (width, eps)),
                    activation: extra.activation,
                    cap: extra.cap,
                    profile,
                },
            ));
        }
        out.unwrap_or_else(|| Tensor::zeros([tokens, y_stride], &x.device()))
    }

    /// The rows of the step's tokens, `[tokens][stride]`, added to `out` where it is given.
    pub fn gather(
        &self,
        step: &Tensor<1, Int>,
        tokens: usize,
        tokens_at: usize,
        scale: f32,
        mut out: Option<Tensor<2>>,
        profile: Profile,
    ) -> Option<Tensor<2>> {
        let add = out.is_some();
        for part in &self.parts {
            out = Some(ops::embed(
                &part.planes(),
                step,
                out,
                EmbedParams {
                    table: part.shape.matrix,
                    tokens,
                    tokens_at,
                    first: part.shape.offset,
                    scale,
                    add,
                    profile,
                },
            ));
        }
        out
    }
}

impl MatrixPart {
    pub(crate) fn upload(
        planes: Planes,
        offset: usize,
        device: &ComputeDevice,
    ) -> Result<Self, DeviceError> {
        let matrix = MatrixShape {
            layout: planes.layout,
            rows: planes.rows,
            columns: planes.columns,
        };
        let scales = match planes.scales {
            none if none.is_empty() => None,
            scales => Some(device.words(scales)?),
        };
        Ok(Self {
            quants: device.words(planes.quants)?,
            scales,
            shape: PartShape { matrix, offset },
        })
    }

    pub(crate) fn planes(&self) -> PlaneTensors {
        PlaneTensors {
            quants: self.quants.clone(),
            scales: self.scales.clone(),
        }
    }
}

/// A vector of floats on a device, padded with zeros.
pub(crate) fn vector(values: &[f32], device: &ComputeDevice) -> Result<Tensor<1>, DeviceError> {
    let mut all = vec![0.0; padded(values.len())];
    all[..values.len()].copy_from_slice(values);
    device.floats(all)
}
