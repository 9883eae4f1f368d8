//! How numbers and notices look on a terminal.

use fireside_model::device::ComputeDevice;

use crate::TextGeneration;

/// Bytes with a binary unit.
pub(super) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Says on stderr when the device is not a real GPU.
pub(super) fn notice(device: &ComputeDevice, asked_for_cpu: bool) {
    match device.adapter() {
        None if !asked_for_cpu => {
            eprintln!("note: no gpu adapter found, running on the cpu");
        }
        Some(adapter) if adapter.software => {
            eprintln!(
                "note: {} is a software adapter, expect cpu speed",
                adapter.name
            );
        }
        _ => {}
    }
}

/// Says on stderr that drafts ended before the text did, if they did.
pub(super) fn draft_notice(pipeline: &mut TextGeneration) {
    if let Some(failure) = pipeline.engine().draft_failure() {
        eprintln!("note: the draft model failed and is not used any more: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(128 << 20), "128 MiB");
    }
}
