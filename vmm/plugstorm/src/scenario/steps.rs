//! The steps of a cycle, walked through once: what cannot happen at its place is found before anything boots.
//!
//! A device is in one of these states; every cycle begins and ends with all devices absent, so that each cycle is the same
//! whatever the one before it did:
//!
//! | state | what it means | `add` | `remove` surprise | `remove` unbind | `remove` remove | `bind` | `rescan` |
//! |---|---|---|---|---|---|---|---|
//! | absent | nothing in the slot | → present | – | – | – | – | – |
//! | present | plugged in, a driver bound, a node | – | → absent | → unbound | → forgotten | – | – |
//! | unbound | plugged in, known to the guest, no driver | – | → absent | – | → forgotten | → present | – |
//! | forgotten | plugged in, unknown to the guest | – | → absent | – | – | – | → present |
//!
//! A hammer is idle or at work. It can be started while its device is present, it stays at work when the device goes, and
//! it must be stopped before the cycle ends.

use toml::Spanned;

use super::check::{Place, find, needs_line_request};
use super::table::{ScenarioTable, StepKind, StepTable};
use super::{Device, Hammer, How, Mistake, Program, Step, Work, own};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Present,
    Unbound,
    Forgotten,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Absent => "is not plugged in",
            Self::Present => "is plugged in and bound",
            Self::Unbound => "is unbound",
            Self::Forgotten => "was removed through sysfs",
        }
    }
}

struct Walk<'a> {
    devices: &'a [Device],
    hammers: &'a [Hammer],
    states: Vec<State>,
    /// Where each device got its state.
    changed: Vec<Place>,
    /// Where each hammer at work was started.
    at_work: Vec<Option<Place>>,
    ever_started: Vec<bool>,
    ever_added: Vec<bool>,
    removals: u32,
    programs: Vec<Program>,
    mistakes: &'a mut Vec<Mistake>,
}

pub(super) fn check(
    table: &ScenarioTable,
    devices: &[Device],
    hammers: &[Hammer],
    mistakes: &mut Vec<Mistake>,
) -> (Vec<Step>, Vec<Program>, Vec<String>) {
    let before = mistakes.len();
    if table.step.is_empty() {
        mistakes.push(Mistake::new(
            0..0,
            "a scenario without steps does nothing",
            "add [[step]] tables, such as do = \"add\" with device = \"…\"",
        ));
    }
    let mut walk = Walk {
        devices,
        hammers,
        states: vec![State::Absent; devices.len()],
        changed: vec![0..0; devices.len()],
        at_work: vec![None; hammers.len()],
        ever_started: vec![false; hammers.len()],
        ever_added: vec![false; devices.len()],
        removals: 0,
        programs: Vec::new(),
        mistakes,
    };
    let steps: Vec<Step> = table.step.iter().filter_map(|step| walk.step(step)).collect();
    // What follows from a step that cannot run is no news.
    if walk.mistakes.len() == before {
        walk.end();
    }
    let warnings = walk.warnings();
    (steps, walk.programs, warnings)
}

impl Walk<'_> {
    fn step(&mut self, table: &Spanned<StepTable>) -> Option<Step> {
        let (step, place) = (table.get_ref(), table.get_ref().what.span());
        let kind = *step.what.get_ref();
        self.superfluous(step, kind);
        match kind {
            StepKind::Add => {
                let device = self.device(step, kind)?;
                self.transition(device, place, kind, &[State::Absent], State::Present, "remove it first")?;
                *self.ever_added.get_mut(device)? = true;
                Some(Step::Add { device })
            }
            StepKind::Bind => {
                let device = self.device(step, kind)?;
                let way_out = "`bind` comes after `remove` with how = \"unbind\"";
                self.transition(device, place, kind, &[State::Unbound], State::Present, way_out)?;
                Some(Step::Bind { device })
            }
            StepKind::Rescan => {
                let device = self.device(step, kind)?;
                let way_out = "`rescan` comes after `remove` with how = \"remove\"";
                self.transition(device, place, kind, &[State::Forgotten], State::Present, way_out)?;
                Some(Step::Rescan { device })
            }
            StepKind::Remove => self.remove(step, place),
            StepKind::Pause => match &step.pause {
                Some(pause) => Some(Step::Pause(*pause.get_ref())),
                None => {
                    self.lacks(step, "for", "a duration, such as \"5ms\", or two bounds, such as [\"1ms\", \"20ms\"]")
                }
            },
            StepKind::Start => self.start(step, place),
            // Whatever is plugged in and at work stays so.
            StepKind::Migrate => Some(Step::Migrate),
            StepKind::Run => match own::program(step, self.mistakes) {
                Some(program) => {
                    self.programs.push(program);
                    Some(Step::Run { program: self.programs.len() - 1 })
                }
                None => self.lacks(step, "program", "its path in the guest and its arguments, such as [\"/bin/x\"]"),
            },
            StepKind::Stop => {
                let hammer = self.hammer(step, kind)?;
                if self.at_work.get_mut(hammer)?.take().is_none() {
                    let name = &self.hammers.get(hammer)?.name;
                    let message = format!("hammer `{name}` is not at work here: this `stop` can never run");
                    self.mistakes.push(Mistake::new(place, message, "start it in an earlier step, or leave this out"));
                    return None;
                }
                Some(Step::Stop { hammer })
            }
        }
    }

    fn remove(&mut self, step: &StepTable, place: Place) -> Option<Step> {
        let device = self.device(step, StepKind::Remove)?;
        let Some(how) = step.how.as_ref().map(|how| *how.get_ref()) else {
            return self.lacks(step, "how", "\"surprise\", \"unbind\" or \"remove\"");
        };
        let forgotten = self.states.get(device) == Some(&State::Forgotten);
        let (from, to, way_out): (&[State], _, _) = match how {
            How::Surprise => (
                &[State::Present, State::Unbound, State::Forgotten],
                State::Absent,
                "put a step do = \"add\" before it",
            ),
            How::Unbind => (&[State::Present], State::Unbound, "a device is unbound while it is plugged in and bound"),
            How::Remove => {
                (&[State::Present, State::Unbound], State::Forgotten, "put a step do = \"add\" or \"rescan\" before it")
            }
        };
        self.transition(device, place, StepKind::Remove, from, to, way_out)?;
        self.removals += 1;
        Some(Step::Remove { device, how, forgotten })
    }

    fn start(&mut self, step: &StepTable, place: Place) -> Option<Step> {
        let hammer = self.hammer(step, StepKind::Start)?;
        let spec = self.hammers.get(hammer)?;
        // One without a device does not depend on any.
        let (state, device) = match spec.device {
            Some(device) => (*self.states.get(device)?, self.devices.get(device)?.name.as_str()),
            None => (State::Present, ""),
        };
        let mistake = if self.at_work.get(hammer)?.is_some() {
            (format!("hammer `{}` is at work already: this `start` can never run", spec.name), "stop it first")
        } else if state != State::Present {
            let message = format!(
                "hammer `{}` cannot start here: its device `{device}` {}, so there is nothing to open",
                spec.name,
                state.words()
            );
            (message, "put the step that adds (or binds, or rescans) the device before it")
        } else if let Some((lender, state)) = self.lender_away(hammer) {
            let message = format!(
                "hammer `{}` cannot start here: it borrows a line from device `{lender}`, which {}",
                spec.name,
                state.words()
            );
            (message, "put the step that adds (or binds, or rescans) that device before it")
        } else if let Some((other, line)) = self.line_taken(hammer) {
            let message = format!(
                "hammer `{}` cannot start here: line {line} of `{device}` is held by hammer `{other}`, and the kernel gives a \
                 line to one request at a time",
                spec.name
            );
            (message, "give the hammers different `lines`")
        } else {
            *self.at_work.get_mut(hammer)? = Some(place);
            *self.ever_started.get_mut(hammer)? = true;
            return Some(Step::Start { hammer });
        };
        self.mistakes.push(Mistake::new(place, mistake.0, mistake.1));
        None
    }

    /// The device that a hammer borrows a line from, and where that one is, if it is not there to lend.
    fn lender_away(&self, hammer: usize) -> Option<(&str, State)> {
        let lender = self.hammers.get(hammer)?.from?;
        let state = *self.states.get(lender)?;
        (state != State::Present).then_some((self.devices.get(lender)?.name.as_str(), state))
    }

    /// The hammer at work, and the line it holds, that keep this one from its line request.
    fn line_taken(&self, hammer: usize) -> Option<(&str, u32)> {
        let wanted = self.hammers.get(hammer)?;
        let requests = |hammer: &Hammer| {
            let device = hammer.device.and_then(|device| self.devices.get(device));
            device.is_some_and(|device| device.driver == super::Driver::GpioVirtio)
                && hammer.work == Work::Device
                && hammer.operations.iter().any(|operation| needs_line_request(*operation))
        };
        if !requests(wanted) {
            return None;
        }
        self.hammers.iter().zip(&self.at_work).find_map(|(other, at_work)| {
            let holds = at_work.is_some() && other.device == wanted.device && requests(other);
            let line = wanted.lines.iter().find(|line| holds && other.lines.contains(line))?;
            Some((other.name.as_str(), *line))
        })
    }

    fn transition(
        &mut self,
        device: usize,
        place: Place,
        kind: StepKind,
        from: &[State],
        to: State,
        way_out: &str,
    ) -> Option<()> {
        let state = self.states.get_mut(device)?;
        if from.contains(state) {
            *state = to;
            *self.changed.get_mut(device)? = place;
            return Some(());
        }
        let name = &self.devices.get(device)?.name;
        let message = format!("device `{name}` {} here: this `{}` can never run", state.words(), kind.name());
        self.mistakes.push(Mistake::new(place, message, way_out));
        None
    }

    fn device(&mut self, step: &StepTable, kind: StepKind) -> Option<usize> {
        match &step.device {
            Some(name) => find(name, self.devices.iter().map(|device| device.name.as_str()), "device", self.mistakes),
            None => self.lacks(step, "device", &format!("the name of the device to {}", kind.name())),
        }
    }

    fn hammer(&mut self, step: &StepTable, kind: StepKind) -> Option<usize> {
        match &step.hammer {
            Some(name) => find(name, self.hammers.iter().map(|hammer| hammer.name.as_str()), "hammer", self.mistakes),
            None => self.lacks(step, "hammer", &format!("the name of the hammer to {}", kind.name())),
        }
    }

    fn lacks<T>(&mut self, step: &StepTable, key: &str, what: &str) -> Option<T> {
        let message = format!("a step `{}` needs the key `{key}`", step.what.get_ref().name());
        self.mistakes.push(Mistake::new(step.what.span(), message, format!("`{key}` is {what}")));
        None
    }

    /// Keys that the step has no use for.
    fn superfluous(&mut self, step: &StepTable, kind: StepKind) {
        use StepKind::{Migrate, Pause, Remove, Run, Start, Stop};
        let keys = [
            ("device", step.device.as_ref().map(Spanned::span), !matches!(kind, Pause | Start | Stop | Migrate | Run)),
            ("hammer", step.hammer.as_ref().map(Spanned::span), matches!(kind, Start | Stop)),
            ("for", step.pause.as_ref().map(Spanned::span), kind == Pause),
            ("how", step.how.as_ref().map(Spanned::span), kind == Remove),
            ("program", step.program.as_ref().map(Spanned::span), kind == Run),
            ("expect", step.expect.as_ref().map(Spanned::span), kind == Run),
            ("time-out", step.time_out.as_ref().map(Spanned::span), kind == Run),
        ];
        for (key, place, wanted) in keys {
            if let (Some(place), false) = (place, wanted) {
                let message = format!("`{key}` has no meaning in a step `{}`", kind.name());
                self.mistakes.push(Mistake::new(place, message, "leave it out"));
            }
        }
    }

    /// Everything is back where the next cycle begins.
    fn end(&mut self) {
        for ((device, state), place) in self.devices.iter().zip(&self.states).zip(&self.changed) {
            if *state != State::Absent {
                self.mistakes.push(Mistake::new(
                    place.clone(),
                    format!("device `{}` is left plugged in at the end of a cycle", device.name),
                    "every cycle begins with an empty slot: end with a step do = \"remove\", how = \"surprise\"",
                ));
            }
        }
        for (hammer, place) in self.hammers.iter().zip(&self.at_work) {
            if let Some(place) = place {
                self.mistakes.push(Mistake::new(
                    place.clone(),
                    format!("hammer `{}` is left at work at the end of a cycle", hammer.name),
                    format!("end with a step do = \"stop\", hammer = \"{}\"", hammer.name),
                ));
            }
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (hammer, _) in self.hammers.iter().zip(&self.ever_started).filter(|(_, started)| !**started) {
            warnings.push(format!("hammer `{}` is never started", hammer.name));
        }
        for (device, _) in self.devices.iter().zip(&self.ever_added).filter(|(_, added)| !**added) {
            warnings.push(format!("device `{}` is never added", device.name));
        }
        if self.removals == 0 {
            warnings.push("no step removes a device: nothing is put to the test".into());
        }
        warnings
    }
}
