//! Configuration space: what enumeration reads a few thousand times in each boot, and pciehp in each removal.

use std::error::Error;
use std::hint::black_box;

use criterion::Criterion;

use crate::board::{Board, EVENTS_ENABLED, PORTS, SLOT_CONTROL, ecam};

/// What nobody answers with (PCIe 2.3.2).
const NOBODY: u32 = u32::MAX;

/// Vendor and device of each.
const READS: [(&str, u8, u8, bool); 4] = [
    ("root port", 0, 1, true),
    ("function in the first slot", 1, 0, true),
    ("function in an empty last slot", PORTS, 0, false),
    ("function on a bus of nobody", PORTS + 1, 0, false),
];

pub(crate) fn measure(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let (board, _card) = Board::with_card()?;
    let bus = &board.bus;
    let mut group = criterion.benchmark_group("configuration");
    for (name, number, device, is_there) in READS {
        let address = ecam(number, device, 0);
        let read = || {
            let mut data = [0; 4];
            bus.memory_read(black_box(address), &mut data);
            u32::from_le_bytes(data)
        };
        if (read() != NOBODY) != is_there {
            return Err(format!("{name} reads {:#010x}: the machine is not set up as this wants it", read()).into());
        }
        group.bench_function(format!("read ECAM/{name}"), |bencher| bencher.iter(read));
    }

    // The tree's own write (pciehp_hpc.c, pcie_do_write_cmd): 16 bits. The owner of the machine is told of each.
    let told = board.told.slots();
    let control = ecam(0, 1, SLOT_CONTROL);
    let write = || bus.memory_write(black_box(control), &EVENTS_ENABLED.to_le_bytes());
    write();
    if board.told.slots() != told + 1 {
        return Err("a write to slot control was not told of".into());
    }
    group.bench_function("write ECAM/slot control", |bencher| bencher.iter(write));

    // Two exits in a guest: the address, then the data (PCI 3.0, 3.2.2.3.2).
    let address = 0x8000_0000_u32 | 1 << 11;
    let read = || {
        let mut data = [0; 4];
        bus.port_write(0xcf8, &black_box(address).to_le_bytes());
        bus.port_read(0xcfc, &mut data);
        u32::from_le_bytes(data)
    };
    if read() == NOBODY {
        return Err("the ports do not reach the first root port".into());
    }
    group.bench_function("read by 0xcf8 and 0xcfc/root port", |bencher| bencher.iter(read));
    group.finish();
    Ok(())
}
