//! Rotary frequencies of every scaling kind, and the angles of a step's positions.
//!
//! Frequencies are made in f64 from the config as transformers' `modeling_rope_utils` defines them;
//! angles are uploaded per step, so that every device rotates by the same bits.

use std::f64::consts::PI;

/// How rotary frequencies are stretched beyond the context a model was trained on; the kinds and
/// fields of config.json's `rope_scaling`.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// The base grows with the length once it passes `original`.
    Dynamic {
        /// Growth per trained length.
        factor: f64,
        /// The context the model was trained on.
        original: f64,
    },
    /// Llama 3: long wavelengths divided, short ones kept, a ramp between.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// The context the model was trained on.
        original: f64,
    },
    /// A divisor per pair, as GGUF files carry them.
    Factors {
        /// The divisors.
        divisors: Vec<f64>,
    },
    /// Long rope: a divisor per pair, others once a sequence is longer than the model was trained on.
    Long {
        /// Divisors up to `original` positions.
        short: Vec<f64>,
        /// Divisors beyond them.
        long: Vec<f64>,
        /// The context the model was trained on.
        original: f64,
        /// Factor on cos and sin.
        attention: f64,
    },
    /// YaRN: a ramp over dimensions, and a factor on attention.
    Yarn {
        /// The divisor of the dimensions that are interpolated.
        factor: f64,
        /// The context the model was trained on.
        original: f64,
        /// Rotations at which a dimension is kept.
        beta_fast: f64,
        /// Rotations at which a dimension is divided.
        beta_slow: f64,
        /// Factor on cos and sin.
        attention: f64,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
}

/// The rotary embedding of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Dimensions of a head that rotate; even.
    pub rotary: usize,
    /// How frequencies are scaled.
    pub scaling: RopeScaling,
}

impl Rope {
    /// Angular frequency of each pair, in radians per position, for a sequence that has reached
    /// `length` positions.
    pub fn frequencies(&self, length: usize) -> Vec<f64> {
        let dim = self.rotary as f64;
        let pairs = self.rotary / 2;
        let plain = |theta: f64| -> Vec<f64> {
            (0..pairs)
                .map(|i| theta.powf(-2.0 * i as f64 / dim))
                .collect()
        };
        match self.scaling {
            RopeScaling::None => plain(self.theta),
            RopeScaling::Factors { ref divisors } => plain(self.theta)
                .into_iter()
                .zip(divisors)
                .map(|(f, d)| f / d)
                .collect(),
            RopeScaling::Long {
                ref short,
                ref long,
                original,
                ..
            } => {
                let divisors = if length as f64 > original {
                    long
                } else {
                    short
                };
                let plain = plain(self.theta).into_iter();
                plain.zip(divisors).map(|(f, d)| f / d).collect()
            }
            RopeScaling::Linear { factor } => {
                plain(self.theta).into_iter().map(|f| f / factor).collect()
            }
            RopeScaling::Dynamic { factor, original } => {
                let length = (length as f64).max(original);
                let growth = factor * length / original - (factor - 1.0);
                plain(self.theta * growth.powf(dim / (dim - 2.0)))
            }
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => plain(self.theta)
                .into_iter()
                .map(|f| {
                    let wavelength = 2.0 * PI / f;
                    if wavelength < original / high {
                        f
                    } else if wavelength > original / low {
                        f / factor
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                })
                .collect(),
            RopeScaling::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                truncate,
                ..
            } => {
                let dimension = |rotations: f64| {
                    dim * (original / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let low = low.max(0.0);
                let high = high.min(dim - 1.0);
                let span = if high == low { 0.001 } else { high - low };
                plain(self.theta)
                    .into_iter()
                    .enumerate()
                    .map(|(i, f)| {
                        let ramp = ((i as f64 - low) / span).clamp(0.0, 1.0);
                        f / factor * ramp + f * (1.0 - ramp)
                    })
                    .collect()
            }
        }
    }

    /// Factor on cos and sin, 1 except for YaRN and long rope.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention, .. } | RopeScaling::Long { attention, .. } => attention,
            _ => 1.0,
        }
    }

    /// Whether frequencies depend on how long the sequence is.
    pub fn depends_on_length(&self) -> bool {
        matches!(
            self.scaling,
            RopeScaling::Dynamic { .. } | RopeScaling::Long { .. }
        )
    }

    /// Appends cos and then sin of positions `start ..` to the two lists.
    ///
    /// The angle is a product of f32 numbers, as in the reference, so that positions far out
    /// agree with it too.
    pub fn angles(&self, start: usize, count: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        let frequencies = self.frequencies(start + count);
        let factor = self.attention_factor() as f32;
        for position in start..start + count {
            for frequency in &frequencies {
                let angle = f64::from(*frequency as f32 * position as f32);
                cos.push(angle.cos() as f32 * factor);
                sin.push(angle.sin() as f32 * factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_frequencies_start_at_one_and_fall() {
        let rope = Rope {
            theta: 10000.0,
            rotary: 8,
            scaling: RopeScaling::None,
        };
        let f = rope.frequencies(1);
        assert_eq!(f.len(), 4);
        assert_eq!(f[0], 1.0);
        assert!((f[3] - 0.001).abs() < 1e-12);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        rope.angles(3, 2, &mut cos, &mut sin);
        assert_eq!(cos.len(), 8);
        assert!((cos[4] - 4f32.cos()).abs() < 1e-6);
        assert!((sin[0] - 3f32.sin()).abs() < 1e-6);
    }

    #[test]
    fn dynamic_scaling_begins_past_the_trained_length() {
        let rope = Rope {
            theta: 10000.0,
            rotary: 16,
            scaling: RopeScaling::Dynamic {
                factor: 2.0,
                original: 32.0,
            },
        };
        assert_eq!(rope.frequencies(5), rope.frequencies(32));
        assert!(rope.frequencies(64)[7] < rope.frequencies(32)[7]);
    }
}
