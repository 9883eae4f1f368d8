//! Prompt lookup: what followed the last tokens where they stood before is likely to follow them again.

/// Fewest tokens whose earlier place says anything.
pub(super) const SHORTEST: usize = 2;
/// Fewest of them where a model would draft instead: a copy is recognised, a chance likeness is passed over.
pub(super) const SHORTEST_BESIDE_MODEL: usize = 4;
/// Tokens after which a longer match says no more.
const LONGEST: usize = 64;
/// How far back an earlier place is looked for.
const BACK: usize = 8192;

/// What may follow `tokens`, `count` of them, where at least the last `shortest` stood before.
pub(super) fn draft(tokens: &[u32], count: usize, shortest: usize) -> Vec<u32> {
    let near = &tokens[tokens.len().saturating_sub(BACK)..];
    // What followed so short before the end goes round.
    let followed = look_up(near, shortest).iter().copied();
    followed.cycle().take(count).collect()
}

/// What followed the longest end of `tokens` that stood before, at its last earlier place; nothing where there is
/// none. The longest tells which of many alike places a copy has come to.
fn look_up(tokens: &[u32], shortest: usize) -> &[u32] {
    let Some((last, before)) = tokens.split_last() else {
        return &[];
    };
    let mut best = (shortest - 1, tokens.len());
    for (at, token) in before.iter().enumerate().rev() {
        if token != last {
            continue;
        }
        let pairs = before[..at].iter().rev().zip(before.iter().rev());
        let more = pairs.take(LONGEST).take_while(|(own, end)| own == end);
        let length = 1 + more.count();
        if length > best.0 {
            best = (length, at + 1);
        }
    }
    &tokens[best.1..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_followed_the_longest_end_at_its_last_place() {
        for (tokens, draft) in [
            (&[][..], &[][..]),
            (&[1, 2, 3, 4], &[]),
            // A single token is too little.
            (&[1, 2, 3, 1], &[]),
            (&[1, 2, 3, 4, 1, 2], &[3, 4, 1, 2]),
            (&[1, 2, 3, 9, 1, 2, 4, 9, 1, 2], &[4, 9, 1, 2]),
            // Three tokens say more than two.
            (
                &[7, 1, 2, 3, 9, 1, 2, 4, 7, 1, 2],
                &[3, 9, 1, 2, 4, 7, 1, 2],
            ),
            (&[5, 5, 5], &[5]),
            (&[6, 5, 5, 5, 5], &[5]),
        ] {
            assert_eq!(look_up(tokens, SHORTEST), draft, "{tokens:?}");
        }
    }

    #[test]
    fn a_draft_has_as_many_tokens_as_asked_for_and_goes_round() {
        let tokens = [1, 2, 3, 1, 2];
        assert_eq!(draft(&tokens, 5, SHORTEST), [3, 1, 2, 3, 1]);
        assert!(draft(&tokens, 0, SHORTEST).is_empty());
        assert!(draft(&tokens, 5, 3).is_empty());
    }
}
