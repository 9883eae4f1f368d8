//! Recorded steps: launches captured once, their buffers bound once, run again in one submission.
//!
//! An eager launch goes through Burn's runtime, which binds its buffers anew each time, and a read
//! through it takes a submission of its own. A decode step launches the same kernels over the same
//! buffers for every token and differs only in the words of its step buffer. So a step is captured
//! once, and a run of the [`Recording`] is an upload of those words, the dispatches and the copy of
//! the results, encoded together and submitted together; no buffer or bind group is created. A run may be
//! started before the results of the one before are read, and be fed words of them on the device.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use burn::tensor::{Int, Tensor};
use burn_wgpu::{CubeBackend, CubeTensor};
use cubecl::server::Handle;
use cubecl::wgpu::{AutoCompiler, WgpuResource, WgpuServer};
use fireside_shaders::Variant;

use crate::counters;
use crate::device::{ComputeDevice, DeviceError};

/// A kernel with its grid, buffers in the order of its bindings, and words of its parameter block.
pub(crate) struct Launch {
    pub(crate) variant: Variant,
    pub(crate) grid: [u32; 3],
    pub(crate) buffers: Vec<Handle>,
    pub(crate) params: Vec<u32>,
}

thread_local! {
    static CAPTURED: RefCell<Option<Vec<Launch>>> = const { RefCell::new(None) };
}

/// Launches that went to Burn's runtime, where they may wait for a flush.
static EAGER: AtomicU64 = AtomicU64::new(0);

/// Keeps a launch of this thread if a capture is under way; says whether it did.
pub(crate) fn capture(launch: impl FnOnce() -> Launch) -> bool {
    CAPTURED.with_borrow_mut(|captured| match captured {
        Some(launches) => {
            launches.push(launch());
            true
        }
        None => {
            EAGER.fetch_add(1, Ordering::Relaxed);
            false
        }
    })
}

/// Ends a capture when it goes out of scope, by a panic too.
struct Capture;

impl Capture {
    fn begin() -> Self {
        CAPTURED.set(Some(Vec::new()));
        Self
    }

    fn end(self) -> Vec<Launch> {
        CAPTURED.take().unwrap_or_default()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        CAPTURED.set(None);
    }
}

/// A place in a buffer of the adapter.
struct Bound {
    place: WgpuResource,
    /// While this lives, Burn's runtime neither moves the place nor gives it to another tensor.
    _held: Box<dyn Any + Send + Sync>,
}

/// A launch whose buffers are known to the adapter and held in place.
struct Resolved {
    launch: Launch,
    buffers: Vec<Bound>,
}

fn resolve(tensor: &CubeTensor, handle: &Handle) -> Result<Bound, DeviceError> {
    let held = tensor
        .client
        .get_resource::<WgpuServer<AutoCompiler>>(handle.clone())
        .map_err(|error| DeviceError::Read {
            reason: error.to_string(),
        })?;
    Ok(Bound {
        place: held.resource().clone(),
        _held: Box::new(held),
    })
}

fn primitive<const D: usize>(tensor: Tensor<D, Int>) -> Result<CubeTensor, DeviceError> {
    tensor
        .try_into_primitive::<CubeBackend>()
        .map_err(|error| DeviceError::Read {
            reason: format!("{error:?}"),
        })
}

/// What records steps on a wgpu device: its queue and the pipelines of all its recordings.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Mutex<HashMap<Variant, wgpu::ComputePipeline>>,
    /// The count of [`EAGER`] that has been flushed.
    flushed: AtomicU64,
    waiter: wait::Waiter,
}

/// A step that can be run again; `T` is what else its task made, kept with it.
pub struct Recording<T> {
    recorder: Recorder,
    device: ComputeDevice,
    dispatches: Vec<Dispatch>,
    /// The step buffer's place and its size in words.
    input: Bound,
    words: usize,
    /// The results' place and their size in bytes.
    output: Bound,
    bytes: u64,
    /// Where results are copied to be read: those that no read needs.
    staging: Mutex<Vec<wgpu::Buffer>>,
    /// What a run is fed on its way from results to step buffer, which may share a buffer.
    fed: OnceLock<wgpu::Buffer>,
    kept: T,
    /// Buffers of the launches, which nothing else may be given meanwhile.
    _bound: Vec<Bound>,
}

/// Words of the step buffer that are taken from the results of the run before, whatever those are: one of
/// each row of results. A token that is none (a row without any sound logit selects one) gathers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Rows of results, and words that are fed.
    pub count: usize,
    /// Words of a row of results, of which the first is taken.
    pub stride: usize,
    /// Where they go in the step buffer, in words.
    pub to: usize,
}

/// A run that was handed to the adapter and whose results are on their way. It may be dropped: the step
/// runs, and its results are not read.
#[derive(Debug)]
pub struct Running {
    staging: wgpu::Buffer,
    mapped: async_channel::Receiver<Result<(), String>>,
}

fn lost(reason: String) -> DeviceError {
    DeviceError::Read { reason }
}

struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    grid: [u32; 3],
}

impl<T> std::fmt::Debug for Recording<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("dispatches", &self.dispatches.len())
            .field("words", &self.words)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    pub(crate) fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self(Arc::new(Shared {
            waiter: wait::Waiter::new(device.clone()),
            device,
            queue,
            pipelines: Mutex::default(),
            flushed: AtomicU64::new(0),
        }))
    }

    /// Ends the device, and gives back what is on it.
    pub(crate) fn destroy(&self) {
        // What waits to be uploaded would hold its buffers.
        #[cfg(not(target_arch = "wasm32"))]
        self.0.queue.submit([]);
        self.0.device.destroy();
        // Natively that is done when its work has ended and it is asked; one that hangs keeps what it has.
        #[cfg(not(target_arch = "wasm32"))]
        let _ = self.0.device.poll(wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(std::time::Duration::from_secs(5)),
        });
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn allocated_bytes(&self) -> Option<u64> {
        let report = self.0.device.generate_allocator_report()?;
        Some(report.total_allocated_bytes)
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn copy_bandwidth(&self, bytes: u64) -> Result<f64, DeviceError> {
        /// Seconds of a timing.
        const TIMED: f64 = 0.1;
        let buffer = || {
            self.0.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("bytes of a copy"),
                size: bytes.next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT),
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let (from, to) = (buffer(), buffer());
        let copy = |count: u32| {
            let began = std::time::Instant::now();
            let mut encoder = self.0.device.create_command_encoder(&Default::default());
            for _ in 0..count {
                encoder.copy_buffer_to_buffer(&from, 0, &to, 0, from.size());
            }
            let index = self.0.queue.submit([encoder.finish()]);
            let wait = wgpu::PollType::Wait {
                submission_index: Some(index),
                timeout: None,
            };
            let waited = self.0.device.poll(wait);
            waited.map_err(|error| lost(error.to_string()))?;
            Ok::<_, DeviceError>(began.elapsed().as_secs_f64())
        };
        // The first one touches the memory.
        copy(1)?;
        let count = (TIMED / copy(1)?.max(1e-6)).clamp(1.0, 1024.0) as u32;
        let mut times = (0..5).map(|_| copy(count)).collect::<Result<Vec<_>, _>>()?;
        times.sort_by(f64::total_cmp);
        Ok(2.0 * f64::from(count) * from.size() as f64 / times[times.len() / 2])
    }

    fn pipeline(&self, variant: Variant) -> Result<wgpu::ComputePipeline, DeviceError> {
        let mut pipelines = self
            .0
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(&variant) {
            return Ok(pipeline.clone());
        }
        counters::pipeline();
        let source = variant.source().map_err(|error| DeviceError::Read {
            reason: error.to_string(),
        })?;
        let checks = wgpu::ShaderRuntimeChecks {
            bounds_checks: false,
            ..wgpu::ShaderRuntimeChecks::unchecked()
        };
        // SAFETY: the source is one of fireside-shaders' own, whose loops end, and whose indices stay
        // inside the buffers that the operations pass with it as long as the step buffer's words
        // (slots, block tables) are in range, which fireside-model's Plan checks before every step. Tokens,
        // which a run may be fed from results, and experts' ids, which a kernel writes, are checked by the
        // kernels that read them. The tests of
        // the operations run every kernel over a table of awkward shapes with these checks off, here and
        // through Burn.
        let module = unsafe {
            self.0.device.create_shader_module_trusted(
                wgpu::ShaderModuleDescriptor {
                    label: None,
                    source: wgpu::ShaderSource::Wgsl(source.into()),
                },
                checks,
            )
        };
        let pipeline = self
            .0
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            });
        pipelines.insert(variant, pipeline.clone());
        Ok(pipeline)
    }

    /// All parameter blocks in one buffer, and where each starts.
    fn params(&self, launches: &[Resolved]) -> Result<(wgpu::Buffer, Vec<u64>), DeviceError> {
        let align = u64::from(
            self.0
                .device
                .limits()
                .min_uniform_buffer_offset_alignment
                .max(16),
        );
        let mut starts = Vec::with_capacity(launches.len());
        let mut end = 0;
        for each in launches {
            starts.push(end);
            end += (each.launch.params.len().max(1) as u64 * 4).next_multiple_of(align);
        }
        let buffer = self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters of a recorded step"),
            size: end.max(align),
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        for (each, start) in launches.iter().zip(&starts) {
            self.0
                .queue
                .write_buffer(&buffer, *start, bytemuck::cast_slice(&each.launch.params));
        }
        Ok((buffer, starts))
    }

    fn dispatch(
        &self,
        each: &Resolved,
        params: &wgpu::Buffer,
        start: u64,
    ) -> Result<Dispatch, DeviceError> {
        let pipeline = self.pipeline(each.launch.variant)?;
        let size = (each.launch.params.len() as u64 * 4).next_multiple_of(16);
        let mut entries: Vec<_> = each
            .buffers
            .iter()
            .map(|bound| bound.place.as_wgpu_bind_resource())
            .collect();
        entries.push(wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: params,
            offset: start,
            size: NonZeroU64::new(size),
        }));
        let entries: Vec<_> = entries
            .into_iter()
            .zip(0..)
            .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let group = self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Ok(Dispatch {
            pipeline,
            group,
            grid: each.launch.grid,
        })
    }

    fn staging(&self, bytes: u64) -> wgpu::Buffer {
        self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("results of a recorded step"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}

impl<T: Send + 'static> Recording<T> {
    /// Captures a step: `task` gets a step buffer of `words` words and launches the step's kernels,
    /// which are kept instead of run. It gives the tensor to be read after each run, and whatever
    /// else the caller wants to keep.
    ///
    /// Launches only: an operation of Burn's own inside the task would run once, now.
    /// `None` where the device has no queue to record for: the CPU.
    ///
    /// # Errors
    ///
    /// Those of the task, or a device that refuses a kernel.
    pub async fn new<E: From<DeviceError> + Send + 'static>(
        device: &ComputeDevice,
        words: usize,
        task: impl FnOnce(&Tensor<1, Int>) -> Result<(Tensor<2, Int>, T), E> + Send,
    ) -> Result<Option<Self>, E> {
        let Some(recorder) = device.recorder() else {
            return Ok(None);
        };
        let recorder = recorder.clone();
        // What was uploaded or filled from this thread comes before every run.
        device.flush()?;
        let captured = device.run(|| capture_task(device, words, task))??;
        let Captured {
            launches,
            input,
            output,
            bytes,
            kept,
        } = captured;
        let scope = recorder
            .0
            .device
            .push_error_scope(wgpu::ErrorFilter::Validation);
        let made = recorder.params(&launches).and_then(|(params, starts)| {
            launches
                .iter()
                .zip(starts)
                .map(|(each, start)| recorder.dispatch(each, &params, start))
                .collect::<Result<Vec<_>, _>>()
        });
        let refused = scope.pop();
        let dispatches = made?;
        if let Some(error) = refused.await {
            return Err(E::from(DeviceError::Read {
                reason: error.to_string(),
            }));
        }
        Ok(Some(Self {
            staging: Mutex::default(),
            fed: OnceLock::new(),
            recorder,
            device: device.clone(),
            dispatches,
            input,
            words,
            output,
            bytes,
            kept,
            _bound: launches.into_iter().flat_map(|each| each.buffers).collect(),
        }))
    }

    /// What the task made besides.
    pub fn kept(&self) -> &T {
        &self.kept
    }

    /// Runs the step over these words of the step buffer, of which there may be fewer than it
    /// holds, and reads the results. Kernels do not check them but for tokens: slots and tables must be in
    /// range, as they must be for the operations themselves.
    ///
    /// Dropping the future is allowed: the step runs, and its results are not read.
    ///
    /// # Errors
    ///
    /// More words than the step buffer holds, or the device's failure.
    pub async fn run(&self, words: &[u32]) -> Result<Vec<u32>, DeviceError> {
        self.results(self.start(words, None)?).await
    }

    /// Hands a run to the adapter, without waiting for it or for those before; `fed` words come from the
    /// results of this recording's last one.
    ///
    /// # Errors
    ///
    /// More words than the step buffer holds, fed words that are not there, or the device's failure.
    pub fn start(&self, words: &[u32], fed: Option<Fed>) -> Result<Running, DeviceError> {
        if words.len() > self.words {
            return Err(lost(format!(
                "a step of {} words was recorded for {}",
                words.len(),
                self.words
            )));
        }
        if let Some(fed) = fed {
            let rows = self.bytes as usize / 4 / fed.stride.max(1);
            if fed.count == 0 || fed.count > rows || fed.to + fed.count > words.len() {
                return Err(lost(format!(
                    "{} of {rows} rows cannot be fed to word {} of {}",
                    fed.count,
                    fed.to,
                    words.len()
                )));
            }
        }
        let shared = &self.recorder.0;
        let eager = EAGER.load(Ordering::Relaxed);
        if shared.flushed.load(Ordering::Relaxed) != eager {
            // Launches wait on the stream of the thread that made them, which is the device's.
            let device = &self.device;
            device.run(|| device.hand_over())??;
            shared.flushed.store(eager, Ordering::Relaxed);
        }
        let staging = self
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_else(|| self.recorder.staging(self.bytes));
        let input = &self.input.place;
        shared
            .queue
            .write_buffer(&input.buffer, input.offset, bytemuck::cast_slice(words));
        let mut encoder = shared.device.create_command_encoder(&Default::default());
        if let Some(fed) = fed {
            self.feed(&mut encoder, fed);
        }
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for each in &self.dispatches {
                pass.set_pipeline(&each.pipeline);
                pass.set_bind_group(0, &each.group, &[]);
                let [x, y, z] = each.grid;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        let output = &self.output.place;
        encoder.copy_buffer_to_buffer(&output.buffer, output.offset, &staging, 0, self.bytes);
        let index = shared.queue.submit([encoder.finish()]);
        counters::launches(self.dispatches.len());
        counters::read(self.bytes as usize);
        counters::submits(1);

        let (sender, mapped) = async_channel::bounded(1);
        let answer = sender.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // A receiver that is gone wants no answer.
            let _ = answer.try_send(result.map_err(|error| error.to_string()));
        });
        shared.waiter.wait(index, sender);
        Ok(Running { staging, mapped })
    }

    /// Copies the fed words by way of a buffer of their own.
    fn feed(&self, encoder: &mut wgpu::CommandEncoder, fed: Fed) {
        let (input, output) = (&self.input.place, &self.output.place);
        let between = self.fed.get_or_init(|| {
            self.recorder
                .0
                .device
                .create_buffer(&wgpu::BufferDescriptor {
                    label: Some("words fed to a recorded step"),
                    size: self.bytes,
                    usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
        });
        for row in 0..fed.count as u64 {
            let from = output.offset + row * fed.stride as u64 * 4;
            encoder.copy_buffer_to_buffer(&output.buffer, from, between, row * 4, 4);
        }
        let to = input.offset + fed.to as u64 * 4;
        encoder.copy_buffer_to_buffer(between, 0, &input.buffer, to, fed.count as u64 * 4);
    }

    /// Waits for the results of a run of this recording.
    ///
    /// # Errors
    ///
    /// The device's failure.
    pub async fn results(&self, running: Running) -> Result<Vec<u32>, DeviceError> {
        let Running { staging, mapped } = running;
        mapped
            .recv()
            .await
            .map_err(|_| lost("the device ended".into()))?
            .map_err(lost)?;
        let found = {
            let view = staging
                .get_mapped_range(..)
                .map_err(|error| lost(error.to_string()))?;
            bytemuck::pod_collect_to_vec(&view)
        };
        staging.unmap();
        self.staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(staging);
        Ok(found)
    }
}

/// A captured step on its way out of the device's thread.
struct Captured<T> {
    launches: Vec<Resolved>,
    input: Bound,
    output: Bound,
    bytes: u64,
    kept: T,
}

fn capture_task<T, E: From<DeviceError>>(
    device: &ComputeDevice,
    words: usize,
    task: impl FnOnce(&Tensor<1, Int>) -> Result<(Tensor<2, Int>, T), E>,
) -> Result<Captured<T>, E> {
    let step = device.words(vec![0; words])?;
    let capture = Capture::begin();
    let result = task(&step);
    let launches = capture.end();
    let (output, kept) = result?;
    let step = primitive(step)?;
    let output = primitive(output)?;
    let launches = launches
        .into_iter()
        .map(|launch| {
            let buffers = launch
                .buffers
                .iter()
                .map(|handle| resolve(&step, handle))
                .collect::<Result<_, _>>()?;
            Ok(Resolved { launch, buffers })
        })
        .collect::<Result<Vec<_>, DeviceError>>()?;
    let captured = Captured {
        launches,
        input: resolve(&step, &step.handle)?,
        bytes: output.meta.num_elements() as u64 * 4,
        output: resolve(&output, &output.handle)?,
        kept,
    };
    // The zeros of the step buffer must not come after a run's words.
    device.flush()?;
    Ok(captured)
}

/// Natively somebody has to wait for the adapter before a callback is called; a thread does, so
/// that an async caller never blocks.
#[cfg(not(target_arch = "wasm32"))]
mod wait {
    use std::sync::mpsc;

    type Answer = async_channel::Sender<Result<(), String>>;

    #[derive(Debug)]
    pub(super) struct Waiter(mpsc::Sender<(wgpu::SubmissionIndex, Answer)>);

    impl Waiter {
        pub(super) fn new(device: wgpu::Device) -> Self {
            let (sender, requests) = mpsc::channel::<(wgpu::SubmissionIndex, Answer)>();
            std::thread::spawn(move || {
                for (index, answer) in requests {
                    let waited = device.poll(wgpu::PollType::Wait {
                        submission_index: Some(index),
                        timeout: None,
                    });
                    if let Err(error) = waited {
                        // A full channel has the callback's answer already.
                        let _ = answer.try_send(Err(error.to_string()));
                    }
                }
            });
            Self(sender)
        }

        /// Calls the callbacks of a submission once it is done; tells `answer` of a failure.
        pub(super) fn wait(&self, index: wgpu::SubmissionIndex, answer: Answer) {
            if let Err(mpsc::SendError((_, answer))) = self.0.send((index, answer)) {
                let _ = answer.try_send(Err("the device's thread ended".into()));
            }
        }
    }
}

/// A browser calls back by itself.
#[cfg(target_arch = "wasm32")]
mod wait {
    #[derive(Debug)]
    pub(super) struct Waiter;

    impl Waiter {
        pub(super) fn new(_device: wgpu::Device) -> Self {
            Self
        }

        pub(super) fn wait(
            &self,
            _index: wgpu::SubmissionIndex,
            _answer: async_channel::Sender<Result<(), String>>,
        ) {
        }
    }
}
