//! What a revoke costs: boots of guests that measure it, and what their samples come to.

pub mod model;
