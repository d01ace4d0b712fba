//! Finds and downloads Debian's kernel packages, with apt or out of a folder. Installs nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::KernelError;
use super::tool::Tool;

/// The architecture of the packages.
const ARCHITECTURE: &str = "amd64";

/// A kernel as it is asked for: `debian-6.12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The whole name.
    pub(super) name: String,
    /// `6.12`.
    pub(super) series: String,
}

impl Wanted {
    /// Reads `debian-MAJOR.MINOR`; nothing if it is something else.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let series = name.strip_prefix("debian-")?;
        let (major, minor) = series.split_once('.')?;
        let number = |text: &str| !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        (number(major) && number(minor)).then(|| Self { name: name.into(), series: series.into() })
    }

    /// The release of an image package of this series, in the plain flavour: not `cloud`, `rt`, `unsigned`, `dbg`.
    fn release_of<'a>(&self, package: &'a str) -> Option<&'a str> {
        let release = package.strip_prefix("linux-image-")?;
        let rest = release.strip_prefix(&self.series)?.strip_prefix('.')?;
        let version = rest.strip_suffix(ARCHITECTURE)?.strip_suffix('-')?;
        version
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".-+~".contains(&byte) || byte.is_ascii_lowercase())
            .then_some(())?;
        (!["cloud", "rt"].iter().any(|flavour| version.split('-').any(|word| word == *flavour))).then_some(release)
    }
}

/// Where packages come from.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// apt's package sources.
    Apt,
    /// A folder of `.deb` files.
    Folder(&'a Path),
}

impl Source<'_> {
    /// The release that `wanted` stands for now.
    pub(super) fn release(&self, wanted: &Wanted) -> Result<String, KernelError> {
        match self {
            Self::Apt => {
                // Where a release's own kernel is of this series, only the second exists.
                for meta in
                    [format!("linux-image-{}-{ARCHITECTURE}", wanted.series), format!("linux-image-{ARCHITECTURE}")]
                {
                    // apt-cache fails for a name it does not know.
                    let listing = match Tool::new("apt-cache", "apt").args(["depends", &meta]).output() {
                        Ok(listing) => listing,
                        Err(KernelError::ToolFailed { .. }) => continue,
                        Err(error) => return Err(error),
                    };
                    if let Some(release) = depends(&listing).find_map(|package| wanted.release_of(package)) {
                        return Ok(release.into());
                    }
                }
                Err(KernelError::NotInApt { name: wanted.name.clone() })
            }
            Self::Folder(folder) => {
                let files = package_files(folder)?;
                let newest = files.iter().rev().find_map(|file| wanted.release_of(file.split('_').next()?));
                newest.map(str::to_owned).ok_or_else(|| KernelError::NotInFolder {
                    package: format!("linux-image-{}.…-{ARCHITECTURE}", wanted.series),
                    folder: folder.to_path_buf(),
                })
            }
        }
    }

    /// Brings one package and gives its file: below `into`, or where it is already.
    pub(super) fn bring(
        &self,
        package: &str,
        into: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, KernelError> {
        match self {
            Self::Apt => {
                let uris = apt_get(into).args(["--print-uris", package]).output()?;
                match printed(&uris) {
                    Some(Offer { bytes, .. }) => {
                        progress(&format!("downloading {package} ({} MB)", bytes.div_ceil(1_000_000)));
                    }
                    None => progress(&format!("downloading {package}")),
                }
                apt_get(into).arg(package).output()?;
                find(into, package)
            }
            Self::Folder(folder) => find(folder, package),
        }
    }
}

/// A package that apt can bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Its file's name, which has its version.
    pub(super) file: String,
    /// Its length.
    pub(super) bytes: u64,
}

/// What apt would bring for `package` now.
pub(super) fn offered(package: &str) -> Result<Offer, KernelError> {
    let uris = apt_get(Path::new("/")).args(["--print-uris", package]).output().map_err(|error| match error {
        KernelError::ToolFailed { .. } => KernelError::NotInApt { name: package.into() },
        error => error,
    })?;
    printed(&uris).ok_or_else(|| KernelError::NotInApt { name: package.into() })
}

/// What downloads `package` to `into`.
pub(super) fn download(into: &Path, package: &str) -> std::process::Command {
    apt_get(into).arg(package).command()
}

/// `apt-get download`, which needs no root and installs nothing.
fn apt_get(into: &Path) -> Tool {
    let tool = Tool::new("apt-get", "apt").folder(into).args(["download", "-q"]);
    // As root apt would drop to a user of its own, who may not write to our folder, and complain.
    if nix::unistd::geteuid().is_root() { tool.args(["-o", "APT::Sandbox::User=root"]) } else { tool }
}

/// The packages in the output of `apt-cache depends`.
fn depends(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter_map(|line| line.trim_start_matches([' ', '|']).strip_prefix("Depends: ")).map(str::trim)
}

/// The packages of a control file's `Depends:` field, of alternatives the first.
pub(super) fn control_depends(field: &str) -> impl Iterator<Item = &str> {
    field
        .split(',')
        .filter_map(|entry| entry.split(['|', '(']).next())
        .map(|name| name.trim().split(':').next().unwrap_or_default())
}

/// What `apt-get download --print-uris` prints: `'uri' file bytes hash`. The file's name has colons and the like as %3a.
fn printed(text: &str) -> Option<Offer> {
    text.lines().rev().find_map(|line| {
        let mut words = line.strip_prefix('\'')?.split_whitespace().skip(1);
        let file = words.next()?.to_owned();
        Some(Offer { file, bytes: words.next()?.parse().ok()? })
    })
}

/// The newest file of `package` in `folder`.
pub(super) fn find(folder: &Path, package: &str) -> Result<PathBuf, KernelError> {
    let start = format!("{package}_");
    let files = package_files(folder)?;
    let newest = files.iter().rev().find(|file| file.starts_with(&start));
    newest
        .map(|file| folder.join(file))
        .ok_or_else(|| KernelError::NotInFolder { package: package.into(), folder: folder.to_path_buf() })
}

/// The `.deb` files of a folder, by name.
fn package_files(folder: &Path) -> Result<Vec<String>, KernelError> {
    let entries = fs::read_dir(folder).map_err(|source| KernelError::io("cannot read", folder, source))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "deb"))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_kind() {
        assert_eq!(Wanted::parse("debian-6.12").unwrap().series, "6.12");
        for name in ["debian-", "debian-6", "debian-6.", "debian-a.b", "6.12", "debian-6.12.1", "debian-../x.1"] {
            assert_eq!(Wanted::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_plain_flavour_of_the_series_is_taken() {
        let wanted = Wanted::parse("debian-6.1").unwrap();
        assert_eq!(wanted.release_of("linux-image-6.1.0-56-amd64"), Some("6.1.0-56-amd64"));
        assert_eq!(wanted.release_of("linux-image-6.12.117+deb12-amd64"), None);
        for other in
            ["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-rt-amd64", "linux-image-6.1.0-56-amd64-dbg"]
        {
            assert_eq!(wanted.release_of(other), None, "{other}");
        }
        let newer = Wanted::parse("debian-6.12").unwrap();
        assert_eq!(newer.release_of("linux-image-6.12.117+deb12-amd64"), Some("6.12.117+deb12-amd64"));
    }

    #[test]
    fn apts_words_are_read() {
        let listing = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n |Depends: other\n  Suggests: no\n";
        assert_eq!(depends(listing).collect::<Vec<_>>(), ["linux-image-6.1.0-56-amd64", "other"]);
        let field = "linux-headers-6.1-common (= 6.1.192-2), linux-kbuild-6.1, a:amd64 | b";
        assert_eq!(control_depends(field).collect::<Vec<_>>(), ["linux-headers-6.1-common", "linux-kbuild-6.1", "a"]);
        let offer = Offer { file: "z.deb".into(), bytes: 12345 };
        assert_eq!(printed("'x://y/z.deb' z.deb 12345 SHA512:ab\n"), Some(offer));
        assert_eq!(printed("E: nothing\n"), None);
    }

    #[test]
    fn a_folder_of_packages_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Wanted::parse("debian-6.12").unwrap();
        assert!(Source::Folder(folder.path()).release(&wanted).is_err());
        let file = "linux-image-6.12.117+deb12-amd64_6.12.117-1_amd64.deb";
        fs::write(folder.path().join(file), "").unwrap();
        fs::write(folder.path().join("linux-image-6.12.117+deb12-cloud-amd64_6.12.117-1_amd64.deb"), "").unwrap();
        let source = Source::Folder(folder.path());
        assert_eq!(source.release(&wanted).unwrap(), "6.12.117+deb12-amd64");
        let found = source.bring("linux-image-6.12.117+deb12-amd64", folder.path(), &mut |_| ()).unwrap();
        assert_eq!(found, folder.path().join(file));
    }
}
