//! Every kernel in every combination of its flags is valid WGSL, within WebGPU's base limits.

use fireside_shaders::{Flag, Kernel, catalogue};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

#[test]
fn every_variant_is_valid_wgsl_within_base_limits() {
    let mut count = 0;
    for kernel in Kernel::ALL {
        for variant in catalogue::variants(*kernel) {
            let source = variant.source().unwrap();
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|e| panic!("{variant:?}: {}", e.emit_to_string(&source)));
            let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
            capabilities.set(Capabilities::SUBGROUP, variant.has(Flag::Subgroups));
            let info = Validator::new(ValidationFlags::all(), capabilities)
                .subgroup_stages(ShaderStages::COMPUTE)
                .subgroup_operations(SubgroupOperationSet::all())
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
    for entry in std::fs::read_dir("wgsl").unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("// "), "{} has no header", path.display());
    }
    for kernel in Kernel::ALL {
        let path = format!("wgsl/{}.wgsl", kernel.name());
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
