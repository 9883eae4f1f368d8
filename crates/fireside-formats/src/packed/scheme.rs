//! What `quantization_config` of a config.json says.

use serde_json::Value;

use crate::FormatError;

/// How the linear weights of a checkpoint are quantized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// GPTQ: integers along the inputs, `BASE.qweight` as `[in / 8, out]`.
    Gptq {
        /// Bits of a weight, 4 or 8.
        bits: usize,
        /// Inputs that share a scale; `None` for all of them.
        group: Option<usize>,
        /// What is added to a stored zero point.
        offset: u32,
    },
    /// AWQ: 4-bit integers along the outputs, `BASE.qweight` as `[in, out / 8]`.
    Awq {
        /// Inputs that share a scale; `None` for all of them.
        group: Option<usize>,
    },
    /// 8-bit floats with a scale for each tensor, output or square of 128.
    Fp8,
}

impl Scheme {
    /// The scheme of a model by its config.json; `None` where its weights are not packed.
    ///
    /// # Errors
    ///
    /// [`FormatError::BadQuantization`] for a scheme that is not known here.
    pub fn from_config(config: &Value) -> Result<Option<Self>, FormatError> {
        let own = &config["quantization_config"];
        if own.is_null() {
            return Ok(None);
        }
        let method = own["quant_method"].as_str().unwrap_or_default();
        let scheme = match method {
            "gptq" => gptq(own)?,
            "awq" => awq(own)?,
            "fp8" => Self::Fp8,
            "compressed-tensors" => {
                let format = own["format"].as_str().unwrap_or_default();
                if format != "float-quantized" {
                    return Err(unknown("format", &own["format"], "\"float-quantized\""));
                }
                Self::Fp8
            }
            _ => {
                let expected = "\"gptq\", \"awq\", \"fp8\" or \"compressed-tensors\"";
                return Err(unknown("quant_method", &own["quant_method"], expected));
            }
        };
        Ok(Some(scheme))
    }
}

fn unknown(field: &'static str, found: &Value, expected: &'static str) -> FormatError {
    let mut found = found.to_string();
    found.truncate(found.floor_char_boundary(100));
    FormatError::BadQuantization {
        field,
        found,
        expected,
    }
}

fn group(own: &Value) -> Result<Option<usize>, FormatError> {
    let value = match &own["group_size"] {
        Value::Null => &own["q_group_size"],
        value => value,
    };
    if value.as_i64() == Some(-1) {
        return Ok(None);
    }
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    match size {
        Some(size) if size > 0 && size.is_multiple_of(32) => Ok(Some(size)),
        _ => Err(unknown("group_size", value, "-1 or a multiple of 32")),
    }
}

fn gptq(own: &Value) -> Result<Scheme, FormatError> {
    let bits = match own["bits"].as_u64() {
        Some(4) => 4,
        Some(8) => 8,
        _ => return Err(unknown("bits", &own["bits"], "4 or 8")),
    };
    let offset = match own["checkpoint_format"].as_str() {
        None | Some("gptq") => 1,
        Some("gptq_v2") => 0,
        Some(_) => {
            let expected = "\"gptq\" or \"gptq_v2\"";
            return Err(unknown(
                "checkpoint_format",
                &own["checkpoint_format"],
                expected,
            ));
        }
    };
    Ok(Scheme::Gptq {
        bits,
        group: group(own)?,
        offset,
    })
}

fn awq(own: &Value) -> Result<Scheme, FormatError> {
    let bits = match &own["bits"] {
        Value::Null => &own["w_bit"],
        bits => bits,
    };
    if bits.as_u64() != Some(4) {
        return Err(unknown("bits", bits, "4"));
    }
    let version = own["version"].as_str().unwrap_or("gemm");
    if !version.eq_ignore_ascii_case("gemm") {
        return Err(unknown("version", &own["version"], "\"gemm\""));
    }
    Ok(Scheme::Awq { group: group(own)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(own: Value) -> Result<Option<Scheme>, String> {
        let config = json!({ "quantization_config": own });
        Scheme::from_config(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn known_schemes_are_read_and_others_are_told_what_is_known() {
        assert_eq!(Scheme::from_config(&json!({})), Ok(None));
        assert_eq!(
            of(json!({ "quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false })),
            Ok(Some(Scheme::Gptq {
                bits: 4,
                group: Some(128),
                offset: 1
            }))
        );
        assert_eq!(
            of(
                json!({ "quant_method": "gptq", "bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2" })
            ),
            Ok(Some(Scheme::Gptq {
                bits: 8,
                group: None,
                offset: 0
            }))
        );
        assert_eq!(
            of(json!({ "quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM" })),
            Ok(Some(Scheme::Awq { group: Some(64) }))
        );
        assert_eq!(of(json!({ "quant_method": "fp8" })), Ok(Some(Scheme::Fp8)));
        let wrong = |own| of(own).unwrap_err();
        assert_eq!(
            wrong(json!({ "quant_method": "bitsandbytes" })),
            "quantization_config.quant_method is \"bitsandbytes\", expected \"gptq\", \"awq\", \"fp8\" or \"compressed-tensors\""
        );
        assert_eq!(
            wrong(json!({ "quant_method": "gptq", "bits": 3 })),
            "quantization_config.bits is 3, expected 4 or 8"
        );
        assert_eq!(
            wrong(json!({ "quant_method": "awq", "bits": 4, "group_size": 48 })),
            "quantization_config.group_size is 48, expected -1 or a multiple of 32"
        );
        assert_eq!(
            wrong(json!({ "quant_method": "awq", "bits": 4, "version": "gemv" })),
            "quantization_config.version is \"gemv\", expected \"gemm\""
        );
    }
}
