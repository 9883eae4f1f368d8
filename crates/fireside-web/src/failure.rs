//! Errors for JavaScript: objects with a code, a message, and the field that is wrong where one is.

use fireside_model::ModelError;
use fireside_model::device::DeviceError;
use fireside_openai::ApiError;
use wasm_bindgen::prelude::*;

/// An error for JavaScript: an object with `code`, `message`, and `param` where a field is wrong.
pub(crate) fn failure(code: &str, message: impl ToString, param: Option<&str>) -> JsValue {
    let error = js_sys::Error::new(&message.to_string());
    let set = |name: &str, value: &str| {
        // A plain object takes any property.
        let _ = js_sys::Reflect::set(&error, &name.into(), &value.into());
    };
    set("code", code);
    if let Some(param) = param {
        set("param", param);
    }
    error.into()
}

pub(crate) fn api_failure(error: &ApiError) -> JsValue {
    let code = error.code.unwrap_or(error.kind.name());
    failure(code, &error.message, error.param.as_deref())
}

/// The error of a load, by whose fault it is.
pub(crate) fn model_failure(error: &ModelError) -> JsValue {
    let (code, param) = match error {
        ModelError::AdapterTooSmall { .. } => ("adapter_refused", None),
        ModelError::Device(DeviceError::Gone { .. } | DeviceError::Read { .. }) => {
            ("device_lost", None)
        }
        ModelError::Device(DeviceError::Wrong { .. }) => ("adapter_wrong", None),
        ModelError::Device(_) => ("adapter_refused", None),
        ModelError::OutOfMemory { .. } => ("bad_option", Some("contextSize")),
        _ => ("bad_model", None),
    };
    failure(code, error, param)
}
