//! Guests of a few instructions whose number is known, and what the machine's counter says of them. Run on any `/dev/kvm` that
//! can single-step; where there is none, each test says that it was skipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod tiny;

use std::thread;
use std::time::{Duration, Instant};

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
    [to_port(port), vec![0xed], say()].concat()
}

/// The four bytes of EAX on the serial port.
fn say() -> Vec<u8> {
    let mut code = to_port(0x3f8);
    code.extend([0xb9, 4, 0, 0, 0]); // mov ecx, 4
    code.extend([0xee, 0xc1, 0xe8, 8, 0xff, 0xc9, 0x75, 0xf8]); // byte: out dx, al; shr eax, 8; dec ecx; jnz byte
    code
}

/// What ends a count: `xor eax, eax; out dx, eax`.
const END: [u8; 3] = [0x31, 0xc0, 0xef];

/// Counts the body, which changes neither EDX nor the stack for good, and tells instructions and locked ones.
fn counting(body: &[u8]) -> Vec<u8> {
    [control(1), body.to_vec(), END.to_vec(), tell_both()].concat()
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
    const ROUNDS: u32 = 3_000;
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
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(machine.stop_cause(), Some(StopCause::PowerOff), "after {pauses} pauses");
    assert_eq!(words(&serial), [1 + 3 * ROUNDS + AROUND, ROUNDS], "after {pauses} pauses");
}

/// Has the local APIC interrupt every 2 ms, counts what comes in a word of memory, and waits for the first.
#[rustfmt::skip]
const TICKS: [u8; 142] = [
    0xeb, 0x17,                                      // jmp to the lea
    0x48, 0xff, 0x04, 0x25, 0, 0, 0x30, 0,           // handler: inc qword [0x300000]
    0x53, 0xbb, 0xb0, 0, 0xe0, 0xfe,                 // push rbx; mov ebx, 0xfee000b0
    0xc7, 0x03, 0, 0, 0, 0, 0x5b, 0x48, 0xcf,        // mov dword [rbx], 0; pop rbx; iretq
    0x48, 0x8d, 0x05, 0xe2, 0xff, 0xff, 0xff,        // lea rax, [rip - 30]: the handler
    0xbf, 0, 0x04, 0x31, 0, 0x66, 0x89, 0x07,        // mov edi, 0x310400, the gate of vector 0x40; mov [rdi], ax
    0xc7, 0x47, 0x02, 0x10, 0, 0, 0x8e,              // mov dword [rdi + 2], 0x8e000010
    0x48, 0xc1, 0xe8, 16, 0x66, 0x89, 0x47, 0x06,    // shr rax, 16; mov [rdi + 6], ax
    0x66, 0xc7, 0x04, 0x25, 0, 0x01, 0x30, 0, 0xff, 0x0f,        // mov word [0x300100], 0xfff
    0x48, 0xc7, 0x04, 0x25, 0x02, 0x01, 0x30, 0, 0, 0, 0x31, 0,  // mov qword [0x300102], 0x310000
    0x0f, 0x01, 0x1c, 0x25, 0, 0x01, 0x30, 0,        // lidt [0x300100]
    0xbb, 0, 0, 0xe0, 0xfe,                          // mov ebx, 0xfee00000
    0xc7, 0x83, 0xf0, 0, 0, 0, 0xff, 0x01, 0, 0,     // spurious-interrupt vector: on
    0xc7, 0x83, 0xe0, 0x03, 0, 0, 0x0b, 0, 0, 0,     // divide by 1
    0xc7, 0x83, 0x20, 0x03, 0, 0, 0x40, 0, 0x02, 0,  // timer: periodic, vector 0x40
    0xc7, 0x83, 0x80, 0x03, 0, 0, 0x80, 0x84, 0x1e, 0,           // initial count: 2,000,000 ns
    0xfb,                                            // sti
    0x48, 0x83, 0x3c, 0x25, 0, 0, 0x30, 0, 0,        // first: cmp qword [0x300000], 0
    0x74, 0xf5,                                      // je first
];

#[test]
fn interrupts_wait_until_a_count_has_ended() {
    const ROUNDS: u32 = 1_000;
    let mut body = vec![0x4c, 0x8b, 0x04, 0x25, 0, 0, 0x30, 0, 0xb9]; // mov r8, [0x300000]; mov ecx, ROUNDS
    body.extend(ROUNDS.to_le_bytes());
    body.extend([0xff, 0xc9, 0x75, 0xfc]); // round: dec ecx; jnz round
    body.extend([0x4c, 0x8b, 0x0c, 0x25, 0, 0, 0x30, 0, 0x4d, 0x29, 0xc1]); // mov r9, [0x300000]; sub r9, r8
    let mut code = [TICKS.as_slice(), &counting(&body), &[0x44, 0x89, 0xc8], &say()].concat(); // mov eax, r9d
    code.extend([0x48, 0x8b, 0x0c, 0x25, 0, 0, 0x30, 0]); // mov rcx, [0x300000]
    code.extend([0x48, 0x3b, 0x0c, 0x25, 0, 0, 0x30, 0, 0x74, 0xf6, 0xfa]); // wait: cmp rcx, [0x300000]; je wait; cli
    let Some(told) = run(&code) else { return };
    assert_eq!(told, [2 + 2 * ROUNDS + 2 + AROUND, 0, 0], "and interrupts in the count");
}

#[test]
fn a_halt_ends_a_count_and_the_interrupt_that_ends_the_halt_comes() {
    let Some(told) = run(&[TICKS.as_slice(), &counting(&[0x90, 0xf4, 0x90])].concat()) else { return };
    assert_eq!(told, [NO_RESULT, NO_RESULT]);
}

/// Lets what comes so many bytes behind this handle UD2, in the table that TICKS loads.
fn handle_ud2(behind: u8) -> Vec<u8> {
    #[rustfmt::skip]
    let code = [
        0x48, 0x8d, 0x05, 23 + behind, 0, 0, 0,        // lea rax, [rip + 23 + behind]
        0xbf, 0x60, 0, 0x31, 0, 0x66, 0x89, 0x07,      // mov edi, 0x310060, the gate of vector 6; mov [rdi], ax
        0xc7, 0x47, 0x02, 0x10, 0, 0, 0x8e,            // mov dword [rdi + 2], 0x8e000010
        0x48, 0xc1, 0xe8, 16, 0x66, 0x89, 0x47, 0x06,  // shr rax, 16; mov [rdi + 6], ax
    ];
    code.into()
}

#[test]
fn handlers_in_a_count_are_survived() {
    const UD2: [u8; 2] = [0x0f, 0x0b];
    // jmp over it; add qword [rsp], 2; iretq.
    let skip = [0xeb, 7, 0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xcf];
    let body = [UD2.as_slice(), &[0x90; 3]].concat();
    let code = [TICKS.as_slice(), &handle_ud2(2), &skip, &counting(&body)].concat();
    let Some(told) = run(&code) else { return };
    // What KVM has of steps in the handler is not said, nor whether there is one right behind it.
    assert!((3..=5 + 2 + AROUND).contains(&told[0]) && told[1] == 0, "{told:?}");
    // A handler that does not return, and asks for the end.
    let begin = control(1);
    let handled = handle_ud2((begin.len() + UD2.len() + 64) as u8);
    let code = [TICKS.as_slice(), &handled, &begin, &UD2, &[0xf4; 64], &control(0), &tell_both()].concat();
    let told = run(&code).unwrap();
    // One that emulates steps in the handler too, and counts what is executed there up to the end: three of it, and UD2.
    assert!(told == [NO_RESULT; 2] || told[0] <= 4 && told[1] == 0, "{told:?}");
}

/// From the real mode that a start-up message at 0x8000 leads to, to `entry` in 64-bit mode, by the tables of the first vCPU.
fn trampoline(entry: u32) -> Vec<u8> {
    #[rustfmt::skip]
    let mut code = vec![
        0xfa, 0x8c, 0xc8, 0x8e, 0xd8,                // cli; mov ax, cs; mov ds, ax
        0x66, 0x0f, 0x01, 0x16, 0x41, 0,             // lgdt [the last line]
        0x66, 0xb8, 0x20, 0, 0, 0, 0x0f, 0x22, 0xe0, // mov eax, PAE; mov cr4, eax
        0x66, 0xb8, 0, 0x90, 0, 0, 0x0f, 0x22, 0xd8, // mov eax, 0x9000; mov cr3, eax
        0x66, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32,    // mov ecx, EFER; rdmsr
        0x66, 0x0d, 0, 0x01, 0, 0, 0x0f, 0x30,       // or eax, LME; wrmsr
        0x0f, 0x20, 0xc0, 0x66, 0x0d, 0x01, 0, 0, 0x80, 0x0f, 0x22, 0xc0, // mov eax, cr0; or eax, PG | PE; mov cr0, eax
        0x66, 0xea,                                  // jmp 0x10:entry
    ];
    code.extend(entry.to_le_bytes());
    code.extend([0x10, 0, 39, 0, 0, 0x05, 0, 0]); // and the table: 40 bytes at 0x500
    code
}

/// `in eax, dx` of the data port; `mov [at], eax`.
fn keep(at: u32) -> Vec<u8> {
    [to_port(DATA_PORT), vec![0xed, 0x89, 0x04, 0x25], at.to_le_bytes().to_vec()].concat()
}

/// `mov eax, [at]`, and its four bytes on the serial port.
fn say_kept(at: u32) -> Vec<u8> {
    [vec![0x8b, 0x04, 0x25], at.to_le_bytes().to_vec(), say()].concat()
}

/// `inc dword [at]`.
fn raise(at: u32) -> Vec<u8> {
    [vec![0xff, 0x04, 0x25], at.to_le_bytes().to_vec()].concat()
}

/// `wait: cmp dword [at], 0; je wait`.
fn wait_for(at: u32) -> Vec<u8> {
    [vec![0x83, 0x3c, 0x25], at.to_le_bytes().to_vec(), vec![0, 0x74, 0xf6]].concat()
}

#[test]
fn two_vcpus_count_at_once_each_its_own() {
    const CODE_AT: u32 = 0x20_0000;
    let [ready, go, done, own_at, others_at] = [0x30_0020, 0x30_0024, 0x30_0028, 0x30_0030, 0x30_0038];
    let both = |at: u32| [keep(at), control(2), keep(at + 4)].concat();
    // mov esp, 0x6000; then a count of: mov ecx, 1500; round: lock inc dword [0x300040]; dec ecx; jnz round.
    let others_body = [0xb9, 0xdc, 0x05, 0, 0, 0xf0, 0xff, 0x04, 0x25, 0x40, 0, 0x30, 0, 0xff, 0xc9, 0x75, 0xf4];
    let other = [
        [0xbc, 0, 0x60, 0, 0].as_slice(),
        &raise(ready),
        &wait_for(go),
        &control(1),
        &others_body,
        &END,
        &both(others_at),
        &raise(done),
        &[0xf4, 0xeb, 0xfd], // hlt, for good
    ]
    .concat();
    let tramp = trampoline(CODE_AT + 5);
    let tramp_at = CODE_AT + 5 + other.len() as u32;
    let over = (other.len() + tramp.len()) as u32;
    // mov esi, the trampoline; mov edi, 0x8000; mov ecx, its length; rep movsb.
    let mut own =
        [[0xbe].as_slice(), &tramp_at.to_le_bytes(), &[0xbf, 0, 0x80, 0, 0, 0xb9, tramp.len() as u8]].concat();
    #[rustfmt::skip]
    own.extend([
        0, 0, 0, 0xf3, 0xa4,
        0xbb, 0, 0, 0xe0, 0xfe,                         // mov ebx, 0xfee00000
        0xc7, 0x83, 0xf0, 0, 0, 0, 0xff, 0x01, 0, 0,    // spurious-interrupt vector: on
        0xc7, 0x83, 0x10, 0x03, 0, 0, 0, 0, 0, 0x01,    // to APIC 1:
        0xc7, 0x83, 0, 0x03, 0, 0, 0, 0x45, 0, 0,       // INIT
        0xc7, 0x83, 0x10, 0x03, 0, 0, 0, 0, 0, 0x01,
        0xc7, 0x83, 0, 0x03, 0, 0, 0x08, 0x46, 0, 0,    // start-up at 0x8000
    ]);
    // mov ecx, 2000; round: dec ecx; jnz round.
    let own_body = [0xb9, 0xd0, 0x07, 0, 0, 0xff, 0xc9, 0x75, 0xfc];
    own.extend([wait_for(ready), raise(go), control(1), own_body.to_vec(), END.to_vec(), both(own_at)].concat());
    own.extend(
        [wait_for(done), say_kept(own_at), say_kept(own_at + 4), say_kept(others_at), say_kept(others_at + 4)].concat(),
    );
    let code = [[0xe9].as_slice(), &over.to_le_bytes(), &other, &tramp, &own, &power_off()].concat();
    let serial = Kept::default();
    let Some(mut machine) = machine(&code, &serial, 2) else { return };
    machine.start().unwrap();
    assert_eq!(machine.wait(PATIENCE), Some(StopCause::PowerOff));
    assert_eq!(words(&serial), [1 + 2 * 2000 + AROUND, 0, 1 + 3 * 1500 + AROUND, 1500]);
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

#[test]
#[ignore = "a measurement: it says what a step takes, and of that nothing is to be expected"]
fn what_a_step_takes() {
    let seconds = |rounds: u32| {
        let body = [[0xb9].as_slice(), &rounds.to_le_bytes(), &[0xff, 0xc9, 0x75, 0xfc]].concat();
        let begun = Instant::now();
        run(&counting(&body)).map(|told| (begun.elapsed().as_secs_f64(), told))
    };
    let (Some((short, _)), Some((long, told))) = (seconds(1_000), seconds(11_000)) else { return };
    assert_eq!(told, [1 + 2 * 11_000 + AROUND, 0]);
    eprintln!("{:.2} microseconds a step", (long - short) / 20_000.0 * 1e6);
}
