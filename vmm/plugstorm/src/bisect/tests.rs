//! Bisections without kernels: histories that are made up, and real ones of git's; a builder and runner that knows the answer.

mod driven;
mod repository;

use super::*;

pub(super) fn commit(name: &str) -> Commit {
    Commit { id: format!("{name:0<40}"), subject: format!("do {name}"), author: "A".into(), date: "2026-01-31".into() }
}

pub(super) fn header() -> Header {
    Header {
        version: VERSION,
        plugstorm: "0.1.0".into(),
        command: vec!["plugstorm".into(), "bisect".into()],
        started_unix_s: 1_795_414_666,
        tree: "/linux".into(),
        scenario: "sleeping-reader".into(),
        scenario_digest: "1234".into(),
        cycles: 3,
        seed: 1,
        ingredients: vec![Ingredient { name: "timing".into(), digest: None }],
        title: None,
        runs: 10,
        confidence: 0.99,
    }
}

pub(super) fn bisection() -> Bisection {
    Bisection::new(header(), commit("a"), commit("b"))
}
