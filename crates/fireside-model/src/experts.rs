//! A feed-forward layer of experts: a router chooses some for each token, and their results are added up.
//!
//! What is launched does not depend on what is chosen, so that a recorded step serves any choice.

use burn::module::Module;
use burn::tensor::Tensor;
use fireside_kernels::layout::padded;
use fireside_kernels::ops::{self, ExpertsExtras};
use fireside_kernels::params::{Activation, ExpertsParams, RouteParams};

use crate::config;
use crate::decoder::{Function, Norm, Run};
use crate::matrix::{Matrix, Product};

/// Feed-forward layer of experts.
#[derive(Module, Debug)]
pub struct Experts {
    /// On what goes in.
    pub(crate) norm: Option<Norm>,
    /// A row for each expert.
    pub(crate) router: Matrix,
    /// Gate rows of all experts of a part, each padded to 32, then up rows; a part's offset is its first expert.
    pub(crate) gate_up: Matrix,
    /// Rows of all experts, each padded to 32.
    pub(crate) down: Matrix,
    /// On what is added to the residual stream.
    pub(crate) post_norm: Option<Norm>,
    #[module(skip)]
    pub(crate) sizes: Sizes,
    #[module(skip)]
    pub(crate) activation: Function,
}

/// The sizes of a layer of experts, as a module keeps them.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub(crate) experts: config::Experts,
    pub(crate) hidden: usize,
}

impl Experts {
    /// What comes of `x`, added to `residual`.
    pub(crate) fn forward(&self, x: &Tensor<2>, residual: &Tensor<2>, run: &Run<'_>) -> Tensor<2> {
        let Sizes { experts, hidden } = self.sizes;
        let inside = self.norm.as_ref().and_then(|norm| norm.inside(run));
        let normed = match &self.norm {
            Some(norm) if inside.is_none() => Some(norm.all(x, run)),
            _ => None,
        };
        let x = normed.as_ref().unwrap_or(x);
        let extra = Product {
            norm: inside,
            ..Default::default()
        };
        let logits = self.router.product(x, extra, run.profile);
        let routes = ops::route(
            &logits,
            RouteParams {
                experts: experts.count,
                chosen: experts.chosen,
                normalized: experts.normalized,
                profile: run.profile,
            },
        );

        let mut own = None;
        let gate = Some(self.activation.0);
        for (planes, params) in self.params(&self.gate_up, experts.width, gate, run) {
            let params = ExpertsParams {
                norm: inside.map(|(_, width, eps)| (width, eps)),
                ..params
            };
            let extras = ExpertsExtras {
                gain: inside.map(|(gain, ..)| gain),
                residual: None,
            };
            own = Some(ops::experts(x, &planes, &routes, extras, own, params));
        }
        let Some(own) = own else {
            return residual.clone();
        };
        let mut sum = self.post_norm.is_none().then(|| residual.clone());
        for (planes, params) in self.params(&self.down, hidden, None, run) {
            let extras = ExpertsExtras {
                gain: None,
                residual: sum.as_ref(),
            };
            sum = Some(ops::experts(&own, &planes, &routes, extras, None, params));
        }
        match (sum, &self.post_norm) {
            (Some(sum), Some(norm)) => norm.add(&sum, residual, run),
            (Some(sum), None) => sum,
            (None, _) => residual.clone(),
        }
    }

    /// The planes of a matrix of experts whose results have `rows` rows, and what a product with them needs.
    fn params<'a>(
        &'a self,
        matrix: &'a Matrix,
        rows: usize,
        gate: Option<Activation>,
        run: &'a Run<'_>,
    ) -> impl Iterator<Item = (ops::PlaneTensors, ExpertsParams)> + 'a {
        let expert_rows = padded(rows);
        let halves = if gate.is_some() { 2 } else { 1 };
        matrix.parts.iter().map(move |part| {
            let held = part.shape.matrix.rows / (halves * expert_rows);
            let params = ExpertsParams {
                matrix: part.shape.matrix,
                held: (part.shape.offset, held),
                expert_rows,
                chosen: self.sizes.experts.chosen,
                routes_at: 0,
                y_stride: expert_rows,
                glu: gate.map(|function| (held * expert_rows, function)),
                norm: None,
                profile: run.profile,
            };
            (part.planes(), params)
        })
    }
}
