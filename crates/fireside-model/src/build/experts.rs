//! The part of the builder for layers of experts.

use fireside_kernels::layout::{Planes, padded};

use super::Builder;
use crate::config;
use crate::decoder::Function;
use crate::error::ModelError;
use crate::experts::{Experts, Sizes};
use crate::family::{EXPERT, Naming, Part};
use crate::matrix::{Matrix, MatrixPart};
use crate::pack::{RowOrder, RowSource, expect, padded_rows};

impl Builder<'_> {
    pub(super) fn experts(
        &self,
        layer: usize,
        experts: config::Experts,
    ) -> Result<Experts, ModelError> {
        let hidden = self.config.hidden;
        let tensor = self.name(Part::Router, layer, "weight");
        if !self.source.contains(&tensor) {
            return Err(ModelError::NoRouter { layer, tensor });
        }
        let router = self.plain(Part::Router, layer, experts.count, hidden)?;
        let router = self.matrix(&[router], hidden, None)?;
        let gate_up = [Part::ExpertGate, Part::ExpertUp];
        let gate_up = self.stack(layer, experts.count, &gate_up, [experts.width, hidden])?;
        let down = [Part::ExpertDown];
        let down = self.stack(layer, experts.count, &down, [hidden, experts.width])?;
        let [norm, post_norm] = self.feed_forward_norms(layer)?;
        Ok(Experts {
            norm,
            router,
            gate_up,
            down,
            post_norm,
            sizes: Sizes { experts, hidden },
            activation: Function(self.config.activation),
        })
    }

    /// The names of a part's weights in the file: of experts that have tensors of their own, all of them.
    pub(super) fn names(&self, part: Part, layer: usize) -> Vec<String> {
        let experts = self.config.experts(layer).map_or(0, |own| own.count);
        match part {
            Part::ExpertGate | Part::ExpertUp | Part::ExpertDown => {
                let stacked = self.naming == Naming::Gguf;
                let count = if stacked { experts.min(1) } else { experts };
                let name = |expert| self.expert(part, layer, expert);
                (0..count).map(name).collect()
            }
            _ => vec![self.name(part, layer, "weight")],
        }
    }

    /// The name of an expert's weight, or of the tensor that all are in.
    fn expert(&self, part: Part, layer: usize, expert: usize) -> String {
        let family = self.config.family;
        let names = self.naming.tensors(family, part, layer, "weight");
        let number = expert.to_string();
        self.there(names.iter().map(|n| n.replace(EXPERT, &number)).collect())
    }

    /// The matrices of all experts, of each part those of all experts of a binding; experts are cut off from
    /// each other where they do not fit one.
    fn stack(
        &self,
        layer: usize,
        count: usize,
        parts: &[Part],
        shape: [usize; 2],
    ) -> Result<Matrix, ModelError> {
        let [rows, columns] = shape;
        let sources = self.stacked(layer, parts, 0..count, count, shape)?;
        let layout = self.packer(&sources, columns, None).common_layout()?;
        let each = parts.len() * padded(rows);
        let allows = self.device.max_binding();
        let fitting = Planes::rows_within(layout, columns, allows).map_or(0, |rows| rows / each);
        if fitting == 0 {
            return Err(ModelError::AdapterTooSmall {
                what: format!("an expert of {each} rows of {columns} weights"),
                needs: Planes::bytes(layout, each, columns).1,
                allows,
            });
        }
        let mut stacks = Vec::new();
        for first in (0..count).step_by(fitting) {
            let own = first..count.min(first + fitting);
            let rows = own.len() * each;
            let sources = self.stacked(layer, parts, own, count, shape)?;
            let planes = self.packer(&sources, columns, None).pack(layout, 0, rows)?;
            stacks.push(MatrixPart::upload(planes, first, self.device)?);
        }
        for source in &sources {
            self.source.release(&source.tensor);
        }
        Ok(Matrix {
            parts: stacks,
            rows: count * each,
        })
    }

    /// The rows of some experts, part by part.
    fn stacked(
        &self,
        layer: usize,
        parts: &[Part],
        experts: std::ops::Range<usize>,
        count: usize,
        [rows, columns]: [usize; 2],
    ) -> Result<Vec<RowSource>, ModelError> {
        let mut sources = Vec::new();
        let mut add =
            |part: Part, tensor: String, shape: &[usize], order| -> Result<(), ModelError> {
                expect(self.source.get(&tensor)?, shape)?;
                sources.push(RowSource {
                    tensor,
                    transposed: false,
                    order,
                    quantize: self.quantize.and_then(|to| to.of(part)),
                });
                Ok(())
            };
        for part in parts {
            if self.naming == Naming::HuggingFace {
                for expert in experts.clone() {
                    let tensor = self.expert(*part, layer, expert);
                    add(*part, tensor, &[rows, columns], padded_rows(1, rows))?;
                }
                continue;
            }
            let tensor = self.expert(*part, layer, 0);
            // Before an order as long as metadata claim is made.
            expect(self.source.get(&tensor)?, &[count, rows, columns])?;
            let order = match padded_rows(experts.len(), rows) {
                RowOrder::Plain if experts.len() == count => RowOrder::Plain,
                order => order.map(experts.len() * rows, |row| experts.start * rows + row),
            };
            add(*part, tensor, &[count, rows, columns], order)?;
        }
        Ok(sources)
    }
}
