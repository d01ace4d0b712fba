//! One request of a gpio driver: from the available ring to the used ring, and whether to interrupt.
//!
//! The driver's part is two stores, of the head and of the index: the descriptors are those of the request before, which the device
//! has given back. So nearly all of what is measured is the device's, from the exit of the notification on.

use std::error::Error;

use criterion::{Criterion, Throughput};

use crate::board::{Board, Card};
use crate::test_driver::WRITE;

const GROUP: &str = "gpio request";
/// Queues (virtio 1.2, 5.18.2).
const REQUESTS: u16 = 0;
const EVENTS: u16 = 1;
/// Kinds of requests (5.18.6).
const SET_DIRECTION: u16 = 3;
const GET_VALUE: u16 = 4;
const SET_VALUE: u16 = 5;
const SET_TRIGGER: u16 = 6;
/// The lines that are used: one that the guest drives, one that interrupts when it rises.
const OUTPUT: u16 = 1;
const INTERRUPTING: u16 = 2;
/// Requests, of two descriptors each, that a queue of 64 entries holds.
const AT_ONCE: u16 = 32;

/// Sizes of the buffers that a request comes in: eight bytes to read, two to write. How a driver cuts a message is its own
/// matter (virtio 1.2, 2.7.4.1).
const CUTS: [(&str, &[u32], &[u32]); 3] = [
    ("2 descriptors", &[8], &[2]),
    ("4 descriptors", &[2, 2, 4], &[2]),
    ("10 descriptors", &[1, 1, 1, 1, 1, 1, 1, 1], &[1, 1]),
];

pub(crate) fn measure(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    kinds(criterion)?;
    cuts(criterion)?;
    events(criterion)
}

/// `struct virtio_gpio_request`.
fn request(kind: u16, line: u16, value: u32) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &line.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// Has a request carried out, which must succeed with an interrupt: its chain can be made available again. Its head.
fn ask(board: &Board, card: &mut Card, request: &[u8]) -> Result<u16, Box<dyn Error>> {
    // What a benchmark has left: nobody looked.
    while card.driver.used(REQUESTS).is_some() {}
    let told = board.told.messages();
    let posted = card.driver.post(REQUESTS, request, 2);
    board.kick(REQUESTS);
    let used = card.driver.used(REQUESTS);
    if used != Some((posted.head, 2)) || card.driver.answer(posted) != [0, 0] || board.told.messages() != told + 1 {
        return Err(format!("the device answered {request:?} with {used:?}, {:?}", card.driver.answer(posted)).into());
    }
    Ok(posted.head)
}

fn kinds(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let (board, mut card) = Board::with_card()?;
    ask(&board, &mut card, &request(SET_DIRECTION, OUTPUT, 1))?;
    let mut group = criterion.benchmark_group(GROUP);
    for (name, kind) in [("get value", GET_VALUE), ("set value", SET_VALUE)] {
        let head = ask(&board, &mut card, &request(kind, OUTPUT, 0))?;
        let one = |card: &mut Card| {
            card.driver.make_available(REQUESTS, head);
            board.kick(REQUESTS);
        };
        group.bench_function(name, |bencher| bencher.iter(|| one(&mut card)));
        // A driver that polls its ring asks for no interrupts (virtio 1.2, 2.7.7).
        card.driver.suppress_interrupts(REQUESTS, true);
        group.bench_function(format!("{name}, no interrupt"), |bencher| bencher.iter(|| one(&mut card)));
        card.driver.suppress_interrupts(REQUESTS, false);
    }
    group.finish();

    let mut heads = Vec::new();
    let (board, mut card) = Board::with_card()?;
    for _ in 0..AT_ONCE {
        heads.push(ask(&board, &mut card, &request(GET_VALUE, OUTPUT, 0))?);
    }
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements(heads.len() as u64));
    group.bench_function(format!("get value, {AT_ONCE} in one notification"), |bencher| {
        bencher.iter(|| {
            heads.iter().for_each(|&head| card.driver.make_available(REQUESTS, head));
            board.kick(REQUESTS);
        });
    });
    group.finish();
    Ok(())
}

/// By the number of chained descriptors. The device offers no indirect ones.
fn cuts(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let mut group = criterion.benchmark_group(GROUP);
    for (name, readable, writable) in CUTS {
        let (board, mut card) = Board::with_card()?;
        // Carried out once: its bytes stay where they are, and the chain is laid over them.
        let posted = card.driver.post(REQUESTS, &request(GET_VALUE, 0, 0), 2);
        let begins = posted.answer - 8;
        let mut at = begins;
        let sizes = readable.iter().map(|&size| (size, 0)).chain(writable.iter().map(|&size| (size, WRITE)));
        let mut chain = Vec::new();
        for (size, flags) in sizes {
            chain.push((at, size, flags));
            at += u64::from(size);
        }
        let head = card.driver.post_chain(REQUESTS, &chain);
        board.kick(REQUESTS);
        let used = [card.driver.used(REQUESTS), card.driver.used(REQUESTS)];
        if used != [Some((posted.head, 2)), Some((head, 2))] {
            return Err(format!("a request in {name} was answered with {used:?}").into());
        }
        group.bench_function(format!("get value in {name}"), |bencher| {
            bencher.iter(|| {
                card.driver.make_available(REQUESTS, head);
                board.kick(REQUESTS);
            });
        });
    }
    group.finish();
    Ok(())
}

/// A buffer for a line's next event (virtio 1.2, 5.18.7), and the edge that fills it: what an interrupt of a line takes.
fn events(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let (board, mut card) = Board::with_card()?;
    ask(&board, &mut card, &request(SET_DIRECTION, INTERRUPTING, 2))?;
    ask(&board, &mut card, &request(SET_TRIGGER, INTERRUPTING, 1))?;
    let posted = card.driver.post(EVENTS, &INTERRUPTING.to_le_bytes(), 1);
    board.kick(EVENTS);
    let told = board.told.messages();
    card.handle.pulse(INTERRUPTING)?;
    let used = card.driver.used(EVENTS);
    if used != Some((posted.head, 1)) || card.driver.answer(posted) != [1] || board.told.messages() != told + 1 {
        return Err(format!("an edge gave {used:?}, {:?}", card.driver.answer(posted)).into());
    }
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function("event buffer and the edge that fills it", |bencher| {
        bencher.iter(|| {
            card.driver.make_available(EVENTS, posted.head);
            board.kick(EVENTS);
            // There is such a line: the one above was of it.
            drop(card.handle.pulse(INTERRUPTING));
        });
    });
    group.finish();
    Ok(())
}
