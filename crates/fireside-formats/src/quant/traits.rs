//! What a repacker may rely on for each quantized format.

use crate::DType;

/// The narrowest plane of integers that holds a format's quants with one scale and one minimum per
/// 32 weights, or else the 8-bit plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Unsigned 4-bit integers, 0 to 15.
    Unsigned4,
    /// Signed 8-bit integers.
    Signed8,
}

/// Whether the scales and minima of [`crate::Block32`] are exact in 16-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum F16Fit {
    /// Always: they are stored as 16-bit floats.
    Always,
    /// Unless the minimum, -8 times the scale, overflows: exact while the scale is at most 8188.
    UnlessMinOverflows,
    /// Not in general: they are products of a 16-bit float and an integer of 4 to 8 bits, with up to
    /// 18 significant bits, or powers of two beyond its range.
    Rounds,
}

/// What holds for every [`crate::Block32`] of a quantized format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantTraits {
    /// The smallest quant.
    pub q_min: i8,
    /// The largest quant.
    pub q_max: i8,
    /// The plane that the quants go to.
    pub plane: Plane,
    /// Whether the minimum is always zero (`-0.0`).
    pub min_is_zero: bool,
    /// Whether both halves of 32 weights share scale and minimum.
    pub one_scale: bool,
    /// Whether 16-bit floats hold scales and minima exactly.
    pub f16: F16Fit,
}

/// The traits of a quantized format; `None` for any other.
pub const fn quant_traits(dtype: DType) -> Option<QuantTraits> {
    let (q_min, q_max, plane, min_is_zero, one_scale, f16) = match dtype {
        DType::Q4_0 => (
            0,
            15,
            Plane::Unsigned4,
            false,
            true,
            F16Fit::UnlessMinOverflows,
        ),
        DType::Q4_1 => (0, 15, Plane::Unsigned4, false, true, F16Fit::Always),
        DType::Q5_0 => (-16, 15, Plane::Signed8, true, true, F16Fit::Always),
        DType::Q5_1 => (0, 31, Plane::Signed8, false, true, F16Fit::Always),
        DType::Q8_0 => (-128, 127, Plane::Signed8, true, true, F16Fit::Always),
        DType::Q2_K => (0, 3, Plane::Signed8, false, false, F16Fit::Rounds),
        DType::Q3_K => (-4, 3, Plane::Signed8, true, false, F16Fit::Rounds),
        DType::Q4_K => (0, 15, Plane::Unsigned4, false, true, F16Fit::Rounds),
        DType::Q5_K => (0, 31, Plane::Signed8, false, true, F16Fit::Rounds),
        DType::Q6_K => (-32, 31, Plane::Signed8, true, false, F16Fit::Rounds),
        DType::Q4_F32 => (0, 15, Plane::Unsigned4, false, true, F16Fit::Rounds),
        DType::IQ4_NL => (-127, 113, Plane::Signed8, true, true, F16Fit::Always),
        DType::IQ4_XS => (-127, 113, Plane::Signed8, true, true, F16Fit::Rounds),
        DType::MXFP4 => (-12, 12, Plane::Signed8, true, true, F16Fit::Rounds),
        _ => return None,
    };
    Some(QuantTraits {
        q_min,
        q_max,
        plane,
        min_is_zero,
        one_scale,
        f16,
    })
}
