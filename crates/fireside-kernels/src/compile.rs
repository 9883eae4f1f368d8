//! Pipelines made while something else goes on, mostly the way of the weights to the adapter.

use crate::device::{ComputeDevice, DeviceError};
use crate::queue::{Kernel, Queue};

/// Pipelines that are being made.
#[derive(Debug)]
pub struct Compiling(Option<Started>);

#[derive(Debug)]
struct Started {
    queue: Queue,
    kernels: Vec<Kernel>,
    own: platform::Own,
}

impl Compiling {
    /// Waits until they are made, so that nothing is compiled at their first launch.
    ///
    /// # Errors
    ///
    /// The device refuses a kernel.
    pub async fn done(self) -> Result<(), DeviceError> {
        let Some(started) = self.0 else {
            return Ok(());
        };
        // A browser remembers those that are held.
        let _held = started.own.wait().await?;
        for kernel in started.kernels {
            started.queue.pipeline(kernel)?;
        }
        Ok(())
    }
}

impl ComputeDevice {
    /// Begins to make the pipelines of all kernels that a task would launch. None of them runs, so that weights may
    /// be stand-ins of any size; what the task makes room for is allocated. On the CPU there is nothing to make.
    ///
    /// # Errors
    ///
    /// Those of the task, or the device's failure.
    pub fn compile<E: From<DeviceError> + Send + 'static>(
        &self,
        task: impl FnOnce() -> Result<(), E> + Send,
    ) -> Result<Compiling, E> {
        let Some(queue) = self.queue() else {
            return Ok(Compiling(None));
        };
        let (result, mut kernels) = self.list(task)?;
        result?;
        kernels.retain(|kernel| !queue.has(kernel));
        Ok(Compiling(Some(Started {
            own: platform::Own::start(queue, &kernels),
            queue: queue.clone(),
            kernels,
        })))
    }
}

/// Natively threads make them.
#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use rayon::prelude::*;

    use crate::device::DeviceError;
    use crate::queue::{Kernel, Queue};

    #[derive(Debug)]
    pub(super) struct Own(async_channel::Receiver<()>);

    impl Own {
        pub(super) fn start(queue: &Queue, kernels: &[Kernel]) -> Self {
            let (done, ended) = async_channel::bounded(1);
            let (queue, kernels) = (queue.clone(), kernels.to_vec());
            rayon::spawn(move || {
                kernels.par_iter().for_each(|kernel| {
                    // What the device says against a kernel is said again to whoever waits.
                    let _ = queue.pipeline(*kernel);
                });
                drop(done);
            });
            Self(ended)
        }

        pub(super) async fn wait(self) -> Result<Self, DeviceError> {
            // Nothing is sent: the channel closes.
            let _ = self.0.recv().await;
            Ok(self)
        }
    }
}

/// A browser makes them in its own process, and remembers by their content those that are alive. So they are
/// asked for past wgpu, which has no such call, and made by it once they are there.
#[cfg(target_arch = "wasm32")]
mod platform {
    use js_sys::{Array, Function, Object, Promise, Reflect};
    use wasm_bindgen::{JsCast, JsValue};
    use wasm_bindgen_futures::JsFuture;

    use crate::device::DeviceError;
    use crate::queue::{Kernel, Queue, lost};

    #[derive(Debug)]
    pub(super) struct Own(Vec<Promise>);

    impl Own {
        pub(super) fn start(queue: &Queue, kernels: &[Kernel]) -> Self {
            let Some(device) = queue.wgpu().as_webgpu() else {
                return Self(Vec::new());
            };
            let device: &JsValue = device.as_ref();
            // One that cannot be asked for is made when wgpu asks.
            let asked = kernels
                .iter()
                .filter_map(|kernel| ask(device, *kernel).ok());
            Self(asked.collect())
        }

        /// The pipelines. wgpu would not be told of one that is refused.
        pub(super) async fn wait(self) -> Result<Vec<JsValue>, DeviceError> {
            let mut made = Vec::with_capacity(self.0.len());
            for promise in self.0 {
                let pipeline = JsFuture::from(promise).await;
                made.push(pipeline.map_err(|thrown| lost(reason_of(&thrown)))?);
            }
            Ok(made)
        }
    }

    fn reason_of(thrown: &JsValue) -> String {
        let message = Reflect::get(thrown, &"message".into()).ok();
        let message = message.and_then(|message| message.as_string());
        message.unwrap_or_else(|| format!("{thrown:?}"))
    }

    fn object(fields: &[(&str, JsValue)]) -> Result<JsValue, JsValue> {
        let object = Object::new();
        for (name, value) in fields {
            Reflect::set(&object, &(*name).into(), value)?;
        }
        Ok(object.into())
    }

    fn call(device: &JsValue, method: &str, descriptor: &JsValue) -> Result<JsValue, JsValue> {
        let method: Function = Reflect::get(device, &method.into())?.dyn_into()?;
        method.call1(device, descriptor)
    }

    /// As [`Queue::pipeline`] has it made, field by field.
    fn ask(device: &JsValue, (variant, buffers): Kernel) -> Result<Promise, JsValue> {
        let source = variant.source().map_err(|error| error.to_string())?;
        let entries = Array::new();
        for binding in 0..=buffers {
            let kind = if binding < buffers {
                "storage"
            } else {
                "uniform"
            };
            entries.push(&object(&[
                ("binding", (binding as u32).into()),
                ("visibility", wgpu::ShaderStages::COMPUTE.bits().into()),
                ("buffer", object(&[("type", kind.into())])?),
            ])?);
        }
        let group = object(&[("entries", entries.into())])?;
        let group = call(device, "createBindGroupLayout", &group)?;
        let layouts = object(&[("bindGroupLayouts", Array::of1(&group).into())])?;
        let layout = call(device, "createPipelineLayout", &layouts)?;
        let module = object(&[("code", source.into())])?;
        let module = call(device, "createShaderModule", &module)?;
        let compute = object(&[("module", module), ("entryPoint", "main".into())])?;
        let pipeline = object(&[("layout", layout), ("compute", compute)])?;
        call(device, "createComputePipelineAsync", &pipeline)?.dyn_into()
    }
}
