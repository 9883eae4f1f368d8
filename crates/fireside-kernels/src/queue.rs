//! Our own way to a wgpu device: pipelines, and launches that are bound and submitted together.
//!
//! Burn's runtime owns the memory and the uploads. Kernels go past it: one table of pipelines serves steps
//! that run once and steps that are recorded, and can be filled before anything runs.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubecl::Device as CubeDevice;
use cubecl::wgpu::WgpuResource;
use fireside_shaders::Variant;

use crate::counters;
use crate::device::DeviceError;
use wait::Waiter;

/// A wgpu device with its queue, and the pipelines that were made on it.
#[derive(Debug, Clone)]
pub(crate) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    made: Mutex<Made>,
    /// What went wrong where nobody could be told.
    failed: Mutex<Option<DeviceError>>,
    waiter: Waiter,
}

#[derive(Debug, Default)]
struct Made {
    pipelines: HashMap<Variant, wgpu::ComputePipeline>,
    /// By their storage buffers.
    layouts: HashMap<usize, Layout>,
}

/// The bindings of a kernel: storage buffers, then its parameters.
#[derive(Debug, Clone)]
struct Layout {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// A kernel as its pipeline is made: the variant, and how many storage buffers it binds.
pub(crate) type Kernel = (Variant, usize);

/// A launch whose buffers have their places.
pub(crate) struct Placed {
    pub(crate) variant: Variant,
    pub(crate) grid: [u32; 3],
    pub(crate) places: Vec<WgpuResource>,
    pub(crate) params: Vec<u32>,
}

/// A launch that is bound.
pub(crate) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    grid: [u32; 3],
}

pub(crate) fn lost(reason: impl ToString) -> DeviceError {
    DeviceError::Read {
        reason: reason.to_string(),
    }
}

fn lock<T>(own: &Mutex<T>) -> MutexGuard<'_, T> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queues of devices that were opened and not destroyed, for a launch that knows its tensors alone. Burn's runtime
/// keeps its side of a device as long.
static OPEN: Mutex<Vec<(CubeDevice, Queue)>> = Mutex::new(Vec::new());

impl Queue {
    pub(crate) fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self(Arc::new(Shared {
            waiter: Waiter::new(device.clone()),
            device,
            queue,
            made: Mutex::default(),
            failed: Mutex::default(),
        }))
    }

    /// Makes it the queue of launches over this device's tensors.
    pub(crate) fn open(&self, device: &CubeDevice) {
        let mut open = lock(&OPEN);
        open.retain(|(own, _)| own != device);
        open.push((device.clone(), self.clone()));
    }

    /// The queue of a device's tensors.
    pub(crate) fn of(device: &CubeDevice) -> Result<Self, DeviceError> {
        let open = lock(&OPEN);
        let own = open.iter().find(|(own, _)| own == device);
        own.map(|(_, queue)| queue.clone())
            .ok_or_else(|| DeviceError::Gone {
                reason: "it was destroyed".into(),
            })
    }

    pub(crate) fn wgpu(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// Keeps a failure for whoever uses the queue next.
    pub(crate) fn fail(&self, error: DeviceError) {
        lock(&self.0.failed).get_or_insert(error);
    }

    /// The failure of an earlier launch that nobody was told of.
    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        lock(&self.0.failed).take().map_or(Ok(()), Err)
    }

    pub(crate) fn write(&self, place: &WgpuResource, words: &[u32]) {
        let bytes = bytemuck::cast_slice(words);
        self.0
            .queue
            .write_buffer(&place.buffer, place.offset, bytes);
    }

    /// Hands commands to the adapter.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        counters::submits(1);
        self.0.queue.submit([encoder.finish()])
    }

    pub(crate) fn waiter(&self) -> &Waiter {
        &self.0.waiter
    }

    /// Ends the device, and gives back what is on it.
    pub(crate) fn destroy(&self) {
        lock(&OPEN).retain(|(_, queue)| !Arc::ptr_eq(&queue.0, &self.0));
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
            waited.map_err(lost)?;
            Ok::<_, DeviceError>(began.elapsed().as_secs_f64())
        };
        // The first one touches the memory.
        copy(1)?;
        let count = (TIMED / copy(1)?.max(1e-6)).clamp(1.0, 1024.0) as u32;
        let mut times = (0..5).map(|_| copy(count)).collect::<Result<Vec<_>, _>>()?;
        times.sort_by(f64::total_cmp);
        Ok(2.0 * f64::from(count) * from.size() as f64 / times[times.len() / 2])
    }

    fn layout(&self, buffers: usize) -> Layout {
        let made = &mut lock(&self.0.made).layouts;
        made.entry(buffers)
            .or_insert_with(|| {
                let entries: Vec<_> = (0..=buffers)
                    .zip(0..)
                    .map(|(at, binding)| wgpu::BindGroupLayoutEntry {
                        binding,
                        visibility: wgpu::ShaderStages::COMPUTE,
                        ty: wgpu::BindingType::Buffer {
                            ty: if at < buffers {
                                wgpu::BufferBindingType::Storage { read_only: false }
                            } else {
                                wgpu::BufferBindingType::Uniform
                            },
                            has_dynamic_offset: false,
                            min_binding_size: None,
                        },
                        count: None,
                    })
                    .collect();
                let device = &self.0.device;
                let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: None,
                    entries: &entries,
                });
                let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: None,
                    bind_group_layouts: &[Some(&group)],
                    immediate_size: 0,
                });
                Layout { group, pipeline }
            })
            .clone()
    }

    /// Whether a kernel has its pipeline.
    pub(crate) fn has(&self, (variant, _): &Kernel) -> bool {
        lock(&self.0.made).pipelines.contains_key(variant)
    }

    /// The pipeline of a kernel, made where there is none.
    pub(crate) fn pipeline(
        &self,
        (variant, buffers): Kernel,
    ) -> Result<wgpu::ComputePipeline, DeviceError> {
        if let Some(pipeline) = lock(&self.0.made).pipelines.get(&variant) {
            return Ok(pipeline.clone());
        }
        let source = variant.source().map_err(lost)?;
        let layout = self.layout(buffers);
        // Not under the lock: several threads may be compiling.
        let pipeline = self.refused(|device| compiled(device, source, &layout.pipeline))?;
        let made = &mut lock(&self.0.made).pipelines;
        Ok(made
            .entry(variant)
            .or_insert_with(|| {
                counters::pipeline();
                pipeline
            })
            .clone())
    }

    /// Makes something, and gives what the device says against it. A browser says it later, to its console.
    fn refused<T>(&self, make: impl FnOnce(&wgpu::Device) -> T) -> Result<T, DeviceError> {
        #[cfg(target_arch = "wasm32")]
        return Ok(make(&self.0.device));
        #[cfg(not(target_arch = "wasm32"))]
        {
            let scope = self
                .0
                .device
                .push_error_scope(wgpu::ErrorFilter::Validation);
            let made = make(&self.0.device);
            pollster::block_on(scope.pop()).map_or(Ok(made), |error| Err(lost(error)))
        }
    }

    /// Binds launches in their order, their parameters in one buffer.
    pub(crate) fn bind(&self, launches: &[Placed]) -> Result<Vec<Dispatch>, DeviceError> {
        let device = &self.0.device;
        let align = device.limits().min_uniform_buffer_offset_alignment.max(16) as usize / 4;
        let mut starts = Vec::with_capacity(launches.len());
        let mut words = Vec::new();
        for each in launches {
            starts.push(words.len());
            words.extend(&each.params);
            words.resize(words.len().next_multiple_of(align).max(align), 0);
        }
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters of kernels"),
            size: words.len().max(align) as u64 * 4,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bytes = bytemuck::cast_slice(&words);
        self.0.queue.write_buffer(&params, 0, bytes);
        let each = launches.iter().zip(starts);
        each.map(|(launch, start)| self.dispatch(launch, &params, start as u64 * 4))
            .collect()
    }

    fn dispatch(
        &self,
        launch: &Placed,
        params: &wgpu::Buffer,
        start: u64,
    ) -> Result<Dispatch, DeviceError> {
        let buffers = launch.places.len();
        let pipeline = self.pipeline((launch.variant, buffers))?;
        let size = (launch.params.len() as u64 * 4).next_multiple_of(16);
        let places = launch.places.iter();
        let mut entries: Vec<_> = places.map(WgpuResource::as_wgpu_bind_resource).collect();
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
            layout: &self.layout(buffers).group,
            entries: &entries,
        });
        Ok(Dispatch {
            pipeline,
            group,
            grid: launch.grid,
        })
    }

    /// Encodes dispatches that run one after the other.
    pub(crate) fn encode(&self, encoder: &mut wgpu::CommandEncoder, dispatches: &[Dispatch]) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for each in dispatches {
            pass.set_pipeline(&each.pipeline);
            pass.set_bind_group(0, &each.group, &[]);
            let [x, y, z] = each.grid;
            pass.dispatch_workgroups(x, y, z);
        }
        counters::launches(dispatches.len());
    }
}

fn compiled(
    device: &wgpu::Device,
    source: String,
    layout: &wgpu::PipelineLayout,
) -> wgpu::ComputePipeline {
    let checks = wgpu::ShaderRuntimeChecks {
        bounds_checks: false,
        ..wgpu::ShaderRuntimeChecks::unchecked()
    };
    // SAFETY: the source is one of fireside-shaders' own, whose loops end, and whose indices stay
    // inside the buffers that the operations pass with it as long as the step buffer's words
    // (slots, block tables) are in range, which fireside-model's Plan checks before every step. Tokens,
    // which a run may be fed from results, and experts' ids, which a kernel writes, are checked by the
    // kernels that read them. The tests of the operations run every kernel over a table of awkward shapes
    // with these checks off.
    let module = unsafe {
        device.create_shader_module_trusted(
            wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl(source.into()),
            },
            checks,
        )
    };
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: Some(layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    })
}

/// Natively somebody has to wait for the adapter before a callback is called; a thread does, so
/// that an async caller never blocks.
#[cfg(not(target_arch = "wasm32"))]
mod wait {
    use std::sync::mpsc;

    type Answer = async_channel::Sender<Result<(), String>>;

    #[derive(Debug)]
    pub(crate) struct Waiter(mpsc::Sender<(wgpu::SubmissionIndex, Answer)>);

    impl Waiter {
        pub(crate) fn new(device: wgpu::Device) -> Self {
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
        pub(crate) fn wait(&self, index: wgpu::SubmissionIndex, answer: Answer) {
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
    pub(crate) struct Waiter;

    impl Waiter {
        pub(crate) fn new(_device: wgpu::Device) -> Self {
            Self
        }

        pub(crate) fn wait(
            &self,
            _index: wgpu::SubmissionIndex,
            _answer: async_channel::Sender<Result<(), String>>,
        ) {
        }
    }
}
