//! Snapshots that somebody or something has changed: refused, or devices that keep their promises all the same.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{CONSOLE_BAR, GPIO_BAR, LINES, PORT_NAMES, World};
use crate::devices_state::DevicesState;

/// A change to one place of a snapshot.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Value),
    /// The value that is at another place.
    CopyFrom(usize),
    /// A number a little or a lot further.
    Add(i64),
    /// One character of a text.
    Character(usize, char),
    Remove,
    /// An element of a list many times.
    Repeat(usize),
    UnknownField,
}

fn edit() -> impl Strategy<Value = Edit> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(0_u64), Just(1), Just(64), Just(0xffff), Just(0x1_0000), Just(u64::MAX), any::<u64>()]
            .prop_map(Value::from),
        Just(json!(-1)),
        Just(json!(1.5)),
        "[0-9a-f]{0,10}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
    ];
    prop_oneof![
        3 => value.prop_map(Edit::Replace),
        3 => any::<usize>().prop_map(Edit::CopyFrom),
        3 => prop_oneof![-2_i64..3, any::<i32>().prop_map(i64::from), Just(0x1_0000_0000)].prop_map(Edit::Add),
        3 => (any::<usize>(), prop::sample::select("0123456789abcdefx".chars().collect::<Vec<_>>()))
            .prop_map(|(at, new)| Edit::Character(at, new)),
        1 => Just(Edit::Remove),
        1 => (1_usize..300).prop_map(Edit::Repeat),
        1 => Just(Edit::UnknownField),
    ]
}

/// All places in a snapshot, the whole of it first.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(value, &format!("{here}/{name}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| places(value, &format!("{here}/{index}"), found));
        }
        _ => {}
    }
}

fn change(snapshot: &mut Value, place: usize, edit: &Edit) {
    let mut all = Vec::new();
    places(snapshot, "", &mut all);
    let place = &all[place % all.len()];
    let other = if let Edit::CopyFrom(from) = edit { snapshot.pointer(&all[from % all.len()]).cloned() } else { None };
    let (parent, name) = place.rsplit_once('/').unwrap_or_default();
    match edit {
        Edit::Remove | Edit::Repeat(_) => match (snapshot.pointer_mut(parent), edit) {
            (Some(Value::Object(fields)), Edit::Remove) => drop(fields.remove(name)),
            (Some(Value::Array(list)), Edit::Remove) => drop(list.pop()),
            (Some(Value::Array(list)), Edit::Repeat(times)) => {
                let last = list.last().cloned().unwrap_or(Value::Null);
                list.extend(std::iter::repeat_n(last, *times));
            }
            _ => {}
        },
        _ => {
            let Some(value) = snapshot.pointer_mut(place) else { return };
            match (edit, &mut *value) {
                (Edit::Replace(new), value) => *value = new.clone(),
                (Edit::CopyFrom(_), value) => *value = other.unwrap_or(Value::Null),
                (Edit::Add(change), Value::Number(number)) => {
                    let number = number.as_u64().unwrap_or(0);
                    *value = Value::from(number.wrapping_add_signed(*change));
                }
                (Edit::Character(at, new), Value::String(text)) if !text.is_empty() => {
                    let at = at % text.len();
                    text.replace_range(at..=at, &new.to_string());
                }
                (Edit::UnknownField, Value::Object(fields)) => drop(fields.insert("flavour".to_owned(), json!(7))),
                _ => {}
            }
        }
    }
}

/// Everything that a guest and a host could do next.
fn use_it(world: &mut World) {
    for bar in [GPIO_BAR, CONSOLE_BAR] {
        for offset in (0..0x40).step_by(4).chain((0x2000..0x2010).step_by(4)).chain([0x1000, 0x4000, 0x5000]) {
            world.devices.bus.memory_read(bar + offset, &mut [0; 4]);
        }
        for queue in 0_u16..6 {
            world.devices.bus.memory_write(bar + 0x3000 + u64::from(queue) * 4, &queue.to_le_bytes());
        }
        for vector in 0..7 {
            world.devices.bus.memory_write(bar + 0x4000 + vector * 16 + 12, &[0; 4]);
        }
    }
    for handle in world.devices.gpios.values() {
        for line in 0..LINES {
            let _ = handle.pulse(line);
        }
        handle.complete_due(Instant::now() + Duration::from_secs(1 << 40));
        handle.release_stalled();
        let _ = handle.interrupt_after_removal(0);
    }
    if let Some(console) = &world.devices.console {
        for port in 0..2 {
            let _ = console.send(port, &[0x5a; 3000]);
            console.set_host_open(port, false);
        }
    }
    for port in (0x3f8..0x400).chain(0xcf8..0xd00) {
        world.devices.bus.port_read(port, &mut [0]);
        world.devices.bus.port_write(port, &[0x1f]);
    }
    let _ = world.devices.bus.serial.input(&[b'x'; 100]);
    // A slot may have been among what was changed.
    for slot in 0..u8::try_from(world.devices.bus.pci.slots().count()).unwrap() {
        world.remove(slot);
        world.plug(slot);
    }
}

/// A snapshot of a machine at work, whose world only lends its memory.
fn snapshot() -> &'static (World, Value) {
    static SNAPSHOT: OnceLock<(World, Value)> = OnceLock::new();
    SNAPSHOT.get_or_init(|| {
        let world = World::at_work();
        let value = serde_json::to_value(world.state()).unwrap();
        (world, value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_snapshot_is_refused_or_a_machine(edits in prop::collection::vec((any::<usize>(), edit()), 1..4)) {
        let (original, snapshot) = snapshot();
        let mut changed = snapshot.clone();
        for (place, edit) in &edits {
            change(&mut changed, *place, edit);
        }
        let Ok(state) = serde_json::from_value::<DevicesState>(changed) else { return Ok(()) };
        let Ok(mut world) = original.restored(&state, &PORT_NAMES) else { return Ok(()) };
        // What was taken is what will be saved: nothing in a snapshot is without meaning.
        prop_assert_eq!(world.state(), state);
        use_it(&mut world);
        let after = world.state();
        prop_assert!(original.restored(&after, &PORT_NAMES).is_ok(), "a state that its own machine refuses");
    }
}

/// Whether a field is none if it is not there, or the count of a kind of request of which there were none.
fn is_optional(parent: &str, name: &str) -> bool {
    match name {
        "gpio" | "buffer" | "line" | "request" | "times" => true,
        "console" => parent.is_empty(),
        "names" => parent.ends_with("/config"),
        "fault" => parent.contains("/answers/"),
        _ => parent.ends_with("/requests"),
    }
}

#[test]
fn every_place_of_a_snapshot_counts() {
    let (original, snapshot) = snapshot();
    let mut all = Vec::new();
    places(snapshot, "", &mut all);
    assert!(all.len() > 300, "{} places", all.len());
    for place in all.iter().skip(1) {
        let mut without = snapshot.clone();
        let (parent, name) = place.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(fields)) = without.pointer_mut(parent) {
            fields.remove(name);
            assert_eq!(serde_json::from_value::<DevicesState>(without).is_ok(), is_optional(parent, name), "{place}");
        }
        let mut more = snapshot.clone();
        if let Some(Value::Object(fields)) = more.pointer_mut(place) {
            fields.insert("flavour".to_owned(), json!(7));
            assert!(serde_json::from_value::<DevicesState>(more).is_err(), "{place} takes what nobody knows");
        }
    }
    assert!(original.restored(&serde_json::from_value(snapshot.clone()).unwrap(), &PORT_NAMES).is_ok());
}
