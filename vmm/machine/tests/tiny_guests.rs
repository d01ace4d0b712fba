//! Guests of a few instructions, each in an ELF file made here: what a machine does when it is driven by hand. They run
//! on any `/dev/kvm`, even one that interprets; where there is none, each test says that it was skipped.

mod tiny;

use std::time::Duration;

use plugstorm_machine::boot::{BootError, ImageError};
use plugstorm_machine::{Machine, MachineConfig, MachineError, ResetPort, StopCause};
use tiny::{Kept, PATIENCE, config, elf, machine, out};

fn ends_with(code: &[u8], cause: StopCause) {
    if let Some(machine) = machine(code, &Kept::default(), 1) {
        assert_eq!(machine.wait(PATIENCE), Some(cause));
    }
}

#[test]
fn power_off_ends_the_machine() {
    ends_with(&out(0x600, 5 << 2 | 1 << 5), StopCause::PowerOff);
}

#[test]
fn each_reset_says_where_it_was_asked_for() {
    ends_with(&out(0x602, 1), StopCause::Reset(ResetPort::Acpi));
    ends_with(&out(0x64, 0xfe), StopCause::Reset(ResetPort::Keyboard));
    ends_with(&out(0xcf9, 6), StopCause::Reset(ResetPort::Chipset));
}

#[test]
fn a_triple_fault_is_told_as_one() {
    // ud2, with no interrupt table to take it.
    ends_with(&[0x0f, 0x0b], StopCause::TripleFault);
}

#[test]
fn a_guest_that_spins_with_interrupts_off_is_stopped() {
    for cpus in [1, 4] {
        // cli; jmp to itself.
        let Some(mut machine) = machine(&[0xfa, 0xeb, 0xfe], &Kept::default(), cpus) else { return };
        assert_eq!(machine.wait(Duration::from_millis(50)), None);
        assert!(machine.stop(), "a vCPU stayed in the guest");
        assert_eq!(machine.stop_cause(), Some(StopCause::Stopped));
    }
}

#[test]
fn a_paused_machine_tells_where_its_processor_is() {
    // cli; jmp to itself.
    let code = [0xfa, 0xeb, 0xfe];
    let Some(mut machine) = machine(&code, &Kept::default(), 1) else { return };
    assert!(matches!(machine.processors(), Err(MachineError::NotPaused)));
    machine.pause().unwrap();
    let states = machine.processors().unwrap();
    let [state] = states.as_slice() else { panic!("{states:?}") };
    assert!((0x20_0000..0x20_0003).contains(&state.ip), "{state:?}");
    assert_eq!((state.privilege, state.interrupts_on, state.halted, state.waits_for_start), (0, false, false, false));
    // The instructions are where its own page tables say.
    let mut bytes = [0; 3];
    assert!(state.space.read(machine.memory(), 0x20_0000, &mut bytes));
    assert_eq!(bytes, code);
    machine.start().unwrap();
    assert_eq!(machine.wait(Duration::from_millis(10)), None);
}

#[test]
fn the_host_bridge_answers_through_ecam() {
    let serial = Kept::default();
    // mov rbx, ECAM; mov eax, [rbx]; mov dx, 0x3f8; out dx, al; mov al, ah; out dx, al; then power off.
    let mut code =
        vec![0x48, 0xbb, 0, 0, 0, 0xe0, 0, 0, 0, 0, 0x8b, 0x03, 0x66, 0xba, 0xf8, 0x03, 0xee, 0x88, 0xe0, 0xee];
    code.extend(out(0x600, 5 << 2 | 1 << 5));
    let Some(machine) = machine(&code, &serial, 1) else { return };
    assert_eq!(machine.wait(PATIENCE), Some(StopCause::PowerOff));
    let vendor = serial.0.lock().unwrap().clone();
    assert_eq!(vendor.len(), 2);
    assert_ne!(vendor, [0xff, 0xff], "nobody answered");
}

#[test]
fn memory_that_is_nobodys_reads_all_ones() {
    let serial = Kept::default();
    // mov rbx, 0xc0001000; mov eax, [rbx]; mov dx, 0x3f8; out dx, al; power off.
    let mut code = vec![0x48, 0xbb, 0, 0x10, 0, 0xc0, 0, 0, 0, 0, 0x8b, 0x03, 0x66, 0xba, 0xf8, 0x03, 0xee];
    code.extend(out(0x600, 5 << 2 | 1 << 5));
    let Some(machine) = machine(&code, &serial, 1) else { return };
    assert_eq!(machine.wait(PATIENCE), Some(StopCause::PowerOff));
    assert_eq!(*serial.0.lock().unwrap(), [0xff]);
}

#[test]
fn wrong_settings_are_told_before_anything_is_opened() {
    let (_folder, kernel) = elf(&[0xf4]);
    for cpus in [0, 17] {
        let error = Machine::new(MachineConfig { cpus, ..config(kernel.clone(), Kept::default()) }).unwrap_err();
        assert!(matches!(error, MachineError::Cpus { .. }), "{error}");
    }
    for memory_bytes in [0, 1 << 20, (64 << 20) + 1, !0xfff] {
        let error =
            Machine::new(MachineConfig { memory_bytes, ..config(kernel.clone(), Kept::default()) }).unwrap_err();
        assert!(matches!(error, MachineError::MemorySize { .. }), "{error}");
    }
    let initrd = Some(vec![0; 80 << 20]);
    let error = Machine::new(MachineConfig { initrd, ..config(kernel.clone(), Kept::default()) }).unwrap_err();
    assert!(matches!(error, MachineError::Boot(BootError::InitrdTooLarge { .. })), "{error}");
    let command_line = "x".repeat(3000);
    let error = Machine::new(MachineConfig { command_line, ..config(kernel, Kept::default()) }).unwrap_err();
    assert!(matches!(error, MachineError::Boot(BootError::CommandLineTooLong { .. })), "{error}");
    let error = Machine::new(config("/no/such/kernel".into(), Kept::default())).unwrap_err();
    assert!(matches!(error, MachineError::Boot(BootError::Image(ImageError::Unreadable { .. }))), "{error}");
}
