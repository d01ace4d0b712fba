//! What a revoke costs: boots of guests that measure it, and what their samples come to.

pub mod journal;
mod lines;
pub mod model;
pub mod plan;
pub mod request;
pub mod run;
pub mod scale;
pub mod session;
pub mod surprise;
