//! The gpio device: requests, events, and the faults in between.

mod state;

pub use state::GpioDeviceState;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::answers::{Answer, Answers, Pending, Wait};
use super::counters::{GpioCounters, bump};
use super::faults::{Fault, Faults};
use super::line::{Line, LineStatus};
use super::protocol::{
    Direction, EVENT_INVALID, EVENT_QUEUE, EVENT_REQUEST_BYTES, EVENT_VALID, REQUEST_BYTES, REQUEST_QUEUE,
    RESPONSE_BYTES, Request, RequestKind, STATUS_ERROR, STATUS_OK, Trigger,
};
use crate::virtio::VirtioError;
use crate::virtio::chain::Chain;
use crate::virtio::device::VirtioDevice;
use crate::virtio::ring::Rings;

/// Device type (virtio 1.2, 5.18.1).
const DEVICE_TYPE: u16 = 41;
/// `VIRTIO_GPIO_F_IRQ` (5.18.3).
const FEATURE_IRQ: u64 = 1 << 0;
/// `struct virtio_gpio_config` (5.18.4).
const CONFIG_BYTES: usize = 8;

/// Most lines. The stock driver keeps two descriptors of the event queue for each, all the time.
pub const MAX_LINES: u16 = 1024;
const MAX_NAME_BYTES: usize = 63;
const LEAST_QUEUE_SIZE: u16 = 64;

/// A gpio controller to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpioConfig {
    /// Number of lines, 1 to [`MAX_LINES`].
    pub lines: u16,
    /// Their names from line 0 on; empty for a line without. None: the device has no names at all.
    pub names: Option<Vec<String>>,
    /// Whether lines can interrupt.
    pub irq: bool,
}

/// A gpio controller.
#[derive(Debug)]
pub struct GpioDevice {
    config: GpioConfig,
    lines: Vec<Line>,
    /// The names as the driver fetches them (5.18.6.1); empty for none.
    names: Vec<u8>,
    irq_negotiated: bool,
    pub(super) counters: GpioCounters,
    pub(super) faults: Faults,
    answers: Answers,
}

impl GpioDevice {
    /// A controller whose lines are all low and unused.
    ///
    /// # Errors
    /// If there are no lines or too many, or a name is not one a line can have.
    pub fn new(config: &GpioConfig) -> Result<Self, VirtioError> {
        if config.lines == 0 || config.lines > MAX_LINES {
            return Err(VirtioError::LineCount { lines: config.lines, most: MAX_LINES });
        }
        Ok(Self {
            lines: (0..config.lines).map(|_| Line::default()).collect(),
            names: config.names.as_ref().map_or(Ok(Vec::new()), |names| names_block(names, config.lines))?,
            config: config.clone(),
            irq_negotiated: false,
            counters: GpioCounters::default(),
            faults: Faults::default(),
            answers: Answers::default(),
        })
    }

    /// What can be seen of a line; none if there is no such line.
    #[must_use]
    pub fn line(&self, line: u16) -> Option<LineStatus> {
        self.lines.get(usize::from(line)).map(Line::status)
    }

    /// Drives a line to these levels, one after the other, and interrupts as the guest asked for.
    ///
    /// # Errors
    /// If there is no such line.
    pub fn drive(
        &mut self,
        line: u16,
        levels: impl IntoIterator<Item = bool>,
        rings: &mut Rings<'_>,
    ) -> Result<(), VirtioError> {
        let last = u16::try_from(self.lines.len()).unwrap_or(MAX_LINES).saturating_sub(1);
        for level in levels {
            let target = self.lines.get_mut(usize::from(line)).ok_or(VirtioError::NoSuchLine { line, last })?;
            let was_latched = target.status().latched;
            target.drive(level);
            self.deliver(line, rings);
            if !was_latched && self.line(line).is_some_and(|line| line.latched) {
                bump(&mut self.counters.edges_latched);
            }
        }
        Ok(())
    }

    /// Requests accepted and not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.answers.len()
    }

    /// When the next delayed answer is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.answers.next_due()
    }

    /// Lets go of stalled answers.
    pub fn release_stalled(&mut self) {
        self.answers.release();
    }

    /// Gives the answers that are due; gives their number.
    pub fn complete_due(&mut self, now: Instant, rings: &mut Rings<'_>) -> usize {
        if !rings.is_live() {
            return 0;
        }
        let due = self.answers.take_due(now);
        for pending in &due {
            self.give(&pending.chain, pending.answer, pending.fault, rings);
        }
        due.len()
    }

    /// One request (5.18.6).
    fn request(&mut self, chain: Chain, rings: &mut Rings<'_>) {
        let mut bytes = [0; REQUEST_BYTES];
        if rings.read(&chain, 0, &mut bytes) < REQUEST_BYTES || chain.writable_bytes() < RESPONSE_BYTES {
            bump(&mut self.counters.malformed);
            // As much of "failed" as there is room for.
            let written = rings.write(&chain, 0, &[STATUS_ERROR, 0]);
            rings.complete(REQUEST_QUEUE, &chain, u32::try_from(written).unwrap_or(0));
            return;
        }
        let request = Request::from_bytes(bytes);
        self.counters.count_request(request.kind);
        let answer = self.execute(request, &chain);
        if answer.status != STATUS_OK {
            bump(&mut self.counters.errors);
        }
        // Disabling an interrupt returns its buffer, enabling one may find the line at its level already.
        self.deliver(request.line, rings);

        let fault = self.faults.next(request.kind, request.line);
        if fault.is_some() {
            bump(&mut self.counters.faults);
        }
        let line = (request.kind != RequestKind::GetNames).then_some(request.line);
        let wait = match fault {
            Some(Fault::Delay(delay)) => Some(Wait::after(delay, Instant::now())),
            Some(Fault::Stall) => Some(Wait::Stalled),
            _ => line.filter(|&line| self.answers.has(line)).map(|_| Wait::Turn),
        };
        match wait {
            Some(wait) => self.answers.push(Pending { chain, line, answer, wait, fault }),
            None => self.give(&chain, answer, fault, rings),
        }
    }

    fn execute(&mut self, request: Request, chain: &Chain) -> Answer {
        if request.kind == RequestKind::GetNames {
            let fits = chain.writable_bytes() > self.names.len() as u64;
            let names = !self.names.is_empty() && fits;
            return Answer { status: if names { STATUS_OK } else { STATUS_ERROR }, value: 0, names };
        }
        let irq = self.irq_negotiated;
        let value = self.lines.get_mut(usize::from(request.line)).and_then(|line| on_line(line, request, irq));
        let status = if value.is_some() { STATUS_OK } else { STATUS_ERROR };
        Answer { status, value: value.unwrap_or(0), names: false }
    }

    /// Gives an answer, wrongly if the script says so.
    fn give(&mut self, chain: &Chain, answer: Answer, fault: Option<Fault>, rings: &mut Rings<'_>) {
        let status = if let Some(Fault::Status(status)) = fault { status } else { answer.status };
        let mut bytes = vec![status];
        if answer.names {
            bytes.extend(&self.names);
        } else {
            bytes.push(answer.value);
        }
        if fault == Some(Fault::ShortResponse) {
            bytes.pop();
        }
        let written = u32::try_from(rings.write(chain, 0, &bytes)).unwrap_or(0);
        let length = if fault == Some(Fault::LongResponse) { written.saturating_add(1) } else { written };
        rings.complete(REQUEST_QUEUE, chain, length);
        bump(&mut self.counters.answers);
        match fault {
            Some(Fault::DuplicateCompletion) => rings.complete_again(REQUEST_QUEUE, chain.head(), length),
            Some(Fault::SpuriousInterrupt) => rings.interrupt(REQUEST_QUEUE),
            _ => {}
        }
    }

    /// One buffer by which the guest unmasks an interrupt (5.18.7).
    fn unmask(&mut self, chain: Chain, rings: &mut Rings<'_>) {
        let mut bytes = [0; EVENT_REQUEST_BYTES];
        if rings.read(&chain, 0, &mut bytes) < EVENT_REQUEST_BYTES || chain.writable_bytes() == 0 {
            bump(&mut self.counters.malformed);
            let written = rings.write(&chain, 0, &[EVENT_INVALID]);
            rings.complete(EVENT_QUEUE, &chain, u32::try_from(written).unwrap_or(0));
            return;
        }
        let number = u16::from_le_bytes(bytes);
        let refused = match self.lines.get_mut(usize::from(number)) {
            Some(line) => line.unmask(chain),
            None => Some(chain),
        };
        match refused {
            Some(chain) => self.give_event(&chain, EVENT_INVALID, rings),
            None => self.deliver(number, rings),
        }
    }

    /// Returns a line's event buffer if it is time to.
    fn deliver(&mut self, line: u16, rings: &mut Rings<'_>) {
        if !rings.is_live() {
            return;
        }
        if let Some((chain, status)) = self.lines.get_mut(usize::from(line)).and_then(Line::take_due) {
            self.give_event(&chain, status, rings);
        }
    }

    fn give_event(&mut self, chain: &Chain, status: u8, rings: &mut Rings<'_>) {
        let written = rings.write(chain, 0, &[status]);
        rings.complete(EVENT_QUEUE, chain, u32::try_from(written).unwrap_or(0));
        let counter = if status == EVENT_VALID { &mut self.counters.events } else { &mut self.counters.events_invalid };
        bump(counter);
    }

    fn forget(&mut self) {
        self.irq_negotiated = false;
        self.lines.iter_mut().for_each(Line::reset);
        let abandoned = self.answers.clear() as u64;
        self.counters.abandoned = self.counters.abandoned.saturating_add(abandoned);
    }
}

/// Carries out a request on its line: the value to answer with, or none for an error.
fn on_line(line: &mut Line, request: Request, irq_negotiated: bool) -> Option<u8> {
    match request.kind {
        RequestKind::GetDirection => return Some(line.direction().number()),
        RequestKind::GetValue => return Some(u8::from(line.level())),
        RequestKind::SetDirection => line.set_direction(Direction::from_number(request.value)?),
        RequestKind::SetValue => line.set_output(match request.value {
            0 => false,
            1 => true,
            _ => return None,
        }),
        RequestKind::SetTrigger => {
            let trigger = Trigger::from_number(request.value)?;
            // No interrupts without the feature, and none on a line that goes out (5.18.6.8).
            if !irq_negotiated || (line.direction() == Direction::Out && trigger != Trigger::None) {
                return None;
            }
            line.set_trigger(trigger);
        }
        RequestKind::GetNames | RequestKind::Unknown => return None,
    }
    Some(0)
}

/// All names, each with its terminator, an empty one for each line without.
fn names_block(names: &[String], lines: u16) -> Result<Vec<u8>, VirtioError> {
    let mut block = Vec::new();
    for (line, name) in names.iter().enumerate() {
        let printable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let twice = !name.is_empty() && names.iter().take(line).any(|other| other == name);
        if line >= usize::from(lines) || name.len() > MAX_NAME_BYTES || !printable || twice {
            return Err(VirtioError::LineName { line, name: name.clone() });
        }
        block.extend(name.bytes().chain([0]));
    }
    block.resize(block.len() + usize::from(lines) - names.len(), 0);
    Ok(block)
}

impl VirtioDevice for GpioDevice {
    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        if self.config.irq { FEATURE_IRQ } else { 0 }
    }

    fn queue_sizes(&self) -> Vec<u16> {
        // Room for a request and an event of every line: the stock driver uses two descriptors for each.
        let lines = u16::try_from(self.lines.len()).unwrap_or(MAX_LINES);
        let size = lines.saturating_mul(2).max(LEAST_QUEUE_SIZE).next_power_of_two();
        if self.config.irq { vec![size, size] } else { vec![size] }
    }

    fn config_bytes(&self) -> u32 {
        CONFIG_BYTES as u32
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        let lines = u16::try_from(self.lines.len()).unwrap_or(MAX_LINES).to_le_bytes();
        let names = u32::try_from(self.names.len()).unwrap_or(u32::MAX).to_le_bytes();
        let config: [u8; CONFIG_BYTES] = [lines[0], lines[1], 0, 0, names[0], names[1], names[2], names[3]];
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, &value) in data.iter_mut().zip(config.iter().skip(from)) {
            *byte = value;
        }
    }

    fn write_config(&mut self, _offset: u32, _data: &[u8]) {
        // All of it is the device's.
    }

    fn activate(&mut self, features: u64, _rings: &mut Rings<'_>) {
        self.irq_negotiated = features & FEATURE_IRQ != 0;
    }

    fn notified(&mut self, queue: u16, rings: &mut Rings<'_>) {
        match queue {
            REQUEST_QUEUE => {
                while let Some(chain) = rings.pop(REQUEST_QUEUE) {
                    self.request(chain, rings);
                }
            }
            EVENT_QUEUE if self.irq_negotiated => {
                while let Some(chain) = rings.pop(EVENT_QUEUE) {
                    self.unmask(chain, rings);
                }
            }
            _ => {}
        }
    }

    fn held(&self) -> Vec<(u16, &Chain)> {
        let requests = self.answers.chains().map(|chain| (REQUEST_QUEUE, chain));
        let events = self.lines.iter().filter_map(Line::buffer).map(|chain| (EVENT_QUEUE, chain));
        requests.chain(events).collect()
    }

    fn reset(&mut self) {
        self.forget();
    }

    fn severed(&mut self) {
        self.forget();
    }
}
