//! A gpio controller comes and goes, as `Machine::plug` and `Machine::surprise_remove` let it: with the slot's interrupts.

use std::error::Error;

use criterion::{BatchSize, Criterion};
use plugstorm_machine::virtio::gpio::{Fault, FaultRule, Faults};

use crate::board::{Board, Card, EVENTS, SLOT_STATUS, ecam};

/// The slot that is used, and its port's device number.
const SLOT: u8 = 0;
const PORT: u8 = 1;
/// Requests of a controller that vanishes while it is at work.
const IN_FLIGHT: usize = 32;

pub(crate) fn measure(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let board = Board::new()?;
    let slot = board.slot(SLOT)?;
    let mut group = criterion.benchmark_group("hot-plug");
    group.bench_function("make a controller", |bencher| bencher.iter(|| board.controller().ok()));

    // One interrupt each way, if the guest clears the events in between.
    let (function, _handle) = board.controller()?;
    let there_and_back = || {
        let plugged = slot.plug(function.clone()).is_ok();
        board.clear_events(PORT);
        let removed = slot.surprise_remove().is_ok();
        board.clear_events(PORT);
        plugged && removed
    };
    let told = board.told.messages();
    if !there_and_back() || board.told.messages() != told + 2 {
        let sent = board.told.messages() - told;
        return Err(format!("a device plugged and removed gave {sent} interrupts, not two").into());
    }
    group.bench_function("plug and surprise removal", |bencher| bencher.iter(there_and_back));

    let at_work = || card_at_work(&board);
    drop(at_work()?);
    slot.surprise_remove()?;
    board.clear_events(PORT);
    group.bench_function(format!("surprise removal with {IN_FLIGHT} requests in flight"), |bencher| {
        bencher.iter_batched(
            || at_work().ok(),
            |card| {
                let removed = slot.surprise_remove();
                if let Some(card) = &card {
                    card.handle.sever();
                }
                board.clear_events(PORT);
                (removed.ok(), card)
            },
            // There is one slot.
            BatchSize::PerIteration,
        );
    });
    group.finish();
    Ok(())
}

/// A controller in the slot that has taken requests and answers none, of whose coming the guest has taken note.
fn card_at_work(board: &Board) -> Result<Card, Box<dyn Error>> {
    let mut card = board.card()?;
    card.handle.set_faults(Faults { rules: vec![FaultRule::always(Fault::Stall)] });
    board.slot(SLOT)?.plug(card.function.clone())?;
    board.clear_events(PORT);
    for _ in 0..IN_FLIGHT {
        card.driver.post(0, &[4, 0, 0, 0, 0, 0, 0, 0], 2);
    }
    board.kick(0);
    let mut status = [0; 2];
    board.bus.memory_read(ecam(0, PORT, SLOT_STATUS), &mut status);
    if card.handle.unanswered() != IN_FLIGHT || u16::from_le_bytes(status) & EVENTS != 0 {
        let unanswered = card.handle.unanswered();
        return Err(
            format!("{unanswered} requests are in flight, not {IN_FLIGHT}, or the slot has an event left").into()
        );
    }
    Ok(card)
}
