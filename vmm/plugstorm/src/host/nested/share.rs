//! Which folders of this machine are mounted in the nested one, and where.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::NestedError;

/// As many virtio devices as its PCI bus has room for, with some to spare.
const MOST_SHARES: usize = 24;

/// What the nested host has of its own.
const RESERVED: [&str; 5] = ["/dev", "/proc", "/sys", "/plugstorm", "/init"];

/// What may be done with what is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// A wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    path: PathBuf,
    access: Access,
}

/// A folder to mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    /// Its name on the way in.
    pub(super) tag: String,
    /// The folder here.
    pub(super) source: PathBuf,
    /// Where it appears there.
    pub(super) target: PathBuf,
    /// Reading only, or writing too.
    pub(super) access: Access,
}

impl Share {
    pub(super) fn new(path: PathBuf, access: Access) -> Self {
        Self { path, access }
    }
}

/// Makes folders that are to be written, and finds the fewest mounts that serve all wishes, outer ones first.
pub(super) fn mounts(shares: &[Share]) -> Result<Vec<Mount>, NestedError> {
    let mut folders = Vec::new();
    for share in shares {
        let failed = |source| NestedError::Share { path: share.path.clone(), source };
        let path = std::path::absolute(&share.path).map_err(failed)?;
        if share.access == Access::Write {
            fs::create_dir_all(&path).map_err(failed)?;
        }
        let is_folder = fs::metadata(&path).map_err(failed)?.is_dir();
        let folder = |path: &Path| if is_folder { path.to_path_buf() } else { parent(path) };
        folders.push((normal(&folder(&path)), share.access));
        // A link is followed inside, so what it leads to must be there too.
        let real = fs::canonicalize(&path).map_err(failed)?;
        folders.push((folder(&real), share.access));
    }
    for (folder, _) in &folders {
        check(folder)?;
    }
    let mounts = fewest(folders);
    if mounts.len() > MOST_SHARES {
        return Err(NestedError::TooManyShares { count: mounts.len(), most: MOST_SHARES });
    }
    Ok(mounts)
}

/// Leaves out what another one serves, and puts outer folders before inner ones.
fn fewest(mut folders: Vec<(PathBuf, Access)>) -> Vec<Mount> {
    // Of the same folder twice, the wider access first.
    folders
        .sort_by(|one, other| depth(&one.0).cmp(&depth(&other.0)).then(one.0.cmp(&other.0)).then(other.1.cmp(&one.1)));
    let mut kept: Vec<(PathBuf, Access)> = Vec::new();
    for (folder, access) in folders {
        // The innermost mount around it is the one that is seen there.
        let around = kept.iter().rev().find(|(outer, _)| folder.starts_with(outer));
        if around.is_none_or(|(_, have)| *have < access) {
            kept.push((folder, access));
        }
    }
    kept.into_iter()
        .enumerate()
        .map(|(index, (folder, access))| Mount {
            tag: format!("share{index}"),
            source: folder.clone(),
            target: folder,
            access,
        })
        .collect()
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_path_buf()
}

/// Resolves `.` and `..` in an absolute path by its words alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            _ => {}
        }
    }
    result
}

fn check(folder: &Path) -> Result<(), NestedError> {
    let reserved = RESERVED.iter().map(Path::new).find(|own| folder.starts_with(own));
    let reserved = reserved.or_else(|| (folder == Path::new("/")).then_some(Path::new("/")));
    match reserved {
        Some(reserved) => Err(NestedError::Reserved { path: folder.into(), reserved: reserved.into() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(folders: &[(&str, Access)]) -> Vec<(String, Access)> {
        fewest(folders.iter().map(|(path, access)| (PathBuf::from(path), *access)).collect())
            .into_iter()
            .map(|mount| (mount.target.display().to_string(), mount.access))
            .collect()
    }

    #[test]
    fn outer_folders_come_first_and_serve_inner_ones() {
        use Access::{Read, Write};
        assert_eq!(
            targets(&[("/w/cache/kernels", Read), ("/w/out", Write), ("/w/cache", Read), ("/w/out", Read)]),
            [("/w/cache".to_owned(), Read), ("/w/out".to_owned(), Write)]
        );
        assert_eq!(
            targets(&[("/w/out/a", Write), ("/w", Read), ("/w/out/a/b", Read)]),
            [("/w".to_owned(), Read), ("/w/out/a".to_owned(), Write)]
        );
        // Not by letters: /w/outer is not inside /w/out.
        assert_eq!(targets(&[("/w/out", Read), ("/w/outer", Read)]).len(), 2);
    }

    #[test]
    fn paths_are_made_plain() {
        assert_eq!(normal(Path::new("/a/./b/../c/")), Path::new("/a/c"));
        assert_eq!(normal(Path::new("/../x")), Path::new("/x"));
    }

    #[test]
    fn a_file_brings_its_folder_and_a_link_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("there")).unwrap();
        fs::create_dir_all(real.join("here")).unwrap();
        fs::write(real.join("there/file"), "").unwrap();
        std::os::unix::fs::symlink(real.join("there/file"), real.join("here/link")).unwrap();
        let mounts = mounts(&[
            Share::new(real.join("here/link"), Access::Read),
            Share::new(real.join("new/out"), Access::Write),
        ])
        .unwrap();
        let mut targets: Vec<_> = mounts.iter().map(|mount| (mount.target.clone(), mount.access)).collect();
        targets.sort();
        assert_eq!(
            targets,
            [
                (real.join("here"), Access::Read),
                (real.join("new/out"), Access::Write),
                (real.join("there"), Access::Read)
            ]
        );
        assert!(real.join("new/out").is_dir());
    }

    #[test]
    fn what_the_nested_host_has_of_its_own_is_refused() {
        for path in ["/proc/self/status", "/dev/null", "/"] {
            let error = mounts(&[Share::new(path.into(), Access::Read)]).unwrap_err();
            assert!(matches!(error, NestedError::Reserved { .. }), "{path}: {error}");
        }
        assert!(matches!(
            mounts(&[Share::new("/no/such/file".into(), Access::Read)]).unwrap_err(),
            NestedError::Share { .. }
        ));
    }
}
