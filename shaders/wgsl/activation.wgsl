// The gated activations: 0 SiLU, 1 GELU (tanh form), 2 GELU (erf form), 3 ReLU; and soft caps.
//
// erf is Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7. tanh is
// written with exp of a clamped argument: some adapters return NaN for large ones.

fn erf(v: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(v));
    let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(v) * (1.0 - poly * exp(-v * v));
}

fn tanh_safe(v: f32) -> f32 {
    let e = exp(2.0 * clamp(v, -15.0, 15.0));
    return (e - 1.0) / (e + 1.0);
}

// Stays between -cap and cap.
fn soft_cap(v: f32, cap: f32) -> f32 {
    return cap * tanh_safe(v / cap);
}

fn activate(v: f32, kind: u32) -> f32 {
    switch (kind) {
        case 0u: {
            return v / (1.0 + exp(-max(v, -80.0)));
        }
        case 1u: {
            return 0.5 * v * (1.0 + tanh_safe(0.7978845608 * (v + 0.044715 * v * v * v)));
        }
        case 2u: {
            return 0.5 * v * (1.0 + erf(v * 0.7071067812));
        }
        default: {
            return max(v, 0.0);
        }
    }
}
