//! Every kernel in every combination of its flags: what validators check, naga in this crate's tests
//! and a browser's compiler in the browser tests.

use crate::{Constant, Flag, Kernel, Variant};

const LAYOUTS: &[&[Flag]] = &[
    &[Flag::Q4, Flag::HasMin, Flag::Quantized],
    &[Flag::Q4, Flag::HasMin, Flag::Quantized, Flag::ScaleHalf],
    &[Flag::Q8, Flag::EightBit, Flag::Quantized],
    &[Flag::Q8G, Flag::EightBit, Flag::HasMin, Flag::Quantized],
    &[Flag::F16W, Flag::FloatWeights],
    &[Flag::BF16W, Flag::FloatWeights],
    &[Flag::F32W, Flag::FloatWeights],
];

/// Flags that vary freely, groups of which at most one is set, and sets of constants.
type Axes = (
    &'static [Flag],
    &'static [&'static [Flag]],
    &'static [&'static [(Constant, u32)]],
);

fn axes(kernel: Kernel) -> Axes {
    match kernel {
        Kernel::Embed => (
            &[Flag::Add],
            LAYOUTS,
            &[&[(Constant::Lanes, 8)], &[(Constant::Lanes, 64)]],
        ),
        Kernel::RmsNorm => (
            &[Flag::Residual, Flag::Centered],
            &[&[]],
            &[
                &[(Constant::Lanes, 8)],
                &[(Constant::Lanes, 64)],
                &[(Constant::Lanes, 256)],
            ],
        ),
        Kernel::LinearLane => (
            &[
                Flag::Norm,
                Flag::Glu,
                Flag::Bias,
                Flag::Residual,
                Flag::Subgroups,
            ],
            LAYOUTS,
            &[
                &[
                    (Constant::Lanes, 8),
                    (Constant::RowGroupsOut, 2),
                    (Constant::Cols, 1),
                ],
                &[
                    (Constant::Lanes, 8),
                    (Constant::RowGroupsOut, 2),
                    (Constant::Cols, 8),
                ],
                &[
                    (Constant::Lanes, 8),
                    (Constant::RowGroupsOut, 1),
                    (Constant::Cols, 3),
                ],
                &[
                    (Constant::Lanes, 4),
                    (Constant::RowGroupsOut, 6),
                    (Constant::Cols, 1),
                ],
                &[
                    (Constant::Lanes, 4),
                    (Constant::RowGroupsOut, 3),
                    (Constant::Cols, 4),
                ],
            ],
        ),
        Kernel::LinearSplit => (
            &[Flag::Norm, Flag::Glu, Flag::Bias, Flag::Residual],
            LAYOUTS,
            &[
                &[
                    (Constant::Lanes, 32),
                    (Constant::RowsOut, 1),
                    (Constant::Cols, 1),
                    (Constant::Splits, 8),
                    (Constant::Workgroup, 256),
                ],
                &[
                    (Constant::Lanes, 32),
                    (Constant::RowsOut, 1),
                    (Constant::Cols, 4),
                    (Constant::Splits, 4),
                    (Constant::Workgroup, 128),
                ],
            ],
        ),
        Kernel::LinearTile => (
            &[Flag::Glu, Flag::Bias, Flag::Residual],
            LAYOUTS,
            &[&[(Constant::Lanes, 1), (Constant::RowsOut, 1)]],
        ),
        Kernel::RopeKv => (
            &[],
            &[
                &[],
                &[Flag::HeadNorm],
                &[Flag::HeadNorm, Flag::WholeNorm],
                &[Flag::KvF16],
                &[Flag::KvF16, Flag::HeadNorm],
                &[Flag::KvF16, Flag::HeadNorm, Flag::WholeNorm],
                &[Flag::KvQ8],
                &[Flag::KvQ8, Flag::HeadNorm],
                &[Flag::KvQ8, Flag::HeadNorm, Flag::WholeNorm],
            ],
            &[
                &[
                    (Constant::Lanes, 8),
                    (Constant::HeadQuads, 16),
                    (Constant::Parts, 1),
                    (Constant::Block, 32),
                ],
                &[
                    (Constant::Lanes, 8),
                    (Constant::HeadQuads, 16),
                    (Constant::Parts, 16),
                    (Constant::Block, 32),
                ],
                &[
                    (Constant::Lanes, 64),
                    (Constant::HeadQuads, 3),
                    (Constant::Parts, 1),
                    (Constant::Block, 32),
                ],
            ],
        ),
        Kernel::Attention => (
            &[],
            &[&[], &[Flag::KvF16], &[Flag::KvQ8]],
            &[
                &[
                    (Constant::Lanes, 8),
                    (Constant::Splits, 1),
                    (Constant::Workgroup, 8),
                    (Constant::HeadQuads, 16),
                    (Constant::Parts, 2),
                    (Constant::Positions, 4),
                    (Constant::Block, 32),
                    (Constant::Group, 3),
                    (Constant::Tokens, 4),
                ],
                &[
                    (Constant::Lanes, 32),
                    (Constant::Splits, 4),
                    (Constant::Workgroup, 128),
                    (Constant::HeadQuads, 64),
                    (Constant::Parts, 2),
                    (Constant::Positions, 1),
                    (Constant::Block, 32),
                    (Constant::Group, 8),
                    (Constant::Tokens, 1),
                ],
                &[
                    (Constant::Lanes, 32),
                    (Constant::Splits, 8),
                    (Constant::Workgroup, 256),
                    (Constant::HeadQuads, 2),
                    (Constant::Parts, 1),
                    (Constant::Positions, 1),
                    (Constant::Block, 32),
                    (Constant::Group, 1),
                    (Constant::Tokens, 1),
                ],
                &[
                    (Constant::Lanes, 32),
                    (Constant::Splits, 1),
                    (Constant::Workgroup, 32),
                    (Constant::HeadQuads, 16),
                    (Constant::Parts, 1),
                    (Constant::Positions, 1),
                    (Constant::Block, 32),
                    (Constant::Group, 3),
                    (Constant::Tokens, 4),
                ],
            ],
        ),
        Kernel::AttentionLane => (
            &[],
            &[
                &[Flag::Subgroups],
                &[Flag::Subgroups, Flag::KvF16],
                &[Flag::Subgroups, Flag::KvQ8],
            ],
            &[
                &[
                    (Constant::Lanes, 8),
                    (Constant::HeadQuads, 16),
                    (Constant::Parts, 2),
                    (Constant::Block, 32),
                    (Constant::Group, 3),
                    (Constant::Tokens, 4),
                ],
                &[
                    (Constant::Lanes, 8),
                    (Constant::HeadQuads, 64),
                    (Constant::Parts, 8),
                    (Constant::Block, 32),
                    (Constant::Group, 4),
                    (Constant::Tokens, 1),
                ],
                &[
                    (Constant::Lanes, 8),
                    (Constant::HeadQuads, 3),
                    (Constant::Parts, 1),
                    (Constant::Block, 32),
                    (Constant::Group, 1),
                    (Constant::Tokens, 1),
                ],
            ],
        ),
        Kernel::Glu | Kernel::AdjustLogits => (&[], &[&[]], &[&[(Constant::Lanes, 64)]]),
        Kernel::Route => (
            &[],
            &[&[]],
            &[&[(Constant::Lanes, 8)], &[(Constant::Lanes, 64)]],
        ),
        Kernel::SelectGroups | Kernel::SelectBest | Kernel::SelectTopGroups | Kernel::SelectTop => {
            (
                &[],
                &[&[]],
                &[
                    &[(Constant::Lanes, 8), (Constant::Each, 32)],
                    &[(Constant::Lanes, 32), (Constant::Each, 64)],
                ],
            )
        }
    }
}

/// The kernel in every combination of its flags, with constants of each profile.
pub fn variants(kernel: Kernel) -> Vec<Variant> {
    let (free, groups, constants) = axes(kernel);
    let mut all = Vec::new();
    for set in constants {
        for group in groups {
            for mask in 0..1u32 << free.len() {
                let mut variant = Variant::new(kernel);
                for (name, value) in *set {
                    variant = variant.constant(*name, *value);
                }
                let glu_mask = free
                    .iter()
                    .position(|f| *f == Flag::Glu)
                    .map_or(0, |bit| 1 << bit);
                let quads = match group.first() {
                    Some(Flag::Q4) => 8,
                    Some(Flag::Q8 | Flag::Q8G) => 4,
                    Some(Flag::F16W | Flag::BF16W) => 2,
                    Some(Flag::F32W) => 1,
                    _ => 0,
                };
                if quads > 0 {
                    variant = variant
                        .constant(Constant::Quads, quads)
                        .constant(Constant::Parts, 8 / quads);
                }
                // A gate and its up row are two rows for one result.
                let doubled = |n: u32| if mask & glu_mask == 0 { n } else { 2 * n };
                variant = variant
                    .constant(Constant::Rows, doubled(variant.get(Constant::RowsOut)))
                    .constant(
                        Constant::RowGroups,
                        doubled(variant.get(Constant::RowGroupsOut)),
                    )
                    .flag_if(Flag::RowQuads, kernel == Kernel::LinearLane)
                    .flag_if(
                        Flag::Split,
                        kernel == Kernel::Attention && variant.get(Constant::Splits) > 1,
                    );
                for flag in *group {
                    variant = variant.flag(*flag);
                }
                for (bit, flag) in free.iter().enumerate() {
                    variant = variant.flag_if(*flag, mask >> bit & 1 == 1);
                }
                all.push(variant);
                // Logits alone are capped: the product with a head, which does nothing besides. What is
                // activated has no gate and goes nowhere else.
                let product = matches!(
                    kernel,
                    Kernel::LinearLane | Kernel::LinearSplit | Kernel::LinearTile
                );
                // Experts: gates alone are normed and stay by themselves, the others are added to something.
                let gates = variant.has(Flag::Glu);
                if product
                    && variant.get(Constant::Cols) == 1
                    && !variant.has(Flag::Bias)
                    && !variant.has(if gates { Flag::Residual } else { Flag::Norm })
                {
                    all.push(variant.flag(Flag::Experts));
                }
                if product && !variant.has(Flag::Glu) && !variant.has(Flag::Residual) {
                    all.push(variant.flag(Flag::Activate));
                    if !variant.has(Flag::Norm) && !variant.has(Flag::Bias) {
                        all.push(variant.flag(Flag::SoftCap));
                    }
                }
            }
        }
    }
    all
}
