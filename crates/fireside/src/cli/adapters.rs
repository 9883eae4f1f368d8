//! `fireside adapters`: what wgpu sees and which adapter would be used.

use fireside_model::device::{AdapterReport, adapters, preferred};

use super::output::human_bytes;

/// Prints every adapter, or that there is none.
pub(super) fn run() {
    let reports = pollster::block_on(adapters());
    if reports.is_empty() {
        println!("no gpu adapter: `--device auto` would use the cpu");
        println!("install a vulkan driver, on debian: apt-get install mesa-vulkan-drivers");
        return;
    }
    let chosen = preferred(&reports);
    for report in &reports {
        print(report, chosen == Some(report.index));
    }
    if let Some(report) = chosen.and_then(|index| reports.get(index)) {
        println!(
            "\n`--device auto` uses adapter {}: {}",
            report.index,
            reason(report, reports.len())
        );
    }
}

fn print(report: &AdapterReport, chosen: bool) {
    let mark = if chosen { '*' } else { ' ' };
    println!("{mark} {}  {}", report.index, report.name);
    println!(
        "     type      {}{}",
        report.kind,
        if report.software { " (software)" } else { "" }
    );
    println!(
        "     backend   {}, driver {}",
        report.backend, report.driver
    );
    let yes = |on: bool| if on { "yes" } else { "no" };
    println!(
        "     features  shader-f16 {}, subgroups {}",
        yes(report.f16),
        match report.subgroup_lanes {
            0 => "no".to_string(),
            lanes => format!("of {lanes} lanes or more"),
        }
    );
    println!(
        "     limits    binding {}, buffer {}, {} invocations, {} workgroup memory, {} storage buffers",
        human_bytes(report.max_binding),
        human_bytes(report.max_buffer),
        report.max_invocations,
        human_bytes(u64::from(report.workgroup_memory)),
        report.storage_buffers
    );
}

fn reason(report: &AdapterReport, count: usize) -> &'static str {
    match (report.software, count) {
        (true, _) => "no hardware gpu was found, so a software adapter does the work, slowly",
        (false, 1) => "it is the only one",
        (false, _) => "discrete gpus come first, then integrated, virtual and software ones",
    }
}
