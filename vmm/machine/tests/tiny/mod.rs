//! What the tests with tiny guests share.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, unreachable_pub, reason = "not every test uses all of it")]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plugstorm_machine::cpu::CpuTemplate;
use plugstorm_machine::pci::{GoneReads, SlotEvent, SlotObserver};
use plugstorm_machine::{ConsoleSink, Machine, MachineConfig, MachineError, RestoreConfig};

/// Long enough for an interpreting KVM under load; a guest that ends does so in milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(120);
const CODE_AT: u64 = 0x20_0000;

#[derive(Clone, Default)]
pub struct Kept(pub Arc<Mutex<Vec<u8>>>);

impl ConsoleSink for Kept {
    fn write(&mut self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

#[derive(Debug)]
pub struct NobodyLooks;

impl SlotObserver for NobodyLooks {
    fn slot_event(&self, _slot: u8, _event: SlotEvent) {}
}

/// An ELF file with one segment of code.
pub fn elf(code: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let mut bytes = vec![0; 0x1000];
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    bytes[16..18].copy_from_slice(&2u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&62u16.to_le_bytes());
    bytes[24..32].copy_from_slice(&CODE_AT.to_le_bytes());
    bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
    let length = code.len() as u64;
    let segment = [1 | 7 << 32, 0x1000, CODE_AT, CODE_AT, length, length, 0x1000];
    for (index, word) in segment.iter().enumerate() {
        bytes[64 + index * 8..72 + index * 8].copy_from_slice(&u64::to_le_bytes(*word));
    }
    bytes.extend_from_slice(code);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

pub fn config(kernel: PathBuf, serial: Kept) -> MachineConfig {
    MachineConfig {
        kernel,
        initrd: None,
        command_line: String::new(),
        cpus: 1,
        memory_bytes: 64 << 20,
        root_ports: 8,
        gone_reads: GoneReads::AllOnes,
        cpu_template: CpuTemplate::Plain,
        serial: Box::new(serial),
        console: None,
        ports: Vec::new(),
        slot_observer: Arc::new(NobodyLooks),
        instruction_counter: false,
    }
}

/// A machine with that code, or nothing where there is no KVM.
pub fn machine(code: &[u8], serial: &Kept, cpus: u8) -> Option<Machine> {
    let (_folder, kernel) = elf(code);
    match Machine::new(MachineConfig { cpus, ..config(kernel, serial.clone()) }) {
        Ok(mut machine) => {
            machine.start().unwrap();
            Some(machine)
        }
        Err(MachineError::Kvm(error)) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What a restored one is connected to.
pub fn restore_config(serial: Kept) -> RestoreConfig {
    RestoreConfig {
        serial: Box::new(serial),
        console: None,
        ports: Vec::new(),
        gone_reads: GoneReads::AllOnes,
        slot_observer: Arc::new(NobodyLooks),
    }
}

/// `mov dx, port; mov al, value; out dx, al; hlt`, and round again.
pub fn out(port: u16, value: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xb0, value, 0xee, 0xf4, 0xeb, 0xf6]
}
