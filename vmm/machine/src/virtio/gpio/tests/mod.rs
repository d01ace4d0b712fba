//! The controller as a guest sees it; each trap of the design notes has its test.

mod events;
mod faults;
mod requests;

use std::sync::Arc;

use super::*;
use crate::virtio::FEATURE_VERSION_1;
use crate::virtio::test_driver::{Driver, Messages, Posted, SUBSYSTEM, memory};

pub(super) const OK: u8 = 0;
pub(super) const ERROR: u8 = 1;

pub(super) fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

pub(super) struct Guest {
    pub(super) driver: Driver,
    pub(super) handle: GpioHandle,
}

impl Guest {
    pub(super) fn with(config: &GpioConfig) -> Self {
        let (memory, messages) = (memory(), Arc::new(Messages::default()));
        let (function, handle) = gpio(config, memory.clone(), messages.clone(), SUBSYSTEM).unwrap();
        let mut driver = Driver::new(function, memory, messages);
        driver.start(FEATURE_VERSION_1 | u64::from(config.irq));
        Self { driver, handle }
    }

    /// Eight lines with interrupts and three names.
    pub(super) fn new() -> Self {
        Self::with(&GpioConfig { lines: 8, names: names(&["reset", "", "card detect"]), irq: true })
    }

    /// Puts a request up without a kick.
    pub(super) fn post(&mut self, kind: u16, line: u16, value: u32) -> Posted {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(line.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        self.driver.post(0, &bytes, 2)
    }

    /// The answer to a request, which must come within the kick, and alone.
    pub(super) fn ask(&mut self, kind: u16, line: u16, value: u32) -> (u8, u8) {
        let posted = self.post(kind, line, value);
        self.driver.kick(0);
        assert_eq!(self.driver.used(0), Some((posted.head, 2)));
        self.answer(posted)
    }

    pub(super) fn answer(&self, posted: Posted) -> (u8, u8) {
        let answer = self.driver.answer(posted);
        (answer[0], answer[1])
    }

    /// Unmasks a line's interrupt, as the stock driver does (gpio-virtio.c, virtio_gpio_irq_prepare).
    pub(super) fn unmask(&mut self, line: u16) -> Posted {
        let posted = self.driver.post(1, &line.to_le_bytes(), 1);
        self.driver.kick(1);
        posted
    }

    /// The next event: its head and status.
    pub(super) fn event(&mut self, posted: Posted) -> Option<u8> {
        let (head, length) = self.driver.used(1)?;
        assert_eq!((head, length), (posted.head, 1));
        Some(self.driver.answer(posted)[0])
    }
}
