//! Where temporary files are made, which have no names.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::sys::files;

/// Places for temporary files, the best first. Where none of them can be written, as with a read-only file system, there still
/// is memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scratch {
    directories: Arc<[PathBuf]>,
}

/// The directory that is memory on Linux.
const SHARED_MEMORY: &str = "/dev/shm";

impl Scratch {
    /// These directories, then the usual ones: the system's (`TMPDIR`), `/var/tmp`, `/dev/shm`.
    ///
    /// `first` goes before them; `further`, which gunicorn users set where the system's can't be written, before the last two.
    pub fn new(first: Option<PathBuf>, further: Option<PathBuf>) -> Self {
        let usual = ["/var/tmp", SHARED_MEMORY].map(PathBuf::from);
        let directories = first.into_iter().chain([std::env::temp_dir()]).chain(further).chain(usual);
        Scratch { directories: directories.collect() }
    }

    /// Makes a file.
    ///
    /// # Errors
    /// When the best place that there is has no room for it, or there are no descriptors left.
    pub fn file(&self) -> io::Result<File> {
        for directory in &*self.directories {
            match tempfile::tempfile_in(directory) {
                Err(error) if is_no_place(&error) => {}
                made => return made,
            }
        }
        files::memory(c"rgunicorn-spool")
    }

    /// What to tell whoever runs the server, if the place that was meant can't be used: why, and which one is.
    pub fn complaint(&self) -> Option<String> {
        let mut complaints =
            self.directories.iter().map(|directory| match tempfile::tempfile_in(directory) {
                Err(error) if is_no_place(&error) => Err((directory, error)),
                // One that is full now needn't be so later.
                _ => Ok(directory),
            });
        let Err((meant, error)) = complaints.next()? else { return None };
        let memory = "memory, which they take from the application";
        let place = match complaints.find_map(Result::ok) {
            Some(used) if used.starts_with(SHARED_MEMORY) => format!("{}: {memory}", used.display()),
            Some(used) => used.display().to_string(),
            None => memory.to_owned(),
        };
        Some(format!(
            "No temporary file can be made in {}: {}. Large request bodies, and what slow clients have not read, go to {place}",
            meant.display(),
            // The path is in it already.
            error
                .raw_os_error()
                .map_or(error.to_string(), |code| io::Error::from_raw_os_error(code).to_string()),
        ))
    }

    /// The directory that files are to be made in.
    pub(crate) fn meant(&self) -> String {
        self.directories.first().map(|directory| directory.display().to_string()).unwrap_or_default()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new(None, None)
    }
}

/// Whether no file can ever be made there, as opposed to one that is full at the moment.
fn is_no_place(error: &io::Error) -> bool {
    use io::ErrorKind::{
        InvalidFilename, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported,
    };
    let kinds = [InvalidFilename, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    fn of(directories: &[&str]) -> Scratch {
        Scratch { directories: directories.iter().map(PathBuf::from).collect() }
    }

    #[test]
    fn the_first_place_that_can_be_written_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let scratch = of(&["/proc/nowhere", "/proc", "/etc/hostname", &path, "/"]);
        let mut file = scratch.file().unwrap();
        file.write_all(b"some").unwrap();
        let complaint = scratch.complaint().unwrap();
        assert!(
            complaint.starts_with("No temporary file can be made in /proc/nowhere: No such file"),
            "{complaint}"
        );
        assert!(complaint.ends_with(&format!(" go to {path}")), "{complaint}");
        assert_eq!(of(&[&path]).complaint(), None);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it has no name");
    }

    #[test]
    fn there_is_always_memory() {
        let scratch = of(&["/proc/nowhere"]);
        let mut file = scratch.file().unwrap();
        file.write_all(b"some").unwrap();
        file.rewind().unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "some");
        assert!(
            scratch.complaint().unwrap().ends_with(" go to memory, which they take from the application")
        );
    }
}
