//! What a revoke costs: boots of guests that measure it, and what their samples come to.
//!
//! A datum walks one way. [`plan`] says what a boot measures, [`run`] and [`session`] have a guest measure it, [`journal`] writes
//! `samples.jsonl` ([`model`]). From there on nothing is measured:
//!
//! - [`pool::read`]: the file read back, whoever gives it: a [`pool::Pool`].
//! - [`results::Results::of`]: all that a pool comes to, alone or against a base: the [`summary`] (percentiles of boots, and over
//!   boots their median and its interval), the [`compare`]d differences of two sides, and what the [`gate`] makes of them
//!   ([`gate::Verdict::exit_code`]).
//! - [`results::Results::render`]: the same in one of [`formats::Format`]; [`results::Results::plots`]: as SVG.
//! - [`draws`]: comparisons drawn from a large pool, to see how often the gate is wrong.

pub mod compare;
mod crosscheck;
pub mod draws;
pub mod formats;
pub mod gate;
pub mod journal;
mod lines;
pub mod model;
mod numbers;
pub mod plan;
mod plot;
pub mod pool;
pub mod request;
pub mod results;
pub mod run;
pub mod scale;
pub mod series;
pub mod session;
#[cfg(test)]
mod simulated;
pub mod summary;
pub mod surprise;
