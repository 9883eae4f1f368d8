//! A weight file of any format over any source of bytes: one table of tensors, one way to read them.

use std::borrow::Cow;

use crate::gguf::split::{Part, Parts, parts_of};
use crate::safetensors::Safetensors;
use crate::table::{check_names, shown};
use crate::{ByteSource, FormatError, Gguf, TensorInfo, TensorSource};

/// How much of a file is read at first to find its header.
const FIRST_PREFIX: u64 = 1 << 20;

/// The weights of a model: one or more GGUF files, or one or more safetensors files, over sources `S`.
///
/// The table is read and checked once, when the file is opened; the bytes of a tensor are fetched
/// from the source when they are asked for.
#[derive(Debug, Clone)]
pub struct WeightFile<S> {
    files: Vec<(String, S)>,
    tensors: Vec<TensorInfo>,
    /// Indices of `tensors`, ordered by name.
    by_name: Vec<u32>,
    gguf: Option<Gguf>,
}

impl<S: ByteSource> WeightFile<S> {
    /// Reads the header of a GGUF file. `file` is its name for error messages.
    ///
    /// # Errors
    ///
    /// [`FormatError::InFile`] around what [`Gguf::parse`] finds wrong, or around
    /// [`FormatError::SplitGguf`] if the file is one part of several.
    pub fn from_gguf(file: &str, source: S) -> Result<Self, FormatError> {
        let wrap = |error: FormatError| error.in_file(file);
        let mut gguf = read_header(&source, Gguf::parse).map_err(wrap)?;
        let parts = parts_of(&gguf).map_err(wrap)?;
        if parts > 1 {
            return Err(wrap(FormatError::SplitGguf { parts }));
        }
        let tensors = gguf.take_tensors();
        Ok(Self::new(
            vec![(file.to_owned(), source)],
            tensors,
            Some(gguf),
        ))
    }

    /// Reads the headers of the GGUF files that make up one model, as `gguf-split` writes them; a
    /// whole model in one file will do too. Each comes with its name for error messages. Which part
    /// it is says the file itself, so their order does not matter; the metadata is the first part's.
    ///
    /// # Errors
    ///
    /// [`FormatError::InFile`] around what [`Gguf::parse`] finds wrong, and around
    /// [`FormatError::NotAPart`], [`FormatError::ForeignPart`], [`FormatError::PartNumber`] and
    /// [`FormatError::DuplicatePart`]; [`FormatError::NoParts`], [`FormatError::MissingPart`],
    /// [`FormatError::PartTensors`] and [`FormatError::DuplicateTensor`] for all of them together.
    pub fn from_gguf_parts(
        files: impl IntoIterator<Item = (String, S)>,
    ) -> Result<Self, FormatError> {
        let mut files: Vec<(String, S)> = files.into_iter().collect();
        if files.len() == 1
            && let Some((file, source)) = files.pop()
        {
            return Self::from_gguf(&file, source);
        }
        let mut parts = Parts::new();
        for (file, source) in files {
            let wrap = |error: FormatError| error.in_file(&file);
            let mut gguf = read_header(&source, Gguf::parse).map_err(wrap)?;
            let part = Part::of(&gguf).map_err(wrap)?;
            let tensors = gguf.take_tensors();
            let header = (part.number == 0).then_some(gguf);
            parts
                .add(&file, part, (source, tensors, header))
                .map_err(wrap)?;
        }
        let expected = parts.tensors();
        let parts = parts.whole()?;
        let mut files = Vec::with_capacity(parts.len());
        let mut tensors = Vec::new();
        let mut gguf = None;
        for (shard, (file, (source, own, header))) in parts.into_iter().enumerate() {
            tensors.extend(own.into_iter().map(|tensor| TensorInfo { shard, ..tensor }));
            files.push((file, source));
            gguf = gguf.or(header);
        }
        let found = tensors.len() as u64;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(FormatError::PartTensors { found, expected });
        }
        check_names(&tensors)?;
        Ok(Self::new(files, tensors, gguf))
    }

    /// Reads the headers of one or more safetensors files that make up one model. Each comes with
    /// its name for error messages.
    ///
    /// # Errors
    ///
    /// [`FormatError::InFile`] around what [`Safetensors::parse`] finds wrong;
    /// [`FormatError::DuplicateTensor`] if two files have a tensor of the same name.
    pub fn from_safetensors(
        files: impl IntoIterator<Item = (String, S)>,
    ) -> Result<Self, FormatError> {
        Self::from_shards(files, |_, _| true)
    }

    /// As [`WeightFile::from_safetensors`], keeping of each file only the tensors that `keep` wants;
    /// it is given the number of the file and the tensor's name.
    pub(crate) fn from_shards(
        files: impl IntoIterator<Item = (String, S)>,
        mut keep: impl FnMut(usize, &str) -> bool,
    ) -> Result<Self, FormatError> {
        let files: Vec<(String, S)> = files.into_iter().collect();
        let mut tensors = Vec::new();
        for (shard, (file, source)) in files.iter().enumerate() {
            let header = read_header(source, Safetensors::parse);
            for mut tensor in header.map_err(|error| error.in_file(file))?.into_tensors() {
                if keep(shard, &tensor.name) {
                    tensor.shard = shard;
                    tensors.push(tensor);
                }
            }
        }
        check_names(&tensors)?;
        Ok(Self::new(files, tensors, None))
    }

    fn new(files: Vec<(String, S)>, tensors: Vec<TensorInfo>, gguf: Option<Gguf>) -> Self {
        let mut by_name: Vec<u32> = (0..).take(tensors.len()).collect();
        by_name.sort_unstable_by_key(|index| tensors.get(*index as usize).map(|t| &t.name));
        Self {
            files,
            tensors,
            by_name,
            gguf,
        }
    }

    /// The GGUF header with its metadata; `None` for safetensors, whose metadata is in other files.
    /// Its own list of tensors is empty: it moved here, to [`TensorSource::tensors`].
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_ref()
    }

    /// The files that make up the model, as name and source; [`TensorInfo::shard`] counts them.
    pub fn files(&self) -> &[(String, S)] {
        &self.files
    }
}

impl<S: ByteSource> TensorSource for WeightFile<S> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<&TensorInfo> {
        let tensor = |index: &u32| self.tensors.get(*index as usize);
        let found = self.by_name.binary_search_by(|index| {
            let other = tensor(index).map_or("", |tensor| &tensor.name);
            other.cmp(name)
        });
        tensor(self.by_name.get(found.ok()?)?)
    }

    fn get(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        let Some(info) = self.find(name) else {
            return Err(FormatError::MissingTensor {
                tensor: shown(name),
            });
        };
        if !info.dtype.is_weight() {
            return Err(FormatError::NotAWeight {
                tensor: shown(name),
                dtype: info.dtype,
            });
        }
        Ok(info)
    }

    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, FormatError> {
        self.get(name)?;
        self.raw(name)
    }

    fn raw(&self, name: &str) -> Result<Cow<'_, [u8]>, FormatError> {
        let missing = || FormatError::MissingTensor {
            tensor: shown(name),
        };
        let info = self.find(name).ok_or_else(missing)?;
        let (file, source) = self.files.get(info.shard).ok_or_else(missing)?;
        source
            .bytes(info.range.clone())
            .map_err(|error| error.in_file(file))
    }

    fn release(&self, name: &str) {
        if let Some(info) = self.find(name)
            && let Some((_, source)) = self.files.get(info.shard)
        {
            source.release(info.range.clone());
        }
    }
}

/// Parses a header from ever longer prefixes of the file until all of it is there.
fn read_header<S: ByteSource, T>(
    source: &S,
    parse: impl Fn(&[u8], u64) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    let size = source.size();
    let mut prefix = FIRST_PREFIX.min(size);
    loop {
        match parse(&source.bytes(0..prefix)?, size) {
            Err(FormatError::NeedMoreBytes { needed, .. }) if prefix < size => {
                prefix = needed.max(prefix.saturating_mul(2)).min(size);
            }
            other => return other,
        }
    }
}
