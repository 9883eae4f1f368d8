//! What tests share with the chores: models of random weights.

pub mod synth;
