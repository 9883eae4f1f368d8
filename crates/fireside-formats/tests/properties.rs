//! Properties over random files: nothing panics, memory stays bounded, a round trip loses nothing.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;

use common::safetensors;
use fireside_formats::gguf::Value;
use fireside_formats::write::{GgufWriter, MetaValue};
use fireside_formats::{ByteSource, DType, Gguf, Safetensors, TensorSource, WeightFile};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The system's allocator, counting the bytes that each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: Every call is passed on to `System` unchanged; the counters are plain thread-local cells
// without destructors, whose use allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(HELD.get()));
        // SAFETY: The caller's promises about `layout` are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: `ptr` came from `System` through `alloc` with the same `layout`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that `f` held at once, beyond what was held before.
fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let value = f();
    (value, PEAK.get().saturating_sub(before))
}

/// Parsing may hold this many bytes for each byte of the file: a table entry of 24 bytes becomes a
/// `TensorInfo`, which is several times that.
const PER_BYTE: usize = 16;
/// And this much more, for an error message or two.
const BASE: usize = 16 << 10;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(2),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Reads everything that a file has, as a loader would.
fn read_all<S: ByteSource>(weights: &WeightFile<S>) {
    for tensor in weights.tensors() {
        let bytes = weights.bytes(&tensor.name);
        if let Ok(bytes) = &bytes {
            assert_eq!(bytes.len() as u64, tensor.byte_len());
            assert_eq!(
                weights.read_f32(&tensor.name).unwrap().len(),
                tensor.elements()
            );
        }
        assert_eq!(bytes.is_ok(), tensor.dtype.is_weight());
        weights.release(&tensor.name);
    }
    for (key, value) in weights.gguf().into_iter().flat_map(Gguf::metadata) {
        assert_eq!(
            weights.gguf().unwrap().get(key).map(|v| v.value_type()),
            Some(value.value_type())
        );
        walk(value);
    }
}

fn walk(value: Value<'_>) {
    if let Value::Array(array) = value {
        assert_eq!(array.iter().map(walk).count(), array.len());
    }
}

/// Whether the file is sound, having checked what holds of every file.
fn check_gguf(file: &[u8]) -> bool {
    let (parsed, held) = peak(|| Gguf::parse(file, file.len() as u64).is_ok());
    assert!(
        held <= PER_BYTE * file.len() + BASE,
        "{held} bytes held for {}",
        file.len()
    );
    let opened = WeightFile::from_gguf("f", file);
    assert!(parsed || opened.is_err());
    if let Ok(weights) = opened {
        read_all(&weights);
    }
    parsed
}

fn check_safetensors(file: &[u8]) -> bool {
    let (parsed, held) = peak(|| Safetensors::parse(file, file.len() as u64).is_ok());
    assert!(
        held <= PER_BYTE * file.len() + BASE,
        "{held} bytes held for {}",
        file.len()
    );
    let opened = WeightFile::from_safetensors([("f".to_owned(), file)]);
    assert_eq!(parsed, opened.is_ok());
    if let Ok(weights) = opened {
        read_all(&weights);
    }
    parsed
}

fn scalar() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        any::<u8>().prop_map(MetaValue::from),
        any::<i8>().prop_map(MetaValue::from),
        any::<u16>().prop_map(MetaValue::from),
        any::<i16>().prop_map(MetaValue::from),
        any::<u32>().prop_map(MetaValue::from),
        any::<i32>().prop_map(MetaValue::from),
        (-1e30_f32..1e30).prop_map(MetaValue::from),
        any::<bool>().prop_map(MetaValue::from),
        "\\PC{0,12}".prop_map(MetaValue::from),
        any::<u64>().prop_map(MetaValue::from),
        any::<i64>().prop_map(MetaValue::from),
        (-1e300_f64..1e300).prop_map(MetaValue::from),
    ]
}

fn array_of(values: impl Strategy<Value = MetaValue>) -> impl Strategy<Value = MetaValue> {
    (values, 0..5_usize)
        .prop_map(|(value, len)| MetaValue::Array(value.value_type(), vec![value; len]))
}

fn value() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        scalar(),
        array_of(scalar()),
        array_of(array_of(scalar())),
        array_of(array_of(array_of(scalar())))
    ]
}

#[derive(Debug, Clone)]
struct File {
    version: u32,
    alignment: u32,
    metadata: Vec<(String, MetaValue)>,
    tensors: Vec<(String, Vec<usize>, DType, Vec<u8>)>,
}

fn tensor() -> impl Strategy<Value = (Vec<usize>, DType, Vec<u8>)> {
    let carried = [DType::I8, DType::I64, DType::F64];
    let types: Vec<DType> = DType::WEIGHTS.into_iter().chain(carried).collect();
    let shape = prop::collection::vec(0..4_usize, 0..4);
    (prop::sample::select(types), shape, any::<u8>()).prop_map(|(dtype, mut shape, fill)| {
        match shape.last_mut() {
            Some(row) => *row *= dtype.block_len(),
            None if dtype.block_len() > 1 => shape = vec![dtype.block_len()],
            None => {}
        }
        let elements = shape.iter().product::<usize>() as u64;
        let bytes = dtype.bytes_for(elements).unwrap() as usize;
        let data = (0..bytes).map(|i| fill.wrapping_add(i as u8)).collect();
        (shape, dtype, data)
    })
}

fn file() -> impl Strategy<Value = File> {
    let metadata = prop::collection::btree_map("[a-z.]{1,12}", value(), 0..6);
    let tensors = prop::collection::btree_map("[a-z.]{1,12}", tensor(), 0..6);
    (2..4_u32, 0..8_u32, metadata, tensors).prop_map(|(version, log, metadata, tensors)| File {
        version,
        alignment: 1 << log,
        metadata: metadata.into_iter().collect(),
        tensors: tensors
            .into_iter()
            .map(|(name, (shape, dtype, data))| (name, shape, dtype, data))
            .collect(),
    })
}

fn build(file: &File) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.version(file.version).unwrap();
    writer
        .metadata("general.alignment", file.alignment)
        .unwrap();
    for (key, value) in &file.metadata {
        writer.metadata(key, value.clone()).unwrap();
    }
    for (name, shape, dtype, _) in &file.tensors {
        writer.tensor(name, shape, *dtype).unwrap();
    }
    let data: Vec<&[u8]> = file
        .tensors
        .iter()
        .map(|tensor| tensor.3.as_slice())
        .collect();
    writer.to_bytes(&data).unwrap()
}

/// Changes to a file: a byte, or eight bytes at once to a number that is likely to hurt.
fn mutate(mut file: Vec<u8>, changes: &[(usize, u8, u8)], cut: Option<usize>) -> Vec<u8> {
    const NUMBERS: [u64; 8] = [
        0,
        1,
        u32::MAX as u64,
        1 << 31,
        1 << 40,
        1 << 62,
        1 << 63,
        u64::MAX,
    ];
    for (at, kind, byte) in changes {
        let at = at % file.len().max(1);
        if let (Some(number), Some(slot)) =
            (NUMBERS.get(usize::from(*kind)), file.get_mut(at..at + 8))
        {
            slot.copy_from_slice(&number.to_le_bytes());
        } else if let Some(slot) = file.get_mut(at) {
            *slot = *byte;
        }
    }
    if let Some(cut) = cut {
        file.truncate(cut % file.len().max(1));
    }
    file
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_gguf_round_trip_preserves_everything(file in file()) {
        let bytes = build(&file);
        let weights = WeightFile::from_gguf("f", bytes).unwrap();
        let gguf = weights.gguf().unwrap();
        prop_assert_eq!((gguf.version(), gguf.alignment()), (file.version, file.alignment.into()));
        let read: Vec<_> = gguf.metadata().skip(1).map(|(k, v)| (k.to_owned(), MetaValue::from(v))).collect();
        prop_assert_eq!(read, file.metadata);
        prop_assert_eq!(weights.tensors().len(), file.tensors.len());
        for (info, (name, shape, dtype, data)) in weights.tensors().iter().zip(&file.tensors) {
            prop_assert_eq!((&info.name, &info.shape, info.dtype), (name, shape, *dtype));
            if dtype.is_weight() {
                prop_assert_eq!(&*weights.bytes(name).unwrap(), data.as_slice());
            }
        }
        read_all(&weights);
    }

    #[test]
    fn a_prefix_is_judged_like_the_whole_file_or_asks_for_more(
        file in file(), changes in prop::collection::vec(any::<(usize, u8, u8)>(), 0..3), prefix: usize,
    ) {
        use fireside_formats::FormatError::NeedMoreBytes;
        let bytes = mutate(build(&file), &changes, None);
        let (prefix, size) = (prefix % (bytes.len() + 1), bytes.len() as u64);
        let whole = Gguf::parse(&bytes, size).map(|gguf| gguf.tensors().to_vec());
        match Gguf::parse(&bytes[..prefix], size) {
            Err(NeedMoreBytes { needed, .. }) => prop_assert!(needed > prefix as u64 && needed <= size),
            other => prop_assert_eq!(other.map(|gguf| gguf.tensors().to_vec()), whole),
        }
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_gguf(&bytes);
        check_safetensors(&bytes);
        let version = [b"GGUF\x03\0\0\0", bytes.as_slice()].concat();
        check_gguf(&version);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        check_safetensors(&safetensors(&format!("{{\"{text}"), 8));
    }

    #[test]
    fn mutated_gguf_files_never_panic_nor_take_much_memory(
        file in file(),
        changes in prop::collection::vec((any::<usize>(), 0..16_u8, any::<u8>()), 1..6),
        cut in prop::option::of(any::<usize>()),
    ) {
        check_gguf(&mutate(build(&file), &changes, cut));
    }

    #[test]
    fn mutated_safetensors_files_never_panic_nor_take_much_memory(
        names in prop::collection::vec("[a-c]{1,2}", 0..5),
        changes in prop::collection::vec((any::<usize>(), 0..64_u8, any::<u8>()), 0..6),
        cut in prop::option::of(any::<usize>()),
    ) {
        let entry = |(i, name): (usize, &String)| {
            let (start, end) = (8 * i, 8 * i + 8);
            format!(r#""{name}":{{"dtype":"F32","shape":[1,2],"data_offsets":[{start},{end}]}}"#)
        };
        let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
        let file = safetensors(&format!("{{{}}}", entries.join(",")), 8 * names.len());
        if changes.is_empty() && cut.is_none() {
            let unique = names.iter().collect::<BTreeSet<_>>().len() == names.len();
            prop_assert_eq!(Safetensors::parse(&file, file.len() as u64).is_ok(), unique);
        }
        check_safetensors(&mutate(file, &changes, cut));
    }
}

#[test]
fn a_vocabulary_takes_little_more_memory_than_its_bytes() {
    let tokens: Vec<String> = (0..50_000).map(|i| format!("token{i}")).collect();
    let mut writer = GgufWriter::new();
    writer.metadata("tokens", tokens).unwrap();
    let file = writer.to_bytes(&[]).unwrap();
    let (gguf, held) = peak(|| Gguf::parse(&file, file.len() as u64).unwrap());
    assert!(
        held < file.len() + (64 << 10),
        "{held} bytes held for {}",
        file.len()
    );
    let (tokens, held) = peak(|| gguf.str_array("tokens").unwrap());
    assert_eq!(tokens.len(), 50_000);
    assert_eq!(held, 50_000 * size_of::<&str>());
}

#[test]
fn the_densest_tables_stay_within_their_bounds() {
    let mut raw = common::Raw::gguf(3, 20_000, 0);
    for i in 0..20_000 {
        raw = raw.tensor(&format!("{i:x}"), &[], 24, 32 * i);
    }
    assert!(check_gguf(&raw.data(32 * 20_000).0));
    let entries: Vec<String> = (0..20_000)
        .map(|i| {
            format!(
                r#""{i:x}":{{"dtype":"I8","shape":[],"data_offsets":[{i},{}]}}"#,
                i + 1
            )
        })
        .collect();
    let table = safetensors(&format!("{{{}}}", entries.join(",")), 20_000);
    assert!(check_safetensors(&table));
    let dims = format!(
        r#"{{"w":{{"dtype":"I8","shape":[{}1],"data_offsets":[0,1]}}}}"#,
        "1,".repeat(100_000)
    );
    assert!(!check_safetensors(&safetensors(&dims, 1)));
}
