//! Twins of the embedding, the norm, the matrix product and the gated activation.

use half::{bf16, f16};

use super::for_each_chunk;
use crate::layout::{Layout, cell, padded};
use crate::params::{Activation, EmbedParams, GluParams, LinearParams, NormParams};

/// Planes as borrowed words, see [`crate::layout::Planes`].
#[derive(Debug, Clone, Copy)]
pub struct PlanesView<'a> {
    /// The layout of both planes.
    pub layout: Layout,
    /// Columns without padding.
    pub columns: usize,
    /// Tiles of 64 rows x chunks x 64 x 4 words.
    pub quants: &'a [u32],
    /// Tiles x groups x 64 x scale words.
    pub scales: &'a [u32],
}

impl PlanesView<'_> {
    fn chunks(&self) -> usize {
        padded(self.columns) / self.layout.chunk()
    }

    pub(super) fn padded_rows(&self) -> usize {
        self.quants.len() / 4 / self.chunks()
    }
}

/// Unpacks one row into `values`, which has the padded width.
pub fn unpack_row(planes: &PlanesView<'_>, row: usize, values: &mut [f32]) {
    let layout = planes.layout;
    let chunks = planes.chunks();
    let size = layout.chunk();
    for (chunk, run) in values.chunks_exact_mut(size).enumerate() {
        let at = cell(chunk, row, chunks) * 4;
        let words = &planes.quants[at..at + 4];
        let scale = |word: usize| f32::from_bits(planes.scales[word]);
        match layout {
            Layout::Q4 | Layout::Q4Float => {
                let at = cell(chunk, row, chunks);
                let (s, m) = if layout == Layout::Q4 {
                    let pair = planes.scales[at];
                    let half = |bits: u32| f16::from_bits(bits as u16).to_f32();
                    (half(pair), half(pair >> 16))
                } else {
                    (scale(at * 2), scale(at * 2 + 1))
                };
                for i in 0..16 {
                    let byte = words[i / 4] >> (8 * (i % 4)) & 0xff;
                    run[i] = s * (byte & 15) as f32 + m;
                    run[16 + i] = s * (byte >> 4) as f32 + m;
                }
            }
            Layout::Q8 | Layout::Q8Group => {
                let (s, m) = if layout == Layout::Q8 {
                    (scale(cell(chunk / 2, row, chunks / 2)), 0.0)
                } else {
                    let at = cell(chunk, row, chunks) * 2;
                    (scale(at), scale(at + 1))
                };
                for (i, value) in run.iter_mut().enumerate() {
                    let quant = (words[i / 4] >> (8 * (i % 4))) as u8 as i8;
                    *value = s * f32::from(quant) + m;
                }
            }
            Layout::F16 | Layout::BF16 => {
                for (i, value) in run.iter_mut().enumerate() {
                    let bits = (words[i / 2] >> (16 * (i % 2))) as u16;
                    *value = if layout == Layout::F16 {
                        f16::from_bits(bits).to_f32()
                    } else {
                        bf16::from_bits(bits).to_f32()
                    };
                }
            }
            Layout::F32 => {
                for (value, word) in run.iter_mut().zip(words) {
                    *value = f32::from_bits(*word);
                }
            }
        }
    }
}

/// Sum of products in eight running sums, which compilers turn into vector code.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

/// What keeps scores and logits between `-cap` and `cap`.
pub(super) fn soft_cap(v: f32, cap: f32) -> f32 {
    cap * (v / cap).tanh()
}

/// The gate functions of `activation.wgsl`.
pub(super) fn activate(v: f32, kind: Activation) -> f32 {
    match kind {
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::GeluTanh => {
            0.5 * v * (1.0 + (0.797_884_6 * (v + 0.044_715 * v * v * v)).tanh())
        }
        Activation::Gelu => 0.5 * v * (1.0 + erf(f64::from(v) * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::Relu => v.max(0.0),
    }
}

/// The error function to f32 precision, by its series near zero and its continued
/// fraction away from it.
fn erf(v: f64) -> f32 {
    let a = v.abs();
    let value = if a < 2.5 {
        let mut term = a;
        let mut sum = a;
        for n in 1..60 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let mut fraction = 0.0;
        for n in (1..60).rev() {
            fraction = f64::from(n) / 2.0 / (a + fraction);
        }
        1.0 - (-a * a).exp() / (a + fraction) / std::f64::consts::PI.sqrt()
    };
    (value * v.signum()) as f32
}

/// Twin of `embed.wgsl`: adds the rows of this shard to `out` `[tokens][stride]`.
pub fn embed(planes: &PlanesView<'_>, step: &[u32], params: &EmbedParams, out: &mut [f32]) {
    let stride = padded(params.table.columns);
    for (t, row) in out.chunks_exact_mut(stride).enumerate() {
        let token = step[params.tokens_at + t] as usize;
        let Some(own) = token.checked_sub(params.first) else {
            continue;
        };
        if own < params.table.rows {
            let before = params.add.then(|| row.to_vec());
            unpack_row(planes, own, row);
            row.iter_mut().for_each(|v| *v *= params.scale);
            for (v, before) in row.iter_mut().zip(before.iter().flatten()) {
                *v += before;
            }
        }
    }
}

/// Twin of `rms_norm.wgsl`, centred where there is a bias; `residual` and `out` are `[rows][stride]`.
pub fn norm(
    x: &[f32],
    gain: &[f32],
    step: &[u32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    params: &NormParams,
    out: &mut [f32],
) {
    let stride = padded(params.width);
    for (i, row) in out.chunks_exact_mut(stride).enumerate() {
        let source = step[params.rows_at + i] as usize * stride;
        let x = &x[source..source + stride];
        match bias {
            None => normalize(x, gain, params.width, params.eps, row),
            Some(bias) => {
                let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / params.width as f64;
                let mut centred = x.to_vec();
                for v in &mut centred[..params.width] {
                    *v -= mean as f32;
                }
                normalize(&centred, gain, params.width, params.eps, row);
                row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
            }
        }
        if let Some(residual) = residual {
            let own = &residual[i * stride..][..stride];
            row.iter_mut().zip(own).for_each(|(v, r)| *v += r);
        }
    }
}

fn normalize(x: &[f32], gain: &[f32], width: usize, eps: f32, out: &mut [f32]) {
    let squares: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let scale = 1.0 / (squares / width as f64 + f64::from(eps)).sqrt();
    for ((out, v), g) in out.iter_mut().zip(x).zip(gain) {
        *out = v * scale as f32 * g;
    }
}

/// The rows of `x`, normed where there is a width and an epsilon, and a gain.
pub(super) fn normed(
    x: &[f32],
    stride: usize,
    norm: Option<((usize, f32), &[f32])>,
) -> Option<Vec<f32>> {
    let ((width, eps), gain) = norm?;
    let mut normed = vec![0.0; x.len()];
    for (row, to) in x.chunks_exact(stride).zip(normed.chunks_exact_mut(stride)) {
        normalize(row, gain, width, eps, to);
    }
    Some(normed)
}

/// Twin of the matrix kernels; `out` is `[tokens][y_stride]` and only the columns of this
/// part are written. `gain` comes with a norm, `bias` and `residual` where they are added.
pub fn linear(
    planes: &PlanesView<'_>,
    x: &[f32],
    gain: Option<&[f32]>,
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    params: &LinearParams,
    out: &mut [f32],
) {
    let stride = padded(params.matrix.columns);
    let tokens = params.tokens;
    let normed = normed(x, stride, params.norm.zip(gain));
    let x = normed.as_deref().unwrap_or(x);

    // Row-major first, so that one unpacked row serves every token; 16 rows a task.
    let mut products = vec![0.0; params.rows_out * tokens];
    let rows = planes.padded_rows();
    for_each_chunk(&mut products, 16 * tokens, |task, part| {
        let mut weights = vec![0.0; stride];
        for (i, results) in part.chunks_exact_mut(tokens).enumerate() {
            let row = task * 16 + i;
            if row >= rows {
                break;
            }
            unpack_row(planes, row, &mut weights);
            for (result, x) in results.iter_mut().zip(x.chunks_exact(stride)) {
                *result = dot(&weights, x);
            }
            if let Some((offset, activation)) = params.glu {
                unpack_row(planes, row + offset, &mut weights);
                for (result, x) in results.iter_mut().zip(x.chunks_exact(stride)) {
                    *result = activate(*result, activation) * dot(&weights, x);
                }
            }
        }
    });
    for (t, y) in out.chunks_exact_mut(params.y_stride).enumerate() {
        for row in 0..params.rows_out {
            let column = params.row_offset + row;
            let mut value = products[row * tokens + t];
            if let Some(bias) = bias {
                value += bias[column];
            }
            if let Some(activation) = params.activation {
                value = activate(value, activation);
            }
            if let Some(residual) = residual {
                value += residual[t * params.y_stride + column];
            }
            y[column] = params.cap.map_or(value, |cap| soft_cap(value, cap));
        }
    }
}

/// Twin of `glu.wgsl`; `x` has rows of `x_stride`, `out` of the padded width.
pub fn glu(x: &[f32], x_stride: usize, params: &GluParams, out: &mut [f32]) {
    for (x, y) in x
        .chunks_exact(x_stride)
        .zip(out.chunks_exact_mut(padded(params.width)))
    {
        y.fill(0.0);
        for i in 0..params.width {
            let up = params.offset.map_or(1.0, |offset| x[offset + i]);
            y[i] = activate(x[i], params.activation) * up;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_meets_known_values() {
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (2.4, 0.999_311_5),
            (3.0, 0.999_977_9),
            (-1.0, -0.842_700_8),
        ] {
            assert!((erf(x) - y).abs() < 1e-6, "erf({x}) = {}", erf(x));
        }
    }
}
