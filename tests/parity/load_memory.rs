//! Host memory while the real model is loaded: weights go to the device tensor by tensor, so the
//! heap never holds much more than one of them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use fireside_formats::TensorSource;
use fireside_model::path::{OpenModel, load_path};
use fireside_tests::{gpu, skip, smollm2};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting what Rust holds: the driver's buffers, which are device
/// memory even where the device is a CPU, and the mapping of the file are not its own.
struct Counting;

// SAFETY: every call goes to `System` unchanged; the counters are plain atomics beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn loading_takes_less_than_200_mb_and_the_largest_tensor() {
    let test = "loading_takes_less_than_200_mb_and_the_largest_tensor";
    let Some(path) = smollm2(test) else { return };
    let Some(device) = gpu() else {
        return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    let largest = OpenModel::open(&path)
        .unwrap()
        .weights
        .tensors()
        .iter()
        .map(|tensor| tensor.byte_len())
        .max()
        .unwrap();
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let loaded = load_path(&path, device).unwrap();
    let taken = PEAK.load(Ordering::Relaxed) - before;
    println!(
        "peak {} MB of heap over {} MB of weights, largest tensor {} MB",
        taken >> 20,
        loaded.model.weight_bytes() >> 20,
        largest >> 20
    );
    assert!(taken as u64 <= (200 << 20) + largest, "{taken} bytes");
}
