//! Tiny guests saved in the middle of what they do, and gone on with elsewhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod tiny;

use std::fs::File;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use plugstorm_machine::cpu::CpuTemplate;
use plugstorm_machine::{Machine, MachineError, MachineState, MemoryImage, StopCause};
use tiny::{Kept, PATIENCE, machine, out, restore_config};

fn memory_file() -> Arc<File> {
    Arc::new(tempfile::tempfile().unwrap())
}

/// As it comes from a disk.
fn save(machine: &Machine) -> (MachineState, MemoryImage) {
    let (state, image) = machine.save(memory_file()).unwrap();
    (serde_json::from_slice(&serde_json::to_vec(&state).unwrap()).unwrap(), image)
}

/// Reads a port and the host bridge so many times, and adds up what it read; says the sum on the serial port, powers off.
/// What is read is cleared in the register before, so that a read whose result is lost shows in the sum.
fn reader(rounds: u32) -> Vec<u8> {
    let mut code = vec![
        0x45, 0x31, 0xc0, // xor r8d, r8d
        0x48, 0xbb, 0, 0, 0, 0xe0, 0, 0, 0, 0, // mov rbx, ECAM
    ];
    code.push(0xb9); // mov ecx, rounds
    code.extend(rounds.to_le_bytes());
    code.extend([
        0x66, 0xba, 0xfd, 0x03, // round: mov dx, 0x3fd
        0x31, 0xc0, // xor eax, eax
        0xec, // in al, dx
        0x49, 0x01, 0xc0, // add r8, rax
        0x31, 0xc0, // xor eax, eax
        0x8b, 0x03, // mov eax, [rbx]
        0x49, 0x01, 0xc0, // add r8, rax
        0xff, 0xc9, // dec ecx
        0x75, 0xeb, // jnz round
        0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x4c, 0x89, 0xc0, // mov rax, r8
        0xb9, 8, 0, 0, 0,    // mov ecx, 8
        0xee, // byte: out dx, al
        0x48, 0xc1, 0xe8, 8, // shr rax, 8
        0xff, 0xc9, // dec ecx
        0x75, 0xf7, // jnz byte
    ]);
    code.extend(out(0x600, 5 << 2 | 1 << 5));
    code
}

fn sum(serial: &Kept) -> u64 {
    u64::from_le_bytes(serial.0.lock().unwrap().clone().try_into().unwrap())
}

#[test]
fn a_guest_saved_again_and_again_computes_what_it_would_have() {
    const ROUNDS: u32 = 20_000;
    let serial = Kept::default();
    let Some(whole) = machine(&reader(ROUNDS), &serial, 1) else { return };
    assert_eq!(whole.wait(PATIENCE), Some(StopCause::PowerOff));
    let expected = sum(&serial);
    assert_eq!(expected % u64::from(ROUNDS), 0);

    let serial = Kept::default();
    let mut machine = machine(&reader(ROUNDS), &serial, 1).unwrap();
    let mut saves = 0;
    loop {
        match machine.pause() {
            Ok(()) => {}
            Err(MachineError::Ended(StopCause::PowerOff)) => break,
            Err(error) => assert!(error.to_string().is_empty(), "{error}"),
        }
        let (state, image) = save(&machine);
        machine = Machine::restore(&state, &image, restore_config(serial.clone())).unwrap();
        machine.start().unwrap();
        saves += 1;
        // So that it gets on between two saves, however slow this host is: each save has cost it this much.
        thread::sleep(Duration::from_millis(5));
    }
    assert!(saves > 2, "{saves}");
    assert_eq!(sum(&serial), expected, "after {saves} saves");
}

#[test]
fn a_machine_goes_on_after_a_pause_and_after_a_save() {
    let serial = Kept::default();
    let Some(mut machine) = machine(&reader(5_000), &serial, 1) else { return };
    let mut pauses = 0;
    while machine.pause().is_ok() {
        drop(save(&machine));
        machine.start().unwrap();
        pauses += 1;
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(machine.stop_cause(), Some(StopCause::PowerOff), "after {pauses} pauses");
    let after = sum(&serial);
    assert_eq!(after % 5_000, 0, "{after}");
}

#[test]
fn forks_of_one_image_do_not_see_each_others_memory() {
    // inc qword [0x300000]; jmp to it.
    let code = [0x48, 0xff, 0x04, 0x25, 0, 0, 0x30, 0, 0xeb, 0xf6];
    let Some(mut machine) = machine(&code, &Kept::default(), 1) else { return };
    machine.pause().unwrap();
    let (state, image) = save(&machine);
    let mut forks: Vec<_> =
        (0..3).map(|_| Machine::restore(&state, &image, restore_config(Kept::default())).unwrap()).collect();
    let count = |machine: &Machine| {
        let (_, image) = machine.save(memory_file()).unwrap();
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&*image.file, &mut bytes, 0x30_0000).unwrap();
        u64::from_le_bytes(bytes)
    };
    let begun = count(&machine);
    for fork in &mut forks[1..] {
        fork.start().unwrap();
    }
    while forks[1..].iter_mut().any(|fork| {
        fork.pause().unwrap();
        let has_run = count(fork) > begun;
        fork.start().unwrap();
        !has_run
    }) {}
    assert_eq!((count(&machine), count(&forks[0])), (begun, begun));
}

#[test]
fn what_a_fork_touched_is_given_to_the_next() {
    // inc qword [0x300000]; mov rax, [0x400000]; jmp to the first.
    let code = [0x48, 0xff, 0x04, 0x25, 0, 0, 0x30, 0, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0x40, 0, 0xeb, 0xee];
    let Some(mut machine) = machine(&code, &Kept::default(), 1) else { return };
    machine.pause().unwrap();
    let (state, image) = save(&machine);
    let mut fork = Machine::restore(&state, &image, restore_config(Kept::default())).unwrap();
    let fresh = fork.working_set();
    fork.start().unwrap();
    let has = |extents: &[plugstorm_machine::Extent], at: u64| {
        extents.iter().any(|extent| (extent.offset..extent.offset + extent.bytes).contains(&at))
    };
    let touched = loop {
        fork.pause().unwrap();
        let touched = fork.working_set();
        if has(&touched.written, 0x30_0000) && has(&touched.read, 0x40_0000) {
            break touched;
        }
        fork.start().unwrap();
        thread::sleep(Duration::from_millis(1));
    };
    assert!(!has(&fresh.written, 0x30_0000));
    let next = Machine::restore(&state, &image, restore_config(Kept::default())).unwrap();
    next.prefault(&touched);
    let given = next.working_set();
    assert!(has(&given.written, 0x30_0000) && has(&given.read, 0x40_0000), "{given:?}");
    // Nonsense is passed over.
    let extent = |offset, bytes| plugstorm_machine::Extent { offset, bytes };
    let nonsense =
        vec![extent(1, 4096), extent(u64::MAX, 4096), extent(0, u64::MAX), extent(1 << 40, 4096), extent(0, 0)];
    next.prefault(&plugstorm_machine::WorkingSet { written: nonsense.clone(), read: nonsense });
}

#[test]
fn two_vcpus_go_on_and_a_state_that_lacks_one_is_refused() {
    let serial = Kept::default();
    let Some(mut machine) = machine(&reader(3_000), &serial, 2) else { return };
    machine.pause().unwrap();
    let (state, image) = save(&machine);
    let mut value = serde_json::to_value(&state).unwrap();
    let mut fork = Machine::restore(&state, &image, restore_config(serial.clone())).unwrap();
    fork.start().unwrap();
    assert_eq!(fork.wait(PATIENCE), Some(StopCause::PowerOff));
    assert_eq!(sum(&serial) % 3_000, 0);
    assert!(matches!(fork.save(memory_file()), Err(MachineError::Ended(StopCause::PowerOff))));
    for cpus in [0, 1, 3, 255] {
        value["shape"]["cpus"] = cpus.into();
        let broken: MachineState = serde_json::from_value(value.clone()).unwrap();
        let error = Machine::restore(&broken, &image, restore_config(Kept::default())).unwrap_err();
        assert!(matches!(error, MachineError::State(_) | MachineError::Cpus { .. }), "{cpus}: {error}");
    }
}

#[test]
fn no_time_passes_for_the_guest_between_save_and_restore() {
    // cli; jmp to itself.
    let Some(mut machine) = machine(&[0xfa, 0xeb, 0xfe], &Kept::default(), 1) else { return };
    let khz = u64::from(machine.tsc_khz());
    if khz == 0 {
        return;
    }
    machine.pause().unwrap();
    let (host, guest) = (Instant::now(), machine.guest_tsc_now());
    let (state, image) = save(&machine);
    let gap = Duration::from_millis(300);
    thread::sleep(gap);
    let fork = Machine::restore(&state, &image, restore_config(Kept::default())).unwrap();
    if !fork.clock_continues() {
        eprintln!("skipped: this KVM keeps counters of its own");
        return;
    }
    let passed = Duration::from_micros((fork.guest_tsc_now() - guest) * 1000 / khz);
    assert!(passed <= host.elapsed().checked_sub(gap).unwrap(), "{passed:?} passed");
}

#[test]
fn a_host_gives_the_same_processor_each_time_and_another_one_by_another_template() {
    let Ok(plain) = plugstorm_machine::host_cpu(CpuTemplate::Plain, 2) else { return };
    let again = plugstorm_machine::host_cpu(CpuTemplate::Plain, 2).unwrap();
    let host = plugstorm_machine::host_cpu(CpuTemplate::Host, 2).unwrap();
    let fewer = plugstorm_machine::host_cpu(CpuTemplate::Plain, 1).unwrap();
    assert!(!plain.cpuid.is_empty());
    assert_eq!(plain.cpuid, again.cpuid);
    assert_ne!(plain.cpuid, host.cpuid);
    assert_ne!(plain.cpuid, fewer.cpuid);
}

#[test]
fn what_is_not_paused_is_not_saved_and_what_runs_is_not_started() {
    let Some(mut machine) = machine(&[0xfa, 0xeb, 0xfe], &Kept::default(), 2) else { return };
    assert!(matches!(machine.save(memory_file()), Err(MachineError::NotPaused)));
    assert!(matches!(machine.start(), Err(MachineError::Runs)));
    machine.pause().unwrap();
    machine.pause().unwrap();
    machine.save(memory_file()).unwrap();
    machine.start().unwrap();
    assert!(machine.stop());
    assert!(matches!(machine.pause(), Err(MachineError::Ended(StopCause::Stopped))));
}
