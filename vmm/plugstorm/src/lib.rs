//! Tests what kernels do when hardware vanishes: hot-unplug storms against a real kernel, from a scenario to a verdict.

pub mod cache;
pub mod calendar;
mod child;
pub mod cli;
pub mod doctor;
pub mod host;
pub mod initramfs;
pub mod kernels;
pub mod known;
pub mod matrix;
pub mod own;
pub mod plan;
mod programs;
pub mod progress;
pub mod report;
pub mod results;
pub mod scenario;
pub mod selftest;
mod signals;
pub mod snapshots;
pub mod storm;
pub mod summary;
pub mod symbols;
pub mod timeline;
mod turns;
pub mod verdict;
mod wildcard;
