//! ACPI tables: what the guest learns of processors, interrupts, PCI and power (ACPI 6.5).
//!
//! The machine is hardware-reduced (ACPI 6.5, 4.1): no PM timer and no SCI, and the guest
//! expects no legacy PIC or PIT. It needs no MP table.

mod dsdt;

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, sdt::Sdt};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress};

use crate::memory::{self, GuestRam};
use crate::power;

const OEM: [u8; 6] = *b"PLUGST";
const TABLE: [u8; 8] = *b"PLUGSTRM";
const REVISION: u32 = 1;

/// "There is no VGA", "there is no CMOS clock" (ACPI 6.5, table 5.11); the i8042's bit is clear too.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 5;

/// The tables do not fit.
#[derive(Debug, Error)]
#[error("the ACPI tables could not be placed at {address:#x}: {reason}")]
pub struct AcpiError {
    /// Where.
    pub address: u64,
    /// Why.
    pub reason: String,
}

/// Writes all tables to guest memory and gives the address of the RSDP.
///
/// # Errors
/// [`AcpiError`] if they outgrow [`memory::ACPI_TABLES`].
pub fn write(memory: &GuestRam, cpus: u8) -> Result<u64, AcpiError> {
    let rsdp_at = memory::ACPI_TABLES.start;
    let mut place = Placer { memory, next: rsdp_at + 64 };
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, REVISION);
    for byte in dsdt::body(cpus) {
        dsdt.append(byte);
    }
    let dsdt_at = place.bytes(dsdt.as_slice())?;
    let tables = [place.table(&fadt(dsdt_at))?, place.table(&madt(cpus))?, place.table(&mcfg())?];
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    for table in tables {
        xsdt.add_entry(table);
    }
    let xsdt_at = place.table(&xsdt)?;
    Placer { memory, next: rsdp_at }.table(&Rsdp::new(OEM, xsdt_at))
}

fn fadt(dsdt_at: u64) -> impl Aml {
    let register = |port: u16| GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(port));
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt_at)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = register(power::RESET_PORT);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = register(power::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = register(power::SLEEP_STATUS_PORT);
    fadt.finalize()
}

fn madt(cpus: u8) -> MADT {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(memory::LAPIC_BASE));
    for index in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(index, index, EnabledStatus::Enabled));
    }
    // An id that no local APIC has.
    madt.add_structure(IoApic::new(cpus, memory::IOAPIC_BASE, 0));
    madt
}

fn mcfg() -> MCFG {
    let mut mcfg = MCFG::new(OEM, TABLE, REVISION);
    mcfg.add_ecam(memory::ECAM_BASE, 0, 0, memory::ECAM_LAST_BUS);
    mcfg
}

/// Puts one table after the other.
struct Placer<'a> {
    memory: &'a GuestRam,
    next: u64,
}

impl Placer<'_> {
    fn table(&mut self, table: &dyn Aml) -> Result<u64, AcpiError> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        self.bytes(&bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<u64, AcpiError> {
        let at = self.next;
        let end = at.saturating_add(bytes.len() as u64);
        if end > memory::ACPI_TABLES.end {
            return Err(AcpiError { address: at, reason: format!("{} bytes are too many", bytes.len()) });
        }
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|error| AcpiError { address: at, reason: error.to_string() })?;
        self.next = end.next_multiple_of(16);
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(memory: &GuestRam, at: u64) -> Vec<u8> {
        let length: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
        let mut bytes = vec![0; length as usize];
        memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn tables_are_linked_and_their_checksums_are_right() {
        for cpus in [1, 2, 16] {
            let memory = memory::map(64 << 20).unwrap();
            let rsdp = write(&memory, cpus).unwrap();
            let mut head = [0; 36];
            memory.read_slice(&mut head, GuestAddress(rsdp)).unwrap();
            assert_eq!((&head[..8], sum(&head[..20]), sum(&head)), (&b"RSD PTR "[..], 0, 0));
            let xsdt = read(&memory, u64::from_le_bytes(head[24..32].try_into().unwrap()));
            assert_eq!((&xsdt[..4], sum(&xsdt)), (&b"XSDT"[..], 0));
            let mut names = Vec::new();
            for entry in xsdt[36..].chunks(8) {
                let table = read(&memory, u64::from_le_bytes(entry.try_into().unwrap()));
                assert_eq!(sum(&table), 0);
                if &table[..4] == b"FACP" {
                    let dsdt = read(&memory, u64::from_le_bytes(table[140..148].try_into().unwrap()));
                    assert_eq!((&dsdt[..4], sum(&dsdt)), (&b"DSDT"[..], 0));
                    assert_ne!(
                        u32::from_le_bytes(table[112..116].try_into().unwrap()) & 1 << 20,
                        0,
                        "hardware-reduced"
                    );
                }
                names.push(String::from_utf8_lossy(&table[..4]).into_owned());
            }
            assert_eq!(names, ["FACP", "APIC", "MCFG"]);
        }
    }
}
