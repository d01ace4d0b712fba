//! Where vCPU threads leave what a guest does, until the storm takes it. Bounded: what is beyond is counted and dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plugstorm_machine::ConsoleSink;
use plugstorm_machine::pci::{SlotEvent, SlotObserver};

use super::guest::{SlotChange, nanoseconds};

/// What may lie in an inbox, in bytes. The storm writes files faster than a guest writes to a console.
const MOST_BYTES: usize = 32 << 20;
/// Pieces of one port that follow each other are put together up to this size.
const PIECE_BYTES: usize = 64 * 1024;
/// What an event without bytes counts as.
const EVENT_BYTES: usize = 64;

/// Something that lies in an inbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Raw {
    /// Bytes of the agent's port.
    Agent(Vec<u8>),
    /// Bytes of a console.
    Console(Vec<u8>),
    /// A slot's event.
    Slot(u8, SlotChange),
    /// So many bytes had to be dropped here.
    Lost(u64),
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(u64, Raw)>,
    bytes: usize,
    lost: u64,
    /// Something else happened that the reader waits for.
    woken: bool,
}

/// The inbox of one guest.
#[derive(Debug)]
pub(super) struct Inbox {
    origin: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

impl Inbox {
    /// An empty one. `origin` is the start of the storm's clock.
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for the next thing, at most so long, and no longer than until [`Self::wake`].
    pub(super) fn take(&self, timeout: Duration) -> Option<(u64, Raw)> {
        let mut state = self.lock();
        if state.queue.is_empty() && state.lost == 0 && !state.woken && !timeout.is_zero() {
            state = self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.woken = false;
        if let Some((t_ns, raw)) = state.queue.pop_front() {
            state.bytes = state.bytes.saturating_sub(size(&raw));
            return Some((t_ns, raw));
        }
        let lost = std::mem::take(&mut state.lost);
        (lost > 0).then(|| (nanoseconds(self.origin.elapsed()), Raw::Lost(lost)))
    }

    /// Lets the reader look at once, or at its next look, at what does not come through here.
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_one();
    }

    fn put(&self, raw: Raw) {
        let t_ns = nanoseconds(self.origin.elapsed());
        let size = size(&raw);
        let mut state = self.lock();
        // Once something is lost, what follows it is of no use: a gap in the middle would be worse than an end.
        if state.lost > 0 || state.bytes.saturating_add(size) > MOST_BYTES {
            state.lost = state.lost.saturating_add(size as u64);
        } else if let Some(raw) = join(&mut state, raw) {
            state.queue.push_back((t_ns, raw));
            state.bytes += size;
        }
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(raw: &Raw) -> usize {
    match raw {
        Raw::Agent(bytes) | Raw::Console(bytes) => bytes.len().saturating_add(EVENT_BYTES),
        Raw::Slot(..) | Raw::Lost(_) => EVENT_BYTES,
    }
}

/// Appends console output to the piece before it, if that is the last thing in the queue; else gives it back.
fn join(state: &mut State, raw: Raw) -> Option<Raw> {
    let Raw::Console(bytes) = &raw else { return Some(raw) };
    match state.queue.back_mut() {
        Some((_, Raw::Console(piece))) if piece.len() + bytes.len() <= PIECE_BYTES => {
            piece.extend_from_slice(bytes);
            state.bytes += bytes.len();
            None
        }
        _ => Some(raw),
    }
}

/// A console or port that writes into an inbox.
#[derive(Debug)]
pub(super) struct Sink {
    inbox: Arc<Inbox>,
    wrap: fn(Vec<u8>) -> Raw,
}

impl Sink {
    /// The kernel's console, virtio or serial.
    pub(super) fn console(inbox: &Arc<Inbox>) -> Box<dyn ConsoleSink> {
        Box::new(Self { inbox: Arc::clone(inbox), wrap: Raw::Console })
    }

    /// The agent's port.
    pub(super) fn agent(inbox: &Arc<Inbox>) -> Box<dyn ConsoleSink> {
        Box::new(Self { inbox: Arc::clone(inbox), wrap: Raw::Agent })
    }
}

impl ConsoleSink for Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.inbox.put((self.wrap)(bytes.to_vec()));
    }
}

impl SlotObserver for Inbox {
    fn slot_event(&self, slot: u8, event: SlotEvent) {
        let change = match event {
            SlotEvent::Interrupt => SlotChange::Interrupt,
            SlotEvent::EventsCleared { presence, link } => SlotChange::EventsCleared { presence, link },
            SlotEvent::ControlWritten(value) => SlotChange::ControlWritten(value),
            SlotEvent::LinkDisabled(disabled) => SlotChange::LinkDisabled(disabled),
            _ => return,
        };
        self.put(Raw::Slot(slot, change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(inbox: &Inbox) -> Vec<Raw> {
        std::iter::from_fn(|| inbox.take(Duration::ZERO)).map(|(_, raw)| raw).collect()
    }

    #[test]
    fn pieces_are_joined_and_order_is_kept() {
        let inbox = Arc::new(Inbox::new(Instant::now()));
        let mut console = Sink::console(&inbox);
        console.write(b"a");
        console.write(b"b");
        inbox.slot_event(3, SlotEvent::Interrupt);
        console.write(b"c");
        let expected = [Raw::Console(b"ab".to_vec()), Raw::Slot(3, SlotChange::Interrupt), Raw::Console(b"c".to_vec())];
        assert_eq!(drain(&inbox), expected);
        assert_eq!(inbox.lock().bytes, 0);
    }

    #[test]
    fn whoever_waits_can_be_woken_before_or_while_it_waits() {
        let inbox = Arc::new(Inbox::new(Instant::now()));
        inbox.wake();
        assert_eq!(inbox.take(Duration::from_secs(600)), None);
        let other = Arc::clone(&inbox);
        let waker = std::thread::spawn(move || other.wake());
        assert_eq!(inbox.take(Duration::from_secs(600)), None);
        waker.join().unwrap();
    }

    #[test]
    fn a_flood_is_bounded_and_told() {
        let inbox = Arc::new(Inbox::new(Instant::now()));
        let mut agent = Sink::agent(&inbox);
        for _ in 0..40 {
            agent.write(&[0; 1 << 20]);
        }
        assert!(inbox.lock().bytes <= MOST_BYTES);
        let taken = drain(&inbox);
        assert!(matches!(taken.last(), Some(Raw::Lost(lost)) if *lost >= 8 << 20));
    }
}
