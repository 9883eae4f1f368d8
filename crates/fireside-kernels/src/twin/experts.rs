//! Twins of the router and of the products with the experts that it chose.

use super::for_each_chunk;
use super::linear::{PlanesView, activate, dot, normed, unpack_row};
use crate::layout::padded;
use crate::params::{ExpertsParams, RouteParams};

/// Twin of `route.wgsl`; `logits` have rows of `stride`, `routes` is `[tokens][chosen]` pairs.
pub fn route(logits: &[f32], stride: usize, params: &RouteParams, routes: &mut [u32]) {
    let rows = logits.chunks_exact(stride);
    for (row, routes) in rows.zip(routes.chunks_exact_mut(2 * params.chosen)) {
        let row = &row[..params.experts];
        let mut order: Vec<usize> = (0..params.experts).collect();
        // Stable, so that ties stay in the order of ids.
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let chosen = &order[..params.chosen];
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let part = |expert: &usize| (row[*expert] - most).exp();
        let sum: f32 = match params.normalized {
            true => chosen.iter().map(part).sum(),
            false => order.iter().map(part).sum(),
        };
        for (expert, route) in chosen.iter().zip(routes.chunks_exact_mut(2)) {
            route[0] = *expert as u32;
            route[1] = (part(expert) / sum).to_bits();
        }
    }
}

/// A product that a result takes: its row of `x`, the result, and a factor.
struct Job {
    x: usize,
    result: usize,
    factor: f32,
}

/// Twin of the matrix kernels with experts: adds the products with those of these planes.
///
/// `gain` comes with a norm, `residual` where there is no gate.
pub fn experts(
    planes: &PlanesView<'_>,
    x: &[f32],
    routes: &[u32],
    gain: Option<&[f32]>,
    residual: Option<&[f32]>,
    params: &ExpertsParams,
    out: &mut [f32],
) {
    let stride = padded(params.matrix.columns);
    let normed = normed(x, stride, params.norm.zip(gain));
    let x = normed.as_deref().unwrap_or(x);
    let (first, held) = params.held;
    // By expert, so that one unpacked row serves all who take it.
    let mut jobs: Vec<Vec<Job>> = (0..held).map(|_| Vec::new()).collect();
    for (route, words) in routes.chunks_exact(2).enumerate() {
        let own = (words[0] as usize).checked_sub(first);
        let Some(jobs) = own.and_then(|own| jobs.get_mut(own)) else {
            continue;
        };
        let token = route / params.chosen;
        jobs.push(match params.glu {
            Some(_) => Job {
                x: token,
                result: route,
                factor: f32::from_bits(words[1]),
            },
            None => Job {
                x: route,
                result: token,
                factor: 1.0,
            },
        });
    }

    // Row-major first; 16 rows a task.
    let results = out.len() / params.y_stride;
    let mut sums = vec![0.0; params.y_stride * results];
    let rows = planes.padded_rows();
    for_each_chunk(&mut sums, 16 * results, |task, part| {
        let mut weights = vec![0.0; stride];
        let mut up = vec![0.0; stride];
        for (i, sums) in part.chunks_exact_mut(results).enumerate() {
            for (expert, jobs) in jobs.iter().enumerate() {
                let row = expert * params.expert_rows + task * 16 + i;
                if jobs.is_empty() || row >= rows {
                    continue;
                }
                unpack_row(planes, row, &mut weights);
                if let Some((offset, _)) = params.glu {
                    unpack_row(planes, row + offset, &mut up);
                }
                for job in jobs {
                    let x = &x[job.x * stride..][..stride];
                    let product = dot(&weights, x);
                    sums[job.result] += match params.glu {
                        Some((_, function)) => {
                            activate(product, function) * dot(&up, x) * job.factor
                        }
                        None => product,
                    };
                }
            }
        }
    });
    // With a gate, the results of other planes' experts are theirs to write.
    let every = params.glu.is_none().then_some(0..results);
    let gated = jobs.iter().flatten().map(|job| job.result);
    for result in every.into_iter().flatten().chain(gated) {
        let row = result * params.y_stride..(result + 1) * params.y_stride;
        for (column, y) in out[row.clone()].iter_mut().enumerate() {
            *y = sums[column * results + result];
        }
        if let Some(residual) = residual {
            let add = |(y, r): (&mut f32, &f32)| *y += r;
            out[row.clone()]
                .iter_mut()
                .zip(&residual[row])
                .for_each(add);
        }
    }
}
