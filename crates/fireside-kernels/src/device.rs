//! Adapters and devices: what wgpu sees, which one is used, and a Burn device on top of it.

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;

use crate::params::Profile;
use crate::queue::Queue;
pub use crate::transfer::{read_floats, read_words};

/// Which of a machine's GPUs a browser is asked for.
#[cfg(target_arch = "wasm32")]
pub use wgpu::PowerPreference;

/// What went wrong while a device was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No adapter at all.
    #[error(
        "no gpu adapter found: install a vulkan driver (debian: apt-get install mesa-vulkan-drivers) or use --device cpu"
    )]
    NoAdapter,
    /// There is no adapter of that number.
    #[error("adapter {index} does not exist: there are {count}, see `fireside adapters`")]
    NoSuchAdapter {
        /// The number asked for.
        index: usize,
        /// Adapters there are.
        count: usize,
    },
    /// The adapter lacks something the kernels need.
    #[error(
        "adapter {name:?} has {what} {has}, the kernels need {needs}: use another adapter or --device cpu"
    )]
    TooSmall {
        /// The adapter's name.
        name: String,
        /// The limit.
        what: &'static str,
        /// Its value.
        has: u64,
        /// What would do.
        needs: u64,
    },
    /// The device could not be created.
    #[error("adapter {name:?} refused a device: {reason}")]
    Refused {
        /// The adapter's name.
        name: String,
        /// What wgpu or Burn said.
        reason: String,
    },
    /// The adapter computes something else than it should.
    #[error("adapter {name:?} gives wrong results: update its driver or use another adapter")]
    Wrong {
        /// The adapter's name.
        name: String,
    },
    /// The device's thread ended.
    #[error("the device is gone: {reason}")]
    Gone {
        /// What Burn said.
        reason: String,
    },
    /// A result could not be read back.
    #[error("the device failed while results were read: {reason}")]
    Read {
        /// What Burn said.
        reason: String,
    },
}

/// Which device to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best GPU, else a software adapter, else the CPU.
    #[default]
    Auto,
    /// The best adapter, software ones included; an error without any.
    Gpu,
    /// The twins on Flex.
    Cpu,
    /// An adapter by its number in [`adapters`].
    Adapter(usize),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "gpu" => Ok(Self::Gpu),
            "cpu" => Ok(Self::Cpu),
            number => number.parse().map(Self::Adapter).map_err(|_| {
                format!("{text:?} is no device: use auto, gpu, cpu or an adapter number")
            }),
        }
    }
}

/// One adapter as wgpu reports it.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// Position in the list, the number that `--device` takes.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `cpu` (software) or `other`.
    pub kind: &'static str,
    /// Driver name and version.
    pub driver: String,
    /// Graphics API, such as `vulkan`.
    pub backend: String,
    /// Whether it is a CPU that plays a GPU.
    pub software: bool,
    /// Whether it has `shader-f16`.
    pub f16: bool,
    /// Lanes that a subgroup has at the least; zero without subgroup operations.
    pub subgroup_lanes: u32,
    /// Largest storage binding, in bytes.
    pub max_binding: u64,
    /// Largest buffer, in bytes.
    pub max_buffer: u64,
    /// Most invocations of a workgroup.
    pub max_invocations: u32,
    /// Workgroup memory, in bytes.
    pub workgroup_memory: u32,
    /// Storage buffers of a shader.
    pub storage_buffers: u32,
}

/// Whether an adapter's names are those of a software adapter: browsers report no type.
fn is_software(names: &str) -> bool {
    let names = names.to_lowercase();
    ["swiftshader", "llvmpipe", "lavapipe", "basic render"]
        .iter()
        .any(|name| names.contains(name))
}

impl AdapterReport {
    fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let limits = adapter.limits();
        let features = adapter.features();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete-gpu",
            wgpu::DeviceType::IntegratedGpu => "integrated-gpu",
            wgpu::DeviceType::VirtualGpu => "virtual-gpu",
            wgpu::DeviceType::Cpu => "cpu",
            wgpu::DeviceType::Other => "other",
        };
        let names = format!("{} {} {}", info.name, info.driver, info.driver_info);
        let named_software = is_software(&names);
        Self {
            index,
            name: info.name,
            kind,
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_string(),
            backend: info.backend.to_string(),
            software: info.device_type == wgpu::DeviceType::Cpu || named_software,
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroup_lanes: if features.contains(wgpu::Features::SUBGROUP) {
                info.subgroup_min_size
            } else {
                0
            },
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
        }
    }

    /// The kernel shapes that suit this adapter.
    pub fn profile(&self) -> Profile {
        Profile {
            software: self.software,
            subgroups: self.software && self.subgroup_lanes >= 8,
        }
    }

    fn check(&self) -> Result<(), DeviceError> {
        let needs = [
            (
                "invocations per workgroup",
                u64::from(self.max_invocations),
                256,
            ),
            (
                "bytes of workgroup memory",
                u64::from(self.workgroup_memory),
                16384,
            ),
            (
                "storage buffers per stage",
                u64::from(self.storage_buffers),
                8,
            ),
            ("bytes per storage binding", self.max_binding, 128 << 20),
        ];
        for (what, has, needs) in needs {
            if has < needs {
                return Err(DeviceError::TooSmall {
                    name: self.name.clone(),
                    what,
                    has,
                    needs,
                });
            }
        }
        Ok(())
    }
}

/// A device to run on: Burn's, with what is known of the adapter behind it.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    burn: Device,
    adapter: Option<AdapterReport>,
    profile: Profile,
    queue: Option<Queue>,
}

/// The APIs asked, in order: GL only where nothing else answers, since probing it can print
/// to the user's terminal.
#[cfg(not(target_arch = "wasm32"))]
const API_ORDER: [wgpu::Backends; 2] = [
    wgpu::Backends::VULKAN
        .union(wgpu::Backends::METAL)
        .union(wgpu::Backends::DX12),
    wgpu::Backends::GL,
];

#[cfg(not(target_arch = "wasm32"))]
async fn enumerate() -> (wgpu::Instance, Vec<wgpu::Adapter>) {
    let mut last = None;
    for backends in API_ORDER {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        descriptor.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(descriptor);
        let adapters = instance.enumerate_adapters(backends).await;
        if !adapters.is_empty() {
            return (instance, adapters);
        }
        last = Some(instance);
    }
    let instance = last.unwrap_or_default();
    (instance, Vec::new())
}

/// Every adapter that wgpu sees, in the order of their numbers.
#[cfg(not(target_arch = "wasm32"))]
pub async fn adapters() -> Vec<AdapterReport> {
    let (_instance, adapters) = enumerate().await;
    adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| AdapterReport::new(index, adapter))
        .collect()
}

/// Lower is better: hardware before software, discrete before integrated.
#[cfg(not(target_arch = "wasm32"))]
fn preference(report: &AdapterReport) -> u32 {
    match (report.software, report.kind) {
        (true, _) => 9,
        (_, "discrete-gpu") => 0,
        (_, "integrated-gpu") => 1,
        (_, "virtual-gpu") => 2,
        _ => 3,
    }
}

/// The number of the adapter that `auto` takes, if any.
#[cfg(not(target_arch = "wasm32"))]
pub fn preferred(reports: &[AdapterReport]) -> Option<usize> {
    reports
        .iter()
        .min_by_key(|r| preference(r))
        .map(|r| r.index)
}

impl ComputeDevice {
    /// The CPU: every operation runs its twin.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn cpu() -> Self {
        Self {
            burn: Device::flex(),
            adapter: None,
            profile: Profile {
                software: true,
                subgroups: false,
            },
            queue: None,
        }
    }

    /// Opens the chosen device.
    ///
    /// # Errors
    ///
    /// No such adapter, one below WebGPU's base limits, or one that refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn open(choice: DeviceChoice) -> Result<Self, DeviceError> {
        if choice == DeviceChoice::Cpu {
            return Ok(Self::cpu());
        }
        let (instance, adapters) = enumerate().await;
        let reports: Vec<_> = adapters
            .iter()
            .enumerate()
            .map(|(index, adapter)| AdapterReport::new(index, adapter))
            .collect();
        let index = match choice {
            DeviceChoice::Adapter(index) if index >= reports.len() => {
                return Err(DeviceError::NoSuchAdapter {
                    index,
                    count: reports.len(),
                });
            }
            DeviceChoice::Adapter(index) => index,
            DeviceChoice::Auto => match preferred(&reports) {
                Some(index) if reports[index].check().is_ok() => index,
                _ => return Ok(Self::cpu()),
            },
            DeviceChoice::Gpu | DeviceChoice::Cpu => {
                preferred(&reports).ok_or(DeviceError::NoAdapter)?
            }
        };
        let report = reports
            .into_iter()
            .nth(index)
            .ok_or(DeviceError::NoAdapter)?;
        let adapter = adapters
            .into_iter()
            .nth(index)
            .ok_or(DeviceError::NoAdapter)?;
        Self::on(instance, adapter, report).await
    }

    /// Opens the browser's adapter. `name` is what the page knows of it (vendor and architecture),
    /// since browsers rarely fill in the description that wgpu reads; `power` is a wish.
    ///
    /// # Errors
    ///
    /// No adapter, one below WebGPU's base limits, or one that refuses.
    #[cfg(target_arch = "wasm32")]
    pub async fn open(name: &str, power: PowerPreference) -> Result<Self, DeviceError> {
        let instance = wgpu::Instance::default();
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: power,
                ..Default::default()
            })
            .await
            .map_err(|_| DeviceError::NoAdapter)?;
        let mut report = AdapterReport::new(0, &adapter);
        if report.name.is_empty() {
            report.name = name.to_owned();
        }
        report.software |= is_software(name);
        Self::on(instance, adapter, report).await
    }

    async fn on(
        instance: wgpu::Instance,
        adapter: wgpu::Adapter,
        report: AdapterReport,
    ) -> Result<Self, DeviceError> {
        report.check()?;
        // A browser's reason goes on with a trace.
        let refused = |reason: String| DeviceError::Refused {
            name: report.name.clone(),
            reason: reason.lines().next().unwrap_or_default().to_owned(),
        };
        // Burn's own kernels use the number types that the adapter has.
        let wanted = wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::SHADER_F64
            | wgpu::Features::SHADER_FLOAT32_ATOMIC
            | wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("fireside"),
                required_features: adapter.features() & wanted,
                required_limits: adapter.limits(),
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..Default::default()
            })
            .await
            .map_err(|error| refused(error.to_string()))?;
        let backend = adapter.get_info().backend;
        let own = Queue::new(device.clone(), queue.clone());
        let burn = Device::wgpu_options()
            // A step is below a thousand launches, none of which is to be submitted before the read.
            .tasks_max(4096)
            .setup(WgpuSetup {
                instance,
                adapter,
                device,
                queue,
                backend,
            })
            .init()
            .map_err(|error| refused(error.to_string()))?;
        if let DispatchDevice::Cube(device) = burn.as_dispatch() {
            own.open(device);
        }
        let profile = report.profile();
        Ok(Self {
            burn,
            adapter: Some(report),
            profile,
            queue: Some(own),
        })
    }

    /// The same device with other kernel shapes: tests run both on one adapter.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Gives the adapter's memory back at once, with all that is on it; what uses the device
    /// afterwards fails. Without it CubeCL keeps its pools for as long as the process or the page
    /// lives.
    pub fn destroy(&self) {
        if let Some(queue) = &self.queue {
            queue.destroy();
        }
    }

    /// Bytes that are allocated on the device, where its API counts them.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.queue.as_ref()?.allocated_bytes()
    }

    /// Bytes per second that a copy of so many bytes on the device reaches, read and written together;
    /// `None` on the CPU.
    ///
    /// # Errors
    ///
    /// The device's failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn copy_bandwidth(&self, bytes: u64) -> Result<Option<f64>, DeviceError> {
        let queue = self.queue.as_ref();
        queue
            .map(|own| own.copy_bandwidth(bytes.min(self.max_binding())))
            .transpose()
    }

    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    /// The same device with a smaller limit on bindings, in bytes: what a lesser adapter would take.
    /// Nothing changes on the CPU, which has no bindings.
    #[must_use]
    pub fn with_max_binding(mut self, bytes: u64) -> Self {
        if let Some(adapter) = &mut self.adapter {
            adapter.max_binding = adapter.max_binding.min(bytes);
        }
        self
    }

    /// Burn's device.
    pub fn burn(&self) -> &Device {
        &self.burn
    }

    /// The adapter behind it; `None` for the CPU.
    pub fn adapter(&self) -> Option<&AdapterReport> {
        self.adapter.as_ref()
    }

    /// The kernel shapes in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Bytes that one binding may have.
    pub fn max_binding(&self) -> u64 {
        self.adapter
            .as_ref()
            .map_or(u64::MAX, |a| a.max_binding.min(a.max_buffer))
    }

    /// Runs a task on the thread that owns the device: what asks the device from another one crosses a short
    /// queue each time. In a browser, where there is one thread, it just runs.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        task: impl FnOnce() -> R + Send,
    ) -> Result<R, DeviceError> {
        match self.burn.as_dispatch() {
            DispatchDevice::Cube(device) => {
                device
                    .client()
                    .exclusive(task)
                    .map_err(|error| DeviceError::Gone {
                        reason: error.to_string(),
                    })
            }
            _ => Ok(task()),
        }
    }

    /// Hands everything uploaded so far to the adapter, without waiting for it.
    ///
    /// Uploads wait in host memory until then.
    ///
    /// # Errors
    ///
    /// The failure of an earlier launch.
    pub fn flush(&self) -> Result<(), DeviceError> {
        if self.adapter.is_some() {
            crate::counters::submits(1);
        }
        self.hand_over()
    }

    /// A flush that is not counted: it mostly finds nothing, since a read has flushed before it.
    pub(crate) fn hand_over(&self) -> Result<(), DeviceError> {
        self.queue.as_ref().map_or(Ok(()), Queue::check)?;
        self.burn.flush().map_err(|error| DeviceError::Read {
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> AdapterReport {
        AdapterReport {
            index: 0,
            name: "a small one".into(),
            kind: "integrated-gpu",
            driver: String::new(),
            backend: "vulkan".into(),
            software: false,
            f16: false,
            subgroup_lanes: 0,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_invocations: 256,
            workgroup_memory: 16384,
            storage_buffers: 8,
        }
    }

    #[test]
    fn an_adapter_of_the_base_limits_will_do() {
        assert!(report().check().is_ok());
    }

    #[test]
    fn an_adapter_below_a_limit_is_refused_by_the_limits_name() {
        type Shrink = fn(&mut AdapterReport);
        let small: [(Shrink, &str); 4] = [
            (|r| r.max_invocations = 128, "invocations per workgroup 128"),
            (
                |r| r.workgroup_memory = 8192,
                "bytes of workgroup memory 8192",
            ),
            (|r| r.storage_buffers = 4, "storage buffers per stage 4"),
            (
                |r| r.max_binding = 1 << 20,
                "bytes per storage binding 1048576",
            ),
        ];
        for (shrink, says) in small {
            let mut report = report();
            shrink(&mut report);
            let error = report.check().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(error.contains("\"a small one\""), "{error}");
            assert!(error.contains("--device cpu"), "{error}");
        }
    }
}
