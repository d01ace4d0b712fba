//! This machine's memory, from the text of /proc/meminfo (proc(5)).

/// Where the text is.
pub const MEMINFO: &str = "/proc/meminfo";

/// What can be had without swapping, in MiB (`MemAvailable:`).
#[must_use]
pub fn available_mib(meminfo: &str) -> Option<u64> {
    field_mib(meminfo, "MemAvailable:")
}

/// All that the kernel has, in MiB (`MemTotal:`).
#[must_use]
pub fn total_mib(meminfo: &str) -> Option<u64> {
    field_mib(meminfo, "MemTotal:")
}

fn field_mib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_mib() {
        let meminfo = "MemTotal:  25165824 kB\nMemAvailable:   20971520 kB\n";
        assert_eq!((total_mib(meminfo), available_mib(meminfo)), (Some(24576), Some(20480)));
        assert_eq!(total_mib("MemTotal: much\n"), None);
    }
}
