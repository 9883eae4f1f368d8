//! GPTQ's and AWQ's integers, as blocks of 32 inputs of one output.

use std::borrow::Cow;

use half::f16;

use super::{Scheme, bad, find, floats};
use crate::{DType, FormatError, TensorInfo, TensorSource};

/// The outputs whose weights lie in one word of AWQ, from its lowest 4 bits up.
const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// A packed weight: its tensors, and how they are to be read.
#[derive(Debug)]
pub(super) struct Shape {
    /// Its name without `.qweight`.
    base: String,
    bits: usize,
    /// Whether integers lie along the outputs.
    awq: bool,
    inputs: usize,
    outputs: usize,
    /// Inputs that share a scale.
    group: usize,
    /// What is added to a stored zero point.
    offset: u32,
    dtype: DType,
}

impl Shape {
    /// The weight that a tensor holds the integers of; `None` for any other tensor.
    pub(super) fn of(
        source: &dyn TensorSource,
        info: &TensorInfo,
        scheme: &Scheme,
    ) -> Result<Option<Self>, FormatError> {
        let Some(base) = info.name.strip_suffix(".qweight") else {
            return Ok(None);
        };
        let (bits, group, offset, awq) = match scheme {
            Scheme::Gptq {
                bits,
                group,
                offset,
            } => (*bits, *group, *offset, false),
            Scheme::Awq { group } => (4, *group, 0, true),
            Scheme::Fp8 => return Ok(None),
        };
        let per_word = 32 / bits;
        let (&[rows, columns], DType::I32) = (info.shape.as_slice(), info.dtype) else {
            let reason = format!(
                "it has type {} and shape {:?}; expected I32 and two dimensions",
                info.dtype, info.shape
            );
            return Err(bad(&info.name, reason));
        };
        let (inputs, outputs) = if awq {
            (Some(rows), columns.checked_mul(per_word))
        } else {
            (rows.checked_mul(per_word), Some(columns))
        };
        let (Some(inputs), Some(outputs)) = (inputs, outputs) else {
            return Err(bad(&info.name, "its dimensions overflow"));
        };
        if inputs == 0 || !inputs.is_multiple_of(32) || !outputs.is_multiple_of(per_word) {
            let reason = format!(
                "it has {inputs} inputs and {outputs} outputs; expected multiples of 32 and {per_word}"
            );
            return Err(bad(&info.name, reason));
        }
        let mut shape = Self {
            base: base.to_owned(),
            bits,
            awq,
            inputs,
            outputs,
            group: group.unwrap_or(inputs).min(inputs),
            offset,
            dtype: DType::Q4_F32,
        };
        shape.check(source)?;
        shape.dtype = shape.choose(source)?;
        Ok(Some(shape))
    }

    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.base)
    }

    /// Which integer of its word the one is that lies at this place, from the lowest bits up.
    fn place(&self, at: usize) -> usize {
        if self.awq { AWQ_ORDER[at] } else { at }
    }

    fn groups(&self) -> usize {
        self.inputs.div_ceil(self.group)
    }

    /// Checks the tensors beside the integers.
    fn check(&self, source: &dyn TensorSource) -> Result<(), FormatError> {
        let (groups, outputs) = (self.groups(), self.outputs);
        let zeros = outputs / (32 / self.bits);
        for (part, expected) in [("scales", [groups, outputs]), ("qzeros", [groups, zeros])] {
            let name = self.name(part);
            let found = &find(source, &name)?.shape;
            if *found != expected {
                let reason = format!("it has shape {found:?}; expected {expected:?}");
                return Err(bad(&name, reason));
            }
        }
        let order = self.name("g_idx");
        let Ok(info) = find(source, &order) else {
            return Ok(());
        };
        if info.dtype != DType::I32 || info.elements() != self.inputs {
            let reason = format!("expected {} values of type I32", self.inputs);
            return Err(bad(&order, reason));
        }
        let bytes = source.raw(&order)?;
        let (words, _) = bytes.as_chunks::<4>();
        let groups = words.iter().map(|word| u32::from_le_bytes(*word) as usize);
        if groups
            .enumerate()
            .any(|(at, group)| group != at / self.group)
        {
            let reason = "its groups are not in the order of the inputs, which is not supported; \
                          expected a checkpoint with desc_act false";
            return Err(bad(&order, reason));
        }
        Ok(())
    }

    /// The zero points, `[groups, outputs]`.
    fn zeros(&self, source: &dyn TensorSource) -> Result<Vec<u32>, FormatError> {
        let name = self.name("qzeros");
        let bytes = words_of(source, &name)?;
        let (words, _) = bytes.as_chunks::<4>();
        let per_word = 32 / self.bits;
        let mask = (1_u32 << self.bits) - 1;
        let mut zeros = vec![0; words.len() * per_word];
        for (chunk, word) in zeros.chunks_exact_mut(per_word).zip(words) {
            let word = u32::from_le_bytes(*word);
            for at in 0..per_word {
                let to = self.place(at);
                chunk[to] = ((word >> (self.bits * at)) & mask) + self.offset;
            }
        }
        Ok(zeros)
    }

    /// The narrowest blocks that keep the values.
    fn choose(&self, source: &dyn TensorSource) -> Result<DType, FormatError> {
        let middle = 1_u32 << (self.bits - 1);
        let symmetric = self.zeros(source)?.iter().all(|zero| *zero == middle);
        let scales = self.name("scales");
        let half = find(source, &scales)?.dtype == DType::F16;
        match (self.bits, symmetric && half) {
            (4, true) => Ok(DType::Q4_0),
            (4, false) => Ok(DType::Q4_F32),
            (_, true) => Ok(DType::Q8_0),
            (_, false) => {
                let reason = "8-bit weights with other zero points than 128, or other scales than \
                              F16, are not supported";
                Err(bad(&self.name("qzeros"), reason))
            }
        }
    }

    /// The weight as others see it.
    pub(super) fn described(&self, packed: &TensorInfo) -> TensorInfo {
        TensorInfo {
            name: self.name("weight"),
            shape: vec![self.outputs, self.inputs],
            dtype: self.dtype,
            shard: packed.shard,
            range: packed.range.clone(),
        }
    }

    pub(super) fn release(&self, source: &dyn TensorSource) {
        for part in ["qweight", "qzeros", "scales"] {
            source.release(&self.name(part));
        }
    }

    /// The weight's blocks, a row for each output.
    pub(super) fn blocks(&self, source: &dyn TensorSource) -> Result<Vec<u8>, FormatError> {
        let scales = floats(source, &self.name("scales"))?;
        let zeros = self.zeros(source)?;
        let block = self.dtype.block_bytes();
        let row = self.inputs / 32 * block;
        let total = row
            .checked_mul(self.outputs)
            .ok_or_else(|| bad(&self.name("qweight"), "it is larger than memory can be"))?;
        let mut out = vec![0; total];
        let head = self.dtype.block_bytes() - if self.bits == 4 { 16 } else { 32 };
        for (output, own) in out.chunks_exact_mut(row).enumerate() {
            for (at, block) in own.chunks_exact_mut(block).enumerate() {
                let group = at * 32 / self.group * self.outputs + output;
                let (scale, zero) = (scales[group], zeros[group]);
                match self.dtype {
                    DType::Q4_F32 => {
                        block[..4].copy_from_slice(&scale.to_le_bytes());
                        // Up to 16 times 11 bits: exact.
                        let min = -(scale * zero as f32);
                        block[4..8].copy_from_slice(&min.to_le_bytes());
                    }
                    _ => block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes()),
                }
            }
        }
        let name = self.name("qweight");
        let bytes = words_of(source, &name)?;
        let (words, _) = bytes.as_chunks::<4>();
        let words = words.iter().map(|word| u32::from_le_bytes(*word));
        let mut set = |input: usize, output: usize, value: u32| {
            let at = output * row + input / 32 * block + head;
            let within = input % 32;
            if self.bits == 8 {
                // Less the zero point of 128.
                out[at + within] = (value as u8) ^ 0x80;
            } else {
                out[at + within % 16] |= (value as u8) << (within / 16 * 4);
            }
        };
        let per_word = 32 / self.bits;
        let mask = (1_u32 << self.bits) - 1;
        for (index, word) in words.enumerate() {
            for at in 0..per_word {
                let value = (word >> (self.bits * at)) & mask;
                if self.awq {
                    let columns = self.outputs / per_word;
                    let (input, column) = (index / columns, index % columns);
                    set(input, column * per_word + self.place(at), value);
                } else {
                    let (row, output) = (index / self.outputs, index % self.outputs);
                    set(row * per_word + at, output, value);
                }
            }
        }
        Ok(out)
    }
}

/// The bytes of a tensor of 32-bit integers.
fn words_of<'s>(source: &'s dyn TensorSource, name: &str) -> Result<Cow<'s, [u8]>, FormatError> {
    let dtype = find(source, name)?.dtype;
    if dtype != DType::I32 {
        return Err(bad(name, format!("it has type {dtype}; expected I32")));
    }
    source.raw(name)
}
