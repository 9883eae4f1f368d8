//! Recorded steps: the same results as eager launches, for every step buffer they are run over.

mod common;

use burn::tensor::{Int, Tensor};
use common::{Numbers, close, on_each_profile, planes, skip, upload};
use fireside_kernels::device::{ComputeDevice, DeviceChoice, DeviceError, read_floats, read_words};
use fireside_kernels::layout::Layout;
use fireside_kernels::ops::{self, PlaneTensors};
use fireside_kernels::params::{EmbedParams, MatrixShape, SelectParams};
use fireside_kernels::record::{Fed, Recording};
use fireside_kernels::selection::Selection;

const ROWS: usize = 301;
const COLUMNS: usize = 96;

fn table(device: &ComputeDevice, seed: u64) -> PlaneTensors {
    let numbers = &mut Numbers::new(seed);
    upload(&planes(Layout::Q8, ROWS, COLUMNS, numbers), device)
}

/// Gathers a row by the first word of the step buffer and selects its largest column.
fn launch(
    table: &PlaneTensors,
    words: &Tensor<1, Int>,
    device: &ComputeDevice,
) -> (Tensor<2, Int>, Tensor<2>) {
    let row = ops::embed(
        table,
        words,
        None,
        EmbedParams {
            table: MatrixShape {
                layout: Layout::Q8,
                rows: ROWS,
                columns: COLUMNS,
            },
            tokens: 1,
            tokens_at: 0,
            first: 0,
            scale: 1.0,
            add: false,
            profile: device.profile(),
        },
    );
    let params = SelectParams {
        vocab: COLUMNS,
        keep: 4,
        rows_at: 1,
        profile: device.profile(),
    };
    (ops::select(&row, words, params), row)
}

fn step(token: u32) -> Vec<u32> {
    let mut words = vec![token, 1.0f32.to_bits()];
    words.resize(9, 0);
    words
}

fn record(
    device: &ComputeDevice,
    table: &PlaneTensors,
    words: usize,
) -> Option<Recording<Tensor<2>>> {
    let recording =
        Recording::new::<DeviceError>(device, words, |words| Ok(launch(table, words, device)));
    pollster::block_on(recording).unwrap()
}

#[test]
fn a_recording_run_over_other_words_gives_what_launches_give() {
    on_each_profile(
        "a_recording_run_over_other_words_gives_what_launches_give",
        |device| {
            let table = table(device, 5);
            let recording = record(device, &table, 64).unwrap();
            for token in [7, 300, 0, 7] {
                let recorded = pollster::block_on(recording.run(&step(token))).unwrap();
                let (eager, row) = launch(&table, &device.words(step(token)).unwrap(), device);
                let eager = pollster::block_on(read_words(eager)).unwrap();
                assert_eq!(recorded, eager, "token {token}");
                // What the recording keeps besides can be read through Burn after a run.
                let kept = pollster::block_on(read_floats(recording.kept().clone())).unwrap();
                let row = pollster::block_on(read_floats(row)).unwrap();
                close("the row gathered", &kept, &row, 0.0);
                assert!(Selection::from_words(&recorded).log_sum_exp.is_finite());
            }
        },
    );
}

#[test]
fn a_run_follows_what_was_launched_before_it() {
    on_each_profile("a_run_follows_what_was_launched_before_it", |device| {
        let table = table(device, 6);
        let recording = record(device, &table, 9).unwrap();
        let first = pollster::block_on(recording.run(&step(1))).unwrap();
        // One that has not been waited for while the recording is run.
        let (waiting, _) = device
            .launch(|| launch(&table, &device.words(step(2)).unwrap(), device))
            .unwrap();
        let again = pollster::block_on(recording.run(&step(1))).unwrap();
        assert_eq!(first, again);
        let waiting = pollster::block_on(read_words(waiting)).unwrap();
        let second = pollster::block_on(recording.run(&step(2))).unwrap();
        assert_eq!(waiting, second);
    });
}

#[test]
fn runs_that_are_fed_by_those_before_them_may_all_be_started_before_one_is_read() {
    let test = "runs_that_are_fed_by_those_before_them_may_all_be_started_before_one_is_read";
    on_each_profile(test, |device| {
        let table = table(device, 7);
        let recording = record(device, &table, 64).unwrap();
        let mut expected = Vec::new();
        let mut token = 9;
        for _ in 0..4 {
            let found = pollster::block_on(recording.run(&step(token))).unwrap();
            token = found[0];
            expected.push(found);
        }
        // A token that is none gathers nothing, and what comes after it is as ever.
        pollster::block_on(recording.run(&step(u32::MAX))).unwrap();
        let fed = Fed {
            count: 1,
            stride: expected[0].len(),
            to: 0,
        };
        let mut started = vec![recording.start(&step(9), None).unwrap()];
        // The token that stands in the words does not matter.
        started.extend((0..3).map(|_| recording.start(&step(300), Some(fed)).unwrap()));
        for (running, expected) in started.into_iter().zip(expected) {
            let found = pollster::block_on(recording.results(running)).unwrap();
            assert_eq!(found, expected);
        }
        for wrong in [
            Fed { count: 2, ..fed },
            Fed { count: 0, ..fed },
            Fed { to: 9, ..fed },
        ] {
            let error = recording.start(&step(1), Some(wrong)).unwrap_err();
            assert!(error.to_string().contains("cannot be fed"), "{error}");
        }
    });
}

#[test]
fn a_dropped_run_leaves_the_recording_usable() {
    on_each_profile("a_dropped_run_leaves_the_recording_usable", |device| {
        let table = table(device, 9);
        let recording = record(device, &table, 9).unwrap();
        let expected = pollster::block_on(recording.run(&step(4))).unwrap();
        {
            let words = step(5);
            let mut dropped = std::pin::pin!(recording.run(&words));
            let waker = std::task::Waker::noop();
            let _ = dropped
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
        }
        let found = pollster::block_on(recording.run(&step(4))).unwrap();
        assert_eq!(found, expected);
    });
}

#[test]
fn more_words_than_were_recorded_for_are_refused() {
    on_each_profile("more_words_than_were_recorded_for_are_refused", |device| {
        let table = table(device, 9);
        let recording = record(device, &table, 9).unwrap();
        let error = pollster::block_on(recording.run(&[0; 10])).unwrap_err();
        assert!(error.to_string().contains("10 words"), "{error}");
    });
}

#[test]
fn the_cpu_has_nothing_to_record() {
    let device = ComputeDevice::cpu();
    let table = table(&device, 1);
    assert!(record(&device, &table, 9).is_none());
}

#[test]
fn a_device_that_is_destroyed_gives_its_memory_back_and_another_one_works() {
    let test = "a_device_that_is_destroyed_gives_its_memory_back_and_another_one_works";
    let open = || pollster::block_on(ComputeDevice::open(DeviceChoice::Gpu));
    let device = match open() {
        Ok(device) => device,
        Err(DeviceError::NoAdapter) => return skip(test, "no gpu adapter"),
        Err(error) => panic!("{error}"),
    };
    let Some(empty) = device.allocated_bytes() else {
        return skip(test, "the adapter's API does not count memory");
    };
    let size = 16 << 20;
    let held = device.words(vec![7; size / 4]).unwrap();
    device.flush().unwrap();
    let full = device.allocated_bytes().unwrap();
    assert!(full >= empty + size as u64, "{full} after {empty}");
    device.destroy();
    let left = device.allocated_bytes().unwrap_or(0);
    assert!(left < size as u64, "{left} of {full} are left");
    // What still holds something of it neither keeps it nor hurts the next one.
    let next = open().unwrap();
    drop((held, device));
    let tensor = next.words(vec![1, 2, 3]).unwrap();
    assert_eq!(pollster::block_on(read_words(tensor)).unwrap(), [1, 2, 3]);
}
