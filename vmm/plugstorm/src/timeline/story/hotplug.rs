//! Devices that come and go: what the storm asked for, what the slot's hardware did, and what the guest told of it.

use plugstorm_observe::trace::Span;

use super::{Moment, Story, key, name, text};
use crate::results::EventKind;
use crate::scenario::How;
use crate::timeline::track::{Arguments, Mark, Shape, Track, Value};

/// What the storm asked for last: what follows from it is joined to it.
#[derive(Debug, Default)]
pub(super) struct HotPlug {
    asked: Option<Asked>,
    /// How often anything was asked for.
    count: u64,
    /// When the guest took note of the removal, and by what that is known.
    seen: Option<(u64, String)>,
}

#[derive(Debug)]
struct Asked {
    slot: u8,
    /// None for an add.
    how: Option<How>,
    at_ns: u64,
    flow: u64,
    /// What has been joined already: each follows once.
    joined: Vec<Follows>,
}

/// What follows from asking for an add or a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    Interrupt,
    EventsCleared,
    Kernel,
    Uevent,
}

impl HotPlug {
    /// Whether what happened to this slot at this time follows from what was asked for last, and is the first of its kind.
    fn join(&mut self, slot: Option<u8>, at_ns: u64, what: Follows) -> Option<u64> {
        let asked = self.asked.as_mut().filter(|asked| slot.is_none_or(|slot| slot == asked.slot))?;
        if at_ns < asked.at_ns || asked.joined.contains(&what) {
            return None;
        }
        asked.joined.push(what);
        Some(asked.flow)
    }

    /// The same of a function that the guest's kernel enters.
    pub(super) fn entered(&mut self, at_ns: u64, span: Span) -> Option<u64> {
        let begins = match self.asked.as_ref()?.how {
            None => matches!(span, Span::SlotEvent | Span::AddBelowPort),
            Some(How::Surprise) => span == Span::SlotEvent,
            Some(_) => !matches!(span, Span::SlotEvent | Span::AddBelowPort | Span::GracePeriod),
        };
        if begins { self.join(None, at_ns, Follows::Kernel) } else { None }
    }
}

impl Story {
    pub(super) fn hot_plug(&mut self, moment: Moment, kind: &EventKind) {
        match kind {
            EventKind::AddAsked { device, by, .. } => {
                let slot = self.slot_of(device);
                self.step(moment, name(&format!("add {device} ({by})")), Vec::new());
                self.ask(moment, slot, None);
                if let (Some(slot), "plug") = (slot, by.as_str()) {
                    let title = name(&format!("{device} is plugged in"));
                    self.begin(moment, Track::Slot(slot), key::PRESENT, title, Vec::new(), None);
                }
            }
            EventKind::AddFinished { node, .. } => {
                self.end(moment.at_ns, &Track::Storm, key::STEP, vec![("node", text(node))]);
            }
            EventKind::RemovalAsked { device, how, .. } => {
                let slot = self.slot_of(device);
                self.step(moment, name(&format!("remove {device} ({})", how.name())), Vec::new());
                self.ask(moment, slot, Some(*how));
                if let (Some(slot), How::Surprise) = (slot, how) {
                    self.end(moment.at_ns, &Track::Slot(slot), key::PRESENT, Vec::new());
                }
            }
            EventKind::RemovalSeen { by, at_ns, .. } => {
                self.hotplug.seen = at_ns.map(|ns| (ns.min(moment.at_ns), by.clone()));
            }
            EventKind::RemovalFinished { device, how, after_ns, at_ns, .. } => {
                self.end(moment.at_ns, &Track::Storm, key::STEP, vec![("after_ns", (*after_ns).into())]);
                let Some(slot) = self.slot_of(device) else { return };
                // One that took too long, and ended after all.
                self.end(moment.at_ns, &Track::Removals(slot), key::STUCK, Vec::new());
                if let Some(at_ns) = at_ns {
                    self.removal(moment, slot, *how, (*at_ns).min(moment.at_ns), *after_ns);
                }
            }
            EventKind::RemovalStuck { device, how, after_ns, on, .. } => {
                let Some(slot) = self.slot_of(device) else { return };
                let asked_ns = self.hotplug.asked.as_ref().map_or(moment.at_ns, |asked| asked.at_ns);
                let began = Moment { at_ns: asked_ns, ..moment };
                let title = name(&format!("removal ({}) that does not end", how.name()));
                let arguments = vec![("on", text(on)), ("looked_at_after_ns", (*after_ns).into())];
                self.begin(began, Track::Removals(slot), key::STUCK, title, arguments, None);
            }
            // Linux sets up all slots as it boots: those that stay empty would be rows with nothing else on them.
            EventKind::Slot { slot, what } if self.stays_empty(*slot) && what.starts_with("control written") => {}
            EventKind::Slot { slot, what } => {
                let follows = match what.as_str() {
                    "interrupt" => Some(Follows::Interrupt),
                    cleared if cleared.starts_with("events cleared") => Some(Follows::EventsCleared),
                    _ => None,
                };
                let flow = follows.and_then(|follows| self.hotplug.join(Some(*slot), moment.at_ns, follows));
                self.mark(moment, Track::Slot(*slot), Shape::Instant(name(what)), Vec::new(), flow);
            }
            EventKind::Uevent { action, devpath, subsystem, devname } => {
                // The PCI device is the first component below its port.
                let place = slot_of_path(devpath).filter(|(_, below)| *below == 1 && subsystem == "pci");
                let is_first = place.filter(|_| matches!(action.as_str(), "add" | "remove"));
                let flow = is_first.and_then(|(slot, _)| self.hotplug.join(Some(slot), moment.at_ns, Follows::Uevent));
                let mut arguments: Arguments = vec![("devpath", text(devpath))];
                arguments.extend(devname.as_ref().map(|devname| ("devname", text(devname))));
                let title = name(&format!("{action} {subsystem}"));
                self.mark(moment, Track::Uevents, Shape::Instant(title), arguments, flow);
            }
            _ => {}
        }
    }

    fn stays_empty(&self, slot: u8) -> bool {
        !self.devices.is_empty() && usize::from(slot) >= self.devices.len()
    }

    fn slot_of(&self, device: &str) -> Option<u8> {
        self.devices.iter().position(|name| name == device).and_then(|slot| u8::try_from(slot).ok())
    }

    /// Takes note of what is asked for. What follows from it is joined to a moment, not to the step: arrows leave a slice at
    /// its end.
    fn ask(&mut self, moment: Moment, slot: Option<u8>, how: Option<How>) {
        self.hotplug.count += 1;
        self.hotplug.seen = None;
        let flow = self.hotplug.count;
        self.hotplug.asked = slot.map(|slot| Asked { slot, how, at_ns: moment.at_ns, flow, joined: Vec::new() });
        if slot.is_some() {
            self.mark(moment, Track::Storm, Shape::Instant("asked".to_owned()), Vec::new(), Some(flow));
        }
    }

    /// A removal that is over, in two parts: until the guest took note of it, and until its end.
    fn removal(&mut self, moment: Moment, slot: u8, how: How, ended_ns: u64, after_ns: u64) {
        let asked_ns = ended_ns.saturating_sub(after_ns);
        let track = Track::Removals(slot);
        let mut mark = |at_ns: u64, shape: Shape, arguments: Arguments| {
            self.marks.push(Mark { at_ns, track: track.clone(), shape, arguments, flow: None });
        };
        let clock = || ("clock", Value::from(moment.clock.name()));
        let title = format!("removal ({})", how.name());
        mark(asked_ns, Shape::Begin(title), vec![("after_ns", after_ns.into()), clock()]);
        let seen = self.hotplug.seen.take().filter(|(seen_ns, _)| (asked_ns..=ended_ns).contains(seen_ns));
        if let Some((seen_ns, by)) = seen {
            let mut part = |began_ns: u64, ended_ns: u64, title: &str, arguments: Arguments| {
                self.marks.push(Mark {
                    at_ns: began_ns,
                    track: track.clone(),
                    shape: Shape::Begin(title.to_owned()),
                    arguments,
                    flow: None,
                });
                let shape = Shape::End;
                self.marks.push(Mark {
                    at_ns: ended_ns,
                    track: track.clone(),
                    shape,
                    arguments: Vec::new(),
                    flow: None,
                });
            };
            part(asked_ns, seen_ns, "until the guest takes note", vec![("by", text(&by))]);
            part(seen_ns, ended_ns, "until it is gone", Vec::new());
        }
        self.marks.push(Mark { at_ns: ended_ns, track, shape: Shape::End, arguments: Vec::new(), flow: None });
    }
}

/// The slot that a path of sysfs is below, and how many components below its port: the ports are devices 1 and up of bus 0.
fn slot_of_path(devpath: &str) -> Option<(u8, usize)> {
    let mut components = devpath.split('/');
    let port = components.find_map(|component| component.strip_prefix("0000:00:")?.strip_suffix(".0"))?;
    let device = u8::from_str_radix(port, 16).ok()?;
    Some((device.checked_sub(1)?, components.count()))
}
