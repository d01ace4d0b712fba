//! Which release a kernel image is, read from the image itself.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How much of an ELF vmlinux is searched for the kernel's banner.
const SEARCH_BYTES: u64 = 256 << 20;

/// The release (`uname -r`) of a bzImage or vmlinux; nothing where the image does not say.
pub(super) fn release(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    file.by_ref().take(0x400).read_to_end(&mut head)?;
    if head.starts_with(b"\x7fELF") {
        file.seek(SeekFrom::Start(0))?;
        return banner(&mut file.take(SEARCH_BYTES));
    }
    // Documentation/arch/x86/boot.rst: magic at 0x202, then kernel_version at 0x20e, an offset less 0x200.
    let offset = match (head.get(0x202..0x206), head.get(0x20e..0x210)) {
        (Some(b"HdrS"), Some(&[low, high])) => u64::from(u16::from_le_bytes([low, high])),
        _ => return Ok(None),
    };
    if offset == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(offset + 0x200))?;
    let mut text = Vec::new();
    file.take(256).read_to_end(&mut text)?;
    Ok(first_word(&text))
}

/// Looks for `Linux version RELEASE (…`, the banner of init/version.c.
fn banner(reader: &mut impl Read) -> io::Result<Option<String>> {
    const START: &[u8] = b"Linux version ";
    let mut window = Vec::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = reader.read(&mut chunk)?;
        if length == 0 {
            return Ok(None);
        }
        window.extend_from_slice(chunk.get(..length).unwrap_or_default());
        let mut from = 0;
        while let Some(at) = find(window.get(from..).unwrap_or_default(), START) {
            let text = window.get(from + at + START.len()..).unwrap_or_default();
            // A word without an end may go on in the next chunk; a format string (`%s`) is not the banner.
            if let Some(word) = first_word(text).filter(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
                return Ok(Some(word));
            }
            from += at + START.len();
        }
        // The banner may lie across two chunks.
        let keep = window.len().saturating_sub(512);
        window.drain(..keep);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The first word, if it ends within `text` and is made of a release's characters.
fn first_word(text: &[u8]) -> Option<String> {
    let end = text.iter().position(|byte| matches!(byte, b' ' | 0 | b'\n'))?;
    let word = text.get(..end)?;
    let fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(byte);
    (!word.is_empty() && word.iter().all(fit)).then(|| String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn release_of(bytes: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        fs::write(&path, bytes).unwrap();
        release(&path).unwrap()
    }

    #[test]
    fn a_bzimage_names_its_release() {
        let mut image = vec![0; 0x800];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        let text = b"6.12.117+deb12-amd64 (debian@x) #1 SMP\0";
        image[0x500..0x500 + text.len()].copy_from_slice(text);
        assert_eq!(release_of(&image).as_deref(), Some("6.12.117+deb12-amd64"));
        image[0x20e] = 0xff;
        image[0x20f] = 0xff;
        assert_eq!(release_of(&image), None);
    }

    #[test]
    fn a_vmlinux_has_its_banner_anywhere() {
        let mut image = b"\x7fELF".to_vec();
        image.extend(b"Linux version %s (%s)\0");
        image.resize((1 << 20) - 20, 0);
        image.extend(b"Linux version 6.1.0-56-amd64 (me)");
        assert_eq!(release_of(&image).as_deref(), Some("6.1.0-56-amd64"));
    }

    #[test]
    fn anything_else_has_none() {
        assert_eq!(release_of(b""), None);
        assert_eq!(release_of(b"not a kernel"), None);
        assert_eq!(release_of(b"\x7fELF"), None);
    }
}
