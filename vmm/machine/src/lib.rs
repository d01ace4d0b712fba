//! A KVM machine that boots stock kernels and lets devices be pulled out from under them.
//!
//! Memory, vCPUs, ACPI, interrupts, PCIe with native hot-plug, virtio console and gpio. It knows nothing of storms: it
//! tells what the hardware side of an event was, and leaves the meaning to its owner.

pub mod acpi;
pub mod boot;
pub mod bus;
pub mod clock;
pub mod cpu;
pub mod devices_state;
pub mod host_cpu;
pub mod instructions;
pub mod interrupt;
pub mod kvm;
pub mod machine;
pub mod memory;
pub mod pci;
pub mod power;
pub mod probe;
pub mod processor;
pub mod serial;
pub mod snapshot;
pub mod state;
pub mod stop;
pub mod translate;
pub mod vcpu;
pub mod virtio;

pub use host_cpu::{HostCpu, host_cpu};
pub use instructions::InstructionCounter;
pub use machine::{MOST_CPUS, Machine, MachineConfig, MachineError, ROOT_PORTS, Shape, check_size};
pub use processor::ProcessorState;
pub use snapshot::{Extent, MachineState, MemoryImage, RestoreConfig, WorkingSet};
pub use state::StateError;
pub use stop::{ResetPort, StopCause};
pub use translate::AddressSpace;
pub use vcpu::let_the_monitor_first;
pub use virtio::Subsystem;
pub use virtio::console::{ConsoleSink, PortConfig};
pub use virtio::gpio::{GpioConfig, GpioHandle};
