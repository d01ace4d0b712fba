//! For storms that leave no results.

use std::io;

use super::{Event, Journal};

/// A journal that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Journal for Nowhere {
    fn event(&mut self, _event: &Event) -> io::Result<()> {
        Ok(())
    }

    fn console(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn events_dropped(&self) -> u64 {
        0
    }

    fn console_dropped(&self) -> u64 {
        0
    }
}
