//! Recorded steps: launches captured once, their buffers bound once, run again in one submission.
//!
//! Launches that run once are bound anew each time, and a read through Burn's runtime takes a submission of
//! its own. A decode step launches the same kernels over the same
//! buffers for every token and differs only in the words of its step buffer. So a step is captured
//! once, and a run of the [`Recording`] is an upload of those words, the dispatches and the copy of
//! the results, encoded together and submitted together; no buffer or bind group is created. A run may be
//! started before the results of the one before are read, and be fed words of them on the device.

use std::sync::{Mutex, OnceLock, PoisonError};

use burn::tensor::{Int, Tensor};
use burn_wgpu::{CubeBackend, CubeTensor};

use crate::counters;
use crate::device::{ComputeDevice, DeviceError};
use crate::launch::{Bound, keep, resolve};
use crate::queue::{Dispatch, Placed, Queue, lost};

fn primitive<const D: usize>(tensor: Tensor<D, Int>) -> Result<CubeTensor, DeviceError> {
    tensor
        .try_into_primitive::<CubeBackend>()
        .map_err(|error| DeviceError::Read {
            reason: format!("{error:?}"),
        })
}

/// A step that can be run again; `T` is what else its task made, kept with it.
pub struct Recording<T> {
    queue: Queue,
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

impl<T> std::fmt::Debug for Recording<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording")
            .field("dispatches", &self.dispatches.len())
            .field("words", &self.words)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
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
        let Some(queue) = device.queue() else {
            return Ok(None);
        };
        // What was uploaded or filled from this thread comes before every run.
        device.flush()?;
        let captured = device.run(|| capture_task(device, words, task))??;
        let Captured {
            launches,
            bound,
            input,
            output,
            bytes,
            kept,
        } = captured;
        let scope = queue.wgpu().push_error_scope(wgpu::ErrorFilter::Validation);
        let made = queue.bind(&launches);
        let refused = scope.pop();
        let dispatches = made?;
        if let Some(error) = refused.await {
            return Err(E::from(lost(error)));
        }
        Ok(Some(Self {
            staging: Mutex::default(),
            fed: OnceLock::new(),
            queue: queue.clone(),
            dispatches,
            input,
            words,
            output,
            bytes,
            kept,
            _bound: bound,
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
        self.queue.check()?;
        let staging = self
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_else(|| self.new_staging());
        self.queue.write(&self.input.place, words);
        let device = self.queue.wgpu();
        let mut encoder = device.create_command_encoder(&Default::default());
        if let Some(fed) = fed {
            self.feed(&mut encoder, fed);
        }
        self.queue.encode(&mut encoder, &self.dispatches);
        let output = &self.output.place;
        encoder.copy_buffer_to_buffer(&output.buffer, output.offset, &staging, 0, self.bytes);
        let index = self.queue.submit(encoder);
        counters::read(self.bytes as usize);

        let (sender, mapped) = async_channel::bounded(1);
        let answer = sender.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // A receiver that is gone wants no answer.
            let _ = answer.try_send(result.map_err(|error| error.to_string()));
        });
        self.queue.waiter().wait(index, sender);
        Ok(Running { staging, mapped })
    }

    fn new_staging(&self) -> wgpu::Buffer {
        self.queue.wgpu().create_buffer(&wgpu::BufferDescriptor {
            label: Some("results of a recorded step"),
            size: self.bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Copies the fed words by way of a buffer of their own.
    fn feed(&self, encoder: &mut wgpu::CommandEncoder, fed: Fed) {
        let (input, output) = (&self.input.place, &self.output.place);
        let between = self.fed.get_or_init(|| {
            self.queue.wgpu().create_buffer(&wgpu::BufferDescriptor {
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
            .map_err(|_| lost("the device ended"))?
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
    launches: Vec<Placed>,
    bound: Vec<Bound>,
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
    let (result, launches) = keep(|| task(&step));
    let (output, kept) = result?;
    let step = primitive(step)?;
    let output = primitive(output)?;
    let mut bound = Vec::new();
    let mut placed = Vec::with_capacity(launches.len());
    for launch in launches {
        let (launch, held) = launch.placed(&step.client)?;
        placed.push(launch);
        bound.extend(held);
    }
    let captured = Captured {
        launches: placed,
        bound,
        input: resolve(&step.client, &step.handle)?,
        bytes: output.meta.num_elements() as u64 * 4,
        output: resolve(&output.client, &output.handle)?,
        kept,
    };
    // The zeros of the step buffer must not come after a run's words.
    device.flush()?;
    Ok(captured)
}
