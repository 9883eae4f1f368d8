//! LoRA adapters, as PEFT saves them: read and checked against a model, and on its device.
//!
//! An adapter adds `B (A x)`, two thin matrices, to the products of some projections. The adapters of a model
//! lie one after the other in the planes, as experts do, and each token takes those of its own or none; so
//! requests with different adapters, and without one, share a step. What is launched does not depend on who
//! takes which, so that a recorded step serves any.

mod config;

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use fireside_formats::TensorSource;
use fireside_kernels::device::ComputeDevice;
use fireside_kernels::layout::{Layout, Planes, padded};
use fireside_kernels::ops::{self, ExpertsExtras};
use fireside_kernels::params::{ExpertsParams, Profile};

use self::config::LoraConfig;
use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::family::{Naming, Part};
use crate::matrix::{Matrix, MatrixPart};
use crate::pack::RowOrder;
use crate::rows::{Piece, attention_columns, gate_up, query_key_value};

/// What PEFT writes before the names of a model's modules.
const PREFIX: &str = "base_model.model.";

/// A projection of a layer that may be adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    QueryKeyValue,
    AttentionOut,
    GateUp,
    Down,
}

impl Place {
    const ALL: [Self; 4] = [
        Self::QueryKeyValue,
        Self::AttentionOut,
        Self::GateUp,
        Self::Down,
    ];
}

/// A LoRA adapter that fits a model.
#[derive(Debug)]
pub struct Lora {
    /// By layer and place.
    layers: Vec<[Option<LowRank>; 4]>,
    rank: usize,
    base: Option<String>,
}

/// The two matrices of a place, the scale in the second one.
#[derive(Debug)]
struct LowRank {
    /// `[rank][columns]`.
    a: Vec<f32>,
    /// `[rows][rank]`.
    b: Vec<f32>,
    rank: usize,
    rows: usize,
}

impl Lora {
    /// Reads an adapter for a model from the content of `adapter_config.json` and the tensors of
    /// `adapter_model.safetensors`.
    ///
    /// # Errors
    ///
    /// A config that asks for what is not supported, or an adapter for another model.
    pub fn read(
        model: &DecoderConfig,
        adapter_config: &[u8],
        source: &dyn TensorSource,
    ) -> Result<Self, ModelError> {
        let config = LoraConfig::from_json(adapter_config)?;
        let mut reader = Reader {
            model,
            config: &config,
            source,
            rank: 0,
            taken: BTreeSet::new(),
        };
        let mut layers = Vec::with_capacity(model.layers);
        for layer in 0..model.layers {
            let mut places = [const { None }; 4];
            for place in Place::ALL {
                places[place as usize] = reader.place(layer, place)?;
            }
            layers.push(places);
        }
        let (rank, taken) = (reader.rank, reader.taken);
        if let Some(tensor) = source.names().find(|name| !taken.contains(*name)) {
            return Err(ModelError::LoraTensor {
                tensor: tensor.to_owned(),
                layers: model.layers,
                base: config.base_hint(),
            });
        }
        if rank == 0 {
            return Err(ModelError::LoraEmpty {
                base: config.base_hint(),
            });
        }
        Ok(Self {
            layers,
            rank,
            base: config.base,
        })
    }

    /// The largest rank of its matrices.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The model that it was trained on, as it says itself.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// Values of all its matrices.
    pub fn parameters(&self) -> usize {
        let places = self.layers.iter().flatten().flatten();
        places.map(|own| own.a.len() + own.b.len()).sum()
    }

    fn at(&self, layer: usize, place: Place) -> Option<&LowRank> {
        self.layers.get(layer)?[place as usize].as_ref()
    }
}

/// Reads the matrices of one adapter.
struct Reader<'a> {
    model: &'a DecoderConfig,
    config: &'a LoraConfig,
    source: &'a dyn TensorSource,
    /// The largest rank so far.
    rank: usize,
    /// The tensors that were read.
    taken: BTreeSet<String>,
}

/// The matrices of one module of the adapter.
struct Module {
    part: Part,
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    scale: f32,
    /// Its first rank among those of the place.
    first: usize,
}

impl Reader<'_> {
    fn place(&mut self, layer: usize, place: Place) -> Result<Option<LowRank>, ModelError> {
        let model = self.model;
        let dense = model.experts(layer).is_none();
        let whole = |part, rows| {
            let order = RowOrder::Plain;
            vec![Piece { part, rows, order }]
        };
        let heads = model.heads * model.head_dim;
        let (pieces, columns, stored) = match place {
            Place::QueryKeyValue => {
                let pieces = query_key_value(model, Naming::HuggingFace);
                (Vec::from(pieces), model.hidden, None)
            }
            Place::AttentionOut => (
                whole(Part::AttentionOut, model.hidden),
                heads,
                attention_columns(model),
            ),
            Place::GateUp if dense => (gate_up(model), model.hidden, None),
            Place::Down if dense => (whole(Part::Down, model.hidden), model.intermediate, None),
            Place::GateUp | Place::Down => return Ok(None),
        };

        let mut modules: Vec<Module> = Vec::new();
        let mut rank = 0;
        for piece in &pieces {
            if modules.iter().any(|own| own.part == piece.part) {
                continue;
            }
            if let Some(module) = self.module(layer, piece, columns)? {
                rank += module.rank;
                modules.push(Module {
                    first: rank - module.rank,
                    ..module
                });
            }
        }
        if modules.is_empty() {
            return Ok(None);
        }
        self.rank = modules
            .iter()
            .map(|own| own.rank)
            .fold(self.rank, usize::max);

        let mut a = Vec::new();
        for row in modules.iter().flat_map(|own| own.a.chunks_exact(columns)) {
            match &stored {
                None => a.extend_from_slice(row),
                Some(columns) => a.extend(columns.iter().map(|from| from.map_or(0.0, |c| row[c]))),
            }
        }
        let mut b = Vec::new();
        for piece in &pieces {
            let module = modules.iter().find(|own| own.part == piece.part);
            let mut add = |from: Option<usize>| {
                let at = b.len();
                b.resize(at + rank, 0.0);
                if let Some((module, from)) = module.zip(from) {
                    let row = module.b[from * module.rank..].iter().take(module.rank);
                    let to = b[at + module.first..].iter_mut();
                    to.zip(row).for_each(|(to, v)| *to = v * module.scale);
                }
            };
            match &piece.order {
                RowOrder::Plain => (0..piece.rows).for_each(|row| add(Some(row))),
                RowOrder::Chosen(rows) => rows.iter().for_each(|row| add(*row)),
            }
        }
        let rows = b.len() / rank;
        Ok(Some(LowRank { a, b, rank, rows }))
    }

    /// The matrices of a module; `None` where the adapter leaves it alone.
    fn module(
        &mut self,
        layer: usize,
        piece: &Piece,
        columns: usize,
    ) -> Result<Option<Module>, ModelError> {
        let names = Naming::HuggingFace.tensors(self.model.family, piece.part, layer, "weight");
        let mut stems = names.iter().filter_map(|name| name.strip_suffix(".weight"));
        let tensor = |stem: &str, which: &str| format!("{PREFIX}{stem}.lora_{which}.weight");
        let either = |stem: &&str| {
            let mut both = ["A", "B"].into_iter();
            both.any(|which| self.source.contains(&tensor(stem, which)))
        };
        let Some(stem) = stems.find(either) else {
            return Ok(None);
        };
        let [a, b] = ["A", "B"].map(|which| tensor(stem, which));
        let rank = match *self.source.get(&a)?.shape {
            [rank, _] if rank > 0 => rank,
            _ => return Err(self.misshapen(&a, &[self.config.rank, columns])?),
        };
        for (name, shape) in [(&a, [rank, columns]), (&b, [piece.rows, rank])] {
            if self.source.get(name)?.shape != shape {
                return Err(self.misshapen(name, &shape)?);
            }
        }
        let module = Module {
            part: piece.part,
            a: self.read(&a)?,
            b: self.read(&b)?,
            rank,
            scale: self.config.scale(stem, rank),
            first: 0,
        };
        for name in [a, b] {
            self.source.release(&name);
            self.taken.insert(name);
        }
        Ok(Some(module))
    }

    fn read(&self, tensor: &str) -> Result<Vec<f32>, ModelError> {
        let values = self.source.read_f32(tensor)?;
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => Err(ModelError::LoraBroken {
                tensor: tensor.to_owned(),
                value: *value,
            }),
        }
    }

    fn misshapen(&self, tensor: &str, expected: &[usize]) -> Result<ModelError, ModelError> {
        Ok(ModelError::LoraShape {
            tensor: tensor.to_owned(),
            found: self.source.get(tensor)?.shape.clone(),
            expected: expected.to_vec(),
            base: self.config.base_hint(),
        })
    }
}

/// The adapters of a model on its device.
#[derive(Debug, Default)]
pub(crate) struct Loras {
    layers: Vec<[Option<Stack>; 4]>,
    /// How many there are; a token's is a number below it.
    pub(crate) count: usize,
    /// Tells these from those before.
    pub(crate) version: u64,
}

/// The matrices of one place of all adapters.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Ranks of all adapters, those of each padded to 32.
    a: Matrix,
    /// Rows of all adapters, those of each padded to 32.
    b: Matrix,
    rank: usize,
    rows: usize,
}

impl Loras {
    /// Uploads adapters.
    ///
    /// # Errors
    ///
    /// The device cannot hold them.
    pub(crate) fn upload(
        all: &[Arc<Lora>],
        version: u64,
        device: &ComputeDevice,
    ) -> Result<Self, ModelError> {
        let most = all.iter().map(|own| own.layers.len()).max().unwrap_or(0);
        let mut layers = Vec::with_capacity(most);
        for layer in 0..most {
            let mut places = [const { None }; 4];
            for place in Place::ALL {
                let own: Vec<_> = all.iter().map(|own| own.at(layer, place)).collect();
                places[place as usize] = Stack::upload(&own, device)?;
            }
            layers.push(places);
            device.flush()?;
        }
        Ok(Self {
            layers,
            count: all.len(),
            version,
        })
    }

    /// What is added to the product of a place, if anything.
    pub(crate) fn at(&self, layer: usize, place: Place) -> Option<&Stack> {
        self.layers.get(layer)?[place as usize].as_ref()
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        let stacks = self.layers.iter().flatten().flatten();
        stacks.map(|own| own.a.bytes() + own.b.bytes()).sum()
    }
}

impl Stack {
    fn upload(
        all: &[Option<&LowRank>],
        device: &ComputeDevice,
    ) -> Result<Option<Self>, ModelError> {
        let there = || all.iter().flatten();
        let Some(first) = there().next() else {
            return Ok(None);
        };
        let rank = there().map(|own| own.rank).max().unwrap_or(0);
        let (rows, columns) = (first.rows, first.a.len() / first.rank.max(1));
        let a = stacked(all, rank, columns, device, |own| (&own.a, columns))?;
        let b = stacked(all, rows, rank, device, |own| (&own.b, own.rank))?;
        Ok(Some(Self { a, b, rank, rows }))
    }

    /// `y` with what the adapters of its tokens make of `x` added.
    ///
    /// `routes_at` is where the step has a route for each token: the number of its adapter.
    pub(crate) fn add(
        &self,
        x: &Tensor<2>,
        y: Tensor<2>,
        step: &Tensor<1, Int>,
        routes_at: usize,
        profile: Profile,
    ) -> Tensor<2> {
        let product = |matrix: &Matrix, rows: usize, x: &Tensor<2>, mut sum: Option<Tensor<2>>| {
            for part in &matrix.parts {
                let extras = ExpertsExtras {
                    gain: None,
                    residual: sum.as_ref(),
                };
                let params = ExpertsParams {
                    matrix: part.shape.matrix,
                    held: (part.shape.offset, part.shape.matrix.rows / padded(rows)),
                    expert_rows: padded(rows),
                    chosen: 1,
                    routes_at,
                    y_stride: padded(rows),
                    glu: None,
                    norm: None,
                    profile,
                };
                sum = Some(ops::experts(x, &part.planes(), step, extras, None, params));
            }
            sum
        };
        match product(&self.a, self.rank, x, None) {
            Some(inner) => product(&self.b, self.rows, &inner, Some(y.clone())).unwrap_or(y),
            None => y,
        }
    }
}

/// The matrices of all adapters one after the other, `rows` rows of each, padded to 32, and as many adapters
/// in a part as fit a binding. `values` gives a matrix and how long its rows are.
fn stacked<'a>(
    all: &[Option<&'a LowRank>],
    rows: usize,
    columns: usize,
    device: &ComputeDevice,
    values: impl Fn(&'a LowRank) -> (&'a [f32], usize),
) -> Result<Matrix, ModelError> {
    let (each, allows) = (padded(rows), device.max_binding());
    let most = Planes::rows_within(Layout::F32, columns, allows).map_or(0, |rows| rows / each);
    if most == 0 {
        return Err(ModelError::AdapterTooSmall {
            what: format!("a LoRA matrix of {rows} rows of {columns} weights"),
            needs: Planes::bytes(Layout::F32, each, columns).1,
            allows,
        });
    }
    let mut parts = Vec::new();
    for (index, held) in all.chunks(most).enumerate() {
        let mut planes = Planes::new(Layout::F32, held.len() * each, columns);
        let mut row = vec![0.0; columns];
        for (slot, own) in held.iter().enumerate() {
            let Some((own, length)) = own.map(&values) else {
                continue;
            };
            for (number, own) in own.chunks_exact(length).enumerate() {
                row[..length].copy_from_slice(own);
                row[length..].fill(0.0);
                planes.set_row(slot * each + number, &row);
            }
        }
        parts.push(MatrixPart::upload(planes, index * most, device)?);
    }
    Ok(Matrix {
        parts,
        rows: all.len() * each,
    })
}
