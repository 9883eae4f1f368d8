//! Every kernel in every combination of its flags is valid WGSL, within WebGPU's base limits.

use fireside_shaders::{Constant, Flag, Kernel, Variant};
use naga::valid::{Capabilities, ValidationFlags, Validator};

const LAYOUTS: &[&[&str]] = &[
    &["Q4", "HAS_MIN", "QUANTIZED"],
    &["Q4", "HAS_MIN", "QUANTIZED", "SCALE_F32"],
    &["Q8", "EIGHT_BIT", "QUANTIZED"],
    &["Q8G", "EIGHT_BIT", "HAS_MIN", "QUANTIZED"],
    &["F16W", "FLOAT_WEIGHTS"],
    &["BF16W", "FLOAT_WEIGHTS"],
    &["F32W", "FLOAT_WEIGHTS"],
];

/// Flags that vary freely, groups of which at most one is set, and sets of constants.
type Axes = (
    &'static [&'static str],
    &'static [&'static [&'static str]],
    &'static [&'static [(&'static str, u32)]],
);

fn axes(kernel: Kernel) -> Axes {
    match kernel {
        Kernel::Embed => (&[], LAYOUTS, &[&[("LANES", 8)], &[("LANES", 64)]]),
        Kernel::RmsNorm => (
            &["SHARED"],
            &[&[]],
            &[&[("LANES", 1)], &[("LANES", 64)], &[("LANES", 256)]],
        ),
        Kernel::LinearLane => (
            &["NORM", "GLU", "BIAS", "RESIDUAL"],
            LAYOUTS,
            &[
                &[("LANES", 8), ("ROWS", 8), ("COLS", 1)],
                &[("LANES", 16), ("ROWS", 4), ("COLS", 4)],
            ],
        ),
        Kernel::LinearSplit => (
            &["NORM", "BIAS", "RESIDUAL"],
            LAYOUTS,
            &[&[
                ("LANES", 32),
                ("ROWS", 1),
                ("COLS", 4),
                ("SPLITS", 8),
                ("WORKGROUP", 256),
            ]],
        ),
        Kernel::LinearTile => (
            &["GLU", "BIAS", "RESIDUAL"],
            LAYOUTS,
            &[&[("LANES", 1), ("ROWS", 2)]],
        ),
        Kernel::RopeKv => (
            &["KV_F16"],
            &[&[]],
            &[&[("LANES", 8), ("HEAD_QUADS", 16), ("BLOCK", 32)]],
        ),
        Kernel::Attention => (
            &["KV_F16"],
            &[&[]],
            &[
                &[
                    ("LANES", 8),
                    ("HEAD_QUADS", 16),
                    ("BLOCK", 32),
                    ("GROUP", 3),
                    ("TOKENS", 4),
                ],
                &[
                    ("LANES", 32),
                    ("HEAD_QUADS", 64),
                    ("BLOCK", 32),
                    ("GROUP", 8),
                    ("TOKENS", 1),
                ],
                &[
                    ("LANES", 32),
                    ("HEAD_QUADS", 2),
                    ("BLOCK", 32),
                    ("GROUP", 1),
                    ("TOKENS", 1),
                ],
            ],
        ),
        Kernel::Glu | Kernel::AdjustLogits => (&[], &[&[]], &[&[("LANES", 64)]]),
        Kernel::SelectGroups | Kernel::SelectBest | Kernel::SelectTopGroups | Kernel::SelectTop => {
            (
                &[],
                &[&[]],
                &[
                    &[("LANES", 8), ("EACH", 32)],
                    &[("LANES", 32), ("EACH", 64)],
                ],
            )
        }
    }
}

fn flag_named(name: &str) -> Flag {
    *Flag::ALL.iter().find(|f| f.name() == name).unwrap()
}

fn variants(kernel: Kernel) -> Vec<Variant> {
    let (free, groups, constants) = axes(kernel);
    let mut all = Vec::new();
    for set in constants {
        for group in groups {
            for mask in 0..1u32 << free.len() {
                let mut variant = Variant::new(kernel);
                for (name, value) in *set {
                    let name = Constant::ALL.iter().find(|c| c.name() == *name).unwrap();
                    variant = variant.constant(*name, *value);
                }
                let glu_mask = free
                    .iter()
                    .position(|f| *f == "GLU")
                    .map_or(0, |bit| 1 << bit);
                if let Some(layout) = group.first() {
                    let quads = match *layout {
                        "Q4" => 8,
                        "Q8" | "Q8G" => 4,
                        "F32W" => 1,
                        _ => 2,
                    };
                    variant = variant.constant(Constant::Quads, quads);
                }
                let rows = variant.get(Constant::Rows);
                if rows > 0 {
                    let halved = mask & glu_mask != 0;
                    variant =
                        variant.constant(Constant::RowsOut, if halved { rows / 2 } else { rows });
                }
                for flag in *group {
                    variant = variant.flag(flag_named(flag));
                }
                for (bit, flag) in free.iter().enumerate() {
                    variant = variant.flag_if(flag_named(flag), mask >> bit & 1 == 1);
                }
                all.push(variant);
            }
        }
    }
    all
}

#[test]
fn every_variant_is_valid_wgsl_within_base_limits() {
    let mut count = 0;
    for kernel in Kernel::ALL {
        for variant in variants(*kernel) {
            let source = variant.source().unwrap();
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|e| panic!("{variant:?}: {}", e.emit_to_string(&source)));
            let info = Validator::new(
                ValidationFlags::all(),
                Capabilities::SHADER_FLOAT16_IN_FLOAT32,
            )
            .validate(&module)
            .unwrap_or_else(|e| panic!("{variant:?}: {}", e.emit_to_string(&source)));
            let storage = module
                .global_variables
                .iter()
                .filter(|(_, v)| matches!(v.space, naga::AddressSpace::Storage { .. }))
                .count();
            assert!(storage <= 8, "{variant:?} binds {storage} storage buffers");
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).unwrap();
            let workgroup: u32 = module
                .global_variables
                .iter()
                .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
                .map(|(_, v)| layouter[v.ty].size)
                .sum();
            assert!(
                workgroup <= 16384,
                "{variant:?} takes {workgroup} bytes of workgroup memory"
            );
            let entry = &module.entry_points[0];
            let lanes: u32 = entry.workgroup_size.iter().product();
            assert!(lanes <= 256, "{variant:?} has {lanes} invocations");
            // A binding that the entry point does not use vanishes from the automatic layout.
            for (handle, variable) in module.global_variables.iter() {
                assert!(
                    !info.get_entry_point(0)[handle].is_empty(),
                    "{variant:?} declares {:?} and never uses it",
                    variable.name
                );
            }
            count += 1;
        }
    }
    assert!(count > 200, "only {count} variants were checked");
}

#[test]
fn every_kernel_file_opens_with_its_header() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("// "), "{} has no header", path.display());
    }
    for kernel in Kernel::ALL {
        let path = format!("{}/wgsl/{}.wgsl", env!("CARGO_MANIFEST_DIR"), kernel.name());
        let text = std::fs::read_to_string(path).unwrap();
        for part in ["Workgroup:", "Limits:", "Grid:"] {
            assert!(
                text.contains(part),
                "{} does not state {part}",
                kernel.name()
            );
        }
    }
}
