//! Launches: gathered and submitted together, kept for a recording, or listed without running.

use std::any::Any;
use std::cell::RefCell;

use burn_wgpu::CubeTensor;
use cubecl::client::Client;
use cubecl::server::Handle;
use cubecl::wgpu::{AutoCompiler, WgpuResource, WgpuServer};
use fireside_shaders::Variant;

use crate::device::{ComputeDevice, DeviceError};
use crate::queue::{Kernel, Placed, Queue, lost};

/// A kernel with its grid, buffers in the order of its bindings, and words of its parameter block.
pub(crate) struct Launch {
    pub(crate) variant: Variant,
    pub(crate) grid: [u32; 3],
    pub(crate) buffers: Vec<Handle>,
    pub(crate) params: Vec<u32>,
}

impl Launch {
    /// The launch with the places of its buffers, and what holds them there.
    pub(crate) fn placed(self, client: &Client) -> Result<(Placed, Vec<Bound>), DeviceError> {
        let bound = self.buffers.iter().map(|handle| resolve(client, handle));
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let placed = Placed {
            variant: self.variant,
            grid: self.grid,
            places: bound.iter().map(|own| own.place.clone()).collect(),
            params: self.params,
        };
        Ok((placed, bound))
    }
}

/// What becomes of a thread's launches.
enum Mode {
    /// They are kept with their buffers, which no other tensor may be given then.
    Keep(Vec<Launch>),
    /// They run together. Memory that a tensor leaves is free for those after it: the adapter runs launches
    /// in their order.
    Gather(Gathered),
    /// Their kernels are noted, and nothing runs.
    List(Vec<Kernel>),
}

thread_local! {
    static MODE: RefCell<Option<Mode>> = const { RefCell::new(None) };
}

/// Sets what becomes of launches until it goes out of scope, by a panic too; then it is as before.
struct Scope(Option<Mode>);

impl Scope {
    fn of(mode: Mode) -> Self {
        Self(MODE.replace(Some(mode)))
    }

    fn end(self) -> Option<Mode> {
        MODE.take()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        MODE.set(self.0.take());
    }
}

/// Whether launches of this thread wait to be submitted together: an upload would come before them.
pub(crate) fn is_waiting() -> bool {
    MODE.with_borrow(|mode| match mode {
        Some(Mode::Gather(gathered)) => !gathered.placed.is_empty(),
        _ => false,
    })
}

/// A place in a buffer of the adapter.
pub(crate) struct Bound {
    pub(crate) place: WgpuResource,
    /// While this lives, Burn's runtime neither moves the place nor gives it to another tensor.
    _held: Box<dyn Any + Send + Sync>,
}

/// The place of a tensor's memory.
pub(crate) fn resolve(client: &Client, handle: &Handle) -> Result<Bound, DeviceError> {
    let held = client.get_resource::<WgpuServer<AutoCompiler>>(handle.clone());
    let held = held.map_err(lost)?;
    Ok(Bound {
        place: held.resource().clone(),
        _held: Box::new(held),
    })
}

/// Launches on their way to the adapter.
#[derive(Default)]
struct Gathered {
    placed: Vec<Placed>,
    failed: Option<DeviceError>,
}

impl Gathered {
    fn add(&mut self, client: &Client, launch: Launch) {
        match launch.placed(client) {
            // Not held: memory that is let go of may be used again behind this launch.
            Ok((placed, _)) => self.placed.push(placed),
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }

    fn submit(self, queue: &Queue) -> Result<(), DeviceError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.placed.is_empty() {
            return Ok(());
        }
        let dispatches = queue.bind(&self.placed)?;
        let mut encoder = queue.wgpu().create_command_encoder(&Default::default());
        queue.encode(&mut encoder, &dispatches);
        queue.submit(encoder);
        Ok(())
    }
}

/// Launches a kernel over tensors, by what becomes of this thread's launches; it runs by itself where nothing
/// was said. Its failure is then that of the next use of the device.
pub(crate) fn launch(like: &CubeTensor, launch: Launch) {
    let alone = MODE.with_borrow_mut(|mode| match mode {
        Some(Mode::Keep(launches)) => {
            launches.push(launch);
            None
        }
        Some(Mode::Gather(gathered)) => {
            gathered.add(&like.client, launch);
            None
        }
        Some(Mode::List(kernels)) => {
            let kernel = (launch.variant, launch.buffers.len());
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
            None
        }
        None => Some(launch),
    });
    // Tensors of a device that was destroyed fail when they are read.
    if let (Some(launch), Ok(queue)) = (alone, Queue::of(&like.device)) {
        let mut gathered = Gathered::default();
        gathered.add(&like.client, launch);
        let flushed = like.client.flush().map_err(lost);
        if let Err(error) = flushed.and_then(|()| gathered.submit(&queue)) {
            queue.fail(error);
        }
    }
}

/// Runs a task whose launches are kept instead of run.
pub(crate) fn keep<R>(task: impl FnOnce() -> R) -> (R, Vec<Launch>) {
    let scope = Scope::of(Mode::Keep(Vec::new()));
    let result = task();
    match scope.end() {
        Some(Mode::Keep(launches)) => (result, launches),
        _ => (result, Vec::new()),
    }
}

impl ComputeDevice {
    /// Runs a task that launches kernels, on the thread that owns the device, and hands them to the adapter
    /// together. What the task uploads comes before all of them, so it uploads first. On the CPU it just runs.
    ///
    /// # Errors
    ///
    /// The device's failure, that of an earlier launch included.
    pub fn launch<R: Send + 'static>(
        &self,
        task: impl FnOnce() -> R + Send,
    ) -> Result<R, DeviceError> {
        let Some(queue) = self.queue() else {
            return Ok(task());
        };
        // What was uploaded from this thread comes before.
        self.hand_over()?;
        self.run(|| {
            let scope = Scope::of(Mode::Gather(Gathered::default()));
            let result = task();
            let gathered = match scope.end() {
                Some(Mode::Gather(gathered)) => gathered,
                _ => Gathered::default(),
            };
            // And what the task uploaded.
            self.hand_over()?;
            gathered.submit(queue)?;
            Ok(result)
        })?
    }

    /// The kernels that a task would launch; none of them runs.
    pub(crate) fn list<R: Send + 'static>(
        &self,
        task: impl FnOnce() -> R + Send,
    ) -> Result<(R, Vec<Kernel>), DeviceError> {
        self.run(|| {
            let scope = Scope::of(Mode::List(Vec::new()));
            let result = task();
            match scope.end() {
                Some(Mode::List(kernels)) => (result, kernels),
                _ => (result, Vec::new()),
            }
        })
    }
}
