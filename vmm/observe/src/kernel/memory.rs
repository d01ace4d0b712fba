//! A guest's memory at the virtual addresses of its kernel.

/// What can be read of a guest. All of it is the guest's to forge: whoever reads bounds how much.
pub trait Memory {
    /// Fills `bytes` with what is at `address`. False if a part of it is mapped to no memory; `bytes` may hold anything
    /// then.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;

    /// A byte.
    fn u8(&self, address: u64) -> Option<u8> {
        let mut bytes = [0; 1];
        self.read(address, &mut bytes).then(|| u8::from_le_bytes(bytes))
    }

    /// Four bytes, little endian.
    fn u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    /// Eight bytes, little endian.
    fn u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// What is between two addresses, unless it is more than `most_bytes`.
    fn range(&self, start: u64, end: u64, most_bytes: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(end.checked_sub(start)?).ok().filter(|&length| length <= most_bytes)?;
        let mut bytes = vec![0; length];
        self.read(start, &mut bytes).then_some(bytes)
    }

    /// A text that ends with a zero byte or after `most_bytes`, without control characters and other than ASCII.
    fn text(&self, address: u64, most_bytes: usize) -> Option<String> {
        let mut text = String::new();
        for offset in 0..most_bytes as u64 {
            match self.u8(address.checked_add(offset)?)? {
                0 => break,
                byte if byte.is_ascii_graphic() || byte == b' ' => text.push(char::from(byte)),
                _ => text.push('?'),
            }
        }
        Some(text)
    }
}

/// Two bytes of a slice, little endian.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

/// Four bytes of a slice, little endian.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// Eight bytes of a slice, little endian.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..offset.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}
