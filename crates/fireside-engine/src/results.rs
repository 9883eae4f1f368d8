//! What may come back of a step, and what must not.

use fireside_model::Selection;
use fireside_model::step::{Selected, Step};

use crate::ExecutorError;

/// How many logits of a row are not numbers, if any; a row of which every token is excluded is sound.
pub(crate) fn broken(selection: &Selection) -> Option<u32> {
    let excluded = selection.broken == 0 && selection.token == u32::MAX;
    let sums = [
        selection.max,
        selection.log_sum_exp,
        selection.tempered_log_sum_exp,
    ];
    let unsound = !excluded && sums.iter().any(|sum| !sum.is_finite());
    (selection.broken > 0 || unsound).then_some(selection.broken.max(1))
}

/// Sees that a step gave what was wanted.
pub(crate) fn check(step: &Step, selected: &[Selected], vocab: usize) -> Result<(), ExecutorError> {
    let rows: usize = step.chunks.iter().map(|chunk| chunk.rows.len()).sum();
    if selected.len() != rows {
        return Err(ExecutorError::RowCount {
            expected: rows,
            actual: selected.len(),
        });
    }
    let wanted = step.chunks.iter().flat_map(|chunk| &chunk.rows);
    for ((_, row), selected) in wanted.zip(selected) {
        let actual = selected.logits.as_ref().map_or(0, Vec::len);
        if actual != vocab && (row.logits || actual > 0) {
            return Err(ExecutorError::LogitCount {
                expected: vocab,
                actual,
            });
        }
    }
    Ok(())
}
