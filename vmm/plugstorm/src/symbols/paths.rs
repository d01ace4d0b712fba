//! Paths of source files, as whoever has the source knows them: from the top of the kernel's tree.

/// Folders of the kernel's tree in which headers are: a path into another copy of it is cut here.
const HEADER_FOLDERS: [&str; 3] = ["/arch/x86/include/", "/tools/include/", "/include/"];

/// A path in a folder; a path from the root is itself. `.` and `..` are resolved by their words.
pub(super) fn join(folder: &str, path: &str) -> String {
    let whole = if path.starts_with('/') || folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // There is nothing above the root.
            ".." if whole.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let root = if whole.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// The rest of a path below a folder.
pub(super) fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder.trim_end_matches('/'))?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

/// The path from the top of the tree: below the first of the `roots` that it is below.
pub(super) fn relative(path: &str, roots: &[String]) -> String {
    if let Some(rest) = roots.iter().filter(|root| !root.is_empty()).find_map(|root| below(path, root)) {
        return rest.to_owned();
    }
    let cut = HEADER_FOLDERS.iter().find_map(|folder| path.find(folder));
    cut.and_then(|at| path.get(at + 1..)).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved() {
        assert_eq!(join("/build/linux", "./arch/x86/../../kernel/panic.c"), "/build/linux/kernel/panic.c");
        assert_eq!(join("/build", "/other/a.c"), "/other/a.c");
        assert_eq!(join("", "a/./b.c"), "a/b.c");
        assert_eq!(join("/a", "../../../b.c"), "/b.c");
        assert_eq!(join("a", "../../b.c"), "../b.c");
    }

    #[test]
    fn paths_begin_at_the_top_of_the_tree() {
        let roots = ["/build/linux".to_owned(), String::new(), "/tmp/module/".to_owned()];
        assert_eq!(relative("/build/linux/drivers/gpio/gpiolib.c", &roots), "drivers/gpio/gpiolib.c");
        assert_eq!(relative("/tmp/module/driver.c", &roots), "driver.c");
        assert_eq!(relative("/build/linux-other/a.c", &roots), "/build/linux-other/a.c");
        assert_eq!(relative("/usr/src/linux-headers-common/include/linux/srcu.h", &roots), "include/linux/srcu.h");
        assert_eq!(
            relative("/usr/src/linux-headers/arch/x86/include/asm/bitops.h", &roots),
            "arch/x86/include/asm/bitops.h"
        );
    }
}
