//! From a step to the one buffer that is uploaded for it, and the offsets the kernels need.

use fireside_kernels::params::{BLOCK, NO_EXPERT, NO_ROW, NO_TARGET, Profile, SELECT_SETTINGS};

use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::rope::Rope;
use crate::step::Step;

/// Least room for adjustments, where there are any: penalties add a few with every token.
const ADJUSTMENTS: usize = 64;

/// A step laid out for the device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// The step buffer.
    pub(crate) words: Vec<u32>,
    pub(crate) shape: Shape,
}

/// Sizes and offsets of a step: all that its launches depend on besides the words, so that steps of
/// one shape have the same launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Sequences that have tokens in the step.
    pub(crate) sequences: usize,
    pub(crate) tokens: usize,
    pub(crate) tokens_at: usize,
    pub(crate) slots_at: usize,
    /// The tokens' positions, where the model has learned ones; else the same as the tokens.
    pub(crate) positions_at: usize,
    /// The tokens' types, where the model has some; else the same as the tokens.
    pub(crate) types_at: usize,
    /// The LoRA adapter of each token, as routes to experts; `None` where no token has one.
    pub(crate) loras_at: Option<usize>,
    /// The numbers 0 to `tokens`, for norms over all rows.
    pub(crate) identity_at: usize,
    /// Wanted rows.
    pub(crate) rows: usize,
    pub(crate) rows_at: usize,
    pub(crate) tiles: usize,
    pub(crate) tiles_at: usize,
    pub(crate) tile_tokens: usize,
    /// Where an encoder's sequences end, for each tile.
    pub(crate) ends_at: Option<usize>,
    pub(crate) settings_at: usize,
    pub(crate) angles_at: usize,
    /// Those of layers with a rotary embedding of their own; the same where there are none.
    pub(crate) local_angles_at: usize,
    /// Room for adjustments: a power of two, or zero; those past the step's own have no row.
    pub(crate) adjustments: usize,
    pub(crate) adjustments_at: usize,
    /// Candidates that the row wanting most wants.
    pub(crate) candidates: usize,
}

impl Plan {
    /// Lays out a step.
    ///
    /// What changes from token to token (adjustments, block tables) comes last, so that the
    /// offsets before it, which are kernel parameters, stay the same through a decode.
    ///
    /// # Errors
    ///
    /// A chunk without tokens, a token outside the vocabulary, a position outside the context
    /// or its block table, a block outside the cache, a LoRA adapter that is none of the `loras`, rows out of
    /// order.
    pub(crate) fn new(
        step: &Step,
        config: &DecoderConfig,
        blocks: usize,
        loras: usize,
        profile: Profile,
    ) -> Result<Self, ModelError> {
        check(step, config, blocks, loras)?;
        let tokens: usize = step.chunks.iter().map(|c| c.tokens.len()).sum();
        let longest = step
            .chunks
            .iter()
            .map(|c| c.tokens.len())
            .max()
            .unwrap_or(0);
        let group = config.heads / config.kv_heads;
        let tile_tokens = if longest > 1 {
            profile.attention_tokens(group, config.stored_head_dim())
        } else {
            1
        };

        let mut words = Vec::new();
        // First, as routes are pairs of words.
        let adapted = step.chunks.iter().any(|c| c.lora.is_some());
        let loras_at = adapted.then_some(words.len());
        for chunk in step.chunks.iter().filter(|_| adapted) {
            let lora = chunk.lora.map_or(NO_EXPERT, |lora| lora as u32);
            words.extend(std::iter::repeat_n([lora, 0], chunk.tokens.len()).flatten());
        }
        let tokens_at = words.len();
        words.extend(step.chunks.iter().flat_map(|c| &c.tokens));
        let slots_at = words.len();
        for chunk in &step.chunks {
            words.extend(
                (chunk.start..chunk.start + chunk.tokens.len()).map(|position| {
                    chunk.blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
                }),
            );
        }
        let mut positions_at = tokens_at;
        if config.family.learned_positions {
            positions_at = words.len();
            for chunk in &step.chunks {
                let end = chunk.start + chunk.tokens.len();
                words.extend((chunk.start..end).map(|position| position as u32));
            }
        }
        let mut types_at = tokens_at;
        if config.types > 0 {
            types_at = words.len();
            for chunk in &step.chunks {
                let first = std::iter::repeat_n(0, chunk.tokens.len() - chunk.types.len());
                words.extend(chunk.types.iter().copied().chain(first));
            }
        }
        let identity_at = words.len();
        words.extend(0..tokens as u32);

        let rows_at = words.len();
        let mut first = 0;
        for chunk in &step.chunks {
            words.extend(chunk.rows.iter().map(|(row, _)| (first + row) as u32));
            first += chunk.tokens.len();
        }
        let rows = words.len() - rows_at;

        let settings_at = words.len();
        let selections = || step.chunks.iter().flat_map(|c| &c.rows).map(|(_, s)| s);
        for selection in selections() {
            let (seed, draw) = selection.noise.unwrap_or((0, 0));
            let mut settings = [0; SELECT_SETTINGS];
            settings[0] = (1.0 / selection.temperature).to_bits();
            settings[1] = u32::from(selection.noise.is_some());
            settings[2] = seed as u32;
            settings[3] = (seed >> 32) as u32;
            settings[4] = draw;
            settings[5] = selection.target.unwrap_or(NO_TARGET);
            words.extend(settings);
        }

        let mut angles = |rope: &Rope| {
            let at = words.len();
            let (mut cos, mut sin) = (Vec::new(), Vec::new());
            for chunk in &step.chunks {
                rope.angles(chunk.start, chunk.tokens.len(), &mut cos, &mut sin);
            }
            words.extend(cos.iter().chain(&sin).map(|v| v.to_bits()));
            at
        };
        let angles_at = angles(&config.rope);
        let local_angles_at = config.local_rope.as_ref().map_or(angles_at, angles);

        let tiles_at = words.len();
        let tiles = step
            .chunks
            .iter()
            .map(|c| c.tokens.len().div_ceil(tile_tokens))
            .sum();
        let ends_at = config.family.encoder.then_some(tiles_at + tiles * 4);
        let adjustments_at = tiles_at + tiles * if ends_at.is_some() { 5 } else { 4 };
        let adjusted: usize = selections().map(|s| s.adjustments.len()).sum();
        let adjustments = match adjusted {
            0 => 0,
            some => some.next_power_of_two().max(ADJUSTMENTS),
        };
        let mut table_at = adjustments_at + adjustments * 4;
        let mut first = 0;
        for chunk in &step.chunks {
            for offset in (0..chunk.tokens.len()).step_by(tile_tokens) {
                let count = tile_tokens.min(chunk.tokens.len() - offset);
                let numbers = [first + offset, count, table_at, chunk.start + offset];
                words.extend(numbers.map(|n| n as u32));
            }
            first += chunk.tokens.len();
            table_at += chunk.blocks.len();
        }
        if ends_at.is_some() {
            for chunk in &step.chunks {
                let tiles = chunk.tokens.len().div_ceil(tile_tokens);
                words.extend(std::iter::repeat_n(chunk.tokens.len() as u32, tiles));
            }
        }
        for (row, selection) in selections().enumerate() {
            for a in &selection.adjustments {
                words.extend([row as u32, a.token, a.repetition.to_bits(), a.add.to_bits()]);
            }
        }
        for _ in adjusted..adjustments {
            words.extend([NO_ROW, 0, 0, 0]);
        }
        words.extend(step.chunks.iter().flat_map(|c| &c.blocks));

        let shape = Shape {
            sequences: step.chunks.len(),
            tokens,
            tokens_at,
            slots_at,
            positions_at,
            types_at,
            loras_at,
            identity_at,
            rows,
            rows_at,
            tiles,
            tiles_at,
            tile_tokens,
            ends_at,
            settings_at,
            angles_at,
            local_angles_at,
            adjustments,
            adjustments_at,
            candidates: selections().map(|s| s.candidates).max().unwrap_or(0),
        };
        Ok(Self { words, shape })
    }
}

fn check(
    step: &Step,
    config: &DecoderConfig,
    blocks: usize,
    loras: usize,
) -> Result<(), ModelError> {
    let wrong = |what: String| Err(ModelError::Step { what });
    for chunk in &step.chunks {
        let end = chunk.start + chunk.tokens.len();
        if chunk.tokens.is_empty() {
            return wrong("a chunk has no tokens".into());
        }
        if config.family.encoder && chunk.start > 0 {
            return wrong("an encoder runs a text in one step, from its start".into());
        }
        if end > config.context {
            return wrong(format!(
                "position {} is past the context of {}",
                end - 1,
                config.context
            ));
        }
        if end.div_ceil(BLOCK) > chunk.blocks.len() {
            return wrong(format!(
                "{} blocks do not cover {end} positions",
                chunk.blocks.len()
            ));
        }
        if let Some(token) = chunk.tokens.iter().find(|t| **t as usize >= config.vocab) {
            return wrong(format!(
                "token {token} is outside the vocabulary of {}",
                config.vocab
            ));
        }
        if let Some(block) = chunk.blocks.iter().find(|b| **b as usize >= blocks) {
            return wrong(format!("block {block} is outside the cache of {blocks}"));
        }
        if let Some(lora) = chunk.lora.filter(|lora| *lora >= loras) {
            return wrong(format!("LoRA adapter {lora} is none of {loras}"));
        }
        let typed = chunk.types.is_empty() || chunk.types.len() == chunk.tokens.len();
        let unknown = chunk.types.iter().find(|of| **of as usize >= config.types);
        if !typed {
            return wrong("a chunk has other types than tokens".into());
        }
        if let Some(unknown) = unknown {
            return wrong(format!(
                "token type {unknown} is outside the types of the model, {}",
                config.types
            ));
        }
        let ascending = chunk.rows.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascending
            || chunk
                .rows
                .last()
                .is_some_and(|(row, _)| *row >= chunk.tokens.len())
        {
            return wrong("the wanted rows are not ascending token numbers of their chunk".into());
        }
        for (_, selection) in &chunk.rows {
            let temperature = selection.temperature;
            if !(temperature > 0.0 && temperature.is_finite()) {
                return wrong(format!("a temperature of {temperature} is not above zero"));
            }
            if let Some(target) = selection.target.filter(|t| *t as usize >= config.vocab) {
                return wrong(format!(
                    "target token {target} is outside the vocabulary of {}",
                    config.vocab
                ));
            }
            if let Some(a) = selection
                .adjustments
                .iter()
                .find(|a| a.token as usize >= config.vocab)
            {
                return wrong(format!(
                    "adjusted token {} is outside the vocabulary",
                    a.token
                ));
            }
        }
    }
    Ok(())
}
