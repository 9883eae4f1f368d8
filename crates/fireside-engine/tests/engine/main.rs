//! The engine over a small model that checks the cache it is given.

mod ahead;
mod batching;
mod drafting;
mod generation;
mod mock;
mod prefix;
mod scoring;
mod speculation;
