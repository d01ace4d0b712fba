//! Guests of a few instructions whose number is known, and what the machine's counter says of them. Run on any `/dev/kvm` that
//! can single-step; where there is none, each test says that it was skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod tiny;

use std::thread;
use std::time::Duration;

use plugstorm_machine::instructions::{CONTROL_PORT, DATA_PORT, MOST_STEPS, NO_RESULT, SIGNATURE};
use plugstorm_machine::{InstructionCounter, Machine, MachineConfig, MachineError, StopCause};
use tiny::{Kept, PATIENCE, config, elf, out};

/// Instructions around the counted ones, between the two accesses: `xor eax, eax` before the one that ends the count.
const AROUND: u32 = 1;

/// `mov edx, port`.
fn to_port(port: u16) -> Vec<u8> {
    [[0xba].as_slice(), &u32::from(port).to_le_bytes()].concat()
}

/// `mov eax, value; mov edx, 0x5c04; out dx, eax`, with what changes no flags last, so that nothing is between that and the body.
fn control(value: u32) -> Vec<u8> {
    let mov = [[0xb8].as_slice(), &value.to_le_bytes()].concat();
    [to_port(CONTROL_PORT), mov, vec![0xef]].concat()
}

/// `in eax, dx` of a port, and its four bytes on the serial port.
fn tell(port: u16) -> Vec<u8> {
    let mut code = to_port(port);
    code.push(0xed); // in eax, dx
    code.extend(to_port(0x3f8));
    code.extend([0xb9, 4, 0, 0, 0]); // mov ecx, 4
    code.extend([0xee, 0xc1, 0xe8, 8, 0xff, 0xc9, 0x75, 0xf8]); // byte: out dx, al; shr eax, 8; dec ecx; jnz byte
    code
}

/// Counts the body, which changes neither EDX nor the stack for good, and tells instructions and locked ones.
fn counting(body: &[u8]) -> Vec<u8> {
    let end = vec![0x31, 0xc0, 0xef]; // xor eax, eax; out dx, eax
    [control(1), body.to_vec(), end, tell_both()].concat()
}

fn tell_both() -> Vec<u8> {
    [tell(DATA_PORT), control(2), tell(DATA_PORT)].concat()
}

fn power_off() -> Vec<u8> {
    out(0x600, 5 << 2 | 1 << 5)
}

/// A machine with a counter that runs this, or nothing where there is none to be had.
fn machine(code: &[u8], serial: &Kept, cpus: u8) -> Option<Machine> {
    let (_folder, kernel) = elf(code);
    let config = MachineConfig { cpus, instruction_counter: true, ..config(kernel, serial.clone()) };
    match Machine::new(config) {
        Ok(machine) if machine.instruction_counter() == InstructionCounter::Present => Some(machine),
        Ok(machine) => {
            eprintln!("skipped: {:?}", machine.instruction_counter());
            None
        }
        Err(MachineError::Kvm(error)) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What the guest told.
fn words(serial: &Kept) -> Vec<u32> {
    let bytes = serial.0.lock().unwrap();
    assert_eq!(bytes.len() % 4, 0, "{bytes:x?}");
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// What a guest tells that ends by powering off. Nothing where there is no counter.
fn run(code: &[u8]) -> Option<Vec<u32>> {
    let serial = Kept::default();
    let mut machine = machine(&[code, &power_off()].concat(), &serial, 1)?;
    machine.start().unwrap();
    assert_eq!(machine.wait(PATIENCE), Some(StopCause::PowerOff));
    drop(machine);
    Some(words(&serial))
}

/// The body has so many instructions, and so many of them lock.
fn expect(body: &[u8], instructions: u32, locked: u32) {
    if let Some(told) = run(&counting(body)) {
        assert_eq!(told, [instructions + AROUND, locked], "{body:x?}");
    }
}

#[test]
fn instructions_are_counted_one_by_one() {
    expect(&[], 0, 0);
    expect(&[0x90], 1, 0);
    expect(&[0x90; 10], 10, 0);
}

#[test]
fn locked_ones_are_told_apart() {
    #[rustfmt::skip]
    let body = [
        0xbb, 0, 0, 0x30, 0,             // mov ebx, 0x300000
        0xf0, 0x48, 0xff, 0x03,          // lock inc qword [rbx]
        0xf0, 0x01, 0x03,                // lock add [rbx], eax
        0x48, 0xff, 0x03,                // inc qword [rbx]
        0x48, 0x87, 0x0b,                // xchg [rbx], rcx
        0x87, 0xd9,                      // xchg ecx, ebx: registers
        0xf0, 0x0f, 0xb1, 0x0c, 0x25, 0, 0, 0x30, 0, // lock cmpxchg [0x300000], ecx
    ];
    expect(&body, 7, 4);
}

#[test]
fn a_loop_has_as_many_as_its_rounds() {
    // mov ecx, 100; round: dec ecx; jnz round.
    expect(&[0xb9, 100, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc], 1 + 200, 0);
    // A loop of one instruction: mov ecx, 50; loop to itself.
    expect(&[0xb9, 50, 0, 0, 0, 0xe2, 0xfe], 1 + 50, 0);
}

#[test]
fn a_repeated_one_is_one() {
    for rounds in [0_u8, 1, 2, 77] {
        // mov edi, 0x300000; mov ecx, rounds; rep stosq.
        expect(&[0xbf, 0, 0, 0x30, 0, 0xb9, rounds, 0, 0, 0, 0xf3, 0x48, 0xab], 3, 0);
    }
}

#[test]
fn calls_flags_and_what_kvm_emulates_are_instructions_like_others() {
    // call next; next: pop rcx; pushfq; popfq; nop.
    expect(&[0xe8, 0, 0, 0, 0, 0x59, 0x9c, 0x9d, 0x90], 5, 0);
    // push 2 (flags without the trap flag); popfq; nop; nop.
    expect(&[0x6a, 0x02, 0x9d, 0x90, 0x90], 4, 0);
    // mov r8, rdx; xor eax, eax; cpuid; mov rdx, r8.
    expect(&[0x49, 0x89, 0xd0, 0x31, 0xc0, 0x0f, 0xa2, 0x4c, 0x89, 0xc2], 4, 0);
    // in eax, dx: of the counter's own port; nop.
    expect(&[0xed, 0x90], 2, 0);
    // mov ebx, 0xe0000000; mov eax, [rbx]: a device's memory, which KVM asks us for; nop.
    expect(&[0xbb, 0, 0, 0, 0xe0, 0x8b, 0x03, 0x90], 3, 0);
    // mov ebx, 0xfee00030; mov eax, [rbx]: the local APIC, which KVM emulates by itself; nop; nop.
    expect(&[0xbb, 0x30, 0, 0xe0, 0xfe, 0x8b, 0x03, 0x90, 0x90], 4, 0);
    // The same, written: mov ebx, 0xfee00080; mov dword [rbx], 0; nop.
    expect(&[0xbb, 0x80, 0, 0xe0, 0xfe, 0xc7, 0x03, 0, 0, 0, 0, 0x90], 3, 0);
}

#[test]
fn counts_follow_one_another_and_a_second_start_begins_anew() {
    let twice = [counting(&[0x90; 3]), counting(&[0x90; 5])].concat();
    let Some(told) = run(&twice) else { return };
    assert_eq!(told, [3 + AROUND, 0, 5 + AROUND, 0]);
    // lock inc qword [0x300000]; then again from the start.
    let anew = [[0xf0, 0x48, 0xff, 0x04, 0x25, 0, 0, 0x30, 0].as_slice(), &control(1), &[0x90; 2]].concat();
    assert_eq!(run(&counting(&anew)).unwrap(), [2 + AROUND, 0]);
}

#[test]
fn what_was_not_begun_has_no_result() {
    let Some(told) = run(&[tell(CONTROL_PORT), tell_both(), control(0), tell_both()].concat()) else { return };
    assert_eq!(told, [SIGNATURE, NO_RESULT, NO_RESULT, NO_RESULT, NO_RESULT]);
    // An end without a beginning leaves the result of the last count, and the choice of the locked ones is for one reading.
    let again = [counting(&[0x90]), control(0), tell_both(), tell(DATA_PORT)].concat();
    assert_eq!(run(&again).unwrap(), [1 + AROUND, 0, 1 + AROUND, 0, 1 + AROUND]);
}

#[test]
fn accesses_of_other_widths_are_those_of_nobody() {
    // out dx, al; in al, dx; movzx eax, al; in ax, dx.
    let narrow = [to_port(CONTROL_PORT), vec![0xb0, 1, 0xee, 0x31, 0xc0, 0xec]].concat();
    let tell_al = [to_port(0x3f8), vec![0xee, 0xee, 0xee, 0xee]].concat();
    let Some(told) = run(&[narrow, tell_al, tell_both()].concat()) else { return };
    assert_eq!(told, [u32::MAX, NO_RESULT, NO_RESULT]);
}

#[test]
fn a_count_that_never_ends_ends_by_itself_without_a_result() {
    // mov ecx, MOST_STEPS; dec ecx; jnz: more than that.
    let body = [[0xb9].as_slice(), &MOST_STEPS.to_le_bytes(), &[0xff, 0xc9, 0x75, 0xfc]].concat();
    let Some(told) = run(&counting(&body)) else { return };
    assert_eq!(told, [NO_RESULT, NO_RESULT]);
}

#[test]
fn one_instruction_without_end_ends_too() {
    // mov edi, 0x300000; mov ecx, MOST_STEPS + 1; rep stosb.
    let body = [[0xbf, 0, 0, 0x30, 0, 0xb9].as_slice(), &(MOST_STEPS + 1).to_le_bytes(), &[0xf3, 0xaa]].concat();
    let Some(told) = run(&counting(&body)) else { return };
    // A KVM that emulates it takes many rounds for one step.
    assert!([[NO_RESULT; 2], [3 + AROUND, 0]].contains(&told.as_slice().try_into().unwrap()), "{told:?}");
}

#[test]
fn a_guest_that_halts_or_falls_down_in_a_count_is_told_as_without_one() {
    // cli; hlt, and no interrupt.
    let Some(mut halted) = machine(&[control(1), vec![0xfa, 0xf4]].concat(), &Kept::default(), 1) else { return };
    halted.start().unwrap();
    assert_eq!(halted.wait(Duration::from_millis(200)), None);
    assert!(halted.stop(), "a vCPU stayed in the guest");
    // ud2, with no interrupt table to take it.
    let mut fallen = machine(&[control(1), vec![0x90, 0x0f, 0x0b]].concat(), &Kept::default(), 1).unwrap();
    fallen.start().unwrap();
    assert_eq!(fallen.wait(PATIENCE), Some(StopCause::TripleFault));
    let mut off = machine(&[control(1), vec![0x90], power_off()].concat(), &Kept::default(), 1).unwrap();
    off.start().unwrap();
    assert_eq!(off.wait(PATIENCE), Some(StopCause::PowerOff));
}

#[test]
fn pauses_and_kicks_change_no_count() {
    const ROUNDS: u32 = 20_000;
    // mov ecx, ROUNDS; round: lock dec dword [0x300000]; dec ecx; jnz round.
    let mut body = [[0xb9].as_slice(), &ROUNDS.to_le_bytes()].concat();
    body.extend([0xf0, 0xff, 0x0c, 0x25, 0, 0, 0x30, 0, 0xff, 0xc9, 0x75, 0xf4]);
    let serial = Kept::default();
    let Some(mut machine) = machine(&[counting(&body), power_off()].concat(), &serial, 1) else { return };
    machine.start().unwrap();
    let mut pauses = 0;
    while machine.pause().is_ok() {
        assert!(matches!(machine.save(tempfile::tempfile().unwrap().into()), Err(MachineError::Counts)));
        assert_eq!(machine.processors().unwrap().len(), 1);
        machine.start().unwrap();
        pauses += 1;
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(machine.stop_cause(), Some(StopCause::PowerOff), "after {pauses} pauses");
    assert_eq!(words(&serial), [1 + 3 * ROUNDS + AROUND, ROUNDS], "after {pauses} pauses");
}

#[test]
fn without_the_setting_the_ports_are_nobodys() {
    let serial = Kept::default();
    let code = [tell(CONTROL_PORT), counting(&[0x90]), power_off()].concat();
    let Some(machine) = tiny::machine(&code, &serial, 1) else { return };
    assert_eq!(machine.instruction_counter(), InstructionCounter::Absent);
    assert_eq!(machine.wait(PATIENCE), Some(StopCause::PowerOff));
    assert_eq!(words(&serial), [u32::MAX; 3]);
}
