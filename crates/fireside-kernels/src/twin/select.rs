//! Twins of the selection kernels and of the logit adjustment.

use std::cmp::Ordering;

use crate::params::{AdjustParams, NO_ROW, SELECT_HEAD, SELECT_SETTINGS, SelectParams};

/// The noise of one token, equal on every device up to the rounding of `log`: a standard
/// Gumbel value from a hash of seed, draw and token.
pub fn gumbel(seed: u64, draw: u32, token: u32) -> f32 {
    fn scramble(mut v: u32) -> u32 {
        v = (v ^ (v >> 16)).wrapping_mul(0x7feb_352d);
        v = (v ^ (v >> 15)).wrapping_mul(0x846c_a68b);
        v ^ (v >> 16)
    }
    let seeded = scramble(scramble(seed as u32) ^ (seed >> 32) as u32);
    let bits = scramble(scramble(seeded ^ draw) ^ token);
    noise(bits)
}

/// Gumbel noise of random bits.
fn noise(bits: u32) -> f32 {
    // 23 bits and a half are exact, so this is never 0 or 1.
    let v = ((bits >> 9) as f32 + 0.5) * 1.192_092_9e-7;
    // -ln(1 - v). Near zero, where the largest noise comes from, adapters' logarithms of what is nearly 1 have
    // an error as large as the result.
    let exponential = if v < 0.0625 {
        v * (1.0 + v * (0.5 + v * (1.0 / 3.0 + v * (0.25 + v * 0.2))))
    } else {
        -(1.0 - v).ln()
    };
    -exponential.ln()
}

/// Twin of `adjust_logits.wgsl`.
pub fn adjust_logits(logits: &mut [f32], stride: usize, step: &[u32], params: &AdjustParams) {
    for entry in step[params.entries_at..].chunks_exact(4).take(params.count) {
        if entry[0] == NO_ROW {
            continue;
        }
        let l = &mut logits[entry[0] as usize * stride + entry[1] as usize];
        let repetition = f32::from_bits(entry[2]);
        *l = if *l > 0.0 {
            *l / repetition
        } else {
            *l * repetition
        } + f32::from_bits(entry[3]);
    }
}

/// Twin of the selection kernels; `out` has [`SelectParams::out_stride`] words a row.
pub fn select(logits: &[f32], stride: usize, step: &[u32], params: &SelectParams, out: &mut [u32]) {
    let rows = logits
        .chunks_exact(stride)
        .zip(out.chunks_exact_mut(params.out_stride()));
    for (index, (logits, out)) in rows.enumerate() {
        let settings = &step[params.rows_at + index * SELECT_SETTINGS..][..SELECT_SETTINGS];
        let inverse_temperature = f32::from_bits(settings[0]);
        let noise = settings[1] != 0;
        let seed = u64::from(settings[2]) | u64::from(settings[3]) << 32;
        let logits = &logits[..params.vocab];
        let broken = logits.iter().filter(|l| l.is_nan()).count();
        let sound = || logits.iter().enumerate().filter(|(_, l)| **l > f32::MIN);

        let top = sound().map(|(_, l)| *l).fold(f32::MIN, f32::max);
        let mut sum = 0.0f64;
        let mut tempered = 0.0f64;
        let mut best = (f32::MIN, u32::MAX);
        for (id, l) in sound() {
            sum += f64::from(l - top).exp();
            tempered += f64::from((l - top) * inverse_temperature).exp();
            let key = if noise {
                l * inverse_temperature + gumbel(seed, settings[4], id as u32)
            } else {
                *l
            };
            if key > best.0 {
                best = (key, id as u32);
            }
        }
        out[..SELECT_HEAD].fill(0);
        out[0] = best.1;
        out[1] = best.0.to_bits();
        out[2] = top.to_bits();
        out[3] = (top + sum.ln() as f32).to_bits();
        out[4] = (top * inverse_temperature + tempered.ln() as f32).to_bits();
        out[5] = broken as u32;
        let target = logits.get(settings[5] as usize);
        out[6] = target.copied().unwrap_or(f32::MIN).to_bits();

        let kept = params.kept();
        if kept == 0 {
            continue;
        }
        let mut order: Vec<(f32, u32)> = logits
            .iter()
            .enumerate()
            .map(|(id, l)| (if l.is_nan() { f32::MIN } else { *l }, id as u32))
            .collect();
        let ranking = |a: &(f32, u32), b: &(f32, u32)| {
            b.0.partial_cmp(&a.0)
                .unwrap_or(Ordering::Equal)
                .then(a.1.cmp(&b.1))
        };
        if kept < order.len() {
            order.select_nth_unstable_by(kept - 1, ranking);
            order.truncate(kept);
        }
        order.sort_unstable_by(ranking);
        for (rank, pair) in out[SELECT_HEAD..].chunks_exact_mut(2).enumerate() {
            let (value, id) = order.get(rank).copied().unwrap_or((f32::MIN, u32::MAX));
            pair[0] = id;
            pair[1] = value.to_bits();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gumbel_noise_has_its_mean_and_never_breaks() {
        let count = 100_000u32;
        let sum: f64 = (0..count)
            .map(|i| {
                let g = gumbel(42, i, i ^ 7);
                assert!(g.is_finite());
                f64::from(g)
            })
            .sum();
        let mean = sum / f64::from(count);
        assert!((mean - 0.577_2).abs() < 0.02, "mean {mean}");
    }

    #[test]
    fn noise_of_any_bits_is_finite_and_that_of_an_exponential() {
        let mut last = f32::INFINITY;
        for step in (0..1u32 << 23).step_by(61).chain([(1 << 23) - 1]) {
            let found = noise(step << 9 | 0x1ff);
            assert!(
                found.is_finite() && found <= last,
                "{step}: {found} after {last}"
            );
            last = found;
            let v = (f64::from(step) + 0.5) / f64::from(1u32 << 23);
            let exact = -(-(-v).ln_1p()).ln();
            assert!(
                (f64::from(found) - exact).abs() < 2e-6,
                "{step}: {found} for {exact}"
            );
        }
        assert!(noise(u32::MAX).is_finite() && noise(0) < 17.0);
    }
}
