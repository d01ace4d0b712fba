use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

const PLAIN: Instruction = Instruction { locks: false, repeats: false, halts: false };
const LOCKS: Instruction = Instruction { locks: true, ..PLAIN };
const REPEATS: Instruction = Instruction { repeats: true, ..PLAIN };
const HALTS: Instruction = Instruction { halts: true, ..PLAIN };

/// A vCPU in a program whose instructions are one byte long, from address 0x1000 on.
#[derive(Debug)]
struct Fake {
    program: Vec<Instruction>,
    ip: RefCell<u64>,
    /// Steps were asked for last, and not to run on.
    stepping: RefCell<bool>,
}

const BEGIN: u64 = 0x1000;

impl Fake {
    fn new(program: &[Instruction]) -> Self {
        Self { program: program.to_vec(), ip: RefCell::new(BEGIN), stepping: RefCell::default() }
    }

    fn go(&self, ip: u64) {
        *self.ip.borrow_mut() = ip;
    }

    fn steps(&self) -> bool {
        *self.stepping.borrow()
    }
}

impl Steps for Fake {
    fn ip(&self) -> Result<u64, SetupError> {
        Ok(*self.ip.borrow())
    }

    fn instruction(&self, ip: u64) -> Result<Option<Instruction>, SetupError> {
        let index = ip.checked_sub(BEGIN).and_then(|index| usize::try_from(index).ok());
        Ok(index.and_then(|index| self.program.get(index)).copied())
    }

    fn step(&self) -> Result<(), SetupError> {
        *self.stepping.borrow_mut() = true;
        Ok(())
    }

    fn run_on(&self) -> Result<(), SetupError> {
        *self.stepping.borrow_mut() = false;
        Ok(())
    }
}

fn write(counter: &mut Counter, value: u32) {
    counter.write(CONTROL_PORT, &value.to_le_bytes());
}

fn read(counter: &mut Counter, port: u16) -> u32 {
    let mut bytes = [0; 4];
    counter.read(port, &mut bytes);
    u32::from_le_bytes(bytes)
}

/// Instructions and locked ones.
fn result(counter: &mut Counter) -> [u32; 2] {
    let instructions = read(counter, DATA_PORT);
    write(counter, SELECT_LOCKED);
    [instructions, read(counter, DATA_PORT)]
}

/// A count that has begun.
fn begun(fake: &Fake) -> Counter {
    let mut counter = Counter::default();
    write(&mut counter, START);
    assert!(counter.is_to_start() && !counter.is_counting());
    counter.forget(fake).unwrap();
    counter.start(fake).unwrap();
    assert!(!counter.is_to_start());
    counter
}

/// A step to the instruction with this index.
fn step(counter: &mut Counter, fake: &Fake, index: u64) {
    fake.go(BEGIN + index);
    counter.stepped(BEGIN + index, fake).unwrap();
}

/// The guest asks for the end, by the instruction with this index.
fn stop(counter: &mut Counter, fake: &Fake, index: u64) {
    fake.go(BEGIN + index);
    write(counter, STOP);
    counter.settle(fake).unwrap();
}

const NONE: [u32; 2] = [NO_RESULT; 2];

#[test]
fn instructions_and_locked_ones_are_told() {
    let fake = Fake::new(&[PLAIN, LOCKS, LOCKS, PLAIN]);
    let mut counter = begun(&fake);
    for index in 1..4 {
        assert!(fake.steps() && counter.is_counting());
        step(&mut counter, &fake, index);
    }
    assert_eq!(result(&mut counter), NONE, "it has not ended");
    stop(&mut counter, &fake, 3);
    assert!(!fake.steps() && !counter.is_counting());
    assert_eq!(result(&mut counter), [3, 2]);
    assert_eq!(read(&mut counter, DATA_PORT), 3, "the choice is for one reading");
    stop(&mut counter, &fake, 0);
    assert_eq!(result(&mut counter), [3, 2], "there was nothing to end");
}

#[test]
fn rounds_of_one_instruction_are_one_and_those_of_a_loop_are_many() {
    let fake = Fake::new(&[REPEATS, PLAIN, PLAIN]);
    let mut counter = begun(&fake);
    for index in [0, 0, 0, 1] {
        step(&mut counter, &fake, index);
    }
    // A jump to itself.
    for index in [1, 1, 2] {
        step(&mut counter, &fake, index);
    }
    stop(&mut counter, &fake, 2);
    assert_eq!(result(&mut counter), [1 + 3, 0]);
}

#[test]
fn what_kvm_executes_without_a_step_is_counted_by_where_it_left() {
    let fake = Fake::new(&[PLAIN, LOCKS, PLAIN, PLAIN]);
    let mut counter = begun(&fake);
    // An access under way; then one that is done.
    counter.settle(&fake).unwrap();
    step(&mut counter, &fake, 1);
    fake.go(BEGIN + 2);
    counter.settle(&fake).unwrap();
    counter.settle(&fake).unwrap();
    assert!(fake.steps());
    step(&mut counter, &fake, 3);
    // The access by which the guest asks for the end may be done, too.
    stop(&mut counter, &fake, 4);
    assert_eq!(result(&mut counter), [3, 1]);
}

#[test]
fn an_access_elsewhere_ends_a_count_without_a_result() {
    for elsewhere in [0, BEGIN - 1, BEGIN + LONGEST + 1, u64::MAX] {
        let fake = Fake::new(&[PLAIN; 3]);
        let mut counter = begun(&fake);
        fake.go(elsewhere);
        counter.settle(&fake).unwrap();
        assert!(!fake.steps() && !counter.is_counting());
        assert_eq!(result(&mut counter), NONE);
        let mut counter = begun(&Fake::new(&[PLAIN; 3]));
        stop(&mut counter, &fake, 64);
        assert_eq!(result(&mut counter), NONE);
    }
}

#[test]
fn halts_and_what_cannot_be_read_end_a_count_without_a_result() {
    for program in [[PLAIN, HALTS].as_slice(), &[PLAIN]] {
        let fake = Fake::new(program);
        let mut counter = begun(&fake);
        assert!(fake.steps());
        step(&mut counter, &fake, 1);
        assert!(!fake.steps() && !counter.is_counting());
        assert_eq!(result(&mut counter), NONE);
    }
    for program in [[HALTS].as_slice(), &[]] {
        let fake = Fake::new(program);
        assert!(!begun(&fake).is_counting() && !fake.steps());
    }
}

#[test]
fn a_count_ends_after_so_many_steps_whatever_they_are() {
    for instruction in [PLAIN, REPEATS] {
        let fake = Fake::new(&[instruction, PLAIN]);
        let mut counter = begun(&fake);
        for _ in 1..MOST_STEPS {
            step(&mut counter, &fake, 0);
        }
        assert!(counter.is_counting());
        step(&mut counter, &fake, 0);
        assert!(!fake.steps() && !counter.is_counting());
        assert_eq!(result(&mut counter), NONE);
        stop(&mut counter, &fake, 0);
        assert_eq!(result(&mut counter), NONE);
    }
}

#[test]
fn a_second_start_forgets_the_first() {
    let fake = Fake::new(&[LOCKS, LOCKS, PLAIN, PLAIN]);
    let mut counter = begun(&fake);
    step(&mut counter, &fake, 1);
    write(&mut counter, START);
    counter.settle(&fake).unwrap();
    assert!(counter.is_counting() && counter.is_to_start());
    counter.forget(&fake).unwrap();
    assert!(!fake.steps());
    fake.go(BEGIN + 2);
    counter.start(&fake).unwrap();
    step(&mut counter, &fake, 3);
    stop(&mut counter, &fake, 3);
    assert_eq!(result(&mut counter), [1, 0]);
}

#[test]
fn only_whole_words_are_accesses() {
    let mut counter = Counter::default();
    assert_eq!(read(&mut counter, CONTROL_PORT), SIGNATURE);
    write(&mut counter, SELECT_LOCKED + 1);
    counter.write(DATA_PORT, &START.to_le_bytes());
    for length in [0, 1, 2, 3, 5, 8, 4096] {
        let mut bytes = vec![0; length];
        bytes.iter_mut().take(1).for_each(|byte| *byte = 1);
        counter.write(CONTROL_PORT, &bytes);
        for port in [CONTROL_PORT, DATA_PORT] {
            counter.read(port, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0xff));
        }
    }
    assert!(!counter.is_to_start() && !counter.gives_locked);
}

#[derive(Debug, Clone)]
enum Exit {
    Write(u16, Vec<u8>),
    Read(u16, usize),
    Step(u64),
    Other(u64),
}

fn exits() -> impl Strategy<Value = Exit> {
    let port = prop_oneof![Just(CONTROL_PORT), Just(DATA_PORT)];
    let ip = prop_oneof![4 => BEGIN..BEGIN + 8, 1 => any::<u64>()];
    let word = (0_u32..4).prop_map(|value| value.to_le_bytes().to_vec());
    let bytes = prop_oneof![4 => word, 1 => proptest::collection::vec(any::<u8>(), 0..9)];
    prop_oneof![
        2 => (port.clone(), bytes).prop_map(|(port, bytes)| Exit::Write(port, bytes)),
        1 => (port, 0_usize..9).prop_map(|(port, length)| Exit::Read(port, length)),
        4 => ip.clone().prop_map(Exit::Step),
        2 => ip.prop_map(Exit::Other),
    ]
}

proptest! {
    /// As the vCPU's thread would have it: steps come only in a count.
    #[test]
    fn whatever_a_guest_does_it_is_stepped_only_in_a_count(
        kinds in proptest::collection::vec(0_usize..4, 0..9),
        exits in proptest::collection::vec(exits(), 0..64),
    ) {
        let program: Vec<_> = kinds.iter().map(|kind| [PLAIN, LOCKS, REPEATS, HALTS][*kind]).collect();
        let fake = Fake::new(&program);
        let mut counter = Counter::default();
        for exit in exits {
            match exit {
                Exit::Write(port, bytes) => {
                    counter.write(port, &bytes);
                    counter.settle(&fake).unwrap();
                }
                Exit::Read(port, length) => {
                    let mut bytes = vec![0; length];
                    counter.read(port, &mut bytes);
                    counter.settle(&fake).unwrap();
                }
                Exit::Step(ip) if counter.is_counting() => {
                    fake.go(ip);
                    counter.stepped(ip, &fake).unwrap();
                }
                Exit::Step(ip) | Exit::Other(ip) => {
                    fake.go(ip);
                    counter.settle(&fake).unwrap();
                }
            }
            if counter.is_to_start() {
                counter.forget(&fake).unwrap();
                counter.start(&fake).unwrap();
            }
            prop_assert_eq!(fake.steps(), counter.is_counting());
            let [instructions, locked] = result(&mut counter);
            prop_assert!(locked <= instructions);
        }
    }
}
