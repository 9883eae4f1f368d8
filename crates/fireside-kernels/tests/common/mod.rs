//! What the kernel tests share: devices, made-up data, comparison.

use std::sync::OnceLock;

use fireside_kernels::device::{ComputeDevice, DeviceChoice, DeviceError};
use fireside_kernels::layout::{Block, Layout, Planes};
use fireside_kernels::ops::PlaneTensors;
use fireside_kernels::params::Profile;

/// The adapter under test, opened once; `None` where there is none.
fn adapter() -> Option<&'static ComputeDevice> {
    static DEVICE: OnceLock<Option<ComputeDevice>> = OnceLock::new();
    DEVICE
        .get_or_init(
            || match pollster::block_on(ComputeDevice::open(DeviceChoice::Gpu)) {
                Ok(device) => Some(device),
                Err(DeviceError::NoAdapter) => None,
                Err(error) => panic!("{error}"),
            },
        )
        .as_ref()
}

/// Runs a test body for each profile the adapter can run, or records why it could not.
pub(crate) fn on_each_profile(test: &str, body: impl Fn(&ComputeDevice)) {
    let Some(device) = adapter() else {
        skip(test, "no gpu adapter: install mesa-vulkan-drivers");
        return;
    };
    let subgroups = device.profile().subgroups;
    for profile in Profile::ALL {
        if subgroups || !profile.subgroups {
            body(&device.clone().with_profile(profile));
        }
    }
    if !subgroups {
        skip(
            test,
            "the adapter has no subgroups of eight lanes: their variants did not run",
        );
    }
}

/// Notes a skipped test where the test command counts it.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    if let Some(log) = std::env::var_os("FIRESIDE_SKIP_LOG") {
        use std::io::Write;
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let _ = file.and_then(|mut f| writeln!(f, "{test}: {reason}"));
    }
}

/// A small generator with a fixed stream per seed.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// From -1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A matrix of made-up weights of about unit size.
pub(crate) fn planes(layout: Layout, rows: usize, columns: usize, numbers: &mut Numbers) -> Planes {
    let mut planes = Planes::new(layout, rows, columns);
    for row in 0..rows {
        if layout.scale_group() == 0 {
            planes.set_row(row, &numbers.floats(columns));
            continue;
        }
        for index in 0..columns.div_ceil(32) {
            let four_bit = matches!(layout, Layout::Q4 | Layout::Q4Float);
            let mut quants = [0i8; 32];
            for (i, q) in quants.iter_mut().enumerate() {
                // Columns past the matrix stay zero, as in a packed file.
                if index * 32 + i < columns {
                    let bits = numbers.bits();
                    *q = if four_bit {
                        (bits % 16) as i8
                    } else {
                        bits as i8
                    };
                }
            }
            let unit = if four_bit { 8.0 } else { 128.0 };
            // Scales that halves hold, for the layout that stores halves.
            let mut scale = || (1.0 + (numbers.float() * 256.0).round() / 512.0) / unit;
            let first = scale();
            let second = if layout == Layout::Q8Group {
                scale()
            } else {
                first
            };
            let whole = (index + 1) * 32 <= columns;
            let minimum = match (layout.has_minimum() && whole, four_bit) {
                (false, _) => [0.0, 0.0],
                (true, true) => [-8.0 * first, -8.0 * first],
                (true, false) => [-first, 0.5 * second],
            };
            planes.set_block(
                row,
                index,
                &Block {
                    quants,
                    scale: [first, second],
                    minimum,
                },
            );
        }
    }
    planes
}

/// Uploads planes.
pub(crate) fn upload(planes: &Planes, device: &ComputeDevice) -> PlaneTensors {
    PlaneTensors {
        quants: device.words(planes.quants.clone()).unwrap(),
        scales: (!planes.scales.is_empty()).then(|| device.words(planes.scales.clone()).unwrap()),
    }
}

/// Fails where two results differ by more than `tolerance` of the larger of one and the
/// largest expected value.
#[track_caller]
pub(crate) fn close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths");
    let size = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= tolerance * size,
            "{what}: element {i} is {a}, the twin says {e}; the largest is {size}"
        );
    }
}
