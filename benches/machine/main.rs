//! What a guest's exit to its machine costs: configuration space, queues of a gpio controller, a slot. No KVM and no vCPU: the
//! machine's devices are called as a vCPU's thread calls them once it is back from the guest.

mod board;
mod configuration;
mod hotplug;
mod requests;

#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the driver of the machine's unit tests, as it is"
)]
#[path = "../../vmm/machine/src/virtio/test_driver.rs"]
mod test_driver;

use std::error::Error;

use criterion::Criterion;
// Where that driver looks for them.
use plugstorm_machine::{interrupt, pci, virtio};

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    configuration::measure(&mut criterion)?;
    requests::measure(&mut criterion)?;
    hotplug::measure(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
