//! Lines with functions and offsets: what is found of them is in the line, in order, and prints as what it was read from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugstorm_observe::place::{Place, Spot, sightings, stamp_bytes};
use plugstorm_observe::symbol::Symbol;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        assert!(line.get(stamp_bytes(line)..).is_some(), "a stamp ends within a character");
        for sighting in sightings(line) {
            if let Spot::Place(place) = &sighting.spot {
                assert!(line.get(sighting.range.clone()).is_some_and(|there| there.starts_with(&place.function)));
                assert_eq!(Place::parse(&place.to_string()).as_ref(), Some(place));
                let _ = place.symbol();
            }
        }
        let _ = (Place::parse(line), Symbol::parse(line));
    }
});
