//! One kernel of each kind on the browser's adapter against its twin, and what a launch costs.

use burn::tensor::{DType, Int, Tensor, TensorData};
use fireside_kernels::counters::Counters;
use fireside_kernels::device::{ComputeDevice, PowerPreference, read_floats, read_words};
use fireside_kernels::layout::{Block, Layout, Planes, padded};
use fireside_kernels::ops::{self, LinearExtras, NormExtras, PlaneTensors};
use fireside_kernels::params::{
    Activation, AdjustParams, AttentionParams, BLOCK, EmbedParams, GluParams, KvDtype,
    LinearParams, MatrixShape, NormParams, Profile, RopeParams, SelectParams,
};
use fireside_kernels::record::{Fed, Recording};
use fireside_kernels::twin::{self, KvPlace};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

const TOLERANCE: f32 = 1e-4;

/// Runs every kernel on the adapter, of which the page knows the name, and gives a JSON text: `adapter`, `results` with `name`, `ok`, `max_error`
/// and `tolerance` of each, and `launch_us`, the main-thread time of one launch.
///
/// # Errors
///
/// No adapter, or one that fails, as a message.
#[wasm_bindgen]
pub async fn smoke(adapter: &str) -> Result<String, JsValue> {
    console_error_panic_hook::set_once();
    let device = ComputeDevice::open(adapter, PowerPreference::HighPerformance)
        .await
        .map_err(|e| JsValue::from_str(&e.to_string()))?;
    let name = device
        .adapter()
        .map_or_else(String::new, |a| format!("{} {}", a.name, a.driver));
    let mut results = Vec::new();
    for software in [true, false] {
        let device = device.clone().with_profile(Profile {
            software,
            subgroups: false,
        });
        Smoke {
            device,
            results: &mut results,
        }
        .all(if software {
            "software shapes"
        } else {
            "gpu shapes"
        })
        .await
        .map_err(|e| JsValue::from_str(&e.to_string()))?;
    }
    let launch_us = launch_time(&device)
        .await
        .map_err(|e| JsValue::from_str(&e.to_string()))?;
    Ok(json!({
        "adapter": name,
        "results": results,
        "launch_us": launch_us,
        "pipelines": Counters::now().pipelines,
    })
    .to_string())
}

type Failure = fireside_kernels::device::DeviceError;

struct Smoke<'a> {
    device: ComputeDevice,
    results: &'a mut Vec<Value>,
}

fn number(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*seed >> 8) as f32 / (1 << 23) as f32 - 1.0
}

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut seed = seed;
    (0..count).map(|_| number(&mut seed)).collect()
}

impl Smoke<'_> {
    fn compare(&mut self, name: String, actual: &[f32], expected: &[f32]) {
        let size = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let error = actual
            .iter()
            .zip(expected)
            .map(|(a, e)| (a - e).abs() / size)
            // `max` passes over NaN, which is as wrong as can be.
            .fold(
                0.0,
                |m: f32, e| if e.is_nan() { f32::INFINITY } else { m.max(e) },
            );
        let ok = actual.len() == expected.len() && error <= TOLERANCE;
        self.results.push(json!({
            "name": name, "ok": ok, "max_error": error, "tolerance": TOLERANCE,
        }));
    }

    fn matrix(&self, values: Vec<f32>, stride: usize) -> Tensor<2> {
        let rows = values.len() / stride;
        Tensor::from_data(
            TensorData::new(values, [rows, stride]),
            (self.device.burn(), DType::F32),
        )
    }

    fn planes(
        &self,
        layout: Layout,
        rows: usize,
        columns: usize,
    ) -> Result<(Planes, PlaneTensors), Failure> {
        let mut planes = Planes::new(layout, rows, columns);
        let mut seed = 7;
        for row in 0..rows {
            if layout.scale_group() == 0 {
                planes.set_row(row, &numbers(columns, row as u32));
                continue;
            }
            for index in 0..columns / 32 {
                let mut quants = [0i8; 32];
                for q in &mut quants {
                    *q = (number(&mut seed) * 7.0 + 8.0) as i8;
                }
                let minimum = if layout.has_minimum() { -1.0 } else { 0.0 };
                let block = Block {
                    quants,
                    scale: [0.125; 2],
                    minimum: [minimum; 2],
                };
                planes.set_block(row, index, &block);
            }
        }
        let tensors = PlaneTensors {
            quants: self.device.words(planes.quants.clone())?,
            scales: match planes.scales.clone() {
                none if none.is_empty() => None,
                scales => Some(self.device.words(scales)?),
            },
        };
        Ok((planes, tensors))
    }

    async fn all(&mut self, shapes: &str) -> Result<(), Failure> {
        self.linear(shapes).await?;
        self.embed_and_norm(shapes).await?;
        self.attention(shapes).await?;
        self.glu(shapes).await?;
        self.select(shapes).await?;
        self.fed(shapes).await
    }

    async fn linear(&mut self, shapes: &str) -> Result<(), Failure> {
        for layout in Layout::ALL {
            for tokens in [1, 5, 33] {
                // More chunks than a workgroup splits K into.
                let (rows, columns) = (192, 352);
                let (planes, tensors) = self.planes(layout, rows, columns)?;
                let x = numbers(tokens * columns, 1);
                let params = LinearParams {
                    matrix: MatrixShape {
                        layout,
                        rows,
                        columns,
                    },
                    tokens,
                    y_stride: rows,
                    row_offset: 0,
                    rows_out: rows,
                    glu: None,
                    norm: None,
                    activation: None,
                    cap: None,
                    profile: self.device.profile(),
                };
                let mut expected = vec![0.0; tokens * rows];
                twin::linear(&planes.view(), &x, None, None, None, &params, &mut expected);
                let y = ops::linear(
                    &self.matrix(x, columns),
                    &tensors,
                    LinearExtras::default(),
                    None,
                    params,
                );
                let actual = read_floats(y).await?;
                self.compare(
                    format!("linear {layout:?}, {tokens} tokens, {shapes}"),
                    &actual,
                    &expected,
                );
            }
        }
        Ok(())
    }

    async fn embed_and_norm(&mut self, shapes: &str) -> Result<(), Failure> {
        let (rows, columns) = (100, 96);
        let (planes, tensors) = self.planes(Layout::Q8, rows, columns)?;
        let step = vec![3, 99, 0, 0, 1, 2];
        let profile = self.device.profile();
        let embed = EmbedParams {
            table: MatrixShape {
                layout: Layout::Q8,
                rows,
                columns,
            },
            tokens: 3,
            tokens_at: 0,
            first: 0,
            scale: 1.0,
            add: false,
            profile,
        };
        let mut expected = vec![0.0; 3 * columns];
        twin::embed(&planes.view(), &step, &embed, &mut expected);
        let words = self.device.words(step.clone())?;
        let x = ops::embed(&tensors, &words, None, embed.clone());
        let actual = read_floats(x.clone()).await?;
        self.compare(format!("embed, {shapes}"), &actual, &expected);

        let norm = NormParams {
            width: columns,
            eps: 1e-5,
            rows: 3,
            rows_at: 3,
            profile,
        };
        let gain = numbers(columns, 5);
        let mut normed = vec![0.0; 3 * columns];
        let bias = numbers(columns, 6);
        twin::norm(
            &expected,
            &gain,
            &step,
            Some(&bias),
            Some(&expected),
            &norm,
            &mut normed,
        );
        let bias = self.device.floats(bias)?;
        // A buffer may be bound to be written once only.
        let residual = ops::embed(&tensors, &words, None, embed);
        let extras = NormExtras {
            bias: Some(&bias),
            residual: Some(&residual),
        };
        let y = ops::norm(&x, &self.device.floats(gain)?, &words, extras, norm);
        let actual = read_floats(y).await?;
        self.compare(format!("norm, {shapes}"), &actual, &normed);
        Ok(())
    }

    async fn attention(&mut self, shapes: &str) -> Result<(), Failure> {
        // Enough tokens for a second block, which lies before the first.
        let (heads, kv_heads, head_dim, tokens) = (6, 2, 32, 37);
        let profile = self.device.profile();
        for kv in [KvDtype::F16, KvDtype::F32, KvDtype::Q8] {
            let block = BLOCK as u32;
            let slot = |t: u32| if t < block { block + t } else { t - block };
            let mut step: Vec<u32> = (0..tokens as u32).map(slot).collect();
            let angles = numbers(tokens * head_dim, 2);
            step.extend(angles.iter().map(|a| a.to_bits()));
            let tiles_at = step.len();
            let tiles = tokens.div_ceil(4);
            let table = (tiles_at + 4 * tiles) as u32;
            for first in (0..tokens).step_by(4) {
                let count = 4.min(tokens - first);
                step.extend([first as u32, count as u32, table, first as u32]);
            }
            step.extend([1, 0]);
            let rope = RopeParams {
                tokens,
                heads,
                kv_heads,
                head_dim,
                rotary: head_dim,
                slots_at: 0,
                angles_at: tokens,
                norm: None,
                kv,
                profile,
            };
            let attention = AttentionParams {
                heads,
                kv_heads,
                head_dim,
                scale: 0.2,
                window: 0,
                cap: None,
                tiles,
                tiles_at,
                tile_tokens: 4,
                ends_at: None,
                kv,
                profile,
            };
            let width = (heads + 2 * kv_heads) * head_dim;
            let qkv = numbers(tokens * padded(width), 3);
            let cache_words = 2 * kv_heads * kv.head_words(head_dim);
            let (mut keys, mut values) = (vec![0; cache_words], vec![0; cache_words]);
            let stride = padded(heads * head_dim);
            let mut q = vec![0.0; tokens * stride];
            twin::rope_kv(&qkv, &mut keys, &mut values, &step, None, &rope, &mut q);

            let words = self.device.words(step.clone())?;
            let zeros = || self.device.words(vec![0; cache_words]);
            let (device_q, device_keys, device_values) = ops::rope_kv(
                self.matrix(qkv, padded(width)),
                zeros()?,
                zeros()?,
                &words,
                None,
                rope,
            );
            let out = ops::attention(
                device_q.clone(),
                &device_keys,
                &device_values,
                &words,
                attention.clone(),
            );
            let actual_q = read_floats(device_q).await?;
            self.compare(format!("rope_kv {kv:?}, {shapes}"), &actual_q, &q);
            // A byte that rounds the other way moves a result by more than the tolerance: what is stored is
            // compared by itself, and attention is that over what the device stored.
            if kv == KvDtype::Q8 {
                let mut far = 0;
                for (key, own, device) in [
                    (true, &mut keys, device_keys),
                    (false, &mut values, device_values),
                ] {
                    let found = read_words(device).await?;
                    for (slot, head) in (0..tokens as u32)
                        .flat_map(|t| (0..kv_heads).map(move |head| (slot(t), head)))
                    {
                        let place = KvPlace {
                            kv,
                            key,
                            slot: slot as usize,
                            head,
                            kv_heads,
                            head_dim,
                        };
                        let (a, e) = (place.scale(&found), place.scale(own));
                        let off = |dim: &usize| {
                            (place.load(&found, *dim) - place.load(own, *dim)).abs() > 1.0
                        };
                        far += usize::from((a - e).abs() > 1e-5 * e);
                        far += (0..head_dim).filter(off).count();
                    }
                    *own = found;
                }
                self.compare(format!("bytes of rope_kv, {shapes}"), &[far as f32], &[0.0]);
            }
            let mut expected = vec![0.0; tokens * stride];
            twin::attention(&q, &keys, &values, &step, &attention, &mut expected);
            let actual = read_floats(out).await?;
            // A half that rounds the other way moves a result by up to 1e-3 of a value.
            self.compare(format!("attention {kv:?}, {shapes}"), &actual, &expected);
        }
        Ok(())
    }

    async fn glu(&mut self, shapes: &str) -> Result<(), Failure> {
        let params = GluParams {
            width: 70,
            offset: Some(96),
            activation: Activation::Silu,
            profile: self.device.profile(),
        };
        let x = numbers(2 * 192, 4);
        let mut expected = vec![0.0; 2 * 96];
        twin::glu(&x, 192, &params, &mut expected);
        let actual = read_floats(ops::glu(self.matrix(x, 192), params)).await?;
        self.compare(format!("glu, {shapes}"), &actual, &expected);
        Ok(())
    }

    async fn select(&mut self, shapes: &str) -> Result<(), Failure> {
        let vocab = 3001;
        let stride = padded(vocab);
        let mut logits = numbers(stride, 6);
        let mut step = vec![(1.0f32 / 0.8).to_bits(), 1, 42, 0, 3, 2999, 0, 0];
        step.extend([0, 17, 1.5f32.to_bits(), 4.0f32.to_bits()]);
        let profile = self.device.profile();
        let adjust = AdjustParams {
            count: 1,
            entries_at: 8,
            profile,
        };
        let params = SelectParams {
            vocab,
            keep: 16,
            rows_at: 0,
            profile,
        };
        let words = self.device.words(step.clone())?;
        let device_logits =
            ops::adjust_logits(self.matrix(logits.clone(), stride), &words, adjust.clone());
        let found: Tensor<2, Int> = ops::select(&device_logits, &words, params.clone());
        let found = read_words(found).await?;
        twin::adjust_logits(&mut logits, stride, &step, &adjust);
        let mut expected = vec![0; params.out_stride()];
        twin::select(&logits, stride, &step, &params, &mut expected);
        let actual_logits = read_floats(device_logits).await?;
        self.compare(format!("adjust_logits, {shapes}"), &actual_logits, &logits);
        // Ids must be equal, sums close.
        let ids = |words: &[u32]| -> Vec<f32> {
            std::iter::once(words[0])
                .chain(words[8..].iter().step_by(2).copied())
                .map(|id| id as f32)
                .collect()
        };
        self.compare(
            format!("select ids, {shapes}"),
            &ids(&found),
            &ids(&expected),
        );
        let sums = |words: &[u32]| -> Vec<f32> {
            [2, 3, 4, 6].map(|at| f32::from_bits(words[at])).to_vec()
        };
        self.compare(
            format!("select sums, {shapes}"),
            &sums(&found),
            &sums(&expected),
        );
        Ok(())
    }
}

impl Smoke<'_> {
    /// Runs of a recording that are all started before one is read, each fed with what the one before it
    /// selects, against runs that wait.
    async fn fed(&mut self, shapes: &str) -> Result<(), Failure> {
        let matrix = MatrixShape {
            layout: Layout::Q8,
            rows: 100,
            columns: 96,
        };
        let (_, table) = self.planes(matrix.layout, matrix.rows, matrix.columns)?;
        let profile = self.device.profile();
        let select = SelectParams {
            vocab: matrix.columns,
            keep: 4,
            rows_at: 1,
            profile,
        };
        let step = |token: u32| {
            let mut words = vec![token, 1.0f32.to_bits()];
            words.resize(9, 0);
            words
        };
        let recording = Recording::new::<Failure>(&self.device, 9, |words| {
            let embed = EmbedParams {
                table: matrix,
                tokens: 1,
                tokens_at: 0,
                first: 0,
                scale: 1.0,
                add: false,
                profile,
            };
            let row = ops::embed(&table, words, None, embed);
            Ok((ops::select(&row, words, select.clone()), row))
        });
        let Some(recording) = recording.await? else {
            self.compare(format!("a recording, {shapes}"), &[], &[1.0]);
            return Ok(());
        };
        let (mut token, mut expected) = (9, Vec::new());
        for _ in 0..4 {
            let found = recording.run(&step(token)).await?;
            token = found[0];
            expected.push(found);
        }
        let fed = Fed {
            count: 1,
            stride: expected[0].len(),
            to: 0,
        };
        let mut started = vec![recording.start(&step(9), None)?];
        for _ in 0..3 {
            started.push(recording.start(&step(50), Some(fed))?);
        }
        let mut actual = Vec::new();
        for running in started {
            actual.push(recording.results(running).await?);
        }
        // The very words: as numbers, one that stands for a float would hide a wrong id.
        let same = f32::from(u8::from(actual == expected));
        self.compare(format!("fed runs, {shapes}"), &[same], &[1.0]);
        Ok(())
    }
}

/// Microseconds of main-thread time per launch, over some hundred launches of a small kernel.
async fn launch_time(device: &ComputeDevice) -> Result<f64, Failure> {
    const LAUNCHES: usize = 400;
    let gain = device.floats(vec![1.0; 32])?;
    let words = device.words(vec![0])?;
    let start = Tensor::from_data(
        TensorData::new(vec![1.0f32; 32], [1, 32]),
        (device.burn(), DType::F32),
    );
    let params = || NormParams {
        width: 32,
        eps: 1e-5,
        rows: 1,
        rows_at: 0,
        profile: device.profile(),
    };
    let warm = ops::norm(&start, &gain, &words, NormExtras::default(), params());
    read_floats(warm).await?;
    let timer = web_time::Instant::now();
    let mut x = start;
    for _ in 0..LAUNCHES {
        x = ops::norm(&x, &gain, &words, NormExtras::default(), params());
    }
    let spent = timer.elapsed();
    read_floats(x).await?;
    Ok(spent.as_secs_f64() * 1e6 / LAUNCHES as f64)
}
